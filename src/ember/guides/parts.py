"""Put a guide together from parts, each for some sites of the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ember.errors import message
from ember.guides.base import AutoGuide, CreatePlates
from ember.model.initialisation import init_to_feasible


class AutoCallable(AutoGuide):
    """A function as part of an :class:`AutoGuideList`.

    :param model: the model, or the part of it that the function guides.
    :param guide: a function of the model's arguments; it may return a dict from site name to draw.
    :param median: a function of the model's arguments that returns a dict from site name to median.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        median: Callable[..., dict[str, Tensor]] = lambda *args, **kwargs: {},
    ) -> None:
        super().__init__(model)
        self.__dict__["init_loc_fn"] = init_to_feasible
        self.__dict__["_median"] = median
        if isinstance(guide, nn.Module):
            self._guide = guide  # its parameters belong to this guide
        else:
            self.__dict__["_guide"] = guide

    def _prepare(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the function knows its sites."""

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Run the function."""
        return self._guide(*args, **kwargs) or {}

    def median(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Run the function for medians."""
        return self._median(*args, **kwargs)


class AutoGuideList(AutoGuide):
    """Several guides, each for a part of the model, used as one::

        guide = AutoGuideList(model)
        guide.append(AutoNormal(poutine.block(model, hide=["x"])))
        guide.append(AutoDelta(poutine.block(model, expose=["x"])))

    :param model: the model.
    :param create_plates: see :class:`~ember.guides.base.AutoGuide`.
    """

    def __init__(self, model: Callable[..., Any], *, create_plates: CreatePlates | None = None) -> None:
        super().__init__(model, create_plates=create_plates)
        self.__dict__["init_loc_fn"] = init_to_feasible
        self.__dict__["_num_prepared"] = 0

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Any:
        return iter(self._modules.values())

    def __getitem__(self, index: int) -> Any:
        return list(self._modules.values())[index]

    def append(self, part: Callable[..., Any]) -> None:
        """Add a guide, or a function that is one.

        :raises ValueError: if a guide was made from another list's part already.
        """
        guide = part if isinstance(part, AutoGuide) else AutoCallable(self.model, part)
        if guide._plates_are_shared:
            raise ValueError(
                f"{type(guide).__name__} is part of an AutoGuideList already; make another guide"
            )
        guide.__dict__["_plates_are_shared"] = True
        self.add_module(str(len(self)), guide)

    add = append

    def _prepare(self, *args: Any, **kwargs: Any) -> None:
        if self._num_prepared == len(self):
            return
        frames: dict[str, Any] = {}
        seen: dict[str, str] = {}
        for part in self:
            part._prepare(*args, **kwargs)
            frames.update(part._prototype_frames)
            for name, _ in part._latent_sites() if part.prototype_trace is not None else ():
                if name in seen:
                    self._refuse_overlap(name, seen[name], type(part).__name__)
                seen[name] = type(part).__name__
        self.__dict__["_prototype_frames"] = frames
        self.__dict__["_num_prepared"] = len(self)

    def _refuse_overlap(self, name: str, first: str, second: str) -> None:
        raise ValueError(
            message(
                f"two parts of the AutoGuideList guide site '{name}'",
                site=name,
                expected="one part for each site",
                actual=f"{first} and {second}",
                fix=f"hide the site from one of them: poutine.block(model, hide=['{name}'])",
            )
        )

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Draw all sites of all parts, under the same plates."""
        self._prepare(*args, **kwargs)
        plates = self._create_plates(*args, **kwargs)
        values: dict[str, Tensor] = {}
        for part in self:
            part.__dict__["plates"] = plates
            values.update(part(*args, **kwargs))
        return values

    def median(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Return the medians of all parts."""
        self._prepare(*args, **kwargs)
        return {name: value for part in self for name, value in part.median(*args, **kwargs).items()}

    def quantiles(self, quantiles: Any, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Return the quantiles of all parts that have some."""
        self._prepare(*args, **kwargs)
        return {
            name: value
            for part in self
            if hasattr(part, "quantiles")
            for name, value in part.quantiles(quantiles, *args, **kwargs).items()
        }
