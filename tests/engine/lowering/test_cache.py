"""Check the cache on disk: hits, damage, foreign files, and folders that cannot be used."""

import os
import pathlib
import stat
import subprocess
import sys

import pytest
import torch

from ember.engine import cache
from ember.engine.capture import capture
from ember.engine.compile import compile, forget
from ember.engine.statistics import statistics

X = torch.arange(4.0)


def build(factor=2.5):
    forget()
    before = statistics.snapshot()
    compiled = compile(capture(lambda x: torch.exp(x) * factor + torch.arange(4.0), X))
    after = statistics.snapshot()
    torch.testing.assert_close(compiled(X)[0], torch.exp(X) * factor + torch.arange(4.0))
    return {name: after[name] - before[name] for name in ("compilations", "disk_hits", "memory_hits")}


COMPILED = {"compilations": 1, "disk_hits": 0, "memory_hits": 0}
LOADED = {"compilations": 0, "disk_hits": 1, "memory_hits": 0}


def entry(folder):
    [path] = folder.glob("*.bin")
    return path


def test_a_program_is_found_again(cache_directory):
    assert build() == COMPILED
    assert build() == LOADED
    assert build(3.5) == COMPILED


def test_large_constants_are_given_to_loaded_code(cache_directory):
    table = torch.randn(500, dtype=torch.float64)
    for _ in range(2):
        forget()
        compiled = compile(capture(lambda x: table * x, torch.ones((), dtype=torch.float64)))
        assert torch.equal(compiled(torch.tensor(2.0).double())[0], table * 2)


SCRIPT = """
import torch
from ember.engine.capture import capture
from ember.engine.compile import compile
from ember.engine.statistics import statistics
compiled = compile(capture(lambda x: torch.log1p(torch.lgamma(x).abs()), torch.ones(9, dtype=torch.float64)))
result = compiled(torch.full((9,), 3.5, dtype=torch.float64))[0][0].item()
print(result, statistics.disk_hits, statistics.compilations)
"""


def test_another_process_finds_it(cache_directory):
    runs = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(2)
    ]
    assert runs[0][1:] == ["0", "1"]
    assert runs[1][1:] == ["1", "0"]
    assert runs[0][0] == runs[1][0]


@pytest.mark.parametrize("where", [0, 20, 60, -1])
def test_damaged_entries_are_compiled_again(cache_directory, where):
    build()
    path = entry(cache_directory)
    data = bytearray(path.read_bytes())
    data[where] ^= 1
    path.write_bytes(bytes(data))
    assert build() == COMPILED
    assert build() == LOADED


@pytest.mark.parametrize("length", [0, 10, 100])
def test_truncated_entries_are_compiled_again(cache_directory, length):
    build()
    path = entry(cache_directory)
    path.write_bytes(path.read_bytes()[:length])
    assert build() == COMPILED


def test_entries_of_another_program_or_key_are_not_executed(cache_directory):
    build()
    first = entry(cache_directory)
    data = first.read_bytes()
    first.unlink()
    build(7.5)
    other = entry(cache_directory)
    other.write_bytes(data)
    assert build(7.5) == COMPILED
    (cache_directory / "key").write_bytes(bytes(32))
    assert build(7.5) == COMPILED


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs file modes")
def test_files_that_others_may_write_are_ignored(cache_directory):
    build()
    path = entry(cache_directory)
    path.chmod(0o666)
    assert build() == COMPILED
    assert build() == LOADED
    cache_directory.chmod(0o777)
    cache._warned = False
    with pytest.warns(RuntimeWarning, match="EMBER_CACHE_DIR"):
        assert build() == COMPILED


def test_an_unusable_folder_is_reported_once(tmp_path, monkeypatch, recwarn):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("EMBER_CACHE_DIR", str(blocked / "cache"))
    monkeypatch.setattr(cache, "_warned", False)
    with pytest.warns(RuntimeWarning, match="EMBER_CACHE_DIR"):
        assert build() == COMPILED
    recwarn.clear()
    assert build(1.25) == COMPILED
    assert not recwarn.list


def test_a_full_disk_leaves_no_fragments(cache_directory, monkeypatch):
    build()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    monkeypatch.setattr(cache, "_warned", False)
    with pytest.warns(RuntimeWarning, match="No space left"):
        assert build(9.5) == COMPILED
    assert not [path for path in cache_directory.iterdir() if path.name.startswith(".new")]


def test_old_entries_go_when_the_cache_grows(cache_directory, monkeypatch):
    monkeypatch.setattr(cache, "_MAX_BYTES", 3000)
    for factor in range(6):
        build(float(factor) + 0.5)
    assert 0 < sum(path.stat().st_size for path in cache_directory.glob("*.bin")) <= 3000


def test_files_are_private(cache_directory):
    build()
    for path in [cache_directory, *cache_directory.iterdir()]:
        assert not path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO) or os.name == "nt"


def test_the_folder_follows_the_environment(monkeypatch):
    monkeypatch.delenv("EMBER_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache.directory() == pathlib.Path("/somewhere/ember")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.directory() == pathlib.Path.home() / ".cache" / "ember"
