"""Files of word vectors as programs: sw2 run glove.vec "king"

    word2vec, GloVe     a vector a word, through gzip too; how often each was seen is not in the file, nor known then
    fastText's .bin     with the vectors of n-grams, so that words never seen have one; how often each was seen is known

Words are taken as they are, in small letters where none of them has a large one.

What it does not do: models of fastText with labels, which open as classifiers (`domains.texts`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from sw2.base.device import memory_told
from sw2.base.errors import ProgramError
from sw2.core.card import Card
from sw2.core.program import Net, Program
from sw2.domains.words.models import SubwordVectors, WordVectors
from sw2.domains.words.task import WordFinder, WordVectorsTask
from sw2.domains.words.vocabulary import WordPrep
from sw2.parts.formats import fasttext
from sw2.parts.formats.vectors import read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sw2.core.registry import Registry

__all__ = ["open_fasttext", "open_vectors"]


def open_vectors(path: Path, registry: Registry) -> Program:
    """The vectors in a file as a program.

    Raises:
        DataError: it is no file of word vectors, or damaged.
        ResourceError: it would not fit in memory.
    """
    with memory_told("these vectors", least=path.stat().st_size // 4):
        table = read(path)
        config = WordVectors.Config(dimensions=table.matrix.shape[1], words=len(table.words))
        model = WordVectors(config)
        model.weight.data = torch.from_numpy(table.matrix)
    counts = np.zeros(len(table.words), np.int64) if table.counts is None else table.counts
    return _program(path, table.words, counts, "skip-gram", model, registry)


def open_fasttext(path: Path, registry: Registry) -> Program:
    """The vectors in a model of fastText without labels as a program.

    The end of a line, a word to fastText, and words that are no UTF-8 are left out; the card says how many.

    Raises:
        DataError: it is no file of fastText, or damaged.
        ProgramError: n-grams were taken out of it, which fastText does to models with labels only; or it has no words.
        ResourceError: it would not fit in memory.
    """
    with memory_told("this model", least=path.stat().st_size):
        found = fasttext.read(path)
        told, matrix = found.arguments, found.input
        if found.pruned is not None or not isinstance(matrix, np.ndarray):
            raise ProgramError(
                "These word vectors are not whole.",
                where=path,
                wanted="a model of fastText as it was trained",
                got="one that was quantised or pruned",
            )
        gone = [row for row, word in enumerate(found.words) if word == fasttext.END_OF_LINE or not _is_utf8(word)]
        words = [word for row, word in enumerate(found.words) if row not in set(gone)] if gone else found.words
        if not words:
            raise ProgramError("There are no words.", where=path, wanted="at least one", got=f"{len(gone)} left out")
        if gone == [0]:
            matrix = matrix[1:]  # as nearly always: no copy
        elif gone:
            matrix = np.delete(matrix, gone, axis=0)
        model: WordVectors | SubwordVectors
        if told.max_n > 0 and told.buckets > 0:
            model = SubwordVectors(
                SubwordVectors.Config(
                    dimensions=told.dimensions,
                    shortest=max(told.min_n, 1),
                    longest=told.max_n,
                    buckets=told.buckets,
                    words=len(words),
                )
            )
        else:
            model = WordVectors(WordVectors.Config(dimensions=told.dimensions, words=len(words)))
        model.weight.data = torch.from_numpy(matrix[: len(model.weight)])
    name = "fasttext" if isinstance(model, SubwordVectors) else "cbow" if told.model == "cbow" else "skip-gram"
    return _program(path, words, np.delete(found.counts, gone), name, model, registry, left_out=len(gone))


def _program(
    path: Path,
    words: Sequence[str],
    counts: NDArray[np.int64],
    name: str,
    model: WordVectors | SubwordVectors,
    registry: Registry,
    left_out: int = 0,
) -> Program:
    lower = all(word == word.lower() for word in words)
    facts = {"read from": path.name, "words": len(words), "dimensions": model.config.dimensions}
    return Program.assemble(
        task=WordVectorsTask(),
        runtime=WordFinder,
        nets={"vectors": Net(name, model)},
        prep=WordPrep(words, counts, "spaces", "lower" if lower else "kept"),
        provider=registry.provider("word-vectors"),
        card=Card(facts=facts | ({"words left out": left_out} if left_out else {})),
    )


def _is_utf8(word: str) -> bool:
    """Whether the word is so in the file: other bytes became halves of pairs."""
    return not any("\ud800" <= letter <= "\udfff" for letter in word)
