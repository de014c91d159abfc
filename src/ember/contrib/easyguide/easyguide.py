"""Write guides by hand, with help for groups of sites, supports and plates."""

from __future__ import annotations

import re
from abc import ABCMeta, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

import ember.distributions as dist
from ember import plate, poutine, sample
from ember.distributions.constraints import biject_to
from ember.distributions.shapes import sum_rightmost
from ember.errors import message
from ember.nn import PyroModule, PyroParam
from ember.ops.tensors import periodic_repeat
from ember.poutine.runtime import CondIndepStackFrame


class EasyGuide(PyroModule, metaclass=ABCMeta):
    """Base of guides that a subclass writes in its method :meth:`guide`.

    :param model: the model to be guided; it is run once to learn its sites.

    >>> import ember
    >>> def model():
    ...     scale = ember.sample("scale", dist.LogNormal(0.0, 1.0))
    ...     with ember.plate("data", 3):
    ...         ember.sample("x", dist.Normal(0.0, scale))
    >>> @easy_guide(model)
    ... def guide(self):
    ...     group = self.group(match="x|scale")
    ...     loc = ember.param("loc", torch.zeros(group.event_shape))
    ...     group.sample("joint", dist.Normal(loc, 1.0).to_event(1))
    >>> trace = poutine.trace(guide).get_trace()
    >>> trace.nodes["joint"]["value"].shape, trace.nodes["x"]["value"].shape
    (torch.Size([4]), torch.Size([3]))
    """

    prototype_trace: Any
    frames: dict[str, CondIndepStackFrame]
    plates: dict[str, Any]

    def __init__(self, model: Callable[..., Any]) -> None:
        super().__init__(type(self).__name__)
        self._model = (model,)  # not as a submodule, whose parameters would be the guide's
        self.prototype_trace = None
        self.frames = {}
        self.plates = {}

    @property
    def model(self) -> Callable[..., Any]:
        """The model."""
        return self._model[0]

    @abstractmethod
    def guide(self, *args: Any, **kwargs: Any) -> Any:
        """Run the statements of the guide, with the model's arguments."""

    def init(self, site: dict[str, Any]) -> Tensor:
        """Return where the estimate of a site begins; by default a draw from its prior.

        :param site: the model's record of the site.
        """
        value: Tensor = site["fn"].sample()
        return value

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the guide."""
        if self.prototype_trace is None:
            self._setup_prototype(*args, **kwargs)
        try:
            return self.guide(*args, **kwargs)
        finally:
            self.plates.clear()

    def _setup_prototype(self, *args: Any, **kwargs: Any) -> None:
        """Run the model once, unseen by other handlers."""
        with poutine.block():
            self.prototype_trace = poutine.trace(self.model).get_trace(*args, **kwargs)
        for site in self.prototype_trace.nodes.values():
            if site["type"] == "sample":
                for frame in site["cond_indep_stack"]:
                    if frame.dim is None:
                        raise NotImplementedError(
                            message(
                                "EasyGuide does not know sequential plates.",
                                site=site["name"],
                                plates=site["cond_indep_stack"],
                                fix="use the plate as a context",
                            )
                        )
                    self.frames[frame.name] = frame

    def plate(
        self,
        name: str,
        size: int | None = None,
        subsample_size: int | None = None,
        subsample: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Return a plate, the same one for each use of its name in a call; see :class:`ember.plate`."""
        if name not in self.plates:
            self.plates[name] = plate(name, size, subsample_size, subsample, *args, **kwargs)
        return self.plates[name]

    def group(self, match: str = ".*") -> Group:
        """Return the group of the latent sites whose whole names match a regular expression.

        :param match: the expression.
        :raises ValueError: if there are none.
        """
        sites = [site for name, site in self._latents().items() if re.fullmatch(match, name)]
        if not sites:
            raise ValueError(
                message(
                    f"EasyGuide.group() pattern {match!r} matched no model sites",
                    expected=f"one of {list(self._latents())}",
                )
            )
        return Group(self, sites)

    def map_estimate(self, name: str) -> Tensor:
        """Draw a latent site as a point, which is a parameter under the site's name in this module.

        :param name: name of the site.
        :raises KeyError: if the model has no such latent.
        """
        site = self._latents()[name]
        fn = site["fn"]
        *parents, last = name.split(".")
        module: Any = self
        for parent in parents:
            if not isinstance(getattr(module, parent, None), PyroModule):
                setattr(module, parent, PyroModule())
            module = getattr(module, parent)
        if last not in module._pyro_params:
            value = self.init(site).detach()
            for frame in site["cond_indep_stack"]:
                if frame.full_size is not None and frame.full_size != frame.size:
                    value = periodic_repeat(value, frame.full_size, frame.dim - fn.event_dim)
            setattr(module, last, PyroParam(value, constraint=fn.support, event_dim=fn.event_dim))
        point = getattr(module, last)
        return sample(name, dist.Delta(point, event_dim=fn.event_dim))

    def _latents(self) -> dict[str, Any]:
        return {
            name: site
            for name, site in self.prototype_trace.nodes.items()
            if site["type"] == "sample"
            and not site["is_observed"]
            and type(site["fn"]).__name__ != "_Subsample"
        }


