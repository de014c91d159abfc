"""Check that whatever ember makes public exists, is documented, and is annotated."""

import importlib
import inspect

import pytest
from source_tree import MODULES, part_of

# Facades: packages (and modules above them) whose __all__ is the public surface.
FACADES = [
    name
    for name, path in MODULES.items()
    if (path.name == "__init__.py" or name.count(".") == 1)
    and part_of(name) not in ("engine", "kernels", "__main__")
]


def public_objects():
    seen = set()
    for facade in FACADES:
        module = importlib.import_module(facade)
        for name in getattr(module, "__all__", ()):
            if f"{facade}.{name}" in MODULES:
                continue
            value = getattr(module, name, None)  # that it exists is another test's business
            owner = getattr(value, "__module__", "") or ""
            ours = (inspect.isclass(value) or inspect.isfunction(value)) and owner.startswith("ember")
            if ours and id(value) not in seen:
                seen.add(id(value))
                yield pytest.param(value, id=f"{facade}.{name}")


@pytest.mark.parametrize("facade", FACADES)
def test_all_names_exist(facade):
    module = importlib.import_module(facade)
    names = getattr(module, "__all__", [])
    assert len(names) == len(set(names)), "a name is listed twice"
    assert [name for name in names if not hasattr(module, name)] == []


@pytest.mark.parametrize("value", list(public_objects()))
def test_public_object_is_documented(value):
    assert (value.__doc__ or "").strip(), f"{value!r} has no docstring"


@pytest.mark.parametrize("value", [each for each in public_objects() if inspect.isfunction(each.values[0])])
def test_public_function_is_annotated(value):
    signature = inspect.signature(value)
    bare = [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.annotation is inspect.Parameter.empty and parameter.name not in ("self", "cls")
    ]
    assert bare == []
    assert signature.return_annotation is not inspect.Signature.empty
