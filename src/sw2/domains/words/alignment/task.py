"""The task `word-alignment`: what is this word called in another language?

    dog             {"translations": {"cane": 0.31, "gatto": 0.12, …}}      five words with their CSLS, the first first

It reads two files of vectors, which may come from two piles of text that have nothing to do with each other. A
dictionary is needed for judging only; `sw2 eval PROGRAM DICTIONARY` reads one.

Judging asks each word of the dictionary that both vocabularies know, in its share for judging, and whether one of its
translations is the first answer (P@1) or among five (P@5), by CSLS and by cosines alone. A word that may be translated
by itself is left out: spelling would answer it.

What it does not do: words that are not in the tables; several words at once; from the target back to the source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, final

import numpy as np
import torch
from torch import Tensor

from sw2.base.config import check_ranges, check_shares
from sw2.base.errors import DataError, ProgramError, UsageError
from sw2.base.names import unknown
from sw2.base.store import canonical_json, parse_json, sha256_of_bytes, sha256_of_file
from sw2.core.data import Data, Example, Split
from sw2.core.kinds import Kind
from sw2.core.model import Model
from sw2.core.program import Answer, Program, Runtime
from sw2.core.task import CheckReport, Context, Prep, PrepState, Score, Task
from sw2.domains.words.alignment.data import NAMED, Languages, Lookup, first_words, turned_words
from sw2.domains.words.alignment.dictionaries import FREEDICT, Dictionary, freedict, is_for_judging, read_dictionary
from sw2.domains.words.alignment.geometry import densities, nearest, normalised, procrustes
from sw2.domains.words.alignment.model import BilingualMap
from sw2.parts.formats.vectors import VectorTable, read
from sw2.parts.metrics.intervals import wilson

__all__ = ["AlignmentPrep", "Known", "PrepConfig", "WordAlignment", "WordTranslator", "known"]

_ANSWERS: Final = 5
_NEIGHBOURS: Final = 10
_LEAST_WORDS: Final = 100


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What is read beside the source language's vectors.

    Args:
        target: the file with the other language's vectors.
        dictionary: a file to learn from (`dictionaries`) or the name of a dictionary; "" learns without one.
        words: how many words of each language are known, the first of each file.
        judged: the share of a dictionary's words that is for judging; the rest is for learning.
    """

    target: str = ""
    dictionary: str = ""
    words: int = 50_000
    judged: float = 0.5

    def __post_init__(self) -> None:
        check_ranges(
            "data", self, {"words": (self.words >= _LEAST_WORDS, f"a whole number of at least {_LEAST_WORDS}")}
        )
        check_shares("data", self, "judged")
        for name in ("target", "dictionary"):  # a run resumes from any folder
            if (path := Path(getattr(self, name))) != Path() and path.exists():
                object.__setattr__(self, name, str(path.absolute()))


@dataclass(frozen=True, kw_only=True)
class PrepConfig:
    """There is nothing to set."""


@final
class AlignmentPrep(Prep):
    """The words of both languages, and their normalised vectors.

    Args:
        source_words, target_words: N and M of them.
        source_ND, target_MD: `geometry.normalised`, float32.
    """

    def __init__(
        self, source_words: Sequence[str], target_words: Sequence[str], source_ND: Tensor, target_MD: Tensor
    ) -> None:
        self.source_words, self.target_words = source_words, target_words
        self.source_ND, self.target_MD = source_ND, target_MD

    def state(self) -> PrepState:
        words = {"source.json": self.source_words, "target.json": self.target_words}
        return PrepState(
            arrays={"source": self.source_ND.numpy(), "target": self.target_MD.numpy()},
            assets={name: canonical_json(list(each)).encode() for name, each in words.items()},
        )

    @classmethod
    def restore(cls, state: PrepState) -> AlignmentPrep:
        sides = []
        for side in ("source", "target"):
            words, vectors = parse_json(state.assets[f"{side}.json"]), state.arrays[side]
            if not isinstance(words, list) or len(words) != len(vectors):
                raise ProgramError(
                    "Words and vectors do not fit.", where=f"{side}.json", wanted=f"{len(vectors)} words"
                )
            sides.append((words, torch.from_numpy(np.array(vectors))))
        (source_words, source_ND), (target_words, target_MD) = sides
        return cls(source_words, target_words, source_ND, target_MD)


