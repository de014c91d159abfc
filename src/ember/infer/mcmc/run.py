"""Run chains to their end, once for all kernels: chunks, stores, progress, interruption."""

from __future__ import annotations

import contextvars
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Literal

from ember.infer.mcmc.sampler import Draws, Sampler
from ember.infer.mcmc.store import Store
from ember.infer.progress import Progress

Ending = Literal["complete", "interrupted", "out of time"]
_REFRESH = 0.1  # seconds between two looks at running chains

AfterDraw = Callable[[int, Any, Draws, str, int], None]
"""(chain, its state, the draw, "Warmup" or "Sample", number of the draw in its stage) → None."""


@dataclass
class Chain:
    """How far a chain is."""

    index: int
    state: Any
    store: Store
    done: int = 0  # draws, warmup included
    divergences: int = 0  # after warmup
    leapfrogs: int = 0  # warmup included, where the kernel counts them
    running: bool = False  # inside a chunk

    def under_way(self, sampler: Any) -> int:
        """Return the finished draws of the chunk that the chain is at."""
        return sampler.progress(self.index) if self.running else 0


class _OutOfTime(Exception):
    """The time is over."""


@dataclass(frozen=True)
class _Job:
    """What to do with each chain."""

    sampler: Any
    num_warmup: int
    num_samples: int
    after_draw: AfterDraw | None
    deadline: float | None

    @property
    def total(self) -> int:
        return self.num_warmup + self.num_samples

    def check_time(self, chains: list[Chain]) -> None:
        late = self.deadline is not None and time.monotonic() > self.deadline
        if late and all(chain.done > self.num_warmup for chain in chains):
            raise _OutOfTime


def run(
    sampler: Sampler,
    stores: Sequence[Store],
    num_warmup: int,
    num_samples: int,
    disable_progbar: bool = False,
    after_draw: AfterDraw | None = None,
    max_seconds: float | None = None,
) -> tuple[list[Chain], Ending]:
    """Run a chain for each store; return the chains, and how the run ended.

    Chains of a parallel sampler run in threads, one for each core; others take turns, chunk by chunk, so
    that an interruption finds all of them equally far.

    :param after_draw: called after each draw, warmup included; draws are then made one at a time, in turns.
    :param max_seconds: end the run after that time, but not before warmup and a first draw.
    """
    deadline = None if max_seconds is None else time.monotonic() + max_seconds
    job = _Job(sampler, num_warmup, num_samples, after_draw, deadline)
    progress = Progress(job.total * len(stores), disable_progbar)
    chains: list[Chain] = []
    try:
        for index, store in enumerate(stores):
            chains.append(Chain(index, sampler.start(index), store))
        if hasattr(sampler, "interrupt") and after_draw is None:
            _run_in_threads(job, chains, progress)
        else:
            _run_in_turns(job, chains, progress)
    except KeyboardInterrupt:
        return chains, "interrupted"
    except _OutOfTime:
        return chains, "out of time"
    finally:
        progress.close()
        for chain in chains:
            chain.store.finish()
    return chains, "complete"


def _run_in_turns(job: _Job, chains: list[Chain], progress: Progress) -> None:
    while any(chain.done < job.total for chain in chains):
        for chain in chains:
            made = _advance(job, chain)
            progress.advance(made, _stage(chain, job.num_warmup), **_figures(chains))
        job.check_time(chains)


def _run_in_threads(job: _Job, chains: list[Chain], progress: Progress) -> None:
    """Run each chain to its end in a thread; this thread moves the bar and hears the keyboard."""
    stop = threading.Event()
    shown = 0

    def work(chain: Chain) -> None:
        while chain.done < job.total and not stop.is_set():
            _advance(job, chain)

    with ThreadPoolExecutor(min(len(chains), os.cpu_count() or 1), "ember-chain") as pool:
        running = [pool.submit(contextvars.copy_context().run, work, chain) for chain in chains]
        pending: set[Any] = set(running)
        try:
            while pending:
                finished, pending = wait(pending, timeout=_REFRESH, return_when=FIRST_EXCEPTION)
                for each in finished:
                    each.result()  # raises what the chain raised
                done = sum(chain.done + chain.under_way(job.sampler) for chain in chains)
                progress.advance(max(0, done - shown), _stage(chains[0], job.num_warmup), **_figures(chains))
                shown = max(shown, done)
                if pending:
                    job.check_time(chains)
        except BaseException:
            # After an interrupt or an error the chains stop at their next draw.
            stop.set()
            job.sampler.interrupt()
            raise


def _advance(job: _Job, chain: Chain) -> int:
    """Make the chain's next chunk of draws, within warmup or after it; return their number."""
    warming = chain.done < job.num_warmup
    limit = job.num_warmup if warming else job.total
    size = min(1 if job.after_draw else job.sampler.chunk, limit - chain.done)
    if size <= 0:
        return 0
    chain.running = True
    if warming:
        chain.state, draws = job.sampler.warmup(chain.state, chain.index, chain.done, chain.done + size)
    else:
        chain.state, draws = job.sampler.sample(chain.state, chain.index, size)
        chain.store.append(*draws)
        diverging = draws[1].get("diverging")
        if diverging is not None:
            chain.divergences += int(diverging.sum())
    chain.running = False
    leapfrogs = draws[1].get("num_leapfrogs")
    if leapfrogs is not None:
        chain.leapfrogs += int(leapfrogs.sum())
    made = draws[0].shape[0]  # fewer than asked for after an interrupt
    chain.done += made
    if job.after_draw is not None:
        stage, start = ("Warmup", 0) if warming else ("Sample", job.num_warmup)
        job.after_draw(chain.index, chain.state, draws, stage, chain.done - start - 1)
    return made


def _stage(chain: Chain, num_warmup: int) -> str:
    return "Warmup" if chain.done < num_warmup else "Sample"


def _figures(chains: list[Chain]) -> dict[str, Any]:
    step_size = getattr(chains[0].state, "step_size", None)
    shown: dict[str, Any] = {} if step_size is None else {"step size": f"{float(step_size):.2e}"}
    shown["divergences"] = sum(chain.divergences for chain in chains)
    return shown
