"""Check the parameter store (behaviours 36-41), its files and its refusals."""

import asyncio
import os
import pickle
import threading

import pytest
import torch
from torch.distributions import constraints, identity_transform, transform_to

import ember
from ember.errors import FileFormatError
from ember.params import ParamStoreDict, use_param_store


@pytest.fixture
def store():
    filled = ParamStoreDict()
    filled.setdefault("loc", torch.tensor([1.0, -2.0]))
    filled.setdefault("scale", torch.tensor(3.0), constraints.positive)
    filled.setdefault("weights", torch.tensor([0.2, 0.8]), constraints.simplex)
    filled.setdefault("bounded", torch.tensor(0.5), constraints.interval(torch.tensor(-1.0), 2.0))
    filled.setdefault("many", torch.ones(3), constraints.independent(constraints.positive, 1))
    return filled


def contents(store):
    return {name: (value.detach().clone(), repr(store._constraints[name])) for name, value in store.items()}


def assert_same(one, two):
    assert list(one) == list(two)
    for name in one:
        torch.testing.assert_close(one[name][0], two[name][0])
        assert one[name][1] == two[name][1]


def test_one_store_is_cleared_in_place():
    first = ember.get_param_store()
    ember.param("a", torch.tensor(1.0))
    ember.clear_param_store()
    assert ember.get_param_store() is first and len(first) == 0 and not first
    from ember.params.param_store import ParamStoreDict as SameClass

    assert isinstance(first, SameClass)


def test_assignment_keeps_the_constraint_and_makes_a_new_leaf(store):
    before = store["scale"].unconstrained()
    store["scale"] = torch.tensor(5.0)
    after = store["scale"].unconstrained()
    assert after is not before
    assert store["scale"].item() == pytest.approx(5.0)
    assert after.item() == pytest.approx(torch.tensor(5.0).log().item())
    assert store.param_name(before) is None and store.param_name(after) == "scale"
    store["new"] = torch.tensor(-1.0)
    assert store["new"].item() == -1.0 and store["new"].unconstrained() is store["new"]


@pytest.mark.parametrize("set_value", ["setitem", "setdefault"])
def test_value_outside_the_constraint_leaves_the_store(store, set_value):
    before = contents(store)
    with pytest.raises(ValueError, match="violates its constraint") as error:
        if set_value == "setitem":
            store["scale"] = torch.tensor(-5.0)
        else:
            store.setdefault("fresh", torch.tensor(-5.0), constraints.positive)
    assert "where: site" in str(error.value) and "-5." in str(error.value)
    assert_same(contents(store), before)


def test_setdefault_and_delete(store):
    assert store.setdefault("scale", torch.tensor(9.0), constraints.real).item() == pytest.approx(3.0)
    del store["scale"]
    assert "scale" not in store
    assert store.setdefault("scale", torch.tensor([-1.0, 1.0])).shape == (2,)
    with pytest.raises(KeyError):
        store["absent"]
    with pytest.raises(KeyError):
        del store["absent"]


def test_states_merge(store):
    state = store.get_state()
    assert set(state) == {"params", "constraints"}
    other = ParamStoreDict()
    other.setdefault("own", torch.tensor(1.0))
    other.set_state(state)
    assert set(other.keys()) == {"own", *store.keys()}
    assert other["scale"].item() == pytest.approx(3.0)


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"params": {}},
        {"params": {}, "constraints": {}, "more": 1},
        {"params": {"a": torch.ones(1)}, "constraints": {}},
        None,
    ],
)
def test_malformed_states_are_refused(store, state):
    before = contents(store)
    with pytest.raises(ValueError, match="malformed state"):
        store.set_state(state)
    assert_same(contents(store), before)


def test_reading(store):
    assert list(store) == ["loc", "scale", "weights", "bounded", "many"] == list(store.keys())
    assert len(store) == 5 and bool(store) and "loc" in store
    assert set(store.match("sc")) == {"scale"} and store.match("cale") == {}
    leaves = dict(store.named_parameters())
    assert all(leaf.is_leaf and leaf.requires_grad for leaf in leaves.values())
    assert dict(store.items())["scale"].item() == pytest.approx(3.0)
    assert [value.shape for value in store.values()] == [
        leaves[n].shape if n != "weights" else (2,) for n in leaves
    ]
    assert store.param_name(leaves["scale"]) == "scale" and store.param_name(store["scale"]) is None
    assert set(store.get_all_param_names()) == set(leaves)
    assert store.get_param("loc").tolist() == [1.0, -2.0]


def test_replace_param(store):
    old = store["scale"]
    store.replace_param("scale", torch.tensor(7.0), old)
    assert store["scale"].item() == pytest.approx(7.0)
    with pytest.raises(ValueError, match="has changed since"):
        store.replace_param("scale", torch.tensor(8.0), old)


def test_scope_swaps_and_swaps_back(store):
    before = contents(store)
    with store.scope() as state:
        assert len(store) == 0
        store.setdefault("scale", torch.tensor(-1.0), constraints.real)
    assert_same(contents(store), before)
    assert list(state["params"]) == ["scale"]
    with store.scope(state) as again:
        assert again is state and store["scale"].item() == -1.0
        store["scale"] = torch.tensor(-2.0)
    assert store["scale"].item() == pytest.approx(3.0)
    assert state["params"]["scale"].item() == -2.0


def test_scope_swaps_back_after_an_exception(store):
    before = contents(store)
    with pytest.raises(RuntimeError, match="inside"), store.scope():
        store["other"] = torch.tensor(1.0)
        raise RuntimeError("inside")
    assert_same(contents(store), before)


