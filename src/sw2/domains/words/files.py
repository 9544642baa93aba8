"""Word vectors of a program in the files that other toolkits read: sw2 export words --format word2vec --out out

    word2vec, word2vec-binary, glove    the vectors of the vocabulary, see `parts.formats.vectors`; of a program with
                                        subwords each word's mean, without its n-grams
    fasttext                            a program with subwords as fastText's model, n-grams and all; what words were
                                        told apart by while learning is not kept, and zeros stand there

Every file is read back and compared with the program before it counts as written.

What it does not do: words with white space, which none of these files can hold. The other way round: `opening`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from sw2.base.errors import ProgramError
from sw2.domains.words.models import SubwordVectors, WordVectors
from sw2.parts.formats import fasttext
from sw2.parts.formats.vectors import Format, VectorTable, read, write

__all__ = ["FASTTEXT", "TABLES", "convert"]

TABLES: Final[Mapping[str, str]] = {
    "word2vec": "a line of numbers for each word, for gensim and most others",
    "word2vec-binary": "the same in float32, a third of the size",
    "glove": "the lines without the first, as GloVe's",
}
FASTTEXT: Final[Mapping[str, str]] = {"fasttext": "a .bin of fastText, for vectors of words never seen"}
_NAMES: Final[Mapping[str, str]] = {
    "word2vec": "vectors.vec",
    "word2vec-binary": "vectors.bin",
    "glove": "vectors.txt",
    "fasttext": "model.bin",
}
_ASKED: Final = 100
_LARGEST: Final = 1e-5


def convert(
    format_name: str,
    model: WordVectors | SubwordVectors,
    table: VectorTable,
    vectors: Callable[[Sequence[str]], NDArray[np.float32]],
    into: Path,
) -> tuple[int, float]:
    """Write a file, read it back, and compare.

    Args:
        format_name: one of TABLES, or of FASTTEXT for a model with subwords.
        model: what was learned.
        table: the vectors of its vocabulary.
        vectors: those of any words, by the program.
        into: the folder.

    Returns:
        How many words were asked for, and the largest difference in units of the largest number.

    Raises:
        ProgramError: the file does not answer as the program does.
        UsageError: a word cannot be written in this format.
    """
    path = into / _NAMES[format_name]
    if isinstance(model, SubwordVectors) and format_name in FASTTEXT:
        fasttext.write(_fasttext(model, table), path)
        back = fasttext.read(path)
        # A word takes a millisecond in Python: so some hundred of them, and as many that nobody has seen.
        places = np.linspace(0, len(table.words) - 1, min(len(table.words), _ASKED)).astype(int)
        asked = [word for place in places for word in (table.words[place], table.words[place][::-1] + "qx")]
        found, wanted = np.stack([back.vector(word) for word in asked]), vectors(asked)
    else:
        write(table, path, cast(Format, format_name))
        again = read(path, cast(Format, format_name))
        asked, found, wanted = list(again.words), again.matrix, table.matrix
        if asked != list(table.words):
            raise ProgramError(
                "The written file has other words.", where=path, wanted=len(table.words), got=len(again.words)
            )
    largest = float(np.abs(found - wanted).max() / max(float(np.abs(wanted).max()), 1e-30))
    if not largest <= _LARGEST:
        raise ProgramError(
            "The written file does not answer as the program does.",
            where=path,
            wanted=f"differences of at most {_LARGEST:.0e}",
            got=f"{largest:.1e}",
        )
    return len(asked), largest


def _fasttext(model: SubwordVectors, table: VectorTable) -> fasttext.FastTextModel:
    config, counts = model.config, table.counts
    assert counts is not None
    return fasttext.FastTextModel(
        arguments=fasttext.Arguments(
            dimensions=config.dimensions,
            loss="negative sampling",
            model="skipgram",
            buckets=config.buckets,
            min_n=config.shortest,
            max_n=config.longest,
        ),
        words=table.words,
        counts=counts,
        labels=[],
        label_counts=np.zeros(0, np.int64),
        tokens=int(counts.sum()),
        pruned=None,
        input=model.weight.detach().numpy(),
        output=np.zeros((config.words, config.dimensions), np.float32),
    )
