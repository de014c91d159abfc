"""Take steps until a run is over, and keep what it reached: the one training loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ember.errors import NotFiniteError, message
from ember.infer.progress import Progress
from ember.infer.training.checkpoint import Checkpoint, own_state, require_states
from ember.infer.training.feed import Batches, Constant
from ember.infer.training.interruption import interruptible, without_loss_warnings
from ember.infer.training.result import Ending, Losses, StepInfo, SVIResult
from ember.infer.training.steps import Steps
from ember.infer.training.stopping import Plateau
from ember.infer.training.team import Team
from ember.params import get_param_store
from ember.random_state import get_rng_state, set_rng_state

if TYPE_CHECKING:
    from ember.infer.svi import SVI

_CHUNK_SECONDS = 0.1  # a chunk of steps takes about that long
_SHOWN_EVERY = 0.05  # seconds between two movements of the bar
_SAVED_EVERY = 60.0  # seconds between two checkpoints, unless said otherwise
# By weight, where processes have different ones.
_ENDINGS: tuple[Ending | None, ...] = (None, "out of time", "plateau", "callback", "interrupted")


@dataclass(frozen=True)
class Options:
    """How a run goes; the meaning of each is said at :meth:`ember.infer.SVI.run`."""

    disable_progbar: bool = False
    seconds: float | None = None
    plateau: Plateau | None = None
    callback: Callable[[StepInfo], Any] | None = None
    callback_every: int = 1
    checkpoint: Any = None
    checkpoint_every: int | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        for name in ("callback_every", "checkpoint_every"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} must be a positive number of steps, got {value!r}")
        if self.resume and self.checkpoint is None:
            raise ValueError(
                message(
                    "a run cannot be resumed from nowhere",
                    expected="checkpoint=, the file of an earlier run",
                    actual="resume=True without it",
                )
            )


def train(
    svi: SVI,
    steps: Steps,
    num_steps: int,
    feed: Constant | Batches,
    options: Options,
    team: Team,
) -> tuple[SVIResult, BaseException | None]:
    """Take steps until ``num_steps`` are done or another reason ends the run.

    :returns: the result, and the error that ended the run, if one did.
    """
    run = _Run(svi, steps, num_steps, feed, options, team)
    try:
        ending, error = run.to_its_end()
    finally:
        team.leave()
    params = {name: value.detach().clone() for name, value in get_param_store().items()}
    return SVIResult(run.losses.view().clone(), ending, params, run.seconds()), error


class _Run:
    """A run under way."""

    def __init__(
        self,
        svi: SVI,
        steps: Steps,
        num_steps: int,
        feed: Constant | Batches,
        options: Options,
        team: Team,
    ) -> None:
        self.svi, self.steps, self.feed, self.options, self.team = svi, steps, feed, options, team
        self.num_steps = num_steps
        self.losses = Losses()
        self.chunk = 1
        self.stopped = False  # by Ctrl-C
        self.started = time.monotonic()
        self.saved = -float("inf")  # when the last checkpoint was written
        self.earlier = 0.0  # seconds before a resumption
        self.shown, self.shown_at = 0, 0.0  # steps on the bar, and when it moved

    def prepare(self) -> None:
        """Take over a checkpoint, if asked and there, and become one with the other processes."""
        options, team = self.options, self.team
        self.feed.share(team.rank, team.world)
        if options.checkpoint is not None:
            require_states(self.svi.optim)
        if options.resume and Path(options.checkpoint).exists():
            self._resume(Checkpoint.load(options.checkpoint))
            return
        if team.world > 1 and self.num_steps:
            self._make_parameters()
        team.begin(new_stream=True)

    def _resume(self, checkpoint: Checkpoint) -> None:
        own = checkpoint.of_rank(self.team.rank)
        self.feed.set_state(own["batches"])
        set_rng_state(own["generators"])
        if len(checkpoint.losses) < self.num_steps:
            self._make_parameters()
        checkpoint.restore(self.svi, own)
        self.steps.set_state(own["steps"])
        self.losses.append(checkpoint.losses)
        self.earlier = checkpoint.seconds
        self.team.begin(new_stream=own["rank"] != self.team.rank)

    def _make_parameters(self) -> None:
        """Let everything come into being that the first step would make: parameters, and parts of guides.

        What making them did to the generators is undone.
        """
        args, kwargs = self.feed.current()  # may draw, as it does in a run without break
        generators = get_rng_state()
        self.svi.evaluate_loss(*args, **kwargs)
        set_rng_state(generators)

    def save(self) -> None:
        """Write a checkpoint; every process has a part in it, and the first writes it."""
        checkpoint = Checkpoint.of(
            self.svi,
            losses=self.losses.view(),
            seconds=self.seconds(),
            own=self.team.gather(
                {
                    "rank": self.team.rank,
                    "batches": self.feed.state(),
                    "steps": self.steps.state(),
                    **own_state(self.svi),
                }
            ),
        )
        if self.team.rank == 0:
            checkpoint.save(self.options.checkpoint)
        self.saved = time.monotonic()

    def seconds(self) -> float:
        """Return the time of the whole run so far."""
        return self.earlier + time.monotonic() - self.started

    def to_its_end(self) -> tuple[Ending, BaseException | None]:
        """Take chunks of steps until something ends the run; return what it was."""
        progress = Progress(self.num_steps, self.options.disable_progbar or self.team.rank > 0)
        ending: Ending | None = None
        error: BaseException | None = None
        failed = False
        try:
            with interruptible(self._stop), without_loss_warnings():
                self.prepare()
                if self._on_plateau():  # where an earlier run ended; its callbacks have been called
                    ending = "plateau"
                while ending is None and len(self.losses) < self.num_steps:
                    self._advance()
                    ending = self._ending()
                    self._show(progress)
        except KeyboardInterrupt as interrupt:
            ending, failed = "interrupted", True
            self.team.report(interrupt)
        except Exception as raised:
            ending, error, failed = "error", raised, True
            self._annotate(raised)
            self.team.report(raised)
        finally:
            self._show(progress, now=True)
            progress.close()
        # After an error in one process the others are not there to have a part in a checkpoint.
        together = self.team.world == 1 or not failed
        if self.options.checkpoint is not None and len(self.losses) and together:
            try:
                self.save()
            except Exception as unsaved:
                ending, error = "error", error or unsaved
        return ending or "complete", error

    def _stop(self) -> None:
        self.stopped = True
        if self.team.world == 1:  # otherwise all of them stop at the end of the step
            self.steps.interrupt()

    def _annotate(self, error: Exception) -> None:
        """Say where the run was, and what is remarkable about the data."""
        error.add_note(
            f"SVI.run had taken {len(self.losses)} steps: the parameters are those after them, and "
            "`svi.result` has the losses"
        )
        for note in self.feed.notes():
            error.add_note(note)

    def _advance(self) -> None:
        """Take the next chunk of steps."""
        args, kwargs = self.feed.current()
        start = time.monotonic()
        losses = self.steps.advance(self._size(), args, kwargs)
        taken = time.monotonic() - start
        if not len(losses) and not self.stopped:
            raise NotFiniteError("the loss of the next step is not finite")
        self.losses.append(losses)
        if len(losses):
            self.feed.consume()
        # From what was taken, which may be less than was asked for.
        if taken < _CHUNK_SECONDS / 2:
            self.chunk = max(1, 2 * len(losses))
        elif taken > 2 * _CHUNK_SECONDS:
            self.chunk = max(1, len(losses) // 2)

    def _size(self) -> int:
        """Return the number of steps until something must be looked at, at most a chunk."""
        done, options = len(self.losses), self.options
        if self.feed.changes or self.team.world > 1:
            return 1
        periods = [options.checkpoint_every]
        if options.plateau is not None:
            periods.append(options.plateau.window)
        if options.callback is not None:
            periods.append(options.callback_every)
        limits = [period - done % period for period in periods if period is not None]
        return min(self.chunk, self.num_steps - done, *limits)

    def _ending(self) -> Ending | None:
        """Do what is due after a chunk, and return the reason to end the run, if there is one."""
        code, save = self.team.agree(_ENDINGS.index(self._own_ending()), self._is_due())
        if _ENDINGS[code] is None and save:
            self.save()
        return _ENDINGS[code]

    def _is_due(self) -> bool:
        """Whether it is time for a checkpoint."""
        every = self.options.checkpoint_every
        if self.options.checkpoint is None:
            return False
        if self.saved < 0:  # the first one comes early: a state that no file can hold is found at once
            return True
        if every is None:
            return time.monotonic() - self.saved > _SAVED_EVERY
        return len(self.losses) % every == 0

    def _own_ending(self) -> Ending | None:
        """Return the reason that this process has to end the run."""
        done, options = len(self.losses), self.options
        callback = options.callback
        if self.stopped:
            return "interrupted"
        if callback is not None and done % options.callback_every == 0 and self._call_back(callback):
            return "callback"
        if self._on_plateau():
            return "plateau"
        if options.seconds is not None and time.monotonic() - self.started > options.seconds:
            return "out of time"
        return None

    def _on_plateau(self) -> bool:
        plateau = self.options.plateau
        if plateau is None or len(self.losses) % plateau.window:
            return False
        return plateau.reached(self.losses.view())

    def _call_back(self, callback: Callable[[StepInfo], Any]) -> bool:
        loss, smoothed = self.losses.recent()
        try:
            return bool(callback(StepInfo(len(self.losses), loss, smoothed, self.seconds())))
        except StopIteration:
            return True

    def _show(self, progress: Progress, now: bool = False) -> None:
        """Move the bar, unless it has just moved."""
        if len(self.losses) > self.shown and (now or time.monotonic() - self.shown_at > _SHOWN_EVERY):
            loss, smoothed = self.losses.recent()
            new = len(self.losses) - self.shown
            progress.advance(new, "SVI", loss=f"{loss:.4g}", smoothed=f"{smoothed:.4g}")
            self.shown, self.shown_at = len(self.losses), time.monotonic()
