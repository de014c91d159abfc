"""Check that a guide fits its model: the same sites, shapes and plates."""

from __future__ import annotations

import math
import warnings
from typing import Any

from ember.distributions.shapes import broadcast_shape
from ember.errors import message
from ember.poutine.trace_struct import Trace


def site_is_subsample(site: Any) -> bool:
    """Whether a site draws the indices of a plate."""
    return site["type"] == "sample" and type(site["fn"]).__name__ == "_Subsample"


def remove_subsample_sites(trace: Trace) -> None:
    """Remove the sites that draw indices of plates; plates are accounted for by scales."""
    for name in [name for name, site in trace.nodes.items() if site_is_subsample(site)]:
        trace.remove_node(name)


def check_if_enumerated(trace: Trace) -> None:
    """Warn if sites ask for enumeration, for use by objectives that do none."""
    asking = {
        name
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and site["infer"].get("enumerate") is not None
    }
    if asking:
        _warn(
            f"Found sample sites configured for enumeration: {_names(asking)}",
            "use an objective that enumerates, such as TraceEnum_ELBO, or leave infer={'enumerate': ...} out",
        )


def check_model_guide_match(
    model_trace: Trace, guide_trace: Trace, max_plate_nesting: float = math.inf
) -> None:
    """Compare the latent sites and plates of a model with those of its guide.

    Sites or plates that only one of them has give a warning; the step can go on.

    :raises ValueError: for shapes that disagree, or plates whose minibatches do.
    """
    guide_sites = {name: site for name, site in guide_trace.nodes.items() if site["type"] == "sample"}
    model_sites = {name: site for name, site in model_trace.nodes.items() if site["type"] == "sample"}
    _check_names(model_sites, guide_sites)
    for name, guide_site in guide_sites.items():
        model_site = model_sites.get(name)
        if model_site is None:
            continue
        if site_is_subsample(model_site) or site_is_subsample(guide_site):
            _check_minibatches(name, model_site, guide_site, guide_trace.location(name))
        elif not guide_site["is_observed"] and not model_site["is_observed"]:
            _check_shapes(name, model_site, guide_site, max_plate_nesting, guide_trace.location(name))
    _check_plates(model_sites, guide_sites)


def _check_names(model_sites: dict[str, Any], guide_sites: dict[str, Any]) -> None:
    guide_latent = {
        name
        for name, site in guide_sites.items()
        if not (site["is_observed"] or site_is_subsample(site) or site["infer"].get("is_auxiliary"))
    }
    auxiliary = {name for name, site in guide_sites.items() if site["infer"].get("is_auxiliary")}
    model_latent = {
        name for name, site in model_sites.items() if not (site["is_observed"] or site_is_subsample(site))
    }
    enumerated = {
        name for name in model_latent if model_sites[name]["infer"].get("_enumerate_dim") is not None
    }
    observed = {
        name
        for name, site in guide_sites.items()
        if site["is_observed"] and name not in auxiliary and not site["infer"].get("_deterministic")
    }
    if observed:
        _warn(
            f"Found observed sites in the guide: {_names(observed)}",
            "condition the model, not the guide, or use infer={'is_auxiliary': True}",
        )
    clashes = auxiliary & model_latent
    if clashes:
        _warn(
            f"Found auxiliary sites of the guide in the model: {_names(clashes)}",
            "rename them in the guide, or leave is_auxiliary out",
        )
    extra = guide_latent - model_latent - set(enumerated)
    if extra:
        _warn(
            f"Found non-auxiliary vars in guide but not model: {_names(extra)}",
            "add the sites to the model, or mark them by infer={'is_auxiliary': True}",
        )
    missing = model_latent - guide_latent - auxiliary - enumerated
    if missing:
        _warn(
            f"Found vars in model but not guide: {_names(missing)}",
            "add the sites to the guide; until then they are drawn from the prior",
        )


def _check_minibatches(name: str, model_site: Any, guide_site: Any, where: str | None) -> None:
    sizes = [
        (int(site["fn"].size), int(site["fn"].subsample_size)) if site_is_subsample(site) else None
        for site in (model_site, guide_site)
    ]
    if sizes[0] != sizes[1]:
        raise ValueError(
            message(
                f"the plate '{name}' of the guide does not agree with the model's",
                site=name,
                expected=f"size, subsample_size = {sizes[0]}"
                if sizes[0]
                else f"the model's sample site '{name}'",
                actual=f"size, subsample_size = {sizes[1]}" if sizes[1] else f"a sample site '{name}'",
                fix="use one name and the same sizes in model and guide",
                where=where,
            )
        )


def _check_shapes(
    name: str, model_site: Any, guide_site: Any, max_plate_nesting: float, where: str | None
) -> None:
    model_fn, guide_fn = model_site["fn"], guide_site["fn"]
    if not (hasattr(model_fn, "event_shape") and hasattr(guide_fn, "event_shape")):
        return
    if len(model_fn.event_shape) != len(guide_fn.event_shape):
        _refuse_shapes(
            name,
            "Model and guide event_dims disagree",
            model_site,
            f"event_dim {len(model_fn.event_shape)}",
            f"event_dim {len(guide_fn.event_shape)}",
            where,
        )
    if tuple(model_fn.event_shape) != tuple(guide_fn.event_shape):
        _refuse_shapes(
            name,
            "Model and guide event_shapes disagree",
            model_site,
            model_fn.event_shape,
            guide_fn.event_shape,
            where,
        )
    shapes = []
    for fn in (model_fn, guide_fn):
        shape = tuple(fn.batch_shape)
        # Dims left of all plates are used by enumeration and may differ.
        shapes.append(shape[len(shape) - int(min(len(shape), max_plate_nesting)) :])
    if shapes[0] == shapes[1]:
        return
    try:
        together = broadcast_shape(*shapes)
    except ValueError:
        together = None
    if together is None or _stripped(shapes[0]) != _stripped(shapes[1]):
        what = "Model and guide shapes disagree"
        _refuse_shapes(name, what, model_site, shapes[0], shapes[1], where)


def _stripped(shape: tuple[int, ...]) -> tuple[int, ...]:
    while shape and shape[0] == 1:
        shape = shape[1:]
    return shape


def _refuse_shapes(name: str, what: str, site: Any, expected: Any, actual: Any, where: str | None) -> None:
    raise ValueError(
        message(
            f"{what} at site '{name}'",
            site=name,
            plates=site["cond_indep_stack"],
            expected=f"{_shown(expected)}, as in the model",
            actual=f"{_shown(actual)} in the guide",
            fix="draw the site in the guide under the model's plates and with its .to_event(n)",
            where=where,
        )
    )


def _shown(shape: Any) -> Any:
    return shape if isinstance(shape, str) else tuple(shape)


def _check_plates(model_sites: dict[str, Any], guide_sites: dict[str, Any]) -> None:
    found: list[set[str]] = []
    for sites in (model_sites, guide_sites):
        found.append(
            {
                frame.name
                for site in sites.values()
                if not site["infer"].get("is_auxiliary")
                for frame in site["cond_indep_stack"]
                if frame.vectorized
            }
        )
    extra = found[1] - found[0]
    if extra:
        _warn(
            f"Found plate statements in guide but not model: {_names(extra)}",
            "use the same plate names in the model and the guide",
        )


def _names(names: set[str]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names))


def _warn(what: str, fix: str) -> None:
    warnings.warn(message(what, fix=fix), UserWarning, stacklevel=4)
