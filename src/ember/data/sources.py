"""Open Parquet and Arrow files as sources of minibatches."""

from __future__ import annotations

from typing import Any

from ember.data.batches import Columns, TableBatches
from ember.data.files import ArrowFile, ParquetFile, find_files, require_pyarrow


class ParquetBatches(TableBatches):
    """Minibatches of Parquet files, read a few row groups at a time, for ``SVI.run(batches=...)``.

    ``svi.run(1000, batches=ParquetBatches("homes.parquet", ["x", "y"], batch_size=100), size=10_000)`` calls
    the model with ``x``, ``y`` and ``size``.

    :param path: a file, a directory of ``.parquet`` files, or a sequence of either.
    :param options: those of :class:`TableBatches`.
    :raises ImportError: without pyarrow.
    :raises DataError: as :class:`TableBatches` does, and for files that cannot be read.
    """

    def __init__(self, path: Any, columns: Columns, batch_size: int, seed: int = 0, **options: Any) -> None:
        require_pyarrow()
        files = [ParquetFile(each) for each in find_files(path, (".parquet",))]
        super().__init__(files, columns, batch_size, seed, **options)


class ArrowBatches(TableBatches):
    """Minibatches of Arrow IPC files (Feather 2), mapped into memory; otherwise as :class:`ParquetBatches`.

    :param path: a file, a directory of ``.arrow`` or ``.feather`` files, or a sequence of either.
    :param options: those of :class:`TableBatches`.
    :raises ImportError: without pyarrow.
    :raises DataError: as :class:`TableBatches` does, and for files that cannot be read.
    """

    def __init__(self, path: Any, columns: Columns, batch_size: int, seed: int = 0, **options: Any) -> None:
        require_pyarrow()
        files = [ArrowFile(each) for each in find_files(path, (".arrow", ".feather"))]
        super().__init__(files, columns, batch_size, seed, **options)