class Group:
    """Latent sites of a model that are guided together; made by :meth:`EasyGuide.group`.

    Plates that all of the sites share are batch dims of the group; the sites' other dims make its event.

    :param guide: the guide.
    :param sites: the model's records of the sites.
    :ivar event_shape: total size of the sites' unconstrained values, for one element of the shared plates.
    :ivar prototype_sites: the sites.
    :raises ValueError: if a plate that is not shared subsamples, or is to the left of one that is.
    """

    def __init__(self, guide: EasyGuide, sites: list[Any]) -> None:
        self._guide = (guide,)
        self.prototype_sites = sites
        stacks = [{frame.name: frame for frame in site["cond_indep_stack"]} for site in sites]
        self.common_plates = [
            frame for name, frame in stacks[0].items() if all(name in stack for stack in stacks)
        ]
        rightmost = max((frame.dim for frame in self.common_plates), default=None)
        self._own_plates = []
        self._shapes = []
        for site, stack in zip(sites, stacks, strict=True):
            own = [frame for frame in stack.values() if frame not in self.common_plates]
            left = [frame.name for frame in own if rightmost is not None and frame.dim < rightmost]
            if left:
                raise ValueError(
                    message(
                        "A plate of one site of a group is to the left of a plate of all of them.",
                        site=site["name"],
                        plates=site["cond_indep_stack"],
                        expected="plates of single sites to the right of shared ones",
                        actual=left,
                        fix="give the plates other dims, or the site another group",
                    )
                )
            if any(frame.full_size not in (None, frame.size) for frame in own):
                raise ValueError(
                    message(
                        "A site of a group is in a subsampling plate that the group does not share.",
                        site=site["name"],
                        plates=site["cond_indep_stack"],
                        fix="give the sites of that plate a group of their own, inside of self.plate(…)",
                    )
                )
            transform = biject_to(site["fn"].support)
            event_shape = transform.inverse_shape(site["fn"].event_shape)
            width = max((-frame.dim for frame in own), default=0)
            batch = [1] * width
            for frame in own:
                batch[frame.dim] = frame.size
            self._own_plates.append(own)
            self._shapes.append((torch.Size(batch), torch.Size(event_shape)))
        self.event_shape = torch.Size([sum(batch.numel() * event.numel() for batch, event in self._shapes)])

    @property
    def guide(self) -> EasyGuide:
        """The guide."""
        return self._guide[0]

    def sample(
        self, guide_name: str, fn: Any, infer: dict[str, Any] | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Draw one auxiliary site, and unpack it to the sites of the model.

        :param guide_name: name of the auxiliary site.
        :param fn: its distribution over unconstrained values, of the group's ``event_shape``.
        :param infer: hints of the auxiliary site.
        :return: its value, and those of the model's sites by name.
        """
        value = sample(guide_name, fn, infer={**(infer or {}), "is_auxiliary": True})
        found: dict[str, Tensor] = {}
        start = 0
        for site, plates, (own, event) in zip(
            self.prototype_sites, self._own_plates, self._shapes, strict=True
        ):
            size = own.numel() * event.numel()
            part = value[..., start : start + size].reshape((*value.shape[:-1], *own, *event))
            start += size
            found[site["name"]] = self._unpack(site, plates, part)
        return value, found

    def _unpack(self, site: Any, plates: list[CondIndepStackFrame], free: Tensor) -> Tensor:
        fn = site["fn"]
        transform = biject_to(fn.support)
        value = transform(free)
        jacobian = transform.inv.log_abs_det_jacobian(value, free)
        log_density = sum_rightmost(jacobian, jacobian.dim() - value.dim() + fn.event_dim)
        with ExitStack() as stack:
            for frame in plates:
                stack.enter_context(self.guide.plate(frame.name, frame.size, dim=frame.dim))
            return sample(site["name"], dist.Delta(value, log_density, event_dim=fn.event_dim))

    def map_estimate(self) -> dict[str, Tensor]:
        """Draw all sites of the group as points, see :meth:`EasyGuide.map_estimate`."""
        return {site["name"]: self.guide.map_estimate(site["name"]) for site in self.prototype_sites}


def easy_guide(model: Callable[..., Any]) -> Callable[[Callable[..., Any]], EasyGuide]:
    """Return a decorator that makes the method ``guide`` of an :class:`EasyGuide` of a function.

    :param model: the model to be guided.
    """

    def decorate(fn: Callable[..., Any]) -> EasyGuide:
        made: EasyGuide = type(fn.__name__, (EasyGuide,), {"guide": fn})(model)
        return made

    return decorate