def test_files_keep_values_and_constraints(store, tmp_path):
    path = tmp_path / "params.file"
    store.save(path)
    new = ParamStoreDict()
    new["own"] = torch.tensor(0.0)
    new.load(path)
    assert set(new.keys()) == {"own", *store.keys()}
    del new["own"]
    for name, value in store.items():
        torch.testing.assert_close(new[name], value)
        assert type(new._constraints[name]) is type(store._constraints[name])
    new["weights"] = torch.tensor([0.5, 0.5])
    with pytest.raises(ValueError, match="violates"):
        new["bounded"] = torch.tensor(5.0)


@pytest.mark.parametrize("length", range(1, 60, 7))
def test_files_with_headers_of_any_length(tmp_path, length):
    store = ParamStoreDict()
    for index in range(length):
        store[f"parameter_with_a_name_{index}"] = torch.full((), float(index))
    store.save(tmp_path / "f")
    new = ParamStoreDict()
    new.load(tmp_path / "f", map_location="cpu")
    assert contents(new).keys() == contents(store).keys()


def test_save_is_atomic(store, tmp_path, monkeypatch):
    path = tmp_path / "params"
    store.save(path)
    good = path.read_bytes()

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    store["loc"] = torch.zeros(2)
    with pytest.raises(OSError, match="disk full"):
        store.save(path)
    assert path.read_bytes() == good
    assert os.listdir(tmp_path) == ["params"]


def test_constraint_of_the_users_own_class_is_refused_by_name(store, tmp_path):
    class Mine(type(constraints.real)):
        pass

    transform_to.register(Mine, lambda constraint: identity_transform)
    store.setdefault("odd", torch.tensor(1.0), Mine())
    with pytest.raises(ValueError, match="cannot save parameter 'odd'"):
        store.save(tmp_path / "f")
    assert os.listdir(tmp_path) == []


def damaged(kind, good):
    return {
        "truncated": good[: len(good) // 2],
        "cut by a byte": good[:-1],
        "cut in the header": good[:20],
        "empty": b"",
        "text": b"these are not parameters",
        "zip": b"PK\x03\x04" + b"\0" * 50,
        "pickle": pickle.dumps({"params": 1}, protocol=2),
        "noise": bytes(range(256)),
        "bad constraint": good.replace(b"simplex", b"simplux"),
        "bad json": good.replace(b'\\"positive\\"', b'\\"positive\\ '),
        "other format": good.replace(b"ember-params-1", b"ember-params-9"),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "truncated",
        "cut by a byte",
        "cut in the header",
        "empty",
        "text",
        "zip",
        "pickle",
        "noise",
        "bad constraint",
        "other format",
    ],
)
def test_damaged_and_foreign_files_leave_the_store(store, tmp_path, kind):
    path = tmp_path / "file"
    store.save(path)
    path.write_bytes(damaged(kind, path.read_bytes()))
    before = contents(store)
    with pytest.raises(FileFormatError, match="cannot read parameters from") as error:
        store.load(path)
    assert str(path) in str(error.value) and "fix:" in str(error.value)
    assert isinstance(error.value, ValueError)
    assert_same(contents(store), before)


def test_missing_file_is_the_systems_own_error(store, tmp_path):
    with pytest.raises(FileNotFoundError):
        store.load(tmp_path / "absent")


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("writer", ["torch zip", "torch legacy", "pickle"])
def test_no_code_of_a_file_is_executed(store, tmp_path, writer):
    trap, path = tmp_path / "trap", tmp_path / "file"
    state = {"params": {"a": Malicious(trap)}, "constraints": {"a": constraints.real}}
    if writer == "pickle":
        path.write_bytes(pickle.dumps(state))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=writer == "torch zip")
    before = contents(store)
    with pytest.raises(FileFormatError, match="neither a tensor nor a constraint") as error:
        store.load(path)
    assert not trap.exists()
    assert "weights_only" not in str(error.value)
    assert_same(contents(store), before)


@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_torch_save_are_read(store, tmp_path, zipped):
    state = store.get_state()
    state["params"] = {name: leaf.detach() for name, leaf in state["params"].items()}
    torch.save(state, tmp_path / "old", _use_new_zipfile_serialization=zipped)
    new = ParamStoreDict()
    new.load(tmp_path / "old")
    for name, value in store.items():
        torch.testing.assert_close(new[name], value)
    new["loc"] = torch.zeros(2)
    assert new["loc"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "state",
    [
        {"params": {"a": torch.ones(2)}, "constraints": {}},
        {"params": {"a": 3}, "constraints": {"a": constraints.real}},
        {"params": {"a": torch.ones(2, dtype=torch.long)}, "constraints": {"a": constraints.real}},
        {"params": {"a": torch.ones(2)}, "constraints": {"a": 1}},
        [1, 2],
    ],
)
def test_torch_files_with_other_contents_are_refused(store, tmp_path, state):
    torch.save(state, tmp_path / "odd")
    before = contents(store)
    with pytest.raises(FileFormatError):
        store.load(tmp_path / "odd")
    assert_same(contents(store), before)


def test_threads_may_have_stores_of_their_own():
    results = {}

    def work(number):
        with use_param_store(ParamStoreDict()):
            for _ in range(50):
                ember.param("a", torch.tensor(float(number)))
            results[number] = (ember.param("a").item(), len(ember.get_param_store()))

    ember.param("a", torch.tensor(-1.0))
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: (float(number), 1) for number in range(4)}
    assert ember.param("a").item() == -1.0


def test_tasks_may_have_stores_of_their_own():
    async def work(number):
        with use_param_store(ParamStoreDict()):
            ember.param("a", torch.tensor(float(number)))
            await asyncio.sleep(0)
            return ember.param("a").item()

    async def run():
        return await asyncio.gather(*(work(number) for number in range(3)))

    assert asyncio.run(run()) == [0.0, 1.0, 2.0]
    assert len(ember.get_param_store()) == 0
