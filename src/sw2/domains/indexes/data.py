"""Keys as data: the named set that sw2 makes by itself, a column's keys as examples, and questions to be judged on.

`lognormal-keys` are a million different whole numbers, e^(2 z) · 10^9 of normal z, as in the paper of learned indexes
(arXiv 1712.01208, section 3.7.1). It is made once, in sw2's home, and is the same everywhere.

What it does not do: read files (`columns`).
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, final

import numpy as np

from sw2.base.store import home, is_file, write_bytes
from sw2.domains.indexes.columns import Column

__all__ = ["NAMED", "Keys", "Questions", "path_of"]

NAMED: Final = "lognormal-keys"
_KEYS: Final = 1_000_000
_QUESTIONS: Final = 100_000


def path_of(source: str) -> Path:
    """The file at `source`: a path, or the named set, which is made if it is not there."""
    if source != NAMED or Path(source).exists():
        return Path(source).absolute()
    path = home() / "indexes" / f"{NAMED}.npy"
    if not is_file(path):
        drawn = np.exp(2 * np.random.Generator(np.random.PCG64(22)).normal(size=_KEYS + _KEYS // 50)) * 1e9
        different = np.unique(drawn.astype(np.int64))
        kept = np.random.Generator(np.random.PCG64(23)).permutation(len(different))[:_KEYS]
        file = io.BytesIO()
        np.save(file, different[np.sort(kept)])
        write_bytes(path, file.getvalue())
    return path


@final
class Keys(Sequence[Mapping[str, Any]]):
    """A column's keys as examples."""

    def __init__(self, column: Column) -> None:
        self.column = column

    def __len__(self) -> int:
        return len(self.column.keys)

    def __getitem__(self, index: Any) -> Any:
        return {"key": self.column.spoken(range(len(self))[index])}


@final
class Questions(Sequence[Mapping[str, Any]]):
    """Questions to a column, the same for the same seed: half of them keys that are there, half beside them.

    Args:
        column: the column.
        seed: of the draw.
    """

    def __init__(self, column: Column, seed: int) -> None:
        keys = column.searched
        random = np.random.Generator(np.random.PCG64(seed))
        places = random.integers(0, len(keys), min(_QUESTIONS, 4 * len(keys)))
        self.column = column
        if column.texts is not None:
            texts = np.array([column.spoken(place) for place in places], dtype=object)
            texts[1::4] += "!"
            texts[3::4] = [text[:-1] for text in texts[3::4]]
            self.keys = texts
            return
        drawn = keys[places]
        beside = drawn[1::2]
        if keys.dtype == np.float64:
            drawn[1::2] = np.nextafter(beside, np.inf)
        else:
            drawn[1::2] = np.where(beside < np.iinfo(keys.dtype).max, beside + keys.dtype.type(1), beside)
        self.keys = drawn

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: Any) -> Any:
        key = self.keys[range(len(self))[index]]
        return {"key": key if self.column.texts is not None else self.column.kind.spoken(key)}
