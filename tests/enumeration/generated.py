"""Generate random networks of discrete sites, as ember models and as lists of factors to sum by force."""

import contextlib
import itertools
import math
import random
from typing import NamedTuple

import torch

import ember
from ember import distributions as dist
from ember import poutine
from ember.ops.indexing import vindex
from ember.ops.plated_sums import contract_factors
from ember.poutine.elimination.factors import Factor

LATENT = ["categorical", "bernoulli", "partly"]
SEEN = ["seen", "normal", "factor"]
SHIFT = torch.tensor(0.3, dtype=torch.float64)  # where the one continuous site is looked at


class Plate(NamedTuple):
    """A plate, and the indices of its minibatch if it has one."""

    dim: int
    size: int
    subsample: list[int] | None

    @property
    def elements(self):
        """Indices that its elements have, each as often as the scale of the minibatch says."""
        if self.subsample is None:
            return list(range(self.size))
        return self.subsample * (self.size // len(self.subsample))


class Site(NamedTuple):
    """A site: its table has dims for its plates, its parents and (unless it is a factor) its states."""

    name: str
    kind: str  # categorical, bernoulli, seen (a categorical), normal, factor or partly (observed in part)
    plates: tuple[str, ...]
    parents: tuple[str, ...]
    table: torch.Tensor
    scale: float
    mask: torch.Tensor | None  # over its plates
    obs: torch.Tensor | None  # likewise
    block: str | None  # the loop that it is in
    step: int

    @property
    def is_latent(self):
        return self.kind in ("categorical", "bernoulli", "partly")


class Network(NamedTuple):
    """A random network."""

    plates: dict[str, Plate]
    sites: list[Site]
    scale: float
    history: dict[str, int]  # of the loops, by name: 0 for sequential plates, otherwise of markov contexts

    def __getitem__(self, name):
        return next(site for site in self.sites if site.name == name)

    def latents(self):
        return [site for site in self.sites if site.is_latent]

    def elements(self, site):
        """Return pairs of (copy in each of the site's plates, index into its table)."""
        ranges = [enumerate(self.plates[name].elements) for name in site.plates]
        return [
            (tuple(c for c, _ in pairs), tuple(i for _, i in pairs)) for pairs in itertools.product(*ranges)
        ]

    def parents(self, site, names, copies):
        """Return the unrolled variables that one element of a site depends on."""
        place = dict(zip(site.plates, copies, strict=True))
        return [(name, tuple(place[plate] for plate in self[name].plates)) for name in names]

    def element(self, tensor, name, copies):
        """Return the element of a tensor whose last batch dims are those of the plates."""
        index = [0, 0, 0]
        for plate, copy in zip(self[name].plates, copies, strict=True):
            dim, size, subsample = self.plates[plate]
            index[dim] = copy % (size if subsample is None else len(subsample))
        return tensor.reshape((1,) * (3 - tensor.ndim) + tensor.shape)[(..., *index)]

    def enter(self):
        """Return the plates, as new ones."""
        return {
            name: ember.plate(name, plate.size, subsample=_tensor(plate.subsample), dim=plate.dim)
            for name, plate in self.plates.items()
        }


def generate(seed, fewest=2, largest=4096):
    """Return a network of at least ``fewest`` unknowns, whose values have few enough combinations."""
    while True:
        network = _Generator(seed, (2, 3, 4)).network()
        states = list(unknowns(network).values())
        if len(states) >= fewest and math.prod(states) <= largest:
            return network
        seed += 1_000_003


def generate_long(seed, fewest=12, most=90):
    """Return a network with long loops, to be summed by :func:`contracted`."""
    while True:
        network = _Generator(seed, (5, 9, 12, 20)).network()
        if fewest <= len(unknowns(network)) <= most:
            return network
        seed += 1_000_003


class _Generator:
    """Choose plates, and then sites that depend on earlier ones in the same or fewer plates."""

    def __init__(self, seed, lengths):
        self.lengths = lengths
        self.choose = random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.plates = {}
        self.sites = []
        self.history = {}

    def network(self):
        choose = self.choose
        for name, dim in zip("abc", choose.sample([-1, -2, -3], 3), strict=True):
            if choose.random() < 0.6:
                size = choose.choice([1, 2, 3, 4])
                subsample = sorted(choose.sample(range(4), 2)) if size == 4 else None
                self.plates[name] = Plate(dim, size, subsample)
        for _ in range(choose.randint(1, 3)):
            inside = [name for name in self.plates if choose.random() < 0.4]
            self.loop(inside) if choose.random() < 0.4 else self.group(inside)
        return Network(self.plates, self.sites, choose.choice([1.0, 1.0, 2.5]), self.history)

    def group(self, inside):
        """Add one or two latent sites and a likelihood."""
        for kinds in (LATENT, SEEN) if self.choose.random() < 0.7 else (LATENT, LATENT, SEEN):
            around = self.visible(inside)
            parents = self.choose.sample(around, min(len(around), self.choose.randint(0, 3)))
            self.add(f"s{len(self.sites)}", inside, parents, kinds)
            inside = self.wider(inside, 0.4)

    def loop(self, inside):
        """Add a Markov chain, or a few, or iterations of a sequential plate."""
        choose, block = self.choose, f"loop{len(self.sites)}"
        self.history[block] = choose.choice([0, 1, 1, 2])
        outer = self.visible(inside)
        links = ["x", "z"][: choose.choice([1, 1, 2])]
        for step in range(choose.choice(self.lengths)):
            for link in links:
                near = self.near(block, step)
                parents = choose.sample(near, min(len(near), 2)) + choose.sample(outer, min(len(outer), 1))
                self.add(f"{block}{link}{step}", inside, parents, LATENT[:2], block, step)
            known = [site for site in self.near(block, step) if site.step == step]
            parents = choose.sample(known, min(len(known), choose.choice([1, 2])))
            self.add(f"{block}y{step}", self.wider(inside, 0.2), parents, SEEN, block, step)

    def wider(self, inside, chance):
        return [name for name in self.plates if name in inside or self.choose.random() < chance]

    def visible(self, inside):
        return [s for s in self.sites if s.is_latent and not s.block and set(s.plates) <= set(inside)]

    def near(self, block, step):
        first = step - self.history[block]
        return [site for site in self.sites if site.is_latent and site.block == block and site.step >= first]

    def add(self, name, inside, parents, kinds, block=None, step=0):
        choose, generator = self.choose, self.generator
        kind = choose.choice(kinds)
        states = 2 if kind in ("bernoulli", "partly") else choose.choice([2, 3])
        sizes = [self.plates[each].size for each in inside]
        given = [_states(each) for each in parents]
        own = [] if kind in ("normal", "factor") else [states]
        table = torch.rand((*sizes, *given, *own), generator=generator, dtype=torch.float64) + 0.1
        obs = None
        if kind in ("seen", "normal", "partly"):
            obs = torch.rand(sizes, generator=generator, dtype=torch.float64)
            obs = obs if kind == "normal" else (obs * states).long()
            obs = obs.double() if kind == "partly" else obs
        masked = kind == "partly" or (kind in SEEN and choose.random() < 0.3)
        mask = torch.rand(sizes, generator=generator) < 0.6 if masked else None
        scale = choose.choice([1.0, 1.0, 1.0, 0.5, 2.0]) if kind in ("seen", "normal") else 1.0
        names = tuple(parent.name for parent in parents)
        self.sites.append(Site(name, kind, tuple(inside), names, table, scale, mask, obs, block, step))


def _states(site):
    return site.table.shape[-1]


def log_of(site, table, shift):
    """Return a table of log probabilities (or densities at the observed values), as the site counts them."""
    if site.kind == "factor":
        return table - 0.5
    if site.kind == "normal":
        obs = site.obs.reshape(site.obs.shape + (1,) * len(site.parents))
        return site.scale * dist.Normal(table + shift, 0.8).log_prob(obs)
    probs = table / table.sum(-1, keepdim=True)
    return site.scale * probs.log()


def unrolled(network, tables, shift=SHIFT):
    """Return (factors over unrolled variables, by tuples of names and copies; states of the variables)."""
    factors, states = [], {}
    for site in network.sites:
        logs = log_of(site, tables[site.name], shift)
        for copies, index in network.elements(site):
            names, own = network.parents(site, site.parents, copies), (site.name, copies)
            factor = logs[index]
            hidden = site.mask is not None and not bool(site.mask[index])
            if site.kind == "seen" or (site.kind == "partly" and not hidden):
                factor = factor[..., int(site.obs[index])]
            if site.is_latent:
                states[own] = _states(site)
                if site.kind == "partly" and not hidden:  # later sites read the observed value
                    factors.append(([own], _point(int(site.obs[index]))))
                else:
                    names = [*names, own]
            elif hidden:
                continue
            factors.append((names, factor))
    return factors, states


def _point(value):
    known = torch.full((2,), -torch.inf, dtype=torch.float64)
    known[value] = 0.0
    return known


def unknowns(network):
    """Return the number of states of each unrolled latent variable."""
    return unrolled(network, {site.name: site.table for site in network.sites})[1]


def table_over(states, factors):
    """Return the sum of log factors, as a table over all the unrolled variables."""
    names = list(states)
    total = torch.zeros(tuple(states.values()), dtype=torch.float64)
    for over, factor in factors:
        axes = [names.index(name) for name in over]
        order = sorted(range(len(axes)), key=axes.__getitem__)
        total = total + factor.permute(order).reshape([states[name] if name in over else 1 for name in names])
    return total


def joint(network, tables, shift=SHIFT):
    """Return (names of unrolled variables, log of the joint density as a table over them)."""
    factors, states = unrolled(network, tables, shift)
    return list(states), table_over(states, factors) + dist.Normal(0.0, 1.0).log_prob(shift)


def evidence(network, tables, shift=SHIFT):
    """Return the logarithm of the evidence, times the network's scale."""
    return network.scale * joint(network, tables, shift)[1].flatten().logsumexp(0)


def contracted(network, tables, shift, ring):
    """Return what :func:`evidence` does, by summing the unrolled variables one by one, in a ring."""
    factors, states = unrolled(network, tables, shift)
    number = {name: position for position, name in enumerate(states)}
    parts = [Factor(tuple(number[name] for name in over), factor, frozenset()) for over, factor in factors]
    total = contract_factors(parts, list(number.values()), ring).tensor
    return network.scale * (total + dist.Normal(0.0, 1.0).log_prob(shift))


def model_of(network, learned=True):
    """Return the network as an ember model, with its tables as parameters or constants."""
    order = random.Random(7)

    def model():
        tables = {site.name: site.table for site in network.sites}
        if learned:
            positive = dist.constraints.positive
            tables = {name: ember.param(name + " table", table, positive) for name, table in tables.items()}
        values = {}
        with poutine.scale(scale=network.scale):
            shift = ember.sample("shift", dist.Normal(torch.zeros((), dtype=torch.float64), 1.0))
            plates = network.enter()
            for block, group in itertools.groupby(network.sites, lambda site: site.block):
                if block is None:
                    for site in group:
                        statement(site, tables, values, plates, shift)
                    continue
                sites = list(group)
                steps, history = sites[-1].step + 1, network.history[block]
                loop = ember.markov(range(steps), history=history) if history else ember.plate(block, steps)
                for step in loop:
                    for site in sites:
                        if site.step == step:
                            statement(site, tables, values, plates, shift)
        return values

    def statement(site, tables, values, plates, shift):
        with contextlib.ExitStack() as stack:
            where = _entered(network, site, plates, stack, order)
            row = vindex(tables[site.name], (*where, *(values[name].long() for name in site.parents)))
            if site.scale != 1:
                stack.enter_context(poutine.scale(scale=site.scale))
            obs = None if site.obs is None else site.obs[where] if where else site.obs
            mask = None if site.mask is None else site.mask[where] if where else site.mask
            if mask is not None and site.kind != "partly":
                stack.enter_context(poutine.mask(mask=mask))
            if site.kind in ("categorical", "bernoulli"):
                values[site.name] = ember.sample(site.name, _discrete(site, row))
            elif site.kind == "partly":
                fn = _discrete(site, row)
                values[site.name] = ember.sample(site.name, fn, obs=obs, obs_mask=mask)
            elif site.kind == "seen":
                ember.sample(site.name, dist.Categorical(row), obs=obs)
            elif site.kind == "normal":
                ember.sample(site.name, dist.Normal(row + shift, 0.8), obs=obs)
            else:
                ember.factor(site.name, row - 0.5)

    return model


def _entered(network, site, plates, stack, order):
    """Enter a site's plates in some order; returns the indices into its table."""
    indices = {}
    for name in order.sample(site.plates, len(site.plates)):
        index = stack.enter_context(plates[name])
        indices[name] = index.reshape((-1,) + (1,) * (-1 - network.plates[name].dim))
    return tuple(indices[name] for name in site.plates)


def _discrete(site, row):
    return dist.Categorical(row) if site.kind == "categorical" else dist.Bernoulli(row[..., 1] / row.sum(-1))


def _tensor(indices):
    return None if indices is None else torch.tensor(indices)


def guide_at_shift():
    """Put the continuous site where it is looked at."""
    ember.sample("shift", dist.Delta(SHIFT))


class Proposals(NamedTuple):
    """A guide's distributions of some of the latent sites."""

    modes: dict[str, str]  # parallel, sequential or sampled
    parents: dict[str, list[str]]
    tables: dict[str, torch.Tensor]

    def log_table(self, network, names, states, tables):
        """Return the log probability of the named sites in the guide, as a table over all variables."""
        factors = []
        for name in names:
            logs = (tables[name] / tables[name].sum(-1, keepdim=True)).log()
            for copies, index in network.elements(network[name]):
                over = network.parents(network[name], self.parents[name], copies)
                factors.append(([*over, (name, copies)], logs[index]))
        return table_over(states, factors)


def proposals_for(network, seed, modes=("parallel", "parallel", "sampled", "sequential"), share=0.5):
    """Choose which sites a guide has, and how."""
    choose, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    proposals = Proposals({}, {}, {})
    for site in network.latents():
        if site.kind == "partly" or choose.random() >= share:
            continue
        mode = choose.choice(modes)
        mode = "parallel" if mode == "sequential" and site.plates else mode
        parents = [name for name in site.parents if name in proposals.modes and choose.random() < 0.7]
        if mode == "sampled":  # of each of its parents' values there would be another draw
            parents = [name for name in parents if proposals.modes[name] == "sampled"]
        sizes = [network.plates[name].size for name in site.plates]
        shape = (*sizes, *(_states(network[name]) for name in parents), _states(site))
        proposals.modes[site.name], proposals.parents[site.name] = mode, parents
        proposals.tables[site.name] = torch.rand(shape, generator=generator, dtype=torch.float64) + 0.1
    return proposals


def guide_of(network, proposals, record):
    """Return the guide; it appends the values of its sampled sites to ``record``."""
    order = random.Random(7)

    def guide():
        values, plates = {}, network.enter()
        with poutine.scale(scale=network.scale):
            guide_at_shift()
            for name, mode in proposals.modes.items():
                with contextlib.ExitStack() as stack:
                    where = _entered(network, network[name], plates, stack, order)
                    table = ember.param(f"{name} guide", proposals.tables[name], dist.constraints.positive)
                    given = (values[parent].long() for parent in proposals.parents[name])
                    fn = _discrete(network[name], vindex(table, (*where, *given)))
                    infer = {"enumerate": None if mode == "sampled" else mode}
                    values[name] = ember.sample(name, fn, infer=infer)
        record.append({name: values[name] for name, mode in proposals.modes.items() if mode == "sampled"})

    return guide
