"""Minibatches of Parquet and Arrow files: every row once, order by seed, places, sharing, damaged files."""

import subprocess
import sys

import numpy as np
import pyarrow
import pytest
import torch
from pyarrow import parquet

import ember
import ember.distributions as dist
from ember import optim
from ember.data import ArrowBatches, ParquetBatches
from ember.errors import DataError
from ember.infer import SVI, Trace_ELBO

ROWS = 103


def table(start=0, rows=ROWS, **changes):
    row = np.arange(start, start + rows)
    columns = {
        "x": row * 0.5,
        "y": (2.0 * row + 1).astype(np.float32),
        "count": row.astype(np.int32),
        "flag": row % 3 == 0,
        "pair": pyarrow.array(
            [[float(each), -float(each)] for each in row], pyarrow.list_(pyarrow.float64(), 2)
        ),
        "word": [str(each) for each in row],
    }
    return pyarrow.table({**columns, **changes})


def write_arrow(data, path, group):
    with pyarrow.ipc.new_file(path, data.schema) as file:
        file.write_table(data, max_chunksize=group)


@pytest.fixture
def file(tmp_path):
    parquet.write_table(table(), tmp_path / "rows.parquet", row_group_size=10)
    return tmp_path / "rows.parquet"


def rows(batches):
    return torch.cat([batch["count"] for batch in batches]).tolist()


@pytest.mark.parametrize("kind", [ParquetBatches, ArrowBatches])
@pytest.mark.parametrize("size, mixed", [(7, 1), (10, 3), (25, 4), (103, 2), (200, 100)])
def test_an_epoch_has_every_row_once_in_an_order_by_seed(kind, size, mixed, tmp_path):
    if kind is ParquetBatches:
        parquet.write_table(table(), tmp_path / "rows.parquet", row_group_size=10)
    else:
        write_arrow(table(), tmp_path / "rows.arrow", 10)
    source = kind(tmp_path, ["count", "x"], size, seed=1, mixed_pieces=mixed)
    epochs = [list(source) for _ in range(3)]
    assert [len(each) for each in epochs] == [len(source)] * 3
    orders = [rows(each) for each in epochs]
    assert all(sorted(order) == list(range(ROWS)) for order in orders)
    assert orders[0] != orders[1] != orders[2] != sorted(orders[2])
    again = kind(tmp_path, ["count", "x"], size, seed=1, mixed_pieces=mixed)
    assert rows(list(again)) == orders[0]
    assert rows(list(kind(tmp_path, ["count"], size, seed=2, mixed_pieces=mixed))) != orders[0]
    for batch in epochs[0]:
        torch.testing.assert_close(batch["x"], batch["count"] * 0.5)
    plain = kind(tmp_path, ["count"], size, shuffle=False, mixed_pieces=mixed)
    assert rows(list(plain)) == rows(list(plain)) == list(range(ROWS))


def test_columns_become_tensors(file):
    columns = {"x": "x", "inputs": ["x", "y", "count"], "flag": "flag", "pair": "pair", "count": "count"}
    source = ParquetBatches(file, columns, 20, shuffle=False, rows_as="rows", drop_last=True)
    assert len(source) == 5 and len(list(source)) == 5
    first = next(iter(source))
    assert first["inputs"].shape == (20, 3) and first["pair"].shape == (20, 2)
    torch.testing.assert_close(first["inputs"][3], torch.tensor([1.5, 7.0, 3.0]))
    torch.testing.assert_close(first["pair"][3], torch.tensor([3.0, -3.0]))
    kinds = {name: value.dtype for name, value in first.items()}
    assert kinds["x"] is torch.float32 and kinds["flag"] is torch.bool and kinds["count"] is torch.int64
    assert first["rows"].tolist() == list(range(20))


def test_several_files_are_one_table(tmp_path):
    for index, start in enumerate((0, 40)):
        parquet.write_table(table(start, 40), tmp_path / f"part{index}.parquet", row_group_size=15)
    source = ParquetBatches(tmp_path, ["count"], 16, rows_as="rows")
    batches = list(source)
    assert sorted(rows(batches)) == list(range(80)) and source.num_rows == 80
    assert all(torch.equal(batch["rows"], batch["count"]) for batch in batches)
    parts = [tmp_path / "part1.parquet", tmp_path / "part0.parquet"]
    assert rows(list(ParquetBatches(parts, ["count"], 16, shuffle=False)))[:2] == [40, 41]


def test_only_a_few_row_groups_and_the_columns_asked_for_are_read(file, monkeypatch):
    source = ParquetBatches(file, ["count"], 5, mixed_pieces=2)
    read = []
    original = type(source._pieces[0].file).read

    def counted(self, piece, columns):
        read.append((piece, tuple(columns)))
        return original(self, piece, columns)

    monkeypatch.setattr(type(source._pieces[0].file), "read", counted)
    iterator = iter(source)
    for _ in range(4):
        next(iterator)
    assert len(read) == 2 and {columns for _, columns in read} == {("count",)}
    list(iterator)
    assert sorted(piece for piece, _ in read) == list(range(11))  # each once


