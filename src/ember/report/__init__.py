"""Show posteriors: plots of draws and tables in words; re-exports only."""

from ember.report.losses import plot_loss
from ember.report.plots import plot_forest, plot_trace
from ember.report.tables import Convergence, convergence, table

__all__ = ["Convergence", "convergence", "plot_forest", "plot_loss", "plot_trace", "table"]
