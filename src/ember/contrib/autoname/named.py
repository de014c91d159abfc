"""Hold values in objects, lists and dicts whose places name the sites that draw them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ember
from ember.errors import message


class Object:
    """An object whose attributes are drawn under their own full names.

    An attribute that has not been set is another such object; its methods ``sample_`` and ``param_`` run a
    statement under its name and put the value in its place.

    :param name: the object's name.

    >>> from ember.distributions import Normal
    >>> latent = Object("latent")
    >>> value = latent.state.x.sample_(Normal(0.0, 1.0))
    >>> latent.state.x is value, str(latent.state)
    (True, 'latent.state')
    """

    def __init__(self, name: str) -> None:
        self.__dict__["_name"] = name
        self.__dict__["_put"] = None

    def __str__(self) -> str:
        return str(self._name)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = Object(f"{self}.{name}")
        made.__dict__["_put"] = lambda value: setattr(self, name, value)
        self.__dict__[name] = made
        return made

    def __setattr__(self, name: str, value: Any) -> None:
        held = self.__dict__.get(name)
        if held is not None and not isinstance(held, Object):
            raise RuntimeError(message(f"{self}.{name} has a value already.", fix="use another name"))
        self.__dict__[name] = value
        _give_name(value, f"{self}.{name}")

    def sample_(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        """Draw a value under the object's name, and put it in the object's place.

        :param fn: a distribution; other arguments are those of :func:`ember.sample`.
        """
        return self._set(ember.sample(str(self), fn, *args, **kwargs))

    def param_(self, *args: Any, **kwargs: Any) -> Any:
        """Make a parameter under the object's name, with the arguments of :func:`ember.param`."""
        return self._set(ember.param(str(self), *args, **kwargs))

    def _set(self, value: Any) -> Any:
        if self._put is not None:
            self._put(value)
        return value


class List(list[Any]):
    """A list whose entries are objects named NAME[0], NAME[1], …

    :param name: the list's name, or None to get that of the attribute it is assigned to.
    """

    def __init__(self, name: str | None = None) -> None:
        super().__init__()
        self._name = name

    def __str__(self) -> str:
        return str(self._name)

    def add(self) -> Object:
        """Append an object, which takes the place of its value when it is drawn."""
        index = len(self)
        made = Object(f"{self}[{index}]")
        made.__dict__["_put"] = lambda value: self.__setitem__(index, value)
        self.append(made)
        return made


class Dict(dict[Any, Any]):
    """A dict whose entries are objects named NAME['key'].

    :param name: the dict's name, or None to get that of the attribute it is assigned to.
    """

    def __init__(self, name: str | None = None) -> None:
        super().__init__()
        self._name = name

    def __str__(self) -> str:
        return str(self._name)

    def __missing__(self, key: Any) -> Object:
        made = Object(f"{self}[{key!r}]")
        put: Callable[[Any], None] = lambda value: self.__setitem__(key, value)  # noqa: E731
        made.__dict__["_put"] = put
        self[key] = made
        return made


def _give_name(value: Any, name: str) -> None:
    if isinstance(value, List | Dict) and value._name is None:
        value._name = name