def test_a_place_goes_on_in_the_middle_of_an_epoch(file):
    source = ParquetBatches(file, ["count"], 10)
    list(source)
    iterator = iter(source)
    for _ in range(4):
        next(iterator)
    place = source.state_dict()
    rest = [batch["count"].tolist() for batch in iterator] + [batch["count"].tolist() for batch in source]
    other = ParquetBatches(file, ["count"], 10)
    other.load_state_dict(place)
    assert [batch["count"].tolist() for batch in other] + [b["count"].tolist() for b in other] == rest
    with pytest.raises(DataError, match=r"place to go on from(.|\n)*'seed': 0(.|\n)*'seed': 3"):
        ParquetBatches(file, ["count"], 10, seed=3).load_state_dict(place)


def test_leaving_an_epoch_begins_the_next(file):
    source = ParquetBatches(file, ["count"], 10)
    first = next(iter(source))["count"].tolist()
    second = next(iter(source))["count"].tolist()
    assert first == source.batch(0, 0)["count"].tolist() and second == source.batch(1, 0)["count"].tolist()


@pytest.mark.parametrize("world", [2, 4])
def test_shards_share_the_batches_of_one_process(file, world):
    whole = ParquetBatches(file, ["count"], 20)
    parts = [ParquetBatches(file, ["count"], 20).shard(rank, world) for rank in range(world)]
    # Three rows are left for the last batch: too few for four processes.
    for batch, *shares in zip(list(whole)[: len(parts[0])], *parts, strict=True):
        sizes = {len(share["count"]) for share in shares}
        assert len(sizes) == 1
        shared = torch.stack([share["count"] for share in shares], 1).flatten()
        assert torch.equal(shared, batch["count"][: len(shared)])
        assert len(batch["count"]) - len(shared) < world
    with pytest.raises(ValueError, match="multiple of 3"):
        whole.shard(0, 3)


def regression(x, y, size):
    slope = ember.param("slope", torch.tensor(0.0))
    with ember.plate("data", size, subsample_size=len(x)):
        ember.sample("y", dist.Normal(slope * x + 1, 10.0), obs=y)


def fit(source, num_steps, **options):
    svi = SVI(regression, lambda x, y, size: None, optim.Adam({"lr": 0.1}), Trace_ELBO())
    try:
        return svi.run(num_steps, batches=source, size=ROWS, disable_progbar=True, **options)
    finally:
        fit.svi = svi


@pytest.mark.parametrize("first", [137, 11])  # within an epoch, and at the end of one
def test_runs_learn_from_files_and_resume_within_an_epoch(first, file, tmp_path):
    def source():
        return ParquetBatches(file, ["x", "y"], 10)

    whole = fit(source(), 300)
    assert whole.params["slope"].item() == pytest.approx(4.0, abs=0.02)
    ember.clear_param_store()
    fit(source(), first, checkpoint=tmp_path / "run")
    ember.clear_param_store()
    resumed = fit(source(), 300, checkpoint=tmp_path / "run", resume=True)
    assert torch.equal(resumed.losses, whole.losses)
    assert torch.equal(resumed.params["slope"], whole.params["slope"])
    ember.clear_param_store()
    with pytest.raises(DataError, match="place to go on from"):
        fit(ParquetBatches(file, ["x", "y"], 12), 300, checkpoint=tmp_path / "run", resume=True)


def test_rows_choose_the_parameters_of_single_rows(file):
    """Each row has a latent variable of its own, whose posterior mean lies half way to its observation."""

    def model(rows, y):
        with ember.plate("data", ROWS, subsample=rows):
            z = ember.sample("z", dist.Normal(0.0, 1.0))
            ember.sample("y", dist.Normal(z, 1.0), obs=y / 100)

    def guide(rows, y):
        with ember.plate("data", ROWS, subsample=rows):
            loc = ember.param("loc", lambda: torch.zeros(ROWS), event_dim=0)
            ember.sample("z", dist.Delta(loc))

    source = ParquetBatches(file, ["y"], 20, rows_as="rows")
    svi = SVI(model, guide, optim.SGD({"lr": 0.1}), Trace_ELBO())
    result = svi.run(200, batches=source, disable_progbar=True)
    half = (2.0 * torch.arange(ROWS) + 1) / 200
    torch.testing.assert_close(result.params["loc"], half, atol=1e-3, rtol=0)


