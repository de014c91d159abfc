"""Give torch's optimisers the calling form of the language: parameters by name, met as they come."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ember.errors import message
from ember.optim import files
from ember.optim.functional import FunctionalOptimizer, bind, clipped
from ember.optim.group import Group, SchedulerMaker
from ember.optim.lean import fastest_form, lean
from ember.params import get_param_store, module_from_param_with_module_name, user_param_name
from ember.params.names import normalize_param_name

Options = dict[str, Any] | Callable[..., dict[str, Any]]


class PyroOptim:
    """An optimiser that is called with the parameters to update.

    Parameters get their state when first seen; it is kept by name in files and :meth:`get_state`.

    :param optim_constructor: a class of torch optimisers.
    :param optim_args: its options: a dict, or a function from a parameter's name (or from a module's and a
        parameter's name, if it takes two arguments) to a dict.
    :param clip_args: None, or in the same form: ``{"clip_norm": c}`` bounds the norm of each parameter's
        gradient, ``{"clip_value": c}`` its elements.
    :raises TypeError: for arguments of other types.
    """

    def __init__(
        self,
        optim_constructor: Callable[..., torch.optim.Optimizer],
        optim_args: Options,
        clip_args: Options | None = None,
    ) -> None:
        if not callable(optim_constructor):
            raise TypeError(
                f"optim_constructor must be a class of torch optimisers, got {optim_constructor!r}"
            )
        _check_options("optim_args", optim_args)
        if clip_args is not None:
            _check_options("clip_args", clip_args)
            if isinstance(clip_args, dict):
                _check_clip(clip_args)
        self.pt_optim_constructor = optim_constructor
        self.pt_optim_args = optim_args
        self.pt_clip_args = clip_args
        self._groups: list[Group] = []
        self._members: dict[Tensor, tuple[Group, dict[str, Any]]] = {}  # leaf → its group, its clipping
        self._leaves: dict[str, Tensor] = {}  # name → the leaf that was last seen under it
        self._waiting: dict[str, dict[str, Any]] = {}  # states of parameters not seen yet
        self._apart = False  # whether each parameter has a group of its own

    def __call__(self, params: Iterable[Tensor], *args: Any, **kwargs: Any) -> None:
        """Update the parameters (unconstrained leaves) by their gradients."""
        touched: dict[int, tuple[Group, list[Tensor]]] = {}
        for param in params:
            group, clip = self.membership(param)
            if clip and param.grad is not None:
                param.grad = clipped(param.grad, clip)
            entry = touched.get(id(group))
            if entry is None:
                touched[id(group)] = (group, [param])
            else:
                entry[1].append(param)
        for group, given in touched.values():
            group.update(given)

    def membership(self, param: Tensor) -> tuple[Group, dict[str, Any]]:
        """Return the group that updates a parameter, which is found for a new one, and how to clip."""
        return self._members.get(param) or self._admit(param)

    @property
    def optim_objs(self) -> dict[Tensor, Any]:
        """The torch optimiser (or scheduler) of each parameter that was seen.

        Programs change options through them; so from here on, each parameter has an optimiser of its own.
        """
        if not self._apart:
            self._apart = True
            for leaf, (group, clip) in list(self._members.items()):
                if len(group.params) > 1:
                    name, state = get_param_store().param_name(leaf), group.state_of(leaf)
                    group.remove(leaf)
                    alone = self._make_group(leaf, name)
                    _restore_options(alone, state, name)
                    alone.restore(leaf, state)
                    self._groups.append(alone)
                    self._members[leaf] = alone, clip
        return {leaf: group.scheduler or group.optimizer for leaf, (group, _) in self._members.items()}

    def functional(self, params: Sequence[Tensor]) -> FunctionalOptimizer | None:
        """Return the update as a function of tensors, or None if there is none for one of the parameters."""
        if type(self).__call__ is not PyroOptim.__call__:
            return None  # a subclass that does more
        return bind(params, [self.membership(param) for param in params])

    # -- members -------------------------------------------------------------------------------------------

    def _scheduler_maker(self, options: dict[str, Any]) -> SchedulerMaker | None:
        """Return how to make a group's scheduler; plain optimisers have none."""
        return None

    def _options(self, name: str | None) -> dict[str, Any]:
        """Return the options of one parameter."""
        return _options_for(self.pt_optim_args, name)

    def _split(self, options: dict[str, Any]) -> tuple[Callable[..., Any], dict[str, Any]]:
        """Return the class of the optimiser and its own options."""
        return self.pt_optim_constructor, options

    def _admit(self, param: Tensor) -> tuple[Group, dict[str, Any]]:
        """Find a group for a new parameter, or make one."""
        name = get_param_store().param_name(param)
        if name is not None and name in self._leaves:
            self._dismiss(self._leaves.pop(name))
        fresh = self._make_group(param, name)
        saved = self._waiting.pop(name, None) if name is not None else None
        if saved is not None:
            _restore_options(fresh, saved, name)
        for group in () if self._apart else self._groups:
            if type(group.optimizer) is type(fresh.optimizer) and group.accepts(
                fresh.options, fresh.schedule()
            ):
                group.params.append(param)
                break
        else:
            group = fresh
            self._groups.append(group)
        if saved is not None:
            group.restore(param, saved)
        clip = _options_for(self.pt_clip_args, name) if self.pt_clip_args else {}
        _check_clip(clip)
        self._members[param] = group, clip
        if name is not None:
            self._leaves[name] = param
        return self._members[param]

    def _make_group(self, param: Tensor, name: str | None) -> Group:
        options = self._options(name)
        constructor: Any
        constructor, own = self._split(options)
        if isinstance(constructor, type) and issubclass(constructor, torch.optim.Optimizer):
            own = fastest_form(constructor, own, param)
            constructor = lean(constructor)  # type: ignore[arg-type]  # mypy doubts that classes are hashable
        try:
            optimizer = constructor([param], **own)
        except (TypeError, ValueError) as error:
            raise _refused("optimiser", name, own, error) from error
        maker = self._scheduler_maker(options)
        try:
            return Group(optimizer, None if maker is None else maker(optimizer))
        except (TypeError, ValueError, KeyError, NotImplementedError) as error:
            raise _refused("scheduler", name, options, error) from error

    def _dismiss(self, leaf: Tensor) -> None:
        """Forget a leaf that the store has replaced."""
        group, _ = self._members.pop(leaf)
        group.remove(leaf)
        if not group.params:
            self._groups.remove(group)

    # -- states --------------------------------------------------------------------------------------------

    def get_state(self) -> dict[str, dict[str, Any]]:
        """Return the state of each parameter by name, each in the form of torch's ``state_dict``.

        :raises ValueError: if a parameter has no name in the store.
        """
        if len(self._leaves) != len(self._members):
            raise ValueError(
                message(
                    "cannot name all parameters of the optimiser",
                    expected="parameters of the store",
                    actual=f"{len(self._members) - len(self._leaves)} parameters that are not in it",
                    fix="use a torch optimiser for module-local parameters",
                )
            )
        state = {name: self._members[leaf][0].state_of(leaf) for name, leaf in self._leaves.items()}
        return {**state, **self._waiting}

    def set_state(self, state: dict[str, dict[str, Any]]) -> None:
        """Take over states by parameter name, for parameters known and to come."""
        for name, each in state.items():
            if not isinstance(each, dict) or not {"state", "param_groups"} <= set(each):
                raise ValueError(
                    f"malformed optimiser state of parameter '{name}': no state and param_groups"
                )
        for name, each in state.items():
            self._waiting[name] = each
            leaf = self._leaves.pop(name, None)
            if leaf is not None:
                self._dismiss(leaf)

    def save(self, filename: Any) -> None:
        """Write the state to a safetensors file, atomically."""
        files.save(filename, self.get_state())

    def load(self, filename: Any, map_location: Any = None) -> None:
        """Read the state from a file of :meth:`save`, or an old torch file of tensors and numbers.

        :raises FileFormatError: (a ValueError) for truncated or foreign files; the state stays as it was.
        """
        self.set_state(files.load(filename, map_location))


