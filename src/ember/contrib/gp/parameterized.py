"""Give the parameters of a module priors, with guides of their own beside them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

import ember.distributions as dist
from ember import sample
from ember.distributions import constraints
from ember.distributions.constraints import biject_to
from ember.errors import message
from ember.nn import PyroModule, PyroParam, PyroSample

MODES = ("model", "guide")


class Parameterized(PyroModule):
    """A module whose parameters can become random, each with a guide of its own.

    Assigning a ``PyroSample`` to an attribute makes it random and gives it a ``Delta`` guide, whose parameter
    is NAME_map; :meth:`autoguide` chooses another. Under :meth:`set_mode` ``"model"`` (the initial mode)
    reading the attribute draws from the prior, under ``"guide"`` from its guide.

    >>> import torch
    >>> from ember.distributions import LogNormal, Normal
    >>> class Line(Parameterized):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.slope = PyroSample(LogNormal(0.0, 1.0))
    ...         self.autoguide("slope", Normal)
    >>> sorted(name for name, _ in Line().named_pyro_params())
    ['slope_loc', 'slope_scale']
    """

    _mode: _Mode

    def __init__(self) -> None:
        super().__init__()
        self.__dict__["_mode"] = _Mode()

    def __setattr__(self, name: str, value: Any) -> None:
        if not isinstance(value, PyroSample):
            self._forget_guide(name)
            super().__setattr__(name, value)
            return
        initial = self._initial_value(name)
        prior = value.prior.prior if isinstance(value.prior, _ModelOrGuide) else value.prior
        super().__setattr__(name, PyroSample(_ModelOrGuide(name, prior)))
        self._set_guide(name, dist.Delta, initial)

    def set_prior(self, name: str, prior: Any) -> None:
        """Make a parameter random; the same as assigning ``PyroSample(prior)``.

        :param name: name of an attribute.
        :param prior: a distribution, or a function of the module that returns one.
        """
        setattr(self, name, PyroSample(prior))

    def autoguide(self, name: str, dist_constructor: Any) -> None:
        """Choose the family of the guide of a random attribute.

        :param name: name of the attribute.
        :param dist_constructor: ``Delta``, a point NAME_map in the support of the prior; or ``Normal``
            (NAME_loc, NAME_scale) or ``MultivariateNormal`` (NAME_loc, NAME_scale_tril) on the unconstrained
            value.
        :raises ValueError: if the attribute has no prior, or the family is another.
        """
        if not isinstance(self._pyro_samples.get(name), _ModelOrGuide):
            raise ValueError(
                message(
                    f"'{name}' of {type(self).__name__} has no prior, so it takes no guide.",
                    fix=f"assign a prior first: module.{name} = PyroSample(prior)",
                )
            )
        if dist_constructor not in (dist.Delta, dist.Normal, dist.MultivariateNormal):
            raise ValueError(
                message(
                    f"A guide of '{name}' cannot have this family.",
                    expected="Delta, Normal or MultivariateNormal of ember.distributions",
                    actual=dist_constructor,
                )
            )
        self._set_guide(name, dist_constructor, None)

    def set_mode(self, mode: str) -> None:
        """Let random attributes, here and in all submodules, be drawn from their priors or guides.

        :param mode: ``"model"`` or ``"guide"``.
        :raises ValueError: for another mode.
        """
        if mode not in MODES:
            raise ValueError(message("There is no such mode.", expected=MODES, actual=mode))
        for each in self.modules():
            if isinstance(each, Parameterized):
                each._mode.current = mode

    @property
    def mode(self) -> str:
        """Where random attributes are drawn from: ``"model"`` or ``"guide"``."""
        return self._mode.current

    @mode.setter
    def mode(self, mode: str) -> None:
        self.set_mode(mode)

    def _load_pyro_samples(self) -> None:
        """Draw all random attributes of the tree, so that their sites are there."""
        for each in self.modules():
            for name in getattr(each, "_pyro_samples", ()):
                getattr(each, name)

    # -- guides --------------------------------------------------------------------------------------------

    def _initial_value(self, name: str) -> Tensor | None:
        """Return the value that an attribute had as a parameter, if it was one."""
        if name not in self._pyro_params and name not in self._parameters:
            return None
        value: Tensor = getattr(self, name)
        return value.detach().clone()

    def _forget_guide(self, name: str) -> None:
        if isinstance(getattr(self, "_pyro_samples", {}).get(name), _ModelOrGuide):
            for ending in ("map", "loc", "scale", "scale_tril"):
                self._pyro_forget(f"{name}_{ending}")

    def _set_guide(self, name: str, family: Any, initial: Tensor | None) -> None:
        described: _ModelOrGuide = self._pyro_samples[name]
        prior = described.distribution(self)
        self._forget_guide(name)
        with torch.no_grad():
            value = prior.sample() if initial is None else initial.expand(prior.shape()).clone()
            if family is dist.Delta:
                real = _is_real(prior.support)
                held = Parameter(value) if real else PyroParam(value, constraint=prior.support)
                setattr(self, f"{name}_map", held)
            else:
                free = biject_to(prior.support).inv(value)
                setattr(self, f"{name}_loc", Parameter(free))
                if family is dist.Normal:
                    held = PyroParam(torch.ones_like(free), constraint=constraints.positive)
                    setattr(self, f"{name}_scale", held)
                else:
                    tril = torch.eye(free.shape[-1], dtype=free.dtype).expand(*free.shape, free.shape[-1])
                    held = PyroParam(tril, constraint=constraints.lower_cholesky)
                    setattr(self, f"{name}_scale_tril", held)
        described.family = family


class _Mode:
    """Hold the mode of a module; every model and guide sets it before it reads anything."""

    _transient_attributes = ("current",)

    def __init__(self) -> None:
        self.current = "model"


class _ModelOrGuide:
    """Be the prior of an attribute in the mode of a model, and its guide in that of a guide."""

    def __init__(self, name: str, prior: Any) -> None:
        self.name = name
        self.prior = prior
        self.family: Any = dist.Delta

    def distribution(self, module: Parameterized) -> Any:
        """Return the prior, which may depend on the module."""
        return self.prior if hasattr(self.prior, "log_prob") else self.prior(module)

    def __call__(self, module: Parameterized) -> Any:
        prior = self.distribution(module)
        if module.mode == "model":
            return prior
        name, event_dim = self.name, len(prior.event_shape)
        if self.family is dist.Delta:
            return dist.Delta(getattr(module, f"{name}_map"), event_dim=event_dim)
        loc = getattr(module, f"{name}_loc")
        guide: Any
        if self.family is dist.Normal:
            guide = dist.Normal(loc, getattr(module, f"{name}_scale"))
        else:
            guide = dist.MultivariateNormal(loc, scale_tril=getattr(module, f"{name}_scale_tril"))
        if _is_real(prior.support):
            return guide.to_event(event_dim - len(guide.event_shape))
        guide = guide.to_event(len(guide.batch_shape))
        transform = biject_to(prior.support)
        if not module._pyro_context.active:
            return dist.Delta(transform(guide()), event_dim=event_dim)
        fullname = module._pyro_get_fullname(f"{name}_latent")
        free = sample(fullname, guide, infer={"is_auxiliary": True})
        value = transform(free)
        log_density = transform.inv.log_abs_det_jacobian(value, free)
        return dist.Delta(value, log_density=log_density, event_dim=event_dim)


def _is_real(support: Any) -> bool:
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    return support is constraints.real
