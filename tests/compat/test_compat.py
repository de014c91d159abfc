"""Check how ``ember.compat`` installs, resolves, refuses and runs scripts."""

from __future__ import annotations

import importlib
import subprocess
import sys
import types

import pytest

import ember
import ember.compat
from ember import cli
from ember.compat.script import main


@pytest.fixture
def installed():
    ember.compat.install()
    yield
    ember.compat.uninstall()


def test_objects_are_the_same(installed):
    import pyro
    import pyro.distributions as dist
    from pyro.poutine.trace_messenger import TraceMessenger

    assert pyro.sample is ember.sample
    assert dist.Normal is ember.distributions.Normal
    assert isinstance(pyro.poutine.trace(lambda: None).get_trace(), ember.poutine.Trace)
    assert TraceMessenger is importlib.import_module("ember.poutine.trace_messenger").TraceMessenger


def test_modules_are_attributes_after_import_pyro(installed):
    import pyro

    for name in ("infer", "optim", "nn", "distributions", "poutine", "params", "ops", "util", "settings"):
        assert isinstance(getattr(pyro, name), types.ModuleType), name
        assert getattr(pyro, name) is importlib.import_module(f"pyro.{name}")


@pytest.mark.parametrize(
    "name", ["infer", "optim", "nn", "distributions", "poutine", "params", "ops", "util", "settings"]
)
def test_modules_are_attributes_of_ember(name):
    assert isinstance(getattr(ember, name), types.ModuleType)


def test_version(installed):
    import pyro

    assert pyro.__version__ == "1.9.2"


def test_star_import_gives_public_names(installed):
    namespace: dict[str, object] = {}
    exec("from pyro.distributions import *", namespace)
    assert namespace["Normal"] is ember.distributions.Normal


def test_values_that_change_are_looked_up_each_time(installed):
    from pyro.poutine import runtime

    assert len(runtime._PYRO_STACK) == 0
    with ember.poutine.trace():
        assert len(runtime._PYRO_STACK) == 1


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("import pyro.contrib.nothing", "pyro.contrib.nothing"),
        ("import pyro.nothing", "pyro.nothing"),
        ("from pyro import nothing", "pyro.nothing"),
        ("from pyro.distributions import Nothing", "pyro.distributions.Nothing"),
        ("import pyro.distributions.nothing", "pyro.distributions.nothing"),
    ],
)
def test_what_is_not_there_is_refused_by_name(installed, statement, name):
    with pytest.raises(ImportError, match=f"{name} is not part of this version of ember") as refused:
        exec(statement)
    assert refused.value.name == name


def test_attribute_that_is_not_there(installed):
    import pyro

    assert not hasattr(pyro, "nothing")
    with pytest.raises(AttributeError, match=r"pyro\.nothing is not part of this version of ember"):
        _ = pyro.nothing


def test_install_refuses_when_another_pyro_is_loaded(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyro", types.ModuleType("pyro"))
    with pytest.raises(RuntimeError, match="cannot answer for 'pyro'") as refused:
        ember.compat.install()
    assert "fix: call ember.compat.install() before" in str(refused.value)


def test_install_twice_and_uninstall():
    ember.compat.install()
    ember.compat.install()
    ember.compat.uninstall()
    assert not any(type(finder).__name__ == "PyroFinder" for finder in sys.meta_path)
    assert "pyro" not in sys.modules


def test_legacy_plates_warn():
    with pytest.warns(DeprecationWarning, match="iarange is deprecated, use plate"):
        plate = ember.iarange("p", 2)
    assert isinstance(plate, ember.plate)
    with pytest.warns(DeprecationWarning, match="irange is deprecated, use plate"):
        assert list(ember.irange("q", 3)) == [0, 1, 2]


def test_script_gets_its_arguments_folder_and_exit_code(tmp_path):
    (tmp_path / "beside.py").write_text("WORD = 'beside'\n")
    script = tmp_path / "program.py"
    script.write_text("import sys, pyro, beside\nprint(__name__, sys.argv[1:], beside.WORD)\nsys.exit(3)\n")
    done = subprocess.run(
        [sys.executable, "-m", "ember.compat", str(script), "-a", "b"], capture_output=True, text=True
    )
    assert done.returncode == 3, done.stderr
    assert done.stdout.split("\n")[0] == "__main__ ['-a', 'b'] beside"


def test_script_that_is_not_there(capsys):
    assert main(["no-such-file.py"]) == 2
    assert "there is no file 'no-such-file.py'" in capsys.readouterr().err
    ember.compat.uninstall()


def test_no_script(capsys):
    assert main([]) == 2
    assert "usage: python -m ember.compat script.py" in capsys.readouterr().err


def test_command_prints_the_version(capsys):
    assert cli.main(["version"]) == 0
    assert capsys.readouterr().out.strip() == ember.__version__


def test_command_refuses_what_it_does_not_know(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["fly"])
    assert ended.value.code == 2
    assert "invalid choice: 'fly'" in capsys.readouterr().err


def test_command_runs_pyro_programs(tmp_path):
    script = tmp_path / "program.py"
    script.write_text("import pyro\nprint(pyro.sample.__module__)\n")
    done = subprocess.run(
        [sys.executable, "-m", "ember", "run-pyro", str(script)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().startswith("ember.")
