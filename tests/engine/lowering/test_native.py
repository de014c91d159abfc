"""Check calling: contexts, threads, interruption, wrong inputs, forks; and code for other machines."""

import os
import sys
import threading
import time

import pytest
import torch
from lowering_checks import PLAIN, tensor

from ember.engine import control, machine
from ember.engine.capture import capture
from ember.engine.compile import compile, forget
from ember.engine.lowering import NotLowerable
from ember.engine.lowering.lower import lower
from ember.engine.statistics import statistics


def simple():
    return compile(capture(lambda x, y: [x * 2 + y, x.sum()], tensor((5,)), tensor((5,))), use_disk=False)


def test_each_call_returns_new_tensors():
    program = simple()
    first = program(torch.ones(5).double(), torch.zeros(5).double())
    second = program(torch.zeros(5).double(), torch.zeros(5).double())
    assert first[0].tolist() == [2.0] * 5
    assert second[0].tolist() == [0.0] * 5


def test_a_context_writes_to_the_same_outputs_and_sees_changed_inputs():
    x = torch.ones(5, dtype=torch.float64)
    context = simple().bind(x, torch.zeros(5, dtype=torch.float64))
    outputs = context.run()
    x.fill_(3.0)
    assert context.run() is outputs
    assert outputs[1].item() == 15.0


def test_wrong_inputs_are_named():
    program = simple()
    with pytest.raises(ValueError, match="number of tensors"):
        program(torch.ones(5))
    with pytest.raises(ValueError, match=r"input 1 .*\n.*\n.*\[5\](.|\n)*\[6\]"):
        program(tensor((5,)), tensor((6,)))
    with pytest.raises(ValueError, match="float64"):
        program(tensor((5,)).float(), tensor((5,)))


def looping(steps):
    def function(x):
        return control.scan(lambda c, _: (torch.sin(c) + 0.1, c), x, length=steps)

    return compile(capture(function, tensor((200,))), use_disk=False)


def test_threads_run_at_the_same_time_and_do_not_disturb_each_other():
    program = looping(300)
    inputs = [tensor((200,), seed=seed) for seed in range(6)]
    expected = [program(x)[0] for x in inputs]
    results = [None] * 6
    in_flight = []

    def work(index):
        context = program.bind(inputs[index])
        for _ in range(5):
            results[index] = context.run()[0].clone()
        in_flight.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(in_flight) == list(range(6))
    for found, right in zip(results, expected, strict=True):
        assert torch.equal(found, right)


def test_python_runs_while_machine_code_does_and_can_stop_it():
    program = looping(20_000)
    context = program.bind(tensor((200,)))
    thread = threading.Thread(target=context.run)
    thread.start()
    seen = 0
    deadline = time.monotonic() + 20
    while seen < 10 and time.monotonic() < deadline:
        seen = context.progress
    context.interrupt()
    thread.join(timeout=20)
    assert not thread.is_alive()
    assert 10 <= context.progress < 20_000


def test_the_number_of_iterations_can_be_limited():
    program = looping(50)
    x = tensor((200,))
    context = program.bind(x)
    rows = context.run(limit=7)[1].clone()
    assert context.progress == 7
    assert torch.equal(rows[:7], program(x)[1][:7])
    context.run()
    assert context.progress == 50


def test_a_loop_goes_on_where_its_inputs_are():
    program = looping(50)
    x = tensor((200,))
    once, rows = (each.clone() for each in program(x))
    twice = program(once)[0].clone()
    context = program.bind(x)
    assert context.write_to_inputs(1)
    address = x.data_ptr()
    carried, found = context.run()
    assert carried.data_ptr() == address
    assert torch.equal(x, once)
    assert torch.equal(found, rows)
    context.run()
    assert torch.equal(x, twice)
    # Bound again to what must not be changed, it has results of its own.
    strided = tensor((200, 2))[:, 0]
    assert not context.bind(strided).write_to_inputs(1)
    expected = program(strided)[0]
    assert torch.equal(context.run()[0], expected)
    assert torch.equal(x, twice)


def test_what_is_read_elsewhere_is_not_written_over():
    def pair(x, y):
        return control.scan(lambda c, _: ((c[0] + c[1], c[1] * 0.5 + y), c[0].sum()), (x, y * 2), length=3)

    def checked(x, index):
        return control.scan(lambda c, _: (c[index] * 0.5, c.sum()), x, length=3)

    both = torch.arange(8.0)
    program = compile(capture(pair, both[:4], both[4:]), use_disk=False)
    assert not program.bind(both[:4], both[4:]).write_to_inputs(1)
    assert program.bind(both[:4], both[4:].clone()).write_to_inputs(1)
    index = torch.tensor([1, 2, 3, 0])
    program = compile(capture(checked, both[:4], index), use_disk=False)
    assert not program.bind(both[:4], index).write_to_inputs(1)


def test_equal_programs_are_compiled_once():
    forget()
    before = statistics.snapshot()
    programs = [
        compile(capture(lambda x: torch.exp(x) * 3.25, torch.ones(3)), use_disk=False) for _ in range(3)
    ]
    after = statistics.snapshot()
    assert programs[0] is programs[1] is programs[2]
    assert after["compilations"] - before["compilations"] == 1
    assert after["memory_hits"] - before["memory_hits"] == 2


def test_code_for_a_plain_machine_uses_no_wide_registers():
    program = capture(lambda x: [torch.exp(x).sum(), x[2:] * 2], tensor((100,)))
    lowered = lower(program, PLAIN.lanes, PLAIN.masked_tails)
    listing = machine.listing(lowered.text, PLAIN, lowered.num_calls)
    assert "xmm" in listing or "v0" in listing or not PLAIN.cpu.startswith("x86")
    assert "ymm" not in listing
    assert "zmm" not in listing


def test_a_missing_or_old_llvmlite_is_a_reason_not_to_lower(monkeypatch):
    program = capture(lambda x: x * 2, torch.ones(2))
    machine._binding.cache_clear()
    machine.host.cache_clear()
    try:
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "llvmlite.binding", None)
            with pytest.raises(NotLowerable, match="llvmlite cannot be imported"):
                compile(program)
        import llvmlite.binding

        with monkeypatch.context() as patch:
            patch.setattr(llvmlite.binding, "llvm_version_info", (15, 0, 7))
            with pytest.raises(NotLowerable, match=r"LLVM 15\.0\.7"):
                compile(program)
    finally:
        machine._binding.cache_clear()
        machine.host.cache_clear()
    assert compile(program, use_disk=False)(torch.ones(2))[0].tolist() == [2.0, 2.0]


def test_targets_choose_lanes_by_features():
    assert machine.make_target("a", "+avx512f,+avx512dq,+avx512vl,+avx2").lanes == 8
    assert machine.make_target("a", "+avx2").lanes == 4
    assert machine.make_target("a", "+sse2,-avx").lanes == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_fork_compiles_and_runs():
    program = simple()
    child = os.fork()
    if child == 0:
        try:
            good = program(torch.ones(5).double(), torch.zeros(5).double())[1].item() == 5.0
            fresh = compile(capture(lambda x: x * 7.5, torch.ones(2)), use_disk=False)
            good = good and fresh(torch.ones(2))[0].tolist() == [7.5, 7.5]
            os._exit(0 if good else 1)
        finally:
            os._exit(2)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(status) == 0
            return
        time.sleep(0.05)
    os.kill(child, 9)
    os.waitpid(child, 0)
    pytest.fail("the child process hangs")
