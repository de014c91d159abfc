"""Run chains to their end, once for all kernels: chunks, stores, progress, interruption."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ember.infer.mcmc.sampler import Draws, Sampler
from ember.infer.mcmc.store import Store
from ember.infer.progress import Progress

Ending = Literal["complete", "interrupted", "out of time"]
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

    The chains take turns, chunk by chunk, so that an interruption finds all of them equally far.

    :param after_draw: called after each draw, warmup included; draws are then made one at a time.
    :param max_seconds: end the run after that time, but not before warmup and a first draw.
    """
    deadline = None if max_seconds is None else time.monotonic() + max_seconds
    total = num_warmup + num_samples
    progress = Progress(total * len(stores), disable_progbar)
    chains: list[Chain] = []
    try:
        for index, store in enumerate(stores):
            chains.append(Chain(index, sampler.start(index), store))
        while any(chain.done < total for chain in chains):
            for chain in chains:
                _advance(sampler, chain, num_warmup, num_samples, progress, after_draw)
                progress.advance(0, _stage(chain, num_warmup), **_figures(chains))
            late = deadline is not None and time.monotonic() > deadline
            if late and all(chain.done > num_warmup for chain in chains):
                return chains, "out of time"
    except KeyboardInterrupt:
        return chains, "interrupted"
    finally:
        progress.close()
        for chain in chains:
            chain.store.finish()
    return chains, "complete"


def _advance(
    sampler: Sampler,
    chain: Chain,
    num_warmup: int,
    num_samples: int,
    progress: Progress,
    after_draw: AfterDraw | None,
) -> None:
    """Make the chain's next chunk of draws, within warmup or after it."""
    warming = chain.done < num_warmup
    limit = num_warmup if warming else num_warmup + num_samples
    size = min(1 if after_draw else sampler.chunk, limit - chain.done)
    if size <= 0:
        return
    if warming:
        chain.state, draws = sampler.warmup(chain.state, chain.done, chain.done + size)
    else:
        chain.state, draws = sampler.sample(chain.state, size)
        chain.store.append(*draws)
        diverging = draws[1].get("diverging")
        if diverging is not None:
            chain.divergences += int(diverging.sum())
    chain.done += size
    progress.advance(size, "Warmup" if warming else "Sample")
    if after_draw is not None:
        stage, number = ("Warmup", chain.done - 1) if warming else ("Sample", chain.done - num_warmup - 1)
        after_draw(chain.index, chain.state, draws, stage, number)


def _stage(chain: Chain, num_warmup: int) -> str:
    return "Warmup" if chain.done < num_warmup else "Sample"


def _figures(chains: list[Chain]) -> dict[str, Any]:
    step_size = getattr(chains[0].state, "step_size", None)
    shown: dict[str, Any] = {} if step_size is None else {"step size": f"{float(step_size):.2e}"}
    shown["divergences"] = sum(chain.divergences for chain in chains)
    return shown
