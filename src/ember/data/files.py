"""Read columns of Parquet and Arrow files as tensors, a piece of the file at a time."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from ember.errors import DataError, message


class TableFile(Protocol):
    """A file whose rows lie in pieces that are read one at a time."""

    path: Path
    piece_sizes: list[int]  # rows in each piece

    def schema(self) -> Any:
        """Return the Arrow schema."""

    def read(self, piece: int, columns: Sequence[str]) -> Any:
        """Return some columns of a piece as an Arrow table."""


class ParquetFile:
    """A Parquet file; its pieces are row groups.

    :raises DataError: if it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Read once, since it is long where there are many row groups.
        self._metadata: Any = None
        self._metadata = metadata = _translated(path, lambda: self._open().metadata)
        self._size = path.stat().st_size
        self.piece_sizes = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]

    def _open(self) -> Any:
        from pyarrow import parquet

        if self._metadata is not None and self.path.stat().st_size != self._size:
            raise OSError("its size is not what it was when it was opened")
        return parquet.ParquetFile(self.path, metadata=self._metadata)

    def schema(self) -> Any:
        """Return the Arrow schema."""
        return _translated(self.path, lambda: self._open().schema_arrow)

    def read(self, piece: int, columns: Sequence[str]) -> Any:
        """Return some columns of a row group."""
        return _translated(self.path, lambda: self._open().read_row_group(piece, columns=list(columns)))


class ArrowFile:
    """An Arrow IPC file (Feather 2), mapped into memory; its pieces are record batches.

    :raises DataError: if it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.piece_sizes = _translated(path, self._sizes)

    def _open(self) -> Any:
        import pyarrow

        return pyarrow.ipc.open_file(pyarrow.memory_map(str(self.path)))

    def _sizes(self) -> list[int]:
        file = self._open()
        return [file.get_batch(index).num_rows for index in range(file.num_record_batches)]

    def schema(self) -> Any:
        """Return the Arrow schema."""
        return _translated(self.path, lambda: self._open().schema)

    def read(self, piece: int, columns: Sequence[str]) -> Any:
        """Return some columns of a record batch."""
        import pyarrow

        return _translated(
            self.path,
            lambda: pyarrow.Table.from_batches([self._open().get_batch(piece)]).select(list(columns)),
        )


def _translated(path: Path, read: Callable[[], Any]) -> Any:
    """Read, and say of which file it is that reading fails."""
    import pyarrow

    try:
        return read()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(
            message(
                f"cannot read '{path}': {str(error).partition(chr(10))[0]}",
                expected="a complete file that is not changed while it is read",
                fix="write the file again; a run with a checkpoint goes on with resume=True",
            )
        ) from error


def find_files(path: Any, suffixes: Sequence[str]) -> list[Path]:
    """Return the files that a path, a directory, or a sequence of them stands for, in order.

    :raises DataError: if there is none.
    """
    given = [path] if isinstance(path, (str, Path)) else list(path)
    found: list[Path] = []
    for each in map(Path, given):
        inside = sorted(file for file in each.rglob("*") if file.suffix in suffixes) if each.is_dir() else []
        if not inside and not each.is_file():
            raise DataError(
                message(
                    f"there is no data at '{each}'",
                    expected=f"a file, or a directory with files {', '.join(suffixes)}",
                )
            )
        found += inside or [each]
    return found


@functools.cache
def require_pyarrow() -> None:
    """Raise ImportError with the way out if pyarrow is not installed."""
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ImportError(
            message(
                "Parquet and Arrow files need pyarrow, which is not installed",
                fix="pip install 'ember-ppl[data]'",
            )
        ) from error


class ColumnForm(NamedTuple):
    """What the values of a column are."""

    kind: str  # the Arrow type
    width: int  # number of values in a row, 0 for plain numbers
    floating: bool


def column_form(schema: Any, name: str, path: Path) -> ColumnForm:
    """Return the form of a column.

    :raises DataError: for a column that is missing, or that no tensor can hold.
    """
    import pyarrow

    if name not in schema.names:
        raise DataError(
            message(
                f"'{path}' has no column '{name}'",
                expected=f"a column '{name}'",
                actual=f"columns {', '.join(schema.names)}",
            )
        )
    kind = schema.field(name).type
    width = kind.list_size if pyarrow.types.is_fixed_size_list(kind) else 0
    value = kind.value_type if width else kind
    floating = pyarrow.types.is_floating(value)
    if not (floating or pyarrow.types.is_integer(value) or pyarrow.types.is_boolean(value)):
        raise DataError(
            message(
                f"column '{name}' of '{path}' is no number",
                expected="floating point numbers, integers, booleans, or lists of a fixed size of them",
                actual=str(kind),
                fix="encode it as integers, e.g. the codes of its categories, before writing the file",
            )
        )
    return ColumnForm(str(kind), width, floating)


def to_tensor(column: Any, width: int) -> Tensor:
    """Return an Arrow column as a tensor ``[rows]`` or ``[rows, width]``.

    Floating point values, and integers with gaps, come in torch's default dtype, with NaN for gaps; other
    integers as ``int64``, booleans as ``bool``.
    """
    import pyarrow

    rows = len(column)
    array = column.combine_chunks() if isinstance(column, pyarrow.ChunkedArray) else column
    if width:
        array = _padded_values(array, width)
    values: Any = array.to_numpy(zero_copy_only=False)
    if values.dtype == object:  # booleans with gaps
        values = np.array([np.nan if each is None else float(each) for each in values])
    if values.dtype.kind == "f":
        double = torch.get_default_dtype() is torch.float64
        tensor = torch.from_numpy(values.astype(np.float64 if double else np.float32))
        tensor = tensor.to(torch.get_default_dtype())
    elif values.dtype.kind == "b":
        tensor = torch.from_numpy(values.copy())
    else:
        tensor = torch.from_numpy(values.astype(np.int64))
    return tensor.reshape(rows, width) if width else tensor


def _padded_values(array: Any, width: int) -> Any:
    """Return the values of lists one after another, with gaps in place of missing lists."""
    if not array.null_count:
        return array.flatten()
    import pyarrow

    rows = [each if each is not None else [None] * width for each in array.to_pylist()]
    return pyarrow.array([value for row in rows for value in row], array.type.value_type)
