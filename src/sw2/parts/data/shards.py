"""Token shards: the tokens of many documents in one memory-mapped file, with the borders between documents.

    tokens.bin      all tokens one after the other, uint16 where the vocabulary allows it, else uint32
    borders.npy     int64 [documents + 1], where each document begins; the last is the number of tokens

The operating system pages in what is read, so the corpus may be larger than memory. A shard folder is written under
another name and renamed, so one that exists is whole.

Shapes: N tokens in the shard, T tokens in a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sw2.base.store import folder

__all__ = ["Shard", "write_shard"]


def write_shard(path: Path, documents: Iterable[NDArray[np.int32]], vocab_size: int) -> None:
    """Write the tokens of `documents` into the folder `path`.

    Raises:
        ResourceError: when the disk is full.
    """
    dtype = np.uint16 if vocab_size <= 2**16 else np.uint32
    borders = [0]
    with folder(path) as partial:
        with open(partial / "tokens.bin", "wb") as file:
            for tokens in documents:
                tokens.astype(dtype).tofile(file)
                borders.append(borders[-1] + len(tokens))
        np.save(partial / "borders.npy", np.asarray(borders, dtype=np.int64))


class Shard:
    """An open shard.

    Args:
        path: the folder that `write_shard` made.
        vocab_size: as then.
    """

    def __init__(self, path: Path, vocab_size: int) -> None:
        dtype = np.uint16 if vocab_size <= 2**16 else np.uint32
        self.tokens = np.memmap(path / "tokens.bin", dtype=dtype, mode="r")
        self.borders: NDArray[np.int64] = np.load(path / "borders.npy")

    def __len__(self) -> int:
        return len(self.tokens)

    def row(
        self, pieces: Sequence[tuple[int, int]], length: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """The tokens of `pieces` (start and length in the shard) one after the other, in a row of `length`.

        Returns:
            The tokens, for each the one after it (its target), and for each the number of its document: int64 [T].
            Where nothing is left to fill the row, the token is 0 and the target and the document are -1.
        """
        tokens = np.zeros(length, dtype=np.int64)
        targets, documents = np.full((2, length), -1, dtype=np.int64)
        filled = 0
        for start, size in pieces:
            here = slice(filled, filled + size)
            text = np.asarray(self.tokens[start : start + size + 1], dtype=np.int64)
            tokens[here], targets[here] = text[:-1], text[1:]
            documents[here] = np.searchsorted(self.borders, np.arange(start, start + size), side="right") - 1
            filled += size
        return tokens, targets, documents