@final
class WordTranslator(Runtime):
    """Answers with the nearest words of the other language."""

    name = "word-translator"
    Prep = AlignmentPrep

    def __init__(self, nets: Mapping[str, Model], prep: AlignmentPrep, uses: Mapping[str, Program]) -> None:
        del uses
        model = nets["map"]
        if not isinstance(model, BilingualMap):
            raise ProgramError("This is no map of words.", wanted=BilingualMap.__name__, got=type(model).__name__)
        sizes = (len(prep.source_words), len(prep.target_words))
        if sizes != (model.config.source_words, model.config.target_words):
            raise ProgramError("Words and map do not fit.", wanted=f"{sizes} words", got=str(model.config))
        self._model, self._prep = model, prep
        self._row = Lookup(prep.source_words)
        self._target_MD: Tensor | None = None

    def translate(self, words: Sequence[str], count: int = _ANSWERS, *, csls: bool = True) -> list[dict[str, float]]:
        """The `count` nearest words of the other language with their scores, for each word, the nearest first.

        Args:
            words: of the source language.
            count: at least 1.
            csls: whether the score is CSLS or the cosine alone.

        Raises:
            UnknownName: a word has no vector.
        """
        rows = []
        for word in words:
            if (row := self._row(word)) is None:
                raise unknown("word with a vector", word, _like(word, self._prep.source_words))
            rows.append(row)
        scores, found = self.rank(torch.tensor(rows, dtype=torch.long), count, csls=csls)
        names = self._prep.target_words
        return [
            {names[place]: score for place, score in zip(places, each, strict=True)}
            for places, each in zip(found.tolist(), scores.tolist(), strict=True)
        ]

    def rank(self, rows_B: Tensor, count: int, *, csls: bool) -> tuple[Tensor, Tensor]:
        """Scores and rows of the target [B, count] that are nearest to these rows of the source."""
        with torch.no_grad():
            if self._target_MD is None:
                self._target_MD = self._model({"target": self._prep.target_MD})["target"]
            asked = self._model({"source": self._prep.source_ND[rows_B]})["source"]
            crowded = (self._model.source_density[rows_B], self._model.target_density) if csls else (None, None)
            return nearest(asked, self._target_MD, count, *crowded)

    def answer(self, inputs: Sequence[Any]) -> list[Answer]:
        return [
            {"translations": {word: round(score, 4) for word, score in each.items()}}
            for each in self.translate([str(raw).strip() for raw in inputs])
        ]


def _like(word: str, words: Sequence[str]) -> list[str]:
    """The words that begin alike, for a message: a vocabulary is too long to be compared as a whole."""
    begin = word.lower()[:2]
    return [each for each in words if each.lower().startswith(begin)][:2000] or list(words[:10])


@dataclass(frozen=True)
class Known:
    """Words of a dictionary that both vocabularies know.

    Args:
        words: of the source, P of them.
        rows: theirs, int64 [P].
        right: for each, the rows of its translations.
    """

    words: Sequence[str]
    rows: Tensor
    right: Sequence[frozenset[int]]

    def pairs(self) -> tuple[Tensor, Tensor]:
        """Rows of the source beside rows of the target, one for each translation."""
        found = [(int(row), place) for row, right in zip(self.rows, self.right, strict=True) for place in sorted(right)]
        return torch.tensor([row for row, _ in found]).long(), torch.tensor([place for _, place in found]).long()


def known(prep: AlignmentPrep, entries: Mapping[str, Sequence[str]]) -> Known:
    """What both vocabularies know of a dictionary."""
    source, target = Lookup(prep.source_words), Lookup(prep.target_words)
    found: dict[int, tuple[str, set[int]]] = {}
    for word, translations in entries.items():
        right = {place for each in translations if (place := target(each)) is not None}
        if (row := source(word)) is not None and right:
            found.setdefault(row, (word, set()))[1].update(right)
    return Known(
        [word for word, _ in found.values()],
        torch.tensor(list(found)).long(),
        [frozenset(right) for _, right in found.values()],
    )


