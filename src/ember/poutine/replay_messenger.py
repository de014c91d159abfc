"""Give sites the values of a recorded trace, or params the values of a dict."""

from __future__ import annotations

from typing import Any

from ember.errors import message
from ember.poutine.messenger import Messenger
from ember.poutine.runtime import Message
from ember.poutine.trace_struct import Trace

_MARKOV = ("_markov_scope", "_markov_depth", "_markov_kept")


class ReplayMessenger(Messenger):
    """Give latent sites the values that ``trace`` has under their names; leave observed sites alone.

    :param trace: a Trace.
    :param params: values of param sites by name; each needs an ``unconstrained`` attribute.
    :raises ValueError: if neither is given.
    """

    def __init__(self, trace: Trace | None = None, params: dict[str, Any] | None = None) -> None:
        if trace is None and params is None:
            raise ValueError("replay needs a trace or params to replay from")
        self.trace = trace
        self.params = params

    def _pyro_sample(self, msg: Message) -> None:
        if self.trace is None or msg["name"] not in self.trace:
            return
        site = self.trace.nodes[str(msg["name"])]
        if msg["is_observed"]:
            return
        if site["type"] != "sample" or site["is_observed"]:
            raise RuntimeError(
                message(
                    f"site '{msg['name']}' must be sampled in trace",
                    site=msg["name"],
                    plates=msg["cond_indep_stack"],
                    expected="a latent sample site of this name in the trace to replay from",
                    actual=f"an observed {site['type']} site"
                    if site["is_observed"]
                    else f"a {site['type']} site",
                    fix="rename the site, or condition the model instead of replaying",
                )
            )
        msg["done"] = True
        msg["value"] = site["value"]
        # Each site owns its dict; which markov contexts it is in, this program says and not the recorded one.
        here = {key: msg["infer"][key] for key in _MARKOV if key in msg["infer"]}
        recorded = {key: value for key, value in site["infer"].items() if key not in _MARKOV}
        msg["infer"] = {**recorded, **here}

    def _pyro_param(self, msg: Message) -> None:
        if self.params is None or msg["name"] not in self.params:
            return
        value = self.params[str(msg["name"])]
        if not hasattr(value, "unconstrained"):
            raise ValueError(
                message(
                    f"param '{msg['name']}' must have an attribute 'unconstrained' to be replayed",
                    site=msg["name"],
                    fix="pass values that param() or the parameter store returned",
                )
            )
        msg["done"] = True
        msg["value"] = value
