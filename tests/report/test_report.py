"""Check plots and tables, and the radon example from end to end."""

import os
import struct
import subprocess
import sys

import arviz
import numpy as np
import pytest

from ember import report
from ember.examples import radon


@pytest.fixture(scope="module")
def idata():
    generator = np.random.default_rng(0)
    good, bad = generator.normal(size=(4, 100, 2)), generator.normal(size=(4, 100)) + np.arange(4)[:, None]
    diverging = np.zeros((4, 100), dtype=bool)
    diverging[1, 3] = True
    return arviz.from_dict(posterior={"good": good, "bad": bad}, sample_stats={"diverging": diverging})


def size_of_png(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])


@pytest.mark.parametrize("plot", [report.plot_trace, report.plot_forest])
def test_plots_are_written(plot, idata, tmp_path):
    path = plot(idata, tmp_path / "deep" / "plot.png", ["good"])
    assert min(size_of_png(path)) > 100
    import matplotlib.pyplot as plt

    assert plt.get_fignums() == []


def test_worst_figures_are_found(idata):
    found = report.convergence(idata)
    assert found.r_hat_at == found.bulk_ess_at == "bad"
    assert found.r_hat > 1.2
    assert found.num_divergences == 1
    assert "1 divergences" in str(found)
    assert report.convergence(idata, ["good"]).r_hat < 1.1


def test_table(idata):
    text = report.table(idata, ["good"], prob=0.8)
    assert [line.split()[0] for line in text.splitlines()[1:]] == ["good[0]", "good[1]"]
    assert "hdi_10%" in text


def test_radon_data():
    data = radon.load()
    assert data["county"].shape == (919,)
    assert (int(data["county"].min()), int(data["county"].max())) == (0, 84)
    assert data["log_radon"].dtype == data["floor"].dtype


def test_radon_example_runs(tmp_path, capsys):
    assert radon.main(["--output", str(tmp_path), "--draws", "4", "--chains", "2", "--no-progress"]) == 0
    text = capsys.readouterr().out
    for part in ("mu_alpha", "sigma_beta", "r_hat", "largest R-hat", "radon_trace.png"):
        assert part in text
    assert min(size_of_png(tmp_path / "radon_trace.png")) > 100
    assert size_of_png(tmp_path / "radon_forest.png")[1] > 2000  # 170 legible rows


@pytest.mark.slow
def test_radon_example_converges(tmp_path):
    idata = radon.fit(200.0, progress=False).to_arviz()
    assert report.convergence(idata).r_hat < 1.02


def test_arviz_makes_no_announcement(tmp_path):
    code = "from ember.arviz_library import load_arviz; assert load_arviz().summary"
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "ArviZ" not in done.stderr