def test_gaps_are_named_by_file_column_and_row_and_the_run_is_kept(tmp_path):
    y = (2.0 * np.arange(ROWS) + 1).tolist()
    y[57], y[58] = float("nan"), None
    path = tmp_path / "gaps.parquet"
    parquet.write_table(table(y=pyarrow.array(y)), path, row_group_size=10)
    text = (
        r"column 'y' of '.*gaps.parquet' has NaN or missing values, the first in row 57(.|\n)*rows 50 to 59"
    )
    with pytest.raises(DataError, match=text):
        fit(
            ParquetBatches(path, ["x", "y"], 10, shuffle=False, mixed_pieces=1),
            20,
            checkpoint=tmp_path / "run",
        )
    assert fit.svi.result.num_steps == 5 and fit.svi.result.ending == "error"
    parquet.write_table(table(), path, row_group_size=10)
    source = ParquetBatches(path, ["x", "y"], 10, shuffle=False, mixed_pieces=1)
    assert fit(source, 20, checkpoint=tmp_path / "run", resume=True).num_steps == 20

    parquet.write_table(table(y=pyarrow.array(y)), path, row_group_size=10)
    passed = torch.cat(
        [batch["y"] for batch in ParquetBatches(path, ["y"], 10, allow_nan=True, shuffle=False)]
    )
    assert passed.isnan().nonzero().flatten().tolist() == [57, 58]
    count = pyarrow.array([None, *range(1, ROWS)], pyarrow.int32())
    parquet.write_table(table(count=count), path)
    with pytest.raises(DataError, match=r"column 'count' of .* first in row 0"):
        list(ParquetBatches(path, ["count"], 10, allow_nan=True))


def test_a_file_cut_short_under_way_is_named_and_the_run_kept(file, tmp_path):
    source = ParquetBatches(file, ["x", "y"], 10, shuffle=False, mixed_pieces=1)
    content = file.read_bytes()

    def cut(info):
        if info.step == 4:
            file.write_bytes(content[:500])

    with pytest.raises(DataError, match=r"cannot read '.*rows.parquet'") as caught:
        fit(source, 20, callback=cut, checkpoint=tmp_path / "run")
    assert fit.svi.result.num_steps == 4
    assert any("had taken 4 steps" in note for note in caught.value.__notes__)
    file.unlink()
    with pytest.raises(DataError, match="cannot read"):
        fit(source, 20, checkpoint=tmp_path / "run", resume=True)
    file.write_bytes(content)
    assert fit(source, 20, checkpoint=tmp_path / "run", resume=True).num_steps == 20


def test_a_file_that_shrinks_is_named(file):
    source = ParquetBatches(file, ["x"], 10, shuffle=False, mixed_pieces=1)
    parquet.write_table(table(), file, row_group_size=4)
    with pytest.raises(DataError, match=r"cannot read '.*rows.parquet': its size is not what it was"):
        list(source)


def test_other_columns_in_other_files_are_named(file, tmp_path):
    other = tmp_path / "second.parquet"
    parquet.write_table(table(y=np.arange(ROWS)), other)
    with pytest.raises(DataError, match=r"column 'y' has another type in '.*second(.|\n)*float(.|\n)*int64"):
        ParquetBatches([file, other], ["x", "y"], 10)
    parquet.write_table(table().drop_columns(["y"]), other)
    with pytest.raises(DataError, match=r"second.parquet' has no column 'y'(.|\n)*columns x, count"):
        ParquetBatches([file, other], ["x", "y"], 10)
    with pytest.raises(DataError, match=r"'word' of .* is no number(.|\n)*string"):
        ParquetBatches(file, ["word"], 10)


def test_bad_sources(file, tmp_path, monkeypatch):
    with pytest.raises(DataError, match="there is no data at"):
        ParquetBatches(tmp_path / "nothing", ["x"], 10)
    with pytest.raises(DataError, match="cannot read"):
        ArrowBatches(file, ["x"], 10)
    with pytest.raises(DataError, match="too few rows"):
        ParquetBatches(file, ["x"], 500, drop_last=True)
    with pytest.raises(ValueError, match="must be positive"):
        ParquetBatches(file, ["x"], 0)
    from ember.data.files import require_pyarrow

    require_pyarrow.cache_clear()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"need pyarrow(.|\n)*ember-ppl\[data\]"):
        ParquetBatches(file, ["x"], 10)


@pytest.mark.slow
def test_memory_is_bounded_by_a_few_row_groups(tmp_path):
    """A file of 160 MB of numbers, in row groups of 2 MB, passes through less than 60 MB."""
    generator = np.random.default_rng(0)
    schema = pyarrow.schema([(name, pyarrow.float32()) for name in "abcd"])
    with parquet.ParquetWriter(tmp_path / "large.parquet", schema, compression="none") as file:
        for _ in range(80):
            columns = [pyarrow.array(generator.random(125_000, dtype=np.float32)) for _ in "abcd"]
            file.write_table(pyarrow.Table.from_arrays(columns, schema=schema))
    program = """
import resource, sys
from ember.data import ParquetBatches
source = ParquetBatches(sys.argv[1], {"x": list("abc"), "y": "d"}, 1000)
next(iter(source))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = sum(len(batch["y"]) for batch in source)
print(rows, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "large.parquet")]
    rows, megabytes = map(
        int, subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()
    )
    assert rows == 10_000_000 and megabytes < 60
