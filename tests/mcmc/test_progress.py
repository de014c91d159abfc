"""Check the progress bar: what it writes to logs, and that it can be silent."""

import io

import torch

import ember
import ember.distributions as dist
from ember.infer import MCMC, NUTS
from ember.infer.progress import Progress


def model():
    ember.sample("x", dist.Normal(0.0, 1.0))


def test_log_is_ascii():
    file = io.StringIO()
    bar = Progress(4, file=file)
    bar.advance(1, "Warmup")
    bar.advance(3, "Sample", divergences=2)
    bar.close()
    text = file.getvalue()
    assert text.isascii()
    assert "4/4" in text
    assert "divergences=2" in text


def test_bar_of_a_run(capsys):
    MCMC(NUTS(model), 3, 2, num_chains=2).run()
    text = capsys.readouterr().err
    assert "10/10" in text
    assert "step size=" in text
    assert "divergences=0" in text
    MCMC(NUTS(model), 3, 2, disable_progbar=True).run()
    captured = capsys.readouterr()
    assert captured.err == captured.out == ""


def test_counts_divergences(capsys):
    def funnel():
        v = ember.sample("v", dist.Normal(0.0, 9.0))
        ember.sample("x", dist.Normal(torch.zeros(5), (v / 2).exp()).to_event(1))

    mcmc = MCMC(NUTS(funnel, step_size=2.0, adapt_step_size=False, adapt_mass_matrix=False), 30, 0)
    mcmc.run()
    count = int(mcmc.sample_stats["diverging"].sum())
    assert count > 0
    assert f"divergences={count}" in capsys.readouterr().err
    assert sum(map(len, mcmc.diagnostics()["divergences"].values())) == count
