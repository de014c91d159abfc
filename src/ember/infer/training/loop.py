"""Take steps until a run is over, and keep what it reached: the one training loop."""

from __future__ import annotations

import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ember.errors import NotFiniteError, message
from ember.infer.progress import Progress
from ember.infer.training.checkpoint import Checkpoint, require_states
from ember.infer.training.feed import Batches, Constant
from ember.infer.training.result import Ending, Losses, StepInfo, SVIResult
from ember.infer.training.steps import Steps
from ember.infer.training.stopping import Plateau
from ember.params import get_param_store
from ember.random_state import get_rng_state, set_rng_state

if TYPE_CHECKING:
    from ember.infer.svi import SVI

_CHUNK_SECONDS = 0.1  # a chunk of steps takes about that long
_SHOWN_EVERY = 0.05  # seconds between two movements of the bar
_SAVED_EVERY = 60.0  # seconds between two checkpoints, unless said otherwise


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
    svi: SVI, steps: Steps, num_steps: int, feed: Constant | Batches, options: Options
) -> tuple[SVIResult, BaseException | None]:
    """Take steps until ``num_steps`` are done or another reason ends the run.

    :returns: the result, and the error that ended the run, if one did.
    """
    if options.checkpoint is not None:
        require_states(svi.optim)
    run = _Run(svi, steps, num_steps, feed, options)
    if options.resume and Path(options.checkpoint).exists():
        run.resume()
    return run.result(*run.to_its_end())


class _Run:
    """A run under way."""

    def __init__(
        self, svi: SVI, steps: Steps, num_steps: int, feed: Constant | Batches, options: Options
    ) -> None:
        self.svi, self.steps, self.feed, self.options = svi, steps, feed, options
        self.num_steps = num_steps
        self.losses = Losses()
        self.chunk = 1
        self.stopped = False  # by Ctrl-C
        self.started = time.monotonic()
        self.saved = -float("inf")  # when the last checkpoint was written
        self.earlier = 0.0  # seconds before a resumption

    def resume(self) -> None:
        """Take over a checkpoint.

        Everything that comes into being with the first step (parameters, guides) has to be there before, and
        whatever making it did to the generators is undone.
        """
        checkpoint = Checkpoint.load(self.options.checkpoint)
        self.feed.set_state(checkpoint.batches)
        set_rng_state(checkpoint.generators)
        if len(checkpoint.losses) < self.num_steps:
            args, kwargs = self.feed.current()  # may draw, as it did without break
            generators = get_rng_state()
            self.svi.evaluate_loss(*args, **kwargs)
            set_rng_state(generators)
        checkpoint.restore(self.svi)
        self.steps.set_state(checkpoint.steps)
        self.losses.append(checkpoint.losses)
        self.earlier = checkpoint.seconds

    def save(self) -> None:
        """Write a checkpoint."""
        Checkpoint.of(
            self.svi,
            losses=self.losses.view(),
            seconds=self.seconds(),
            batches=self.feed.state(),
            steps=self.steps.state(),
        ).save(self.options.checkpoint)
        self.saved = time.monotonic()

    def seconds(self) -> float:
        """Return the time of the whole run so far."""
        return self.earlier + time.monotonic() - self.started

    def to_its_end(self) -> tuple[Ending, BaseException | None]:
        """Take chunks of steps until something ends the run; return what it was."""
        progress = Progress(self.num_steps, self.options.disable_progbar)
        shown, when = 0, 0.0
        ending: Ending | None = None
        error: BaseException | None = None
        self.chunk = 1
        try:
            with self._interruptible(), _without_loss_warnings():
                ending = self._ending() if len(self.losses) else None
                while ending is None and len(self.losses) < self.num_steps:
                    self._advance()
                    ending = self._ending()
                    if time.monotonic() - when > _SHOWN_EVERY:
                        self._show(progress, len(self.losses) - shown)
                        shown, when = len(self.losses), time.monotonic()
        except KeyboardInterrupt:
            ending = "interrupted"
        except Exception as raised:
            ending, error = "error", raised
            raised.add_note(
                f"SVI.run had taken {len(self.losses)} steps: the parameters are those after them, and "
                "`svi.result` has the losses"
            )
            for note in self.feed.notes():
                raised.add_note(note)
        finally:
            self._show(progress, len(self.losses) - shown)
            progress.close()
            if self.options.checkpoint is not None and len(self.losses):
                self.save()
        return ending or "complete", error

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
        if taken < _CHUNK_SECONDS / 2:
            self.chunk *= 2
        elif taken > 2 * _CHUNK_SECONDS:
            self.chunk = max(1, self.chunk // 2)

    def _size(self) -> int:
        """Return the number of steps until something must be looked at, at most a chunk."""
        done, options = len(self.losses), self.options
        if self.feed.changes:
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
        done, options = len(self.losses), self.options
        if self.stopped:
            return "interrupted"
        callback = options.callback
        if callback is not None and done % options.callback_every == 0 and self._call_back(callback):
            return "callback"
        plateau = options.plateau
        if plateau is not None and done % plateau.window == 0 and plateau.reached(self.losses.view()):
            return "plateau"
        if options.seconds is not None and time.monotonic() - self.started > options.seconds:
            return "out of time"
        if options.checkpoint is not None:
            every = options.checkpoint_every
            late = time.monotonic() - self.saved > _SAVED_EVERY if every is None else done % every == 0
            # The first one comes early, so that a state that no file can hold is found at once.
            if late or self.saved < 0:
                self.save()
        return None

    def _call_back(self, callback: Callable[[StepInfo], Any]) -> bool:
        loss, smoothed = self.losses.recent()
        try:
            return bool(callback(StepInfo(len(self.losses), loss, smoothed, self.seconds())))
        except StopIteration:
            return True

    def _show(self, progress: Progress, new: int) -> None:
        if len(self.losses):
            loss, smoothed = self.losses.recent()
            progress.advance(new, "SVI", loss=f"{loss:.4g}", smoothed=f"{smoothed:.4g}")

    def result(self, ending: Ending, error: BaseException | None) -> tuple[SVIResult, BaseException | None]:
        """Return the result beside the error."""
        params = {name: value.detach().clone() for name, value in get_param_store().items()}
        return SVIResult(self.losses.view().clone(), ending, params, self.seconds()), error

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Let the first Ctrl-C end the run after the present step, and a second one at once.

        A handler of the user's own stays in charge.
        """

        def stop(number: int, frame: Any) -> None:
            if self.stopped:
                raise KeyboardInterrupt
            self.stopped = True
            self.steps.interrupt()

        former = signal.getsignal(signal.SIGINT)
        ours = threading.current_thread() is threading.main_thread() and former is signal.default_int_handler
        if ours:
            signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            if ours:
                signal.signal(signal.SIGINT, former)


@contextmanager
def _without_loss_warnings() -> Iterator[None]:
    """Leave out the warnings of losses that are not finite: an error says so."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Encountered [^\n]*: loss")
        yield
