"""Read minibatches of model arguments from files larger than memory; re-exports only."""

from ember.data.batches import TableBatches
from ember.data.files import ArrowFile, ParquetFile, TableFile
from ember.data.sources import ArrowBatches, ParquetBatches

__all__ = ["ArrowBatches", "ArrowFile", "ParquetBatches", "ParquetFile", "TableBatches", "TableFile"]
