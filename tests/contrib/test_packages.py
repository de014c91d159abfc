"""Check that the packages answer under both names, in any order of import."""

import subprocess
import sys

import pytest

PROGRAM = """
import pyro
import pyro.contrib.gp as gp
from pyro.contrib.gp.kernels import RBF
from pyro.contrib.gp.util import conditional, train
from pyro.contrib.gp.parameterized import Parameterized
import ember.contrib.gp
assert gp.kernels.RBF is RBF is pyro.contrib.gp.kernels.RBF is ember.contrib.gp.kernels.RBF
assert gp.util.train is train is ember.contrib.gp.util.train
from pyro.contrib.minipyro import SVI, Adam, Trace_ELBO, get_param_store, param, plate, sample, trace
from pyro.contrib.util import lexpand, rmv
from pyro.contrib.tracking.dynamic_models import *
assert isinstance(NcvContinuous, type) and sample is pyro.sample
assert pyro.contrib.autoguide.AutoNormal is ember.contrib.autoguide.AutoNormal
print("they answer")
"""


def test_packages_answer_to_pyros_paths(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    run = subprocess.run([sys.executable, "-m", "ember.compat", str(script)], capture_output=True, text=True)
    assert run.stdout == "they answer\n", run.stderr


def test_packages_are_found_by_name():
    import ember

    assert ember.contrib.gp.kernels.RBF is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ember.contrib.nothing
