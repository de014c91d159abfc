"""Convert draws to ArviZ's InferenceData."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ember.arviz_library import load_arviz
from ember.model.density import Density

# ArviZ's names for what kernels call their statistics.
_STATISTICS = {"num_leapfrogs": "n_steps", "acceptance": "acceptance_rate", "log_density": "lp"}


def to_arviz(
    density: Any,
    positions: Tensor,
    samples: dict[str, Tensor],
    statistics: dict[str, Tensor],
    discrete: dict[str, Tensor],
) -> Any:
    """Return an ``arviz.InferenceData``.

    :param density: what was sampled.
    :param positions: unconstrained draws, ``[chains, draws, D]``.
    :param samples: constrained draws by site, ``[chains, draws, ...]``.
    :param statistics: of each draw by name, ``[chains, draws]``.
    :param discrete: draws of the sites that were summed out, ``[chains, draws, ...]``.
    """
    arviz = load_arviz()

    values = dict(samples)
    observed: dict[str, Tensor] = {}
    dims: dict[str, list[str]] = {}
    if isinstance(density, Density):
        values.update(discrete)
        values.update(density.deterministics(positions, discrete=discrete))
        for site in density.sites.of_kind("observed"):
            if isinstance(site.value, Tensor):
                observed[site.name] = site.value
        dims = _dims(density, [*values, *observed])
    sizes = {
        dim: value.shape[2 + place] if name in values else value.shape[place]
        for name, value in (values | observed).items()
        for place, dim in enumerate(dims.get(name, ()))
    }
    coords = {dim: list(range(size)) for dim, size in sizes.items()}
    groups: dict[str, Any] = {
        "posterior": {name: _numpy(value) for name, value in values.items()},
        "sample_stats": {_STATISTICS.get(name, name): _numpy(value) for name, value in statistics.items()},
    }
    if observed:
        groups["observed_data"] = {name: _numpy(value) for name, value in observed.items()}
    return arviz.from_dict(**groups, coords=coords, dims=dims)


def _dims(density: Density, names: list[str]) -> dict[str, list[str]]:
    """Name each dimension of each site: after its plate, else after the site with the dimension's number.

    A plate whose sizes disagree between sites, or whose name is that of a site, does not name dimensions.
    """
    sizes: dict[str, set[int]] = {}
    for name in names:
        site = density.sites[name]
        for dim, size in zip(site.dims, site.shape, strict=True):
            if dim is not None:
                sizes.setdefault(dim, set()).add(size)
    usable = {dim for dim, found in sizes.items() if len(found) == 1 and dim not in names}
    result = {}
    for name in names:
        site_dims = density.sites[name].dims
        result[name] = [
            dim if dim in usable and site_dims.count(dim) == 1 else f"{name}_dim_{place}"
            for place, dim in enumerate(site_dims)
        ]
    return result


def _numpy(value: Tensor) -> Any:
    return torch.as_tensor(value).detach().cpu().numpy()
