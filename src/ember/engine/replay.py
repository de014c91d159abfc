"""Do what a recorded program says, also as a part of the program that is being recorded."""

from __future__ import annotations

from typing import cast

import torch

from ember.engine.control import active_recorder
from ember.engine.interpret import interpret
from ember.engine.passes.copying import copy_program
from ember.engine.program import Program
from ember.engine.recording.flow import RegionRecorder
from ember.engine.recording.regions import blank, read_all


def replay(program: Program, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Run ``program`` on tensors; in a capture, record its operations again, which is quick.

    The results carry no gradient.
    """
    active = active_recorder.get()
    if active is None:
        return interpret(program, *tensors)
    recorder = cast(RegionRecorder, active).recorder
    with torch.no_grad():
        known = dict(zip(program.inputs, read_all(recorder, tensors), strict=True))
        copied = copy_program(program, known)
        recorder.frame.constants.update(copied.constants)
        recorder.frame.nodes.extend(copied.nodes)
        recorder.owner.update(dict.fromkeys(copied.outputs, recorder.frame))
        return tuple(recorder.wrap(value, blank(value.shape, value.dtype)) for value in copied.outputs)