@final
class WordAlignment(Task):
    """What is this word called in another language?"""

    name = "word-alignment"
    inputs = {"word": Kind("text", about="A word of the first language.")}
    outputs = {
        "translations": Kind("record", about="Words of the other language with their CSLS, the first one first.")
    }
    metric: ClassVar[str] = "P@1"
    runtime: ClassVar[str] = "word-translator"
    Options = ReadOptions

    def read(self, source: str, options: ReadOptions, context: Context) -> Data:
        if not Path(source).exists() and source in (NAMED, *FREEDICT):
            return _made(options) if source == NAMED else _entries(source, freedict(source, context.confirm), options)
        if not options.target:
            return _only_dictionary(Path(source), options)
        paths = (Path(source), Path(options.target))
        tables = [first_words(read(path), options.words) for path in paths]
        _refuse_unlike(paths, tables)
        found = _dictionary(options.dictionary, context) if options.dictionary else None
        hashes = [sha256_of_file(path) for path in paths] + ([found.sha256] if found else [])
        name = f"{paths[0].name} and {paths[1].name}"
        entries = {} if found is None else found.entries
        return _data(
            name, (tables[0], tables[1]), entries, hashes, options, "; ".join(str(path.absolute()) for path in paths)
        )

    def check(self, data: Data) -> CheckReport:
        languages = data.split("train")
        if not isinstance(languages, Languages):
            raise DataError(
                "Nothing can be learned from a dictionary alone.",
                where=data.name,
                wanted="two files of vectors",
                got="a dictionary",
                do="sw2 train word-alignment SOURCE.vec --set data.target=TARGET.vec",
            )
        source, target = languages.source, languages.target
        alike = len(set(source.words) & set(target.words))
        facts = {
            "words": f"{len(source.words):,} and {len(target.words):,}",
            "dimensions": source.matrix.shape[1],
            "written alike": f"{alike:,}",
            "words of the dictionary to learn from": f"{len(languages.dictionary):,}",
        }
        return CheckReport(facts=facts)

    def prepare(self, train: Split, config: PrepConfig) -> AlignmentPrep:
        del config
        assert isinstance(train, Languages)
        vectors = [normalised(torch.from_numpy(np.array(each.matrix))) for each in (train.source, train.target)]
        return AlignmentPrep(list(train.source.words), list(train.target.words), *vectors)

    def judge(self, program: Program, held_out: Split, context: Context) -> Sequence[Score]:
        del context
        runtime, prep = program.runtime, program.prep
        if not isinstance(runtime, WordTranslator) or not isinstance(prep, AlignmentPrep):
            raise ProgramError("This program translates no words.", wanted=self.name, got=program.task.name)
        asked = _asked(prep, held_out)
        share = Score(
            name="share of the words that both know", value=len(asked.words) / len(held_out), better="higher",
            examples=len(held_out),
        )  # fmt: skip
        by_csls = runtime.rank(asked.rows, _ANSWERS, csls=True)[1]
        by_cosine = runtime.rank(asked.rows, _ANSWERS, csls=False)[1]
        return [
            *_scores(prep, asked, by_csls, "program"),
            *_scores(prep, asked, by_cosine, "program, by cosine"),
            share,
        ]

    def baselines(self, data: Data, prep: Prep, context: Context) -> Sequence[Score]:
        """Chance; and Procrustes fitted to the dictionary's share for learning, on the same vectors."""
        del context
        assert isinstance(prep, AlignmentPrep)
        asked = _asked(prep, data.split("test"))
        scores = []
        for count in (1, _ANSWERS):
            value = float(np.mean([1 - _misses(len(right), len(prep.target_words), count) for right in asked.right]))
            scores.append(
                Score(name=f"P@{count}", value=value, better="higher", examples=len(asked.words), of="chance")
            )
        train = data.split("train")
        taught = known(prep, train.dictionary if isinstance(train, Languages) else _as_entries(train))
        if not len(taught.words):
            return scores
        source, target = taught.pairs()
        mapped_ND = prep.source_ND @ procrustes(prep.source_ND[source], prep.target_MD[target])
        crowded = densities(mapped_ND[asked.rows], prep.target_MD, _NEIGHBOURS)
        crowded_target = densities(prep.target_MD, mapped_ND, _NEIGHBOURS)
        found = nearest(mapped_ND[asked.rows], prep.target_MD, _ANSWERS, crowded, crowded_target)[1]
        return [*scores, *_scores(prep, asked, found, f"Procrustes taught {len(taught.words):,} words")]


def _asked(prep: AlignmentPrep, entries: Split) -> Known:
    """What a judge asks: known words none of whose translations is written alike."""
    fair = {
        word: translations
        for word, translations in _as_entries(entries).items()
        if word.lower() not in {each.lower() for each in translations}
    }
    asked = known(prep, fair)
    if not asked.words:
        raise DataError(
            "No word of this dictionary is known in both languages.",
            wanted="a dictionary from the program's first language to its second",
            got=f"words such as {', '.join(list(fair)[:5]) or 'those written alike only'}",
        )
    return asked


def _misses(right: int, words: int, draws: int) -> float:
    """The probability that different words, drawn at random, are all wrong."""
    return float(np.prod([max(0, words - right - place) / max(1, words - place) for place in range(draws)]))


def _scores(prep: AlignmentPrep, asked: Known, found_PK: Tensor, of: str) -> list[Score]:
    """P@1 and P@5 of ranked rows."""
    ranked = list(zip(found_PK.tolist(), asked.right, strict=True))
    answers = [(word, prep.target_words[places[0]]) for word, (places, _) in zip(asked.words, ranked, strict=True)]
    scores = []
    for count in (1, _ANSWERS):
        cases = [float(not right.isdisjoint(places[:count])) for places, right in ranked]
        scores.append(
            Score.estimated(
                f"P@{count}",
                wilson(sum(cases), len(cases)),
                better="higher",
                examples=len(cases),
                of=of,
                details={"cases": cases},
                answers=answers,
            )
        )
    return scores


