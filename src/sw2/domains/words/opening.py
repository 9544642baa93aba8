"""A file of word vectors (word2vec, GloVe; through gzip too) as a program: sw2 run glove.vec "king"

Its words are taken as they are, in small letters where none of them has a large one. How often each was seen is not in
such files, and not known of the program.

What it does not do: fastText's own models, whose n-grams `parts.formats.fasttext` reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from sw2.base.device import memory_told
from sw2.core.card import Card
from sw2.core.program import Net, Program
from sw2.domains.words.models import WordVectors
from sw2.domains.words.task import WordFinder, WordVectorsTask
from sw2.domains.words.vocabulary import WordPrep
from sw2.parts.formats.vectors import read

if TYPE_CHECKING:
    from sw2.core.registry import Registry

__all__ = ["open_vectors"]


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
    lower = all(word == word.lower() for word in table.words)
    unknown = np.zeros(len(table.words), np.int64)
    prep = WordPrep(
        table.words, unknown if table.counts is None else table.counts, "spaces", "lower" if lower else "kept"
    )
    return Program.assemble(
        task=WordVectorsTask(),
        runtime=WordFinder,
        nets={"vectors": Net("skip-gram", model)},
        prep=prep,
        provider=registry.provider("word-vectors"),
        card=Card(facts={"read from": path.name, "words": len(table.words), "dimensions": config.dimensions}),
    )
