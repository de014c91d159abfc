"""Guide a model by running it, with a posterior in place of each latent site's prior."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor

from ember.distributions import Delta
from ember.errors import message
from ember.nn import PyroModule
from ember.poutine.messenger import Messenger
from ember.poutine.runtime import Message


class AutoMessenger(PyroModule):
    """Base of guides that are the model itself, with other distributions at its latent sites.

    Posteriors may thus depend on draws upstream, and the structure of the model may change from run to run.
    Subclasses define :meth:`get_posterior`. Calls return a dict of the values of all sites of the model,
    observed and deterministic ones too, by name. The names of parameters have no prefix, as in Pyro: guides
    of one kind for two models with a site of the same name share its parameters in the store.

    :param model: the model; it should do no costly work besides its latent sites, since guides run it.
    :param amortized_plates: names of plates whose elements share their parameters.
    """

    def __init__(self, model: Callable[..., Any], *, amortized_plates: Iterable[str] = ()) -> None:
        super().__init__()
        # In a tuple, so that a model which is a module does not become a submodule of its guide.
        self.__dict__["_model"] = (model,)
        self.__dict__["amortized_plates"] = tuple(amortized_plates)

    @property
    def model(self) -> Callable[..., Any]:
        """The model that the guide was made from."""
        return self._model[0]

    def get_posterior(self, name: str, prior: Any) -> Any:
        """Return the posterior of a site, given the draws before it: a distribution, or a value.

        :param name: name of the site.
        :param prior: its distribution in the model, inside the model's plates.
        """
        raise TypeError(f"{type(self).__name__} does not say what its posteriors are")

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Draw all latent sites and return the values of all sites; arguments are the model's."""
        return self._run(self.get_posterior, args, kwargs)

    def _run(
        self, posterior: Callable[[str, Any], Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, Tensor]:
        substitution = PosteriorMessenger(posterior)
        with substitution:
            self.model(*args, **kwargs)
        return substitution.values


class PosteriorMessenger(Messenger):
    """Replace the distributions of latent sites; hide observed ones from the handlers outside.

    :param posterior: a function of a site's name and prior that returns a distribution or a value.
    """

    def __init__(self, posterior: Callable[[str, Any], Any]) -> None:
        self.posterior = posterior
        self.values: dict[str, Tensor] = {}

    def __enter__(self) -> Any:
        self.values = {}
        return super().__enter__()

    def _pyro_sample(self, msg: Message) -> None:
        if msg["is_observed"]:
            msg["stop"] = True
            return
        if type(msg["fn"]).__name__ == "_Subsample":
            return
        prior: Any = msg["fn"]
        found = self.posterior(str(msg["name"]), prior)
        if isinstance(found, Tensor):
            found = Delta(found, event_dim=prior.event_dim)
        if found.event_shape != prior.event_shape or found.batch_shape != prior.batch_shape:
            try:
                found = found.expand(prior.batch_shape)
            except RuntimeError:
                found = None
            if found is None or found.event_shape != prior.event_shape:
                self._refuse(msg)
        msg["fn"] = found

    def _pyro_post_sample(self, msg: Message) -> None:
        if type(msg["fn"]).__name__ != "_Subsample":
            self.values[str(msg["name"])] = msg["value"]

    def _refuse(self, msg: Message) -> None:
        prior: Any = msg["fn"]
        raise ValueError(
            message(
                f"the posterior of site '{msg['name']}' has another shape than its prior",
                site=msg["name"],
                plates=msg["cond_indep_stack"],
                expected=f"batch_shape {tuple(prior.batch_shape)}, event_shape {tuple(prior.event_shape)}",
                fix="draw on prior.batch_shape and prior.event_shape in get_posterior",
            )
        )


def shared_over(value: Tensor, plates: Iterable[Any], names: Iterable[str], event_dim: int) -> Tensor:
    """Average a starting value over the plates of these names, keeping their dims with size one."""
    wanted = set(names)
    for frame in plates:
        if frame.name in wanted and frame.dim is not None and value.ndim >= event_dim - frame.dim:
            value = value.mean(frame.dim - event_dim, keepdim=True)
    return value
