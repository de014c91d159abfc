"""Hold switches: validation, precision and execution policy, process-wide with context-local overrides.

:func:`set` changes a value for the process; :func:`context` overrides values in the current context (thread
or task) only, and restores them on exit. A setting that is bound to a module's global (:func:`register`) has
no context-local form, since its owner reads the global.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

Validator = Callable[[Any], None]


@dataclass(frozen=True)
class _Setting:
    """How one setting is checked, and the module global it is bound to, if any."""

    validator: Validator | None = None
    module: str | None = None
    attribute: str | None = None

    def read(self) -> Any:
        owner: Any = importlib.import_module(str(self.module))
        for part in str(self.attribute).split("."):
            owner = getattr(owner, part)
        return owner

    def write(self, value: Any) -> None:
        owner: Any = importlib.import_module(str(self.module))
        *path, last = str(self.attribute).split(".")
        for part in path:
            owner = getattr(owner, part)
        setattr(owner, last, value)


_settings: dict[str, _Setting] = {}
_values: dict[str, Any] = {}
_overrides: ContextVar[dict[str, Any] | None] = ContextVar("ember_settings", default=None)


def read(name: str) -> Any:
    """Return the value of a setting that is not bound to a module global, fast and unchecked."""
    overrides = _overrides.get()
    if overrides is not None and name in overrides:
        return overrides[name]
    return _values[name]


def get(name: str | None = None) -> Any:
    """Return the value of setting ``name``, or a dict of all settings.

    >>> import ember
    >>> ember.settings.get("execution")
    'auto'
    """
    if name is None:
        return {each: get(each) for each in sorted(_settings)}
    setting = _lookup(name)
    return read(name) if setting.module is None else setting.read()


def set(**kwargs: Any) -> None:
    """Set one or more settings by keyword, all of them or none.

    :raises KeyError: for an unknown name.
    :raises ValueError: for a value that the setting refuses.
    """
    _check(kwargs)
    overrides = _overrides.get()
    for name, value in kwargs.items():
        setting = _settings[name]
        if setting.module is not None:
            setting.write(value)
        elif overrides is not None and name in overrides:
            overrides[name] = value
        else:
            _values[name] = value


@contextlib.contextmanager
def context(**kwargs: Any) -> Iterator[None]:
    """Override settings inside a ``with`` block or decorated function; restore them after, also on errors."""
    _check(kwargs)
    bound = {name: _settings[name].read() for name in kwargs if _settings[name].module is not None}
    local = {name: value for name, value in kwargs.items() if name not in bound}
    token = _overrides.set({**(_overrides.get() or {}), **local})
    try:
        for name in bound:
            _settings[name].write(kwargs[name])
        yield
    finally:
        _overrides.reset(token)
        for name, value in bound.items():
            _settings[name].write(value)


def register(name: str, module: str, attribute: str, validator: Validator | None = None) -> None:
    """Declare a setting bound to the global ``attribute`` (dots allowed) of the module named ``module``."""
    _settings[name] = _Setting(validator, module, attribute)


def declare(name: str, default: Any, validator: Validator | None = None) -> None:
    """Declare a setting kept here, with process-wide value and context-local overrides."""
    _settings[name] = _Setting(validator)
    _values[name] = default


def enable_validation(is_validate: bool = True) -> None:
    """Switch all validation on or off: of distributions (ember's and torch's), inference and handlers."""
    set(**_validation_flags(is_validate))


@contextlib.contextmanager
def validation_enabled(is_validate: bool = True) -> Iterator[None]:
    """Switch all validation on or off inside a ``with`` block, and restore each flag after it."""
    with context(**_validation_flags(is_validate)):
        yield


def _validation_flags(is_validate: bool) -> dict[str, bool]:
    return dict.fromkeys(
        (
            "validate_distributions_torch",
            "validate_distributions_pyro",
            "validate_infer",
            "validate_poutine",
        ),
        bool(is_validate),
    )


def _lookup(name: str) -> _Setting:
    if name not in _settings:
        known = ", ".join(sorted(_settings))
        raise KeyError(f"no setting named '{name}'; the settings are: {known}")
    return _settings[name]


def check(**kwargs: Any) -> None:
    """Raise what :func:`set` would raise for these values, and set nothing."""
    _check(kwargs)


def _check(kwargs: dict[str, Any]) -> None:
    for name, value in kwargs.items():
        validator = _lookup(name).validator
        if validator is not None:
            try:
                validator(value)
            except ValueError as error:
                raise ValueError(f"setting '{name}': {error}") from error


def _one_of(*choices: Any) -> Validator:
    def check(value: Any) -> None:
        if value not in choices:
            raise ValueError(f"expected one of {', '.join(map(repr, choices))}, got {value!r}")

    return check


def _positive(value: Any) -> None:
    if not value > 0:
        raise ValueError(f"expected a positive number, got {value!r}")


declare("validate_distributions_pyro", __debug__, _one_of(True, False))
declare("validate_infer", __debug__, _one_of(True, False))
declare("validate_poutine", __debug__, _one_of(True, False))
declare("module_local_params", False, _one_of(True, False))
declare("execution", "auto", _one_of("auto", "native", "inductor", "eager"))
declare("data_storage", "float64", _one_of("float64", "float32"))
declare("cholesky_relative_jitter", 4.0, _positive)
register(
    "validate_distributions_torch",
    "torch.distributions",
    "Distribution._validate_args",
    _one_of(True, False),
)
