"""Rows of a Parquet or Arrow file by their numbers, without reading the rest.

    Rows(path).table(numbers)      a pyarrow Table of these rows with all columns, in this order

An Arrow file (Feather too) is mapped: where it is not compressed, rows that follow each other are not even copied. Of a
Parquet file the row groups are read that hold one of the rows, of a compressed Arrow file the batches.

What it does not do: notice that the file has changed (`task` does); choose columns; other kinds of files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from sw2.base.errors import UsageError

__all__ = ["SUFFIXES", "Rows"]

SUFFIXES: Final = (".parquet", ".arrow", ".feather")
"""How names of files end whose rows can be read."""


@final
class Rows:
    """An open file in parts: row groups or batches.

    Args:
        path: of a file that `columns` has read a column of.

    Raises:
        UsageError: it is a file of another kind.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() not in SUFFIXES:
            raise UsageError(
                "Rows with all their columns are not read from such files.",
                where=path,
                wanted=", ".join(SUFFIXES),
                got=path.suffix,
                do="Ask for `rows`, which are their numbers.",
            )
        self._parts = _RowGroups(path) if path.suffix.lower() == ".parquet" else _Batches(path)
        self._ends = np.cumsum(self._parts.lengths, dtype=np.int64)

    def table(self, numbers: range | NDArray[np.int64]) -> Any:
        """The rows as a pyarrow Table.

        Args:
            numbers: of rows, from 0; a range with step 1, or an array in any order.
        """
        if not len(numbers):
            return self._parts.table([])
        if isinstance(numbers, range):
            first, last = np.searchsorted(self._ends, [numbers[0], numbers[-1]], side="right").tolist()
            before = int(self._ends[first - 1]) if first else 0
            return self._parts.table(range(first, last + 1)).slice(numbers.start - before, len(numbers))
        parts, which = np.unique(np.searchsorted(self._ends, numbers, side="right"), return_inverse=True)
        lengths = np.asarray(self._parts.lengths)[parts]
        moved = np.cumsum(lengths) - self._ends[parts]  # from a row's number in the file to that in these parts
        return self._parts.table(parts.tolist()).take(numbers + moved[which])


class _RowGroups:
    """Parquet."""

    def __init__(self, path: Path) -> None:
        from pyarrow import parquet

        self._file = parquet.ParquetFile(path, memory_map=True)
        found = self._file.metadata
        self.lengths = [found.row_group(number).num_rows for number in range(found.num_row_groups)]

    def table(self, numbers: Sequence[int]) -> Any:
        return self._file.read_row_groups(list(numbers))


class _Batches:
    """Arrow: a file, whose batches can be read alone, or a stream, which is read through once and stays mapped."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        source = pa.memory_map(str(path))
        try:
            self._file = pa.ipc.open_file(source)
        except pa.ArrowInvalid:
            batches = list(stream := pa.ipc.open_stream(source))
            self.schema, self._batch = stream.schema, batches.__getitem__
            self.lengths = [batch.num_rows for batch in batches]
        else:
            self.schema, self._batch = self._file.schema, self._file.get_batch
            # How long a batch is stands in front of it, but only with its columns can it be asked: with one of them.
            only = pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(included_fields=[0]))
            self.lengths = [only.get_batch(number).num_rows for number in range(only.num_record_batches)]

    def table(self, numbers: Sequence[int]) -> Any:
        import pyarrow as pa

        return pa.Table.from_batches([self._batch(number) for number in numbers], schema=self.schema)