# ------------------------------------------------------------------------------------------------------------- reading


def _as_entries(examples: Split) -> dict[str, Sequence[str]]:
    return {example["word"]: example["translations"] for example in examples}


def _examples(entries: Mapping[str, Sequence[str]], judged: float) -> tuple[list[Example], list[Example]]:
    """The dictionary's words for learning, and those for judging."""
    shares: tuple[list[Example], list[Example]] = ([], [])
    for word, translations in entries.items():
        shares[is_for_judging(word, judged)].append({"word": word, "translations": list(translations)})
    return shares


def _dictionary(name: str, context: Context) -> Dictionary:
    if name in FREEDICT and not Path(name).exists():
        return freedict(name, context.confirm)
    return read_dictionary(Path(name))


def _entries(name: str, found: Dictionary, options: ReadOptions) -> Data:
    """A dictionary alone, for judging."""
    if options.target or options.dictionary:
        raise UsageError(
            "A dictionary is judged on; these settings have no effect.",
            wanted="no data.target and no data.dictionary",
            got=options.target or options.dictionary,
        )
    train, test = _examples(found.entries, options.judged)
    splits = {"train": train, "test": test}
    return Data(
        name=name,
        splits={split: examples for split, examples in splits.items() if examples},
        fingerprint=sha256_of_bytes(canonical_json([found.sha256, options.judged]).encode()),
        licence=FREEDICT[name].licence if name in FREEDICT else "unknown",
        source=name,
        rejected=found.rejected,
    )


def _only_dictionary(path: Path, options: ReadOptions) -> Data:
    """A user's dictionary, for judging; who wants to train learns what is missing."""
    try:
        return _entries(str(path), read_dictionary(path), options)
    except DataError as error:
        hint = "To learn from vectors, name the other language's too: --set data.target=FILE"
        error.do = f"{error.do} {hint}" if error.do else hint
        raise


def _refuse_unlike(paths: Sequence[Path], tables: Sequence[VectorTable]) -> None:
    sizes = [each.matrix.shape[1] for each in tables]
    if sizes[0] != sizes[1]:
        raise DataError(
            "The two languages' vectors have different lengths.",
            where=paths[1],
            wanted=f"{sizes[0]} numbers for each word, as in {paths[0]}",
            got=f"{sizes[1]} numbers",
            do="Train both with the same dimensions.",
        )
    for path, table in zip(paths, tables, strict=True):
        least = max(_LEAST_WORDS, 2 * sizes[0])
        if len(table.words) < least:
            raise DataError(
                "There are too few words for a map.",
                where=path,
                wanted=f"at least {least} words for {sizes[0]} dimensions",
                got=f"{len(table.words)} words",
                do="Train the vectors on more text, or with fewer dimensions.",
            )


def _data(
    name: str,
    tables: tuple[VectorTable, VectorTable],
    entries: Mapping[str, Sequence[str]],
    hashes: Sequence[str],
    options: ReadOptions,
    source: str,
) -> Data:
    """Two languages; of a dictionary the share for judging is kept apart, as far as both know its words."""
    taught, test = _examples(entries, options.judged)
    source_row, target_row = Lookup(tables[0].words), Lookup(tables[1].words)
    test = [
        example
        for example in test
        if source_row(example["word"]) is not None
        and any(target_row(each) is not None for each in example["translations"])
        and example["word"].lower() not in {each.lower() for each in example["translations"]}
    ]
    splits: dict[str, Split] = {"train": Languages(*tables, _as_entries(taught))}
    told = [*hashes, options.words, options.judged]
    return Data(
        name=name,
        splits=splits | ({"test": test} if test else {}),
        fingerprint=sha256_of_bytes(canonical_json(told).encode()),
        source=source,
    )


def _made(options: ReadOptions) -> Data:
    """The named pair; its dictionary is for judging alone."""
    if options.target or options.dictionary:
        raise UsageError(
            f"'{NAMED}' has both languages and no dictionary to learn from.",
            wanted="no data.target and no data.dictionary",
            got=options.target or options.dictionary,
        )
    languages, dictionary = turned_words()
    tables = (first_words(languages.source, options.words), first_words(languages.target, options.words))
    content = [sha256_of_bytes(each.matrix.tobytes()) for each in tables]
    data = _data(NAMED, tables, dictionary, content, options, NAMED)
    splits = {"train": Languages(*tables, {}), **{name: each for name, each in data.splits.items() if name == "test"}}
    return Data(
        name=NAMED, splits=splits, fingerprint=data.fingerprint, licence="Apache-2.0", source=NAMED
    )  # fmt: skip
