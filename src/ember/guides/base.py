"""Be the base of automatic guides: run the model once, learn its latent sites and plates, recreate them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ember import poutine
from ember.distributions.constraints import biject_to
from ember.errors import message
from ember.model.initialisation import InitMessenger, InitStrategy
from ember.nn import PyroModule
from ember.poutine.plate_messenger import PlateMessenger
from ember.poutine.runtime import CondIndepStackFrame
from ember.primitives import subsample

CreatePlates = Callable[..., Any]


class AutoGuide(PyroModule):
    """Base of guides that are made from a model.

    At the first call the model runs once, with starting values from ``init_loc_fn``; the guide then knows the
    latent sites and plates. Calls return a dict from site name to draw.

    :param model: the model; observed sites are left out.
    :param create_plates: a function of the model's arguments that returns a plate, or an iterable of plates,
        to be used instead of own ones of these names; needed where data choose the minibatch.
    """

    init_loc_fn: InitStrategy
    _transient_attributes = ("plates",)

    def __init__(self, model: Callable[..., Any], *, create_plates: CreatePlates | None = None) -> None:
        super().__init__(name=type(self).__name__)
        state = self.__dict__
        # In a tuple, so that a model which is a module does not become a submodule of its guide.
        state["_model"] = (model,)
        state["create_plates"] = create_plates
        state["prototype_trace"] = None
        state["plates"] = {}
        state["_prototype_frames"] = {}
        state["_plates_are_shared"] = False

    @property
    def model(self) -> Callable[..., Any]:
        """The model that the guide was made from."""
        return self._model[0]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "plates": {}}

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Draw all latent sites; arguments are the model's.

        :returns: values by site name, in the sites' own shapes.
        """
        self._prepare(*args, **kwargs)
        plates = self._create_plates(*args, **kwargs)
        return self._draw(plates)

    def _draw(self, plates: dict[str, Any]) -> dict[str, Tensor]:
        """Make the sample statements of the guide."""
        raise TypeError(f"{type(self).__name__} does not say how to draw")

    def median(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Return the guide's median of each site; arguments are the model's."""
        raise TypeError(f"{type(self).__name__} has no median")

    # -- the model's structure -----------------------------------------------------------------------------

    def _prepare(self, *args: Any, **kwargs: Any) -> None:
        if self.prototype_trace is None:
            self._setup_prototype(*args, **kwargs)

    def _setup_prototype(self, *args: Any, **kwargs: Any) -> None:
        """Run the model once; subclasses go on to make parameters."""
        start = InitMessenger(self.init_loc_fn)(self.model)
        hidden = poutine.block(start, hide_fn=_is_not_latent)
        with poutine.block():
            trace = poutine.trace(hidden).get_trace(*args, **kwargs)
        frames: dict[str, CondIndepStackFrame] = {}
        for name, site in trace.iter_stochastic_nodes():
            for frame in site["cond_indep_stack"]:
                if frame.vectorized:
                    frames[frame.name] = frame
                elif frame.size != frame.full_size:
                    self._refuse_sequential(name, site, frame)
        self.__dict__["_prototype_frames"] = frames
        self.__dict__["_transforms"] = {
            name: self._transform_of(name, site) for name, site in trace.iter_stochastic_nodes()
        }
        self.__dict__["prototype_trace"] = trace

    def _transform_of(self, name: str, site: Any) -> Any:
        """Return the map from the space of the guide's parameters to a site's support."""
        return unconstraining(type(self).__name__, name, site)

    def _refuse_sequential(self, name: str, site: Any, frame: CondIndepStackFrame) -> None:
        raise ValueError(
            message(
                f"{type(self).__name__} cannot guide site '{name}' in the subsampled loop '{frame.name}'",
                site=name,
                plates=site["cond_indep_stack"],
                expected="the same site names in each run",
                fix=f"use the plate as a context: with plate('{frame.name}', ...)",
            )
        )

    def _latent_sites(self) -> list[tuple[str, Any]]:
        return list(self.prototype_trace.iter_stochastic_nodes())

    def _create_plates(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Make the plates of this run, by name."""
        if self._plates_are_shared:
            return self.plates
        plates: dict[str, Any] = {}
        if self.create_plates is not None:
            given = self.create_plates(*args, **kwargs)
            given = [given] if isinstance(given, PlateMessenger) else given
            plates = {plate.name: plate for plate in _checked_plates(given)}
        for name, frame in self._prototype_frames.items():
            if name not in plates:
                plates[name] = PlateMessenger(name, frame.full_size, subsample_size=frame.size, dim=frame.dim)
        self.__dict__["plates"] = plates
        return plates


def _is_not_latent(msg: Any) -> bool:
    return msg["type"] != "sample" or msg["is_observed"] or type(msg["fn"]).__name__ == "_Subsample"


def _checked_plates(given: Iterable[Any]) -> list[Any]:
    plates = list(given)
    for plate in plates:
        if not isinstance(plate, PlateMessenger):
            raise TypeError(
                message(
                    "create_plates must return a plate or an iterable of plates",
                    expected="ember.plate(...)",
                    actual=repr(plate),
                )
            )
    return plates


def in_plates(plates: dict[str, Any], site: Any) -> AbstractContextManager[Any]:
    """Return a context inside the plates of a site, those of the model that are batch dimensions."""
    inside = [plates[frame.name] for frame in site["cond_indep_stack"] if frame.vectorized]
    if not inside:
        return nullcontext()
    return inside[0] if len(inside) == 1 else _nested(inside)


@contextmanager
def _nested(plates: list[Any]) -> Iterator[None]:
    with ExitStack() as stack:
        for plate in plates:
            stack.enter_context(plate)
        yield


def unconstraining(guide: str, name: str, site: Any) -> Any:
    """Return the bijection from unconstrained space to a site's support.

    :raises ValueError: naming the site, if it is discrete or its support has no bijection.
    """
    support = site["fn"].support
    if not getattr(support, "is_discrete", False):
        try:
            return biject_to(support)
        except NotImplementedError:
            pass
    raise ValueError(
        message(
            f"{guide} cannot guide site '{name}', whose support is {support}",
            site=name,
            plates=site["cond_indep_stack"],
            expected="a continuous site",
            actual=f"a draw from {site['fn']}",
            fix=f"hide the site by poutine.block(model, hide=['{name}']) and guide it otherwise",
        )
    )


def full_size(value: Tensor, site: Any, event_dim: int) -> Tensor:
    """Repeat a starting value from the minibatches of subsampled plates up to the plates' full sizes."""
    for frame in site["cond_indep_stack"]:
        if not frame.vectorized or frame.full_size in (None, frame.size):
            continue
        dim = frame.dim - event_dim
        if value.ndim >= -dim and value.shape[dim] != 1:
            indices = torch.arange(int(frame.full_size)) % value.shape[dim]
            value = value.index_select(dim, indices.to(value.device))
    return value.contiguous()


def need_whole_plates(guide: AutoGuide, what: str) -> None:
    """Refuse a guide of a model whose latent sites are in subsampling plates.

    :param what: that needs all elements of the plates at once.
    :raises ValueError: naming the first such site and its plate.
    """
    for name, site in guide._latent_sites():
        for frame in site["cond_indep_stack"]:
            if frame.vectorized and frame.full_size != frame.size:
                raise ValueError(
                    message(
                        f"{what} needs all elements of the subsampling plate '{frame.name}' at once",
                        site=name,
                        plates=site["cond_indep_stack"],
                        fix="make the guide from a model without subsampling",
                    )
                )


def minibatch(value: Tensor, site: Any, event_dim: int) -> Tensor:
    """Take from values of full size those that the plates of this run chose; inside the site's plates."""
    if any(frame.vectorized for frame in site["cond_indep_stack"]):
        return subsample(value, event_dim)
    return value


def set_nested(root: PyroModule, name: str, value: Any) -> None:
    """Set an attribute by the dotted name of a site, making modules on the way."""
    *path, last = name.split(".")
    for part in path:
        if part not in root._modules:
            setattr(root, part, PyroModule())
        root = root._modules[part]  # type: ignore[assignment]
    setattr(root, last, value)


def get_nested(root: nn.Module, name: str) -> Any:
    """Read an attribute by the dotted name of a site."""
    for part in name.split("."):
        root = getattr(root, part)
    return root
