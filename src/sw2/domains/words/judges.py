"""Three sets that people judged, which the package gensim carries: word similarity, and analogies.

    wordsim353        353 pairs, how related two words are, 0 to 10 (Finkelstein et al. 2002, doi:10.1145/503104.503110)
    simlex999         999 pairs, how alike they are; "coffee" and "cup" are related, not alike (Hill et al. 2015,
                      arXiv 1408.3456)
    questions-words   19,544 analogies in 14 sections (Mikolov et al. 2013, arXiv 1301.3781)

Pairs are scored by Spearman's correlation between cosines and people; analogies by the share whose answer is the
nearest of all words in the vocabulary, the three given ones left out. Questions with a word outside the vocabulary are
left out, and coverage tells how many remain: scores of two programs can be compared where it is the same.

The package is fetched once, and none of its code is run; the files are held to their checksums.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from sw2.base.config import check_ranges
from sw2.base.errors import DataError
from sw2.base.packages import PackagedFile
from sw2.base.store import home, sha256_of_file, write_bytes
from sw2.core.capabilities import Words
from sw2.core.data import Data, Split
from sw2.core.program import Program
from sw2.core.task import Context, Judge, Score
from sw2.domains.words.space import WordSpace, unit
from sw2.parts.metrics.intervals import bootstrap, wilson

__all__ = ["Analogies", "SimLex", "WordSim", "spearman"]

_FILES: Final = {
    "questions-words.txt": "8c29b3332afc46f3fb8be04cb5297bf96f39aa7131272dff57869b4485b22a36",
    "wordsim353.tsv": "f92a022fc2537793a15bc3a8c162ebcd74990e033a228bb6388cb71e4c0b1e1d",
    "simlex999.txt": "d5e0501971478a511430ee880bd0121e94ac701ba86d90544d83e6d2ba3db05d",
}
_SETS: Final = PackagedFile(
    title="sets of word similarity and analogies",
    package="gensim",
    version="4.4.0",
    module="gensim",
    file="test/test_data/questions-words.txt",
    sha256=_FILES["questions-words.txt"],
    size="28 MB, of which 0.6 are kept",
    licence="LGPL-2.1",
)


def _text(name: str, context: Context) -> str:
    """One of the files, from sw2's home; all of them are fetched if it is not there."""
    folder = home() / "words"
    path = folder / name
    if not path.is_file() or sha256_of_file(path) != _FILES[name]:
        with _SETS.found(context.confirm, "judge on other data") as found:
            for each, digest in _FILES.items():
                own = replace(_SETS, title=each, sha256=digest)
                write_bytes(folder / each, own.checked(found.with_name(each)).read_bytes())
    return path.read_text(encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class SetOptions:
    """How a set is used.

    Args:
        most_words: only the most frequent words count, as if the others were unknown; 0 for all.
    """

    most_words: int = 0

    def __post_init__(self) -> None:
        check_ranges("data", self, {"most_words": (self.most_words >= 0, "a whole number of at least 0")})


class _Set(Judge):
    """What the three have in common."""

    Options = SetOptions
    name: str
    file: str

    def read(self, options: SetOptions, context: Context) -> Data:
        rows = self.rows(_text(self.file, context))
        limited: Split = [{**row, "most_words": options.most_words} for row in rows]
        source = f"{_SETS.package} {_SETS.version}"
        return Data(name=self.name, splits={"test": limited}, fingerprint=_FILES[self.file], source=source)

    @abstractmethod
    def rows(self, text: str) -> list[Mapping[str, Any]]:
        """The questions in the file."""


def _space(program: Program, held_out: Split) -> tuple[WordSpace, Words]:
    finder = program.capability(Words)  # type: ignore[type-abstract]
    words, matrix, _ = finder.table()
    most = held_out[0]["most_words"] or len(words)
    return WordSpace(words[:most], matrix[:most]), finder


class _Pairs(_Set):
    """Pairs of words with what people say of them: a table of two words and a number."""

    def rows(self, text: str) -> list[Mapping[str, Any]]:
        lines = [line.split("\t") for line in text.splitlines() if line.strip() and not line.startswith("#")]
        return [{"first": first, "second": second, "said": float(said)} for first, second, said in lines]

    def judge(self, program: Program, held_out: Split, context: Context) -> Sequence[Score]:
        space, finder = _space(program, held_out)
        asked = [(finder.fold(row["first"]), finder.fold(row["second"]), row["said"]) for row in held_out]
        known = [row for row in asked if row[0] in space.numbers and row[1] in space.numbers]
        _enough(len(known), len(asked), self.name)
        first, second = (unit(finder.vectors([row[place] for row in known])) for place in (0, 1))
        both = np.stack([np.einsum("nd,nd->n", first, second), [row[2] for row in known]], axis=1)
        name = "correlation with people"
        found = bootstrap(both, _correlation, seed=context.seed, resamples=500)
        return [
            Score.estimated(name, found, better="higher", examples=len(known)),
            Score(name="coverage", value=len(known) / len(asked), better="higher", examples=len(asked)),
            Score(name=name, value=0.0, better="higher", examples=len(known), of="chance"),
        ]


@final
class WordSim(_Pairs):
    """wordsim353."""

    name, file = "wordsim353", "wordsim353.tsv"


@final
class SimLex(_Pairs):
    """simlex999."""

    name, file = "simlex999", "simlex999.txt"


@final
class Analogies(_Set):
    """questions-words."""

    name, file = "questions-words", "questions-words.txt"

    def rows(self, text: str) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        section = ""
        for line in text.splitlines():
            if line.startswith(":"):
                section = line[1:].strip()
            elif line.strip():
                found.append({"section": section, "words": tuple(line.split())})
        return found

    def judge(self, program: Program, held_out: Split, context: Context) -> Sequence[Score]:
        del context
        space, finder = _space(program, held_out)
        asked = [(row["section"], tuple(map(finder.fold, row["words"]))) for row in held_out]
        known = [(section, words) for section, words in asked if all(word in space.numbers for word in words)]
        _enough(len(known), len(asked), self.name)
        answers = space.analogies([(words[0], words[1], words[2]) for _, words in known])
        cases = [float(answer == words[3]) for answer, (_, words) in zip(answers, known, strict=True)]
        sections: dict[str, list[float]] = {}
        for right, (section, _) in zip(cases, known, strict=True):
            sections.setdefault(section, []).append(right)
        shares = {name: {"accuracy": sum(each) / len(each), "examples": len(each)} for name, each in sections.items()}
        found = wilson(sum(cases), len(cases))
        details = {"cases": cases, "by section": shares}
        scores = [
            Score.estimated("accuracy", found, better="higher", examples=len(cases), details=details),
            Score(name="coverage", value=len(known) / len(asked), better="higher", examples=len(asked)),
        ]
        for name, each in shares.items():
            count = int(each["examples"])
            scores.append(Score(name=name, value=float(each["accuracy"]), better="higher", examples=count))
        chance = 1 / max(1, len(space.words) - 3)
        return [*scores, Score(name="accuracy", value=chance, better="higher", examples=len(cases), of="chance")]


def _enough(known: int, asked: int, name: str) -> None:
    if known < 2:
        raise DataError(
            "The program knows too few of these words.",
            where=name,
            wanted="at least two questions whose words are in its vocabulary",
            got=f"{known} of {asked}",
            do="Train on more text in English.",
        )


def _correlation(both: NDArray[Any]) -> float:
    return spearman(both[:, 0], both[:, 1])


def spearman(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Spearman's correlation of N numbers with N others: Pearson's of their ranks, equal ones sharing the mean rank.

    Returns:
        In [-1, 1]; 0 where all of one side are equal.

    >>> spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 4.0, 9.0]))
    1.0
    """
    one, other = (_ranks(np.asarray(values, np.float64)) for values in (first, second))
    one, other = one - one.mean(), other - other.mean()
    lengths = float(np.sqrt((one @ one) * (other @ other)))
    return float(one @ other) / lengths if lengths else 0.0


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[places]
