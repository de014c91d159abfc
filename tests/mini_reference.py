"""Execute the language in the plainest code: what trace, replay, condition, plate and param mean.

Nothing here is shared with the library but torch and the distributions: a site is a dict, a handler has two
methods, the stack is a list. The library must agree with it (``tests/language/test_against_reference.py``).
"""

import torch
from torch.distributions import transform_to

from ember.distributions import Delta, Unit, constraints

STACK = []  # active handlers, outermost first
STORE = {}  # name -> (unconstrained leaf, constraint)


class Handler:
    """Sees the sites that run while it is active: `before` they have a value, and `after`."""

    def __init__(self, fn=None):
        self.fn = fn

    def __enter__(self):
        STACK.append(self)
        return self

    def __exit__(self, *exception):
        STACK.remove(self)

    def __call__(self, *args, **kwargs):
        with self:
            return self.fn(*args, **kwargs)

    def before(self, site):
        pass

    def after(self, site):
        pass


def send(site):
    """Innermost handlers first before the draw, outermost first after it."""
    for handler in reversed(STACK):
        handler.before(site)
    if site["value"] is None:
        site["value"] = site["draw"](site)
    for handler in STACK:
        handler.after(site)
    return site["value"]


def new_site(kind, name, draw, fn=None, value=None, observed=False, event_dim=None):
    return {
        "type": kind,
        "name": name,
        "draw": draw,
        "fn": fn,
        "value": value,
        "is_observed": observed,
        "event_dim": event_dim,
        "scale": 1.0,
        "mask": None,
        "plates": [],
    }


# -- statements --------------------------------------------------------------------------------------------


def draw_from_fn(site):
    return site["fn"].rsample() if site["fn"].has_rsample else site["fn"].sample()


def sample(name, fn, obs=None):
    return send(new_site("sample", name, draw_from_fn, fn, obs, obs is not None))


def factor(name, log_factor):
    sample(name, Unit(log_factor), obs=torch.empty((*log_factor.shape, 0)))


def deterministic(name, value, event_dim=None):
    event_dim = value.dim() if event_dim is None else event_dim
    return sample(name, Delta(value, event_dim=event_dim).mask(False), obs=value)


def param(name, init=None, constraint=constraints.real, event_dim=None):
    def read(site):
        if name not in STORE:
            unconstrained = transform_to(constraint).inv(init).detach().clone()
            STORE[name] = unconstrained.requires_grad_(), constraint
        leaf, kept = STORE[name]
        return transform_to(kept)(leaf)

    return send(new_site("param", name, read, event_dim=event_dim))


def subsample(data, event_dim):
    return send(new_site("subsample", None, None, value=data, event_dim=event_dim))


# -- handlers ----------------------------------------------------------------------------------------------


class trace(Handler):
    """Keep a copy of each site."""

    def __enter__(self):
        self.sites = {}
        return super().__enter__()

    def after(self, site):
        if site["type"] == "subsample":
            return
        if site["type"] == "sample" and site["name"] in self.sites:
            raise RuntimeError(f"two sample sites named {site['name']}")
        self.sites[site["name"]] = dict(site)

    def get_trace(self, *args, **kwargs):
        self(*args, **kwargs)
        return self.sites


class replay(Handler):
    """Give latent sites the values of a trace."""

    def __init__(self, fn, sites):
        super().__init__(fn)
        self.sites = sites

    def before(self, site):
        if site["type"] == "sample" and not site["is_observed"] and site["name"] in self.sites:
            site["value"] = self.sites[site["name"]]["value"]


class condition(Handler):
    """Give sample sites values, and call them observed; None makes them latent."""

    def __init__(self, fn, data):
        super().__init__(fn)
        self.data = data

    def before(self, site):
        if site["type"] == "sample" and site["name"] in self.data:
            site["value"] = self.data[site["name"]]
            site["is_observed"] = site["value"] is not None


class scale(Handler):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def before(self, site):
        site["scale"] = site["scale"] * self.factor


class mask(Handler):
    def __init__(self, keep):
        super().__init__()
        self.keep = torch.as_tensor(keep)

    def before(self, site):
        site["mask"] = self.keep if site["mask"] is None else site["mask"] & self.keep


class plate(Handler):
    """A batch dimension, or a loop; its minibatch of indices is a site of its own, drawn when it is made."""

    def __init__(self, name, size, subsample_size=None, dim=None):
        super().__init__()
        self.name, self.size, self.dim = name, size, dim
        self.count = size if subsample_size is None else subsample_size
        self.sequential = False
        self.iteration = 0
        site = new_site("sample", name, lambda site: torch.randperm(size)[: self.count])
        if self.count == size:
            site["draw"] = lambda site: torch.arange(size)
        self.indices = send(site)

    def __enter__(self):
        taken = {other.dim for other in STACK if isinstance(other, plate)}
        if self.dim is None and not self.sequential:
            self.dim = max(dim for dim in range(-len(STACK) - 1, 0) if dim not in taken)
        super().__enter__()
        return self.indices

    def __iter__(self):
        self.sequential = True
        for index in self.indices.tolist():
            self.iteration += 1
            with self:
                yield index

    def before(self, site):
        site["scale"] = site["scale"] * (self.size / self.count)
        site["plates"].insert(0, (self.name, self.dim, self.count, self.iteration))
        fn = site["fn"]
        if site["type"] == "sample" and fn is not None and not self.sequential:
            shape = list(fn.batch_shape)
            shape = [1] * (-self.dim - len(shape)) + shape
            if shape[self.dim] not in (1, self.count):
                raise ValueError(f"site {site['name']} does not fit plate {self.name}")
            shape[self.dim] = self.count
            site["fn"] = fn.expand(shape)

    def after(self, site):
        if site["type"] == "sample" or site["event_dim"] is None or self.sequential:
            return
        dim = self.dim - site["event_dim"]
        if site["value"].dim() >= -dim and site["value"].shape[dim] == self.size:
            site["value"] = site["value"].index_select(dim, self.indices)


# -- densities ---------------------------------------------------------------------------------------------


def log_prob(site):
    """Log probability of a site: scaled, and zero where its mask is False."""
    if site["fn"] is None:  # the indices of a plate
        return torch.zeros(())
    value = site["fn"].log_prob(site["value"]) * site["scale"]
    return value if site["mask"] is None else torch.where(site["mask"], value, torch.zeros(()))


def log_prob_sum(sites):
    return sum((log_prob(site).sum() for site in sites.values() if site["type"] == "sample"), torch.zeros(()))
