"""Check what writers of handlers rely on: Messenger, its registry, effectful operations, the runtime."""

import asyncio
import threading

import pytest
import torch

import ember
from ember import distributions as dist
from ember import poutine
from ember.poutine import Messenger, runtime
from ember.poutine.messenger import block_messengers


def draw(name="x"):
    return ember.sample(name, dist.Normal(0.0, 1.0))


def test_methods_by_type_of_message():
    seen = []

    class Look(Messenger):
        def _pyro_sample(self, msg):
            seen.append(("sample", msg["value"] is None))

        def _pyro_post_sample(self, msg):
            seen.append(("post_sample", msg["value"] is None))

        def _pyro_param(self, msg):
            seen.append(("param", msg["value"] is None))

        def _pyro_post_param(self, msg):
            seen.append(("post_param", msg["value"] is None))

    with Look():
        draw()
        ember.param("a", torch.tensor(1.0))
    assert seen == [("sample", True), ("post_sample", False), ("param", True), ("post_param", False)]


def test_both_spellings_of_the_post_step():
    class Old(Messenger):
        def _post_process_message(self, msg):
            msg["value"] = torch.tensor(1.0)

    class New(Messenger):
        def _postprocess_message(self, msg):
            msg["value"] = torch.tensor(2.0)

    with Old():
        assert draw() == 1.0
    with New():
        assert draw() == 2.0


def test_methods_are_inherited_and_may_be_static():
    class Base(Messenger):
        @staticmethod
        def _pyro_sample(msg):
            msg["value"] = torch.tensor(1.0)

    class Derived(Base):
        def _pyro_post_sample(self, msg):
            msg["value"] = msg["value"] + 1

    with Base():
        assert draw() == 1.0
    with Derived():
        assert draw() == 2.0


def test_register_and_unregister():
    class Open(Messenger):
        pass

    class Child(Open):
        pass

    with Child():
        assert draw() != 5.0

    @Open.register(type="sample")
    def _fix(self, msg):
        msg["value"] = torch.tensor(5.0)

    @Open.register(type="sample", post=True)
    def _double(self, msg):
        msg["value"] = 2 * msg["value"]

    with Child():
        assert draw() == 10.0
    with poutine.scale(scale=1.0):
        assert draw() != 10.0
    Open.unregister(_fix, type="sample")
    with Child():
        assert draw() != 10.0
    for method in (Open.register, Open.unregister):
        with pytest.raises(ValueError, match="operation type is needed"):
            method(_fix)


def test_users_own_operations():
    @runtime.effectful(type="shift")
    def shift(x, by=1):
        return x + by

    class Other(Messenger):
        def _pyro_shift(self, msg):
            assert msg["name"] == "here" and msg["args"] == (1,) and msg["kwargs"] == {"by": 2}
            msg["value"] = 100

        def _pyro_post_shift(self, msg):
            msg["value"] = msg["value"] + 1

    assert shift(1, by=2) == 3
    with Other():
        assert shift(1, by=2, name="here") == 101
    assert shift.__name__ == "shift"
    with pytest.raises(ValueError, match="operation type"):
        runtime.effectful(lambda: None)


def test_continuations_run_after_all_handlers():
    log = []

    class Continue(Messenger):
        def _pyro_sample(self, msg):
            msg["continuation"] = lambda msg: log.append("continuation")

        def _pyro_post_sample(self, msg):
            log.append("post")

    with Continue():
        draw()
    assert log == ["post", "continuation"]


def test_runtime_tells_about_the_stack():
    assert not runtime.am_i_wrapped() and runtime._PYRO_STACK == []
    with poutine.block() as handler:
        assert runtime.am_i_wrapped()
        assert runtime._PYRO_STACK == [handler] == list(runtime.handler_stack())
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        runtime.absent  # noqa: B018
    msg = runtime.new_message("sample", "x", dist.Delta(torch.tensor(3.0)))
    assert runtime.apply_stack(msg)["value"] == 3.0
    assert {"enumerate", "expand", "num_samples", "is_auxiliary", "baseline"} <= set(
        runtime.InferDict.__annotations__
    )


def test_block_messengers_switches_chosen_handlers_off_and_on():
    with poutine.scale(scale=2.0), poutine.trace() as recorder:
        with block_messengers(lambda each: isinstance(each, type(poutine.scale(scale=1.0)))) as blocked:
            draw("a")
        draw("b")
    assert len(blocked) == 1
    assert recorder.trace.nodes["a"]["scale"] == 1.0 and recorder.trace.nodes["b"]["scale"] == 2.0


def test_exceptions_in_handlers_unwind_the_stack():
    class Fail(Messenger):
        def _pyro_post_sample(self, msg):
            raise RuntimeError("in a handler")

    with pytest.raises(RuntimeError, match="in a handler"), poutine.trace(), ember.plate("p", 3), Fail():
        draw()
    assert runtime.handler_stack() == ()
    assert runtime.active_plates() == []


def program(number):
    """A model that touches stack, plates and masks, and takes its time."""
    names = []
    with poutine.trace() as recorder, poutine.scale(scale=float(number + 1)):
        with ember.plate(f"p_{number}", number + 1):
            names.append(draw(f"x_{number}").shape)
            yield
            names.append(draw(f"y_{number}").shape)
        yield
        draw(f"z_{number}")
    assert names == [(number + 1,)] * 2
    scales = {site["scale"] for name, site in recorder.trace.nodes.items() if not name.startswith("p_")}
    assert scales == {float(number + 1)}
    assert list(recorder.trace) == [f"{name}_{number}" for name in "pxyz"]


def test_threads_do_not_interfere():
    failures = []
    barrier = threading.Barrier(4)

    def work(number):
        try:
            for _ in range(5):
                for _ in program(number):
                    barrier.wait()
            assert not runtime.am_i_wrapped()
        except BaseException as error:
            failures.append(error)
            barrier.abort()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    with poutine.mask(mask=False):  # not seen by the threads
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []


def test_tasks_do_not_interfere():
    async def work(number):
        for _ in program(number):
            await asyncio.sleep(0)
        return runtime.am_i_wrapped()

    async def run():
        return await asyncio.gather(*(work(number) for number in range(4)))

    assert asyncio.run(run()) == [False] * 4
