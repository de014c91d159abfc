"""Give each random operation of a capture a stream of numbers of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ember.engine import random
from ember.engine.recording.frames import Frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ember.engine.recording.recorder import DispatchRecorder


@dataclass(frozen=True)
class Stream:
    """One of the streams of a key, for one random operation."""

    key: torch.Tensor
    number: int

    def bits(self, num: int) -> torch.Tensor:
        """Draw int64 numbers of 64 random bits."""
        return random.random_bits(self.key, num, self.number)

    def uniform(self, shape: Sequence[int], dtype: torch.dtype = torch.float64) -> torch.Tensor:
        """Draw from the open interval (0, 1)."""
        return random.uniform(self.key, shape, dtype, self.number)

    def normal(self, shape: Sequence[int], dtype: torch.dtype = torch.float64) -> torch.Tensor:
        """Draw from the standard normal distribution."""
        return random.normal(self.key, shape, dtype, self.number)

    def permutation(self, n: int) -> torch.Tensor:
        """Draw an order of the numbers below ``n``."""
        return random.permutation(self.key, n, n, self.number)


def new_stream(recorder: DispatchRecorder) -> Stream:
    """Make the stream of the next random operation of the current frame."""
    number = random.FIRST_STREAM + recorder.num_draws
    recorder.num_draws += 1
    return Stream(_key_of(recorder, recorder.frame), number)


def _key_of(recorder: DispatchRecorder, frame: Frame) -> torch.Tensor:
    """Return the key of a frame: the program's, with the number of each iteration around folded in."""
    if frame.key is None:
        if frame.parent is None:
            raise RuntimeError("a program without a key has no streams")
        key = _key_of(recorder, frame.parent)
        if frame.repeats:
            inside, recorder.frame = recorder.frame, frame
            frame.counter = recorder.new_input(torch.zeros((), dtype=torch.int64))
            with recorder:
                key = random.fold_in(key, frame.counter)
            recorder.frame = inside
        frame.key = key
    return frame.key
