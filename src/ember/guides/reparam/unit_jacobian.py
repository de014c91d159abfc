"""Draw a site's image under a volume-preserving transform, such as its frequencies."""

from __future__ import annotations

from typing import Any

from ember.distributions import TransformedDistribution
from ember.distributions.transforms import DiscreteCosineTransform, HaarTransform
from ember.errors import message
from ember.guides.reparam.refusal import kept
from ember.guides.reparam.reparam import Reparam
from ember.poutine.reparam_messenger import ReparamMessage, ReparamResult
from ember.primitives import sample


class UnitJacobianReparam(Reparam):
    """Draw ``NAME_SUFFIX``, the image of the site under a transform, and compute the site by the inverse.

    :param transform: a transform whose Jacobian determinant has absolute value one.
    :param suffix: of the new site's name.
    """

    def __init__(self, transform: Any, suffix: str = "transformed") -> None:
        self.transform = transform.with_cache()
        self.suffix = suffix

    def apply(self, msg: ReparamMessage) -> ReparamResult:
        """Rewrite the site; observed sites stay as they are.

        :raises ValueError: if the site has fewer event dims than the transform needs.
        """
        if msg["is_observed"]:
            return kept(msg)
        fn = msg["fn"]
        needed = self.transform.domain.event_dim
        if fn.event_dim < needed:
            raise ValueError(
                message(
                    f"{type(self).__name__} transforms dims of site '{msg['name']}' that are batch dims",
                    site=msg["name"],
                    expected=f"event_dim >= {needed}",
                    actual=f"event_dim {fn.event_dim}",
                    fix=f"make them part of the event by .to_event({needed - fn.event_dim})",
                )
            )
        start = None if msg["value"] is None else self.transform(msg["value"])
        image = sample(
            f"{msg['name']}_{self.suffix}",
            TransformedDistribution(fn, [self.transform]),
            obs=start,
            infer={"is_observed": False},
        )
        return {"fn": None, "value": self.transform.inv(image), "is_observed": True}


class DiscreteCosineReparam(UnitJacobianReparam):
    """Draw the cosine coefficients ``NAME_dct`` of a site.

    :param dim: negative event dim of the series.
    :param smooth: power of the frequency, see
        :class:`~ember.distributions.transforms.DiscreteCosineTransform`.
    """

    def __init__(self, dim: int = -1, smooth: float = 0.0) -> None:
        super().__init__(DiscreteCosineTransform(dim=dim, smooth=smooth), suffix="dct")


class HaarReparam(UnitJacobianReparam):
    """Draw the Haar wavelet coefficients ``NAME_haar`` of a site.

    :param dim: negative event dim of the series.
    :param flip: reverse the series before.
    """

    def __init__(self, dim: int = -1, flip: bool = False) -> None:
        super().__init__(HaarTransform(dim=dim, flip=flip), suffix="haar")
