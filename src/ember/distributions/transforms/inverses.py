"""Let inverses of transforms be copied and pickled.

torch forgets what a transform's inverse is the inverse of when it copies it.
"""

from __future__ import annotations

import copyreg
from typing import Any

from torch.distributions.transforms import Transform, _InverseTransform


def _inverse_of(transform: Transform) -> Any:
    return transform.inv


def _reduce(inverse: Any) -> Any:
    return _inverse_of, (inverse.inv,)


copyreg.pickle(_InverseTransform, _reduce)
