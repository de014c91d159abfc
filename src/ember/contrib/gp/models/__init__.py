"""Offer Gaussian process models: exact, sparse, variational, and with latent inputs."""

from ember.contrib.gp.models.gplvm import GPLVM
from ember.contrib.gp.models.model import GPModel
from ember.contrib.gp.models.regression import GPRegression
from ember.contrib.gp.models.sparse_regression import SparseGPRegression
from ember.contrib.gp.models.variational import VariationalGP
from ember.contrib.gp.models.variational_sparse import VariationalSparseGP

__all__ = [
    "GPLVM",
    "GPModel",
    "GPRegression",
    "SparseGPRegression",
    "VariationalGP",
    "VariationalSparseGP",
]
