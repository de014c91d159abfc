"""List where ember keeps the objects that Pyro programs import, by Pyro's dotted paths.

The default rule needs no line here: ``pyro.X.Y`` is ``ember.X.Y`` where that exists. Other places stand in
``TABLE``: a path below ``pyro`` and the targets that are searched in order after the default rule. A target
is a module, all of whose names answer under the path, or ``module:name``, one object.
"""

from __future__ import annotations

# The release of Pyro whose observable behaviour ember's language follows: what pyro.__version__ says.
PYRO_VERSION = "1.9.2"

_DISTRIBUTIONS = ("ember.distributions",)
_INFER = ("ember.infer",)
_MCMC = ("ember.infer.mcmc",)
_GUIDES = ("ember.infer.autoguide", "ember.infer.autoguide.initialization")
_REPARAM = ("ember.infer.reparam",)
_OPTIM = ("ember.optim",)
_NN = ("ember.nn",)

TABLE: dict[str, tuple[str, ...]] = {
    "contrib.autoguide": _GUIDES,
    "contrib.gp.util": ("ember.contrib.gp.posterior",),
    "contrib.zuko": ("ember.distributions.zuko_distribution",),
    "distributions.conditional": _DISTRIBUTIONS,
    "distributions.constraints.biject_to": ("torch.distributions:biject_to",),
    "distributions.constraints.transform_to": ("torch.distributions:transform_to",),
    "distributions.delta": _DISTRIBUTIONS,
    "distributions.distribution": _DISTRIBUTIONS,
    "distributions.empirical": _DISTRIBUTIONS,
    "distributions.hmm": _DISTRIBUTIONS,
    "distributions.improper_uniform": _DISTRIBUTIONS,
    "distributions.inverse_gamma": _DISTRIBUTIONS,
    "distributions.kl.kl_divergence": ("torch.distributions:kl_divergence",),
    "distributions.kl.register_kl": ("torch.distributions:register_kl",),
    "distributions.lkj": _DISTRIBUTIONS,
    "distributions.score_parts": _DISTRIBUTIONS,
    "distributions.sine_bivariate_von_mises": _DISTRIBUTIONS,
    "distributions.LKJCorrCholesky": ("ember.compat.legacy:LKJCorrCholesky",),
    "distributions.torch": _DISTRIBUTIONS,
    "distributions.torch_distribution": _DISTRIBUTIONS,
    "distributions.torch_transform": ("ember.distributions.transforms",),
    "distributions.ComposeTransformModule": ("ember.distributions.transforms:ComposeTransformModule",),
    "distributions.TransformModule": ("ember.distributions.transforms:TransformModule",),
    "distributions.transforms.CorrLCholeskyTransform": (
        "ember.distributions.transforms:CorrCholeskyTransform",
    ),
    "distributions.transforms.haar": ("ember.distributions.transforms",),
    "distributions.util": (
        "ember.distributions.copies",
        "ember.distributions.shapes",
        "ember.distributions.scaling",
        "ember.distributions.validation",
    ),
    "distributions.zero_inflated": _DISTRIBUTIONS,
    "iarange": ("ember.compat.legacy:iarange",),
    "infer.autoguide.gaussian": _GUIDES,
    "infer.autoguide.gaussian.AutoGaussianDense": ("ember.guides.gaussian:AutoGaussian",),
    "infer.autoguide.gaussian.AutoGaussianFunsor": ("ember.guides.gaussian:AutoGaussian",),
    "infer.autoguide.guides": _GUIDES,
    "infer.autoguide.initialization": _GUIDES,
    "infer.autoguide.structured": _GUIDES,
    "infer.autoguide.utils": (*_GUIDES, "ember.guides.entropy"),
    "infer.discrete": _INFER,
    "infer.elbo": _INFER,
    "infer.enum": ("ember.infer", "ember.poutine"),
    "infer.importance": _INFER,
    "infer.inspect": _INFER,
    "infer.mcmc.adaptation": _MCMC,
    "infer.mcmc.api": _MCMC,
    "infer.mcmc.hmc": _MCMC,
    "infer.mcmc.mcmc_kernel": _MCMC,
    "infer.mcmc.nuts": _MCMC,
    "infer.mcmc.rwkernel": _MCMC,
    "infer.mcmc.util": _MCMC,
    "infer.predictive": _INFER,
    "infer.renyi_elbo": _INFER,
    "infer.rws": _INFER,
    "infer.reparam.loc_scale": _REPARAM,
    "infer.reparam.reparam": _REPARAM,
    "infer.reparam.strategies": _REPARAM,
    "infer.reparam.transform": _REPARAM,
    "infer.smcfilter": _INFER,
    "infer.csis": _INFER,
    "infer.svi": _INFER,
    "infer.trace_elbo": _INFER,
    "infer.trace_mean_field_elbo": _INFER,
    "infer.trace_mmd": _INFER,
    "infer.trace_tail_adaptive_elbo": _INFER,
    "infer.traceenum_elbo": _INFER,
    "infer.tracegraph_elbo": _INFER,
    "infer.tracetmc_elbo": _INFER,
    "infer.util.LAST_CACHE_SIZE": ("ember.compat.legacy:LAST_CACHE_SIZE",),
    "infer.util.Dice": ("ember.infer.dice:Dice",),
    "infer.util": (
        "ember.compat.numbers",
        "ember.compat.trace_checks",
        "ember.guides.checks",
        "ember.infer",
    ),
    "irange": ("ember.compat.legacy:irange",),
    "nn.auto_reg_nn": _NN,
    "nn.dense_nn": _NN,
    "nn.module": _NN,
    "ops.tensor_utils": ("ember.ops.tensors",),
    "ops.ssm_gp": ("ember.nn.matern",),
    "optim.adagrad_rmsprop": _OPTIM,
    "optim.clipped_adam": _OPTIM,
    "optim.lr_scheduler": _OPTIM,
    "optim.multi": _OPTIM,
    "optim.optim": _OPTIM,
    "optim.pytorch_optimizers": _OPTIM,
    "poutine.do_messenger": ("ember.poutine.condition_messenger",),
    "poutine.guide": ("ember.guides.guide_messenger",),
    "poutine.handlers": ("ember.poutine",),
    "poutine.infer_config_messenger": ("ember.poutine.weight_messengers",),
    "poutine.lift_messenger": ("ember.poutine.param_messengers",),
    "poutine.mask_messenger": ("ember.poutine.weight_messengers",),
    "poutine.scale_messenger": ("ember.poutine.weight_messengers",),
    "poutine.substitute_messenger": ("ember.poutine.param_messengers",),
    "poutine.uncondition_messenger": ("ember.poutine.condition_messenger",),
    "poutine.util": ("ember.compat.sites", "ember.poutine.escape_messenger"),
    "primitives": ("ember.primitives", "ember"),
    "util": (
        "ember.random_state",
        "ember.compat.numbers",
        "ember.compat.contexts",
        "ember.compat.trace_checks",
        "ember.guides.checks",
        "ember.poutine.site_checks",
    ),
}
