"""Run the example of two processes by torchrun, in a small form."""

import subprocess
import sys


def test_the_example_runs_under_torchrun(tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    small = ["--output", str(tmp_path), "--rows", "2000", "--steps", "60", "--no-progress"]
    done = subprocess.run(
        [*torchrun, "-m", "ember.examples.two_processes", *small], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert "2 processes took 60 steps" in done.stdout and done.stdout.count("truth") == 1
