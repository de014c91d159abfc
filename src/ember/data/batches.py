"""Cut tables into shuffled minibatches that a seed fixes, reading a few pieces of the files at a time."""

from __future__ import annotations

import copy
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ember.data.files import ColumnForm, TableFile, column_form, to_tensor
from ember.errors import DataError, message

Columns = Sequence[str] | Mapping[str, str | Sequence[str]]


@dataclass(frozen=True)
class _Piece:
    """A piece of one of the files."""

    file: TableFile
    number: int
    size: int
    first_row: int  # of all rows of all files


class TableBatches:
    """Minibatches of the rows of some files, as dicts of tensors by argument name.

    An epoch puts the files' pieces (row groups) into a random order, and shuffles the rows of
    ``mixed_pieces`` of them together at a time. The batch at a place is a function of the seed, the epoch and
    the place alone, so that a run goes on in the middle of an epoch, and several processes can share one.

    :param files: the files, of the same columns.
    :param columns: names of columns, which become arguments of these names; or a mapping from argument names
        to columns, where a sequence of columns becomes one tensor ``[batch, columns]``.
    :param batch_size: rows in a batch, of all processes together; the last one of an epoch may be smaller.
    :param seed: fixes the order.
    :param shuffle: False keeps the files' order.
    :param mixed_pieces: number of pieces that are in memory at a time.
    :param drop_last: leave out the smaller last batch of an epoch.
    :param rows_as: name of a further argument with the rows' numbers, for ``plate(..., subsample=rows)``.
    :param allow_nan: let NaN and missing values of floating point columns pass, as NaN.
    :raises DataError: naming file and column, for columns that are missing, have different types in
        different files, or are no numbers.
    :raises ValueError: for sizes that are not positive.
    """

    def __init__(
        self,
        files: Sequence[TableFile],
        columns: Columns,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        mixed_pieces: int = 4,
        drop_last: bool = False,
        rows_as: str | None = None,
        allow_nan: bool = False,
    ) -> None:
        if batch_size < 1 or mixed_pieces < 1:
            raise ValueError(
                f"batch_size and mixed_pieces must be positive, got {batch_size} and {mixed_pieces}"
            )
        self.columns = {name: name for name in columns} if not isinstance(columns, Mapping) else dict(columns)
        self.batch_size, self.seed, self.shuffle = batch_size, seed, shuffle
        self.mixed_pieces, self.drop_last = mixed_pieces, drop_last
        self.rows_as, self.allow_nan = rows_as, allow_nan
        self.rank, self.world = 0, 1
        names = [[each] if isinstance(each, str) else list(each) for each in self.columns.values()]
        self._names = list(dict.fromkeys(name for group in names for name in group))
        self._forms = _common_forms(files, self._names)
        self.name = f"'{files[0].path}'" + (f" and {len(files) - 1} more" if len(files) > 1 else "")
        self._pieces = _pieces(files)
        self.num_rows = sum(piece.size for piece in self._pieces)
        self._epoch = self._batch = 0
        self._continues = False
        self._known: tuple[int, list[_Piece], list[int]] | None = None  # the order of an epoch
        self._window: tuple[tuple[int, int], dict[str, Tensor]] | None = None  # the rows in memory
        if len(self) == 0:
            raise DataError(
                message(
                    f"{self.name} has too few rows for a batch",
                    expected=f"at least {batch_size if drop_last else 1}",
                    actual=f"{self.num_rows} rows",
                )
            )

    def __len__(self) -> int:
        """Number of batches of an epoch."""
        full, rest = divmod(self.num_rows, self.batch_size)
        return full + (rest >= self.world and not self.drop_last)

    def shard(self, rank: int, world: int) -> TableBatches:
        """Return the part of one of ``world`` processes: every ``world``-th row of each batch.

        All parts of a batch have the same size; up to ``world - 1`` rows at the end of an epoch are left out.

        :raises ValueError: if ``batch_size`` is not a multiple of ``world``.
        """
        if self.batch_size % world or not 0 <= rank < world:
            raise ValueError(
                message(
                    f"batches of {self.name} cannot be shared by {world} processes",
                    expected=f"a batch_size that is a multiple of {world}, and a rank below it",
                    actual=f"batch_size={self.batch_size}, rank {rank}",
                )
            )
        part = copy.copy(self)
        part.rank, part.world, part._window = rank, world, None
        return part

    # -- place in the data ---------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the place: the next batch, and what fixes its rows."""
        # After an epoch's last batch comes the first of the next one.
        more, batch = divmod(self._batch, len(self))
        return {"epoch": self._epoch + more, "batch": batch, "order": self._order()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next iteration go on at a place.

        :raises DataError: if the place is one in other data, or in another order.
        """
        if state["order"] != self._order():
            raise DataError(
                message(
                    f"the place to go on from is not one in {self.name}",
                    expected=state["order"],
                    actual=self._order(),
                    fix="give the files, seed and sizes of the run that is resumed",
                )
            )
        self._epoch, self._batch = state["epoch"], state["batch"]
        self._continues = True

    def _order(self) -> dict[str, Any]:
        names = ("num_rows", "batch_size", "seed", "shuffle", "mixed_pieces", "drop_last")
        return {name: getattr(self, name) for name in names} | {"num_pieces": len(self._pieces)}

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Go through one epoch: the rest of that of a loaded place, otherwise a new one."""
        if not self._continues and self._batch:
            self._epoch, self._batch = self._epoch + 1, 0
        self._continues = False
        while self._batch < len(self):
            batch = self.batch(self._epoch, self._batch)
            self._batch += 1
            yield batch
        self._epoch, self._batch = self._epoch + 1, 0

    # -- batches -------------------------------------------------------------------------------------------

    def batch(self, epoch: int, index: int) -> dict[str, Tensor]:
        """Return the batch at a place.

        :raises DataError: naming file, row and column, for NaN or missing values; for changed files.
        """
        start = index * self.batch_size
        stop = min(start + self.batch_size, self.num_rows)
        stop -= (stop - start) % self.world
        order, starts = self._order_of(epoch)
        position = start + self.rank
        parts: list[dict[str, Tensor]] = []
        while position < stop:
            number = bisect_right(starts, position) - 1
            begin, end = starts[number], min(stop, starts[number + 1])
            rows = self._mixed(epoch, number, order)
            own = range(position, end, self.world)
            chosen = slice(position - begin, end - begin, self.world)
            parts.append({name: value[chosen] for name, value in rows.items()})
            position += len(own) * self.world
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _order_of(self, epoch: int) -> tuple[list[_Piece], list[int]]:
        """Return an epoch's pieces in order, and where those mixed together start, with the end of all."""
        if self._known is None or self._known[0] != epoch:
            order = list(range(len(self._pieces)))
            if self.shuffle:
                order = np.random.default_rng([self.seed, epoch]).permutation(order).tolist()
            pieces = [self._pieces[index] for index in order]
            ends = list(accumulate((piece.size for piece in pieces), initial=0))
            self._known = epoch, pieces, [*ends[: -1 : self.mixed_pieces], ends[-1]]
        return self._known[1:]

    def _mixed(self, epoch: int, number: int, order: list[_Piece]) -> dict[str, Tensor]:
        """Return the shuffled rows of some pieces; the last ones are kept for the next batch."""
        if self._window is not None and self._window[0] == (epoch, number):
            return self._window[1]
        self._window = None  # never two in memory
        first = number * self.mixed_pieces
        read = [self._read(piece) for piece in order[first : first + self.mixed_pieces]]
        rows = {name: torch.cat([part[name] for part in read]) for name in read[0]}
        if self.shuffle:
            count = len(next(iter(rows.values())))
            drawn = np.random.default_rng([self.seed, epoch, number]).permutation(count)
            rows = {name: value[torch.from_numpy(drawn)] for name, value in rows.items()}
        self._window = (epoch, number), rows
        return rows

    def _read(self, piece: _Piece) -> dict[str, Tensor]:
        table = piece.file.read(piece.number, self._names)
        if table.num_rows != piece.size:
            raise DataError(
                message(
                    f"'{piece.file.path}' has changed while it was read",
                    expected=f"{piece.size} rows in piece {piece.number}",
                    actual=f"{table.num_rows} rows",
                )
            )
        tensors = {name: to_tensor(table[name], self._forms[name].width) for name in self._names}
        _refuse_nan(
            piece, {n: t for n, t in tensors.items() if not (self.allow_nan and self._forms[n].floating)}
        )
        rows = {
            argument: tensors[source]
            if isinstance(source, str)
            else torch.stack([tensors[name].to(torch.get_default_dtype()) for name in source], -1)
            for argument, source in self.columns.items()
        }
        if self.rows_as is not None:
            rows[self.rows_as] = torch.arange(piece.first_row, piece.first_row + piece.size)
        return rows


def _pieces(files: Sequence[TableFile]) -> list[_Piece]:
    pieces, row = [], 0
    for file in files:
        for number, size in enumerate(file.piece_sizes):
            if size:
                pieces.append(_Piece(file, number, size, row))
                row += size
    return pieces


def _common_forms(files: Sequence[TableFile], names: list[str]) -> dict[str, ColumnForm]:
    """Return the form of each column, the same in all files."""
    forms: dict[str, ColumnForm] = {}
    for file in files:
        schema = file.schema()
        for name in names:
            form = column_form(schema, name, file.path)
            if forms.setdefault(name, form) != form:
                raise DataError(
                    message(
                        f"column '{name}' has another type in '{file.path}' than in '{files[0].path}'",
                        expected=forms[name].kind,
                        actual=form.kind,
                        fix="write all files with one schema",
                    )
                )
    return forms


def _refuse_nan(piece: _Piece, tensors: dict[str, Tensor]) -> None:
    first = sum(piece.file.piece_sizes[: piece.number])
    for name, value in tensors.items():
        if not value.is_floating_point():
            continue
        bad = value.isnan().reshape(len(value), -1).any(1).nonzero().squeeze(1)
        if len(bad):
            raise DataError(
                message(
                    f"column '{name}' of '{piece.file.path}' has NaN or missing values, the first in row "
                    f"{first + int(bad[0])}",
                    expected="numbers in every row",
                    actual=f"{len(bad)} of rows {first} to {first + piece.size - 1} without",
                    fix="leave those rows out, or pass allow_nan=True to a model that can do with NaN",
                )
            )
