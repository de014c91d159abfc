"""Read the package's own files: modules, and which of its modules each one imports, and where."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src"
FILES = sorted((SOURCE / "ember").rglob("*.py"))


def module_name(path: Path) -> str:
    """Return the dotted name of a file, a package's for ``__init__.py``."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


@dataclass(frozen=True)
class Import:
    """One import of one of ember's modules by another."""

    importer: str
    imported: str
    line: int
    in_function: bool
    for_types_only: bool

    def __str__(self) -> str:
        return f"{self.importer} imports {self.imported} (line {self.line})"


def imports_of(module: str, source: str | None = None) -> list[Import]:
    """Return the imports of ember's modules that stand in ``module``'s file (or in the given source)."""
    tree = ast.parse(MODULES[module].read_text() if source is None else source)
    is_package = source is None and MODULES[module].name == "__init__.py"
    return list(_walk(tree, module, is_package, in_function=False, for_types_only=False))


def _walk(
    node: ast.AST, module: str, is_package: bool, in_function: bool, for_types_only: bool
) -> Iterator[Import]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        for imported in _imported(node, module, is_package):
            yield Import(module, imported, node.lineno, in_function, for_types_only)
    if isinstance(node, ast.Call) and (imported := _dynamic(node)):
        yield Import(module, imported, node.lineno, True, False)
    in_function = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        for child in node.body:
            yield from _walk(child, module, is_package, in_function, True)
        for child in node.orelse:
            yield from _walk(child, module, is_package, in_function, for_types_only)
        return
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, module, is_package, in_function, for_types_only)


def _imported(node: ast.Import | ast.ImportFrom, module: str, is_package: bool) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names if alias.name.split(".")[0] == "ember"]
    base = node.module or ""
    if node.level:
        parents = module.split(".") if is_package else module.split(".")[:-1]
        parents = parents[: len(parents) - node.level + 1]
        base = ".".join([*parents, *([base] if base else [])])
    if base.split(".")[0] != "ember":
        return []
    # `from package import name` imports the submodule of that name if there is one.
    return sorted({f"{base}.{a.name}" if f"{base}.{a.name}" in MODULES else base for a in node.names})


def _dynamic(node: ast.Call) -> str | None:
    name = ast.unparse(node.func)
    if name.split(".")[-1] not in ("import_module", "__import__") or not node.args:
        return None
    text = ast.unparse(node.args[0]).lstrip("f").strip("'\"")
    return text if text.split(".")[0] == "ember" else None


def part_of(module: str) -> str:
    """Return the part of the house that a module belongs to: ``ember.poutine.runtime`` is of ``poutine``."""
    return module.split(".")[1] if "." in module else "ember"
