"""Draw the one number from which all randomness of a run derives."""

from __future__ import annotations

import torch


def draw_seed() -> int:
    """Draw a seed from torch's generator."""
    return int(torch.randint(0, 2**63 - 1, (), dtype=torch.int64))