def _refused(what: str, name: str | None, options: dict[str, Any], error: Exception) -> Exception:
    """Return torch's error with the parameter's name."""
    kind = TypeError if isinstance(error, TypeError) else ValueError
    return kind(
        message(
            f"the {what} refused its options for parameter '{name}': {error}",
            site=name,
            actual=options,
            fix="correct optim_args",
        )
    )


def is_scheduler(optimizer: Any) -> bool:
    """Whether an optimiser has a ``step`` of its own that moves its learning rates."""
    return getattr(optimizer, "_is_scheduler", False)


def _options_for(options: Any, name: str | None) -> dict[str, Any]:
    """Return the options of one parameter."""
    if isinstance(options, dict):
        return options
    full = "" if name is None else name
    try:
        wanted = len(inspect.signature(options).parameters)
    except (TypeError, ValueError):
        wanted = 1
    if wanted == 1:
        found = options(normalize_param_name(full))
    else:
        found = options(module_from_param_with_module_name(full), user_param_name(full))
    if not isinstance(found, dict):
        raise TypeError(
            message(
                f"the optimiser's options for parameter '{name}' are no dict",
                site=name,
                expected="a function that returns a dict",
                actual=repr(found),
            )
        )
    return found


def _check_options(what: str, options: Any) -> None:
    if not (isinstance(options, dict) or callable(options)):
        raise TypeError(f"{what} must be a dict or a function that returns one, got {options!r}")


def _check_clip(clip: dict[str, Any]) -> None:
    unknown = set(clip) - {"clip_norm", "clip_value"}
    if unknown:
        raise ValueError(f"clip_args takes clip_norm and clip_value, got {', '.join(sorted(unknown))}")


def _restore_options(group: Group, saved: dict[str, Any], name: str | None) -> None:
    """Continue with the learning rate and schedule of a saved state."""
    options = {key: value for key, value in saved["param_groups"][0].items() if key != "params"}
    own = group.optimizer.param_groups[0]
    if "fused" in own:
        options["fused"] = own["fused"]  # how it is computed is this process's own business
    own.update(options)
    schedule = saved.get("scheduler")
    if schedule is not None:
        if group.scheduler is None:
            raise ValueError(
                f"the saved state of parameter '{name}' has a schedule, but the optimiser has none"
            )
        schedule = dict(schedule)
        group.age = schedule.pop("age")
        group.scheduler.load_state_dict(schedule)
