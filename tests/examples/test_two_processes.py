"""Run the example of two processes in a small form; it starts torchrun by itself."""

import os
import subprocess
import sys


def test_the_example_starts_its_processes(tmp_path):
    small = ["--output", str(tmp_path), "--rows", "2000", "--steps", "60", "--no-progress"]
    outside = {name: value for name, value in os.environ.items() if name != "RANK"}
    done = subprocess.run(
        [sys.executable, "-m", "ember.examples.two_processes", *small],
        capture_output=True,
        text=True,
        timeout=240,
        env=outside,
    )
    assert done.returncode == 0, done.stderr
    assert "2 processes took 60 steps" in done.stdout and done.stdout.count("truth") == 1
