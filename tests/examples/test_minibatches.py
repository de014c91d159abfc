"""Run the example of minibatches from Parquet in a small form."""

import re

import pytest

from ember.examples import minibatches


def test_the_example_finds_the_weights_and_goes_on_with_a_run(tmp_path, capsys):
    small = ["--output", str(tmp_path), "--rows", "6000", "--batch-size", "200", "--no-progress"]
    assert minibatches.main([*small, "--steps", "300"]) == 0
    assert (tmp_path / "rides_loss.png").stat().st_size > 1000
    assert minibatches.main([*small, "--steps", "450", "--resume"]) == 0
    printed = capsys.readouterr().out
    assert "300 steps of 200 rides" in printed and "450 steps of 200 rides" in printed
    median = float(re.findall(r"distance +\S+ +(\S+)", printed)[-1])
    assert median == pytest.approx(1.8, abs=0.1)
