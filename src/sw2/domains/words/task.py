"""The task `word-vectors`: numbers for words, from a text, so that words that are used alike are near each other.

    king                       the nearest words, each with its cosine
    man : king :: woman        what is to woman as king is to man
    lunch, dinner, car         the same words, the odd one out first, each with its cosine to the mean of all
    the king of the north      the words nearest to the mean of these

With subwords a word that was never seen has a vector too.

Judged without a dictionary: of two words, which one stands near a third in lines that were held out (`corpus.Pairs`)?
Chance is a half, also for one-hot vectors, to which all words are equally far. Sets that people judged are named data
(`judges`).

What it does not do: several senses of one word, words in their sentence.

Shapes: V words, D dimensions, N inputs
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, final

import numpy as np
import torch
from numpy.typing import NDArray

from sw2.base.errors import ProgramError, UnknownName, UsageError
from sw2.base.names import nearest
from sw2.core.capabilities import Convert, Embed, Shrink, Words
from sw2.core.data import Data, Example, Split
from sw2.core.kinds import Kind
from sw2.core.model import Model
from sw2.core.program import Answer, Program, Runtime
from sw2.core.task import CheckReport, Context, Score, Task
from sw2.domains.words.corpus import Corpus, CorpusOptions, read_corpus
from sw2.domains.words.files import FASTTEXT, TABLES, convert
from sw2.domains.words.models import SubwordVectors, WordVectors
from sw2.domains.words.ppmi import ppmi_svd
from sw2.domains.words.space import WordSpace, odd_one_out, unit
from sw2.domains.words.vocabulary import PrepConfig, WordPrep, encoded, rows_of
from sw2.parts.formats.vectors import VectorTable
from sw2.parts.metrics.intervals import wilson

__all__ = ["WordFinder", "WordVectorsTask"]

_NEAREST: Final = 10
_ANALOGY: Final = re.compile(r"\s*([^:]+?)\s*:\s*([^:]+?)\s*::\s*([^:]+?)\s*")
_SMALLER: Final[Mapping[int, Mapping[str, str]]] = {
    8: {"scale": "a byte for each number, and a scale for each word"},
    4: {"product": "a byte for each two numbers, one of 256 pairs that are learned, and a length for each word"},
}
_BASELINE_TOKENS: Final = 1_000_000
_BASELINE_WORDS: Final = 20_000


@final
class WordFinder(Runtime, Words, Embed, Convert, Shrink):
    """Answers by the vectors of words."""

    name = "word-finder"
    Prep = WordPrep

    def __init__(self, nets: Mapping[str, Model], prep: WordPrep, uses: Mapping[str, Program]) -> None:
        del uses
        model = nets["vectors"]
        if not isinstance(model, WordVectors | SubwordVectors):
            raise ProgramError("These are no vectors of words.", wanted="a table of vectors", got=type(model).__name__)
        if model.config.words != len(prep.words):
            raise ProgramError(
                "The vectors are not those of the words.",
                wanted=f"{len(prep.words)} words",
                got=f"a table of {model.config.words} words",
            )
        self._bits = model.config.bits
        self._model, self._prep = model.thawed() if self._bits else model, prep
        self._matrix = self._made(prep.words, own=True)
        self._space: WordSpace | None = None

    def _made(self, words: Sequence[str], *, own: bool) -> NDArray[np.float32]:
        """The vectors [N, D] of words, which are those of the vocabulary if `own`, else strange to it."""
        if isinstance(self._model, WordVectors):
            table: NDArray[np.float32] = self._model.weight.detach().numpy()
            return table if own else np.zeros((len(words), table.shape[1]), np.float32)
        config = self._model.config
        borders, rows = rows_of(words, config.shortest, config.longest, config.buckets, config.words, own=own)
        batch = {"rows": torch.from_numpy(rows.astype(np.int64)), "begins": torch.from_numpy(borders[:-1])}
        made: NDArray[np.float32] = self._model(batch)["vectors"].detach().numpy()
        return made

    @property
    def space(self) -> WordSpace:
        """The vocabulary with its vectors of length 1."""
        if self._space is None:
            self._space = WordSpace(self._prep.words, self._matrix)
        return self._space

    def table(self) -> tuple[Sequence[str], np.ndarray, np.ndarray | None]:
        counts = self._prep.counts
        return self._prep.words, self._matrix, counts if counts.any() else None

    def conversions(self) -> Mapping[str, str]:
        return {**TABLES, **(FASTTEXT if isinstance(self._model, SubwordVectors) else {})}

    def convert(self, format_name: str, into: Path) -> tuple[int, float]:
        return convert(format_name, self._model, VectorTable(*self.table()), self.vectors, into)

    def ways_to_shrink(self, bits: int) -> Mapping[str, str]:
        if bits not in _SMALLER:
            raise UsageError("Vectors are not kept in so many bits.", wanted="8 or 4", got=bits)
        if self._bits and self._bits <= bits:
            raise ProgramError(
                "This program has as few bits already.", wanted=f"more than {bits}", got=f"{self._bits} bits a number"
            )
        return _SMALLER[bits]

    def shrink(self, bits: int, method: str, train: Split, seed: int) -> Mapping[str, Model]:
        del method, train  # one method for each, and the vectors tell all
        return {"vectors": self._model.in_bits(8 if bits == 8 else 4, seed)}

    def fold(self, word: str) -> str:
        return self._prep.fold(word)

    def vectors(self, words: Sequence[str]) -> np.ndarray:
        numbers = [self._prep.numbers.get(self.fold(word), -1) for word in words]
        found = self._matrix[numbers]
        if strange := [place for place, number in enumerate(numbers) if number < 0]:
            found[strange] = self._made([self.fold(words[place]) for place in strange], own=False)
        return found

    def embed(self, inputs: Sequence[object]) -> np.ndarray:
        """The mean of a text's words, each of length 1, brought to length 1; zeros where no word has a vector."""
        means = [unit(self.vectors(self._prep.split(str(text)) or [""])).mean(0) for text in inputs]
        return unit(np.stack(means)) if means else np.zeros((0, self._matrix.shape[1]), np.float32)

    def answer(self, inputs: Sequence[Any]) -> list[Answer]:
        return [{"words": {word: round(cosine, 4) for word, cosine in self._found(str(raw).strip())}} for raw in inputs]

    def _found(self, text: str) -> list[tuple[str, float]]:
        if ":" in text and (analogy := _ANALOGY.fullmatch(text)):
            asked = [self.fold(word) for word in analogy.groups()]
            a, b, c = unit(self._known(asked))
            return self.space.nearest(b - a + c, _NEAREST, without=asked)
        if len(listed := [self.fold(word.strip()) for word in text.split(",") if word.strip()]) > 2:
            cosines = odd_one_out(self._known(listed))
            return sorted(zip(listed, cosines, strict=True), key=lambda pair: pair[1])
        words = self._prep.split(text) if self.fold(text) not in self._prep.numbers else [self.fold(text)]
        if len(words) > 1:
            words = [word for word in words if self.vectors([word]).any()] or words
        if not words:
            raise UsageError(
                "There is no word to look for.",
                wanted="'king', 'man : king :: woman', 'lunch, dinner, car', or a text",
                got=repr(text),
            )
        return self.space.nearest(unit(self._known(words)).mean(0), _NEAREST, without=words)

    def _known(self, words: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of words, all of which have one."""
        found = self.vectors(words)
        for word, vector in zip(words, found, strict=True):
            if not vector.any():
                close = nearest(word, self._prep.words[:_BASELINE_WORDS])
                raise UnknownName(
                    f"The word '{word}' has no vector.",
                    wanted=f"one of the {len(self._prep.words)} words of the text that occurred often enough",
                    got=word,
                    do=f"Did you mean '{close}'?" if close else "Train with --model fasttext for words never seen.",
                )
        return found


@final
class WordVectorsTask(Task):
    """Which words are used alike?"""

    name = "word-vectors"
    inputs = {
        "words": Kind("text", about="A word, 'man : king :: woman', 'lunch, dinner, car' (the odd one out), or a text.")
    }
    outputs = {"words": Kind("record", about="Words with their cosines, the first one first.")}
    metric: ClassVar[str] = "neighbours told apart"
    runtime: ClassVar[str] = WordFinder.name
    Options = CorpusOptions

    def read(self, source: str, options: CorpusOptions, context: Context) -> Data:
        return read_corpus(source, options, context.seed)

    def question(self, example: Example) -> str:
        return str(example["word"] if "word" in example else example["text"])

    def check(self, data: Data) -> CheckReport:
        train = data.split("train")
        assert isinstance(train, Corpus)
        common = ", ".join(f"{word} {count}" for word, count in train.counts.most_common(5))
        notes = [f"skipped {row.where}: {row.why}" for row in data.rejected]
        if len(train) < 2 * len(train.files) and train.counts.total() > 10_000 * len(train):
            notes.append("the text has hardly any line ends; about a megabyte of it is taken as one line")
        if not data.facts["lines held out"]:
            notes.append("no line is held out, so nothing is judged; more lines, or a larger --set data.test_share")
        facts = {name: f"{count:,}" for name, count in data.facts.items()}
        return CheckReport(facts=facts | {"lines": f"{len(train):,}", "most common": common}, notes=notes)

    def prepare(self, train: Split, config: PrepConfig) -> WordPrep:
        assert isinstance(train, Corpus)
        return WordPrep.of(train, config)

    def baselines(self, data: Data, prep: WordPrep, context: Context) -> Sequence[Score]:  # type: ignore[override]
        test, train = data.split("test"), data.split("train")
        assert isinstance(train, Corpus)
        known = [row for row in _rows(test) if all(word in prep.numbers for word in row)]
        scores = [Score(name=self.metric, value=0.5, better="higher", examples=len(known), of="chance, one-hot")]
        tokens = encoded(train, prep, data.fingerprint).tokens[:_BASELINE_TOKENS]
        words = min(len(prep.words), _BASELINE_WORDS)
        dimensions = min(100, words - 1)
        context.say("the baseline PPMI-SVD")
        matrix = ppmi_svd(np.where(tokens < words, tokens, -2), words, dimensions=dimensions, seed=context.seed)
        whole = np.zeros((len(prep.words), dimensions), np.float32)
        whole[:words] = matrix
        return [*scores, _told_apart(known, WordSpace(prep.words, whole), self.metric, "PPMI-SVD of a million words")]

    def judge(self, program: Program, held_out: Split, context: Context) -> Sequence[Score]:
        del context
        if "word" not in held_out[0]:  # Pairs, or some of them
            raise UsageError(
                "Programs are judged on lines that were held out.", wanted="--split test", got="the corpus"
            )
        finder = program.capability(Words)  # type: ignore[type-abstract]
        words, matrix, _ = finder.table()
        space = WordSpace(words, matrix)
        rows = [tuple(finder.fold(word) for word in row) for row in _rows(held_out)]
        known = [row for row in rows if all(word in space.numbers for word in row)]
        coverage = len(known) / len(rows)
        return [
            _told_apart(known, space, self.metric, "program"),
            Score(name="coverage", value=coverage, better="higher", examples=len(rows)),
        ]


def _rows(split: Split) -> list[tuple[str, ...]]:
    return [tuple(example[name] for name in ("word", "neighbour", "other")) for example in split]


def _told_apart(rows: Sequence[tuple[str, ...]], space: WordSpace, metric: str, of: str) -> Score:
    """The share of rows whose neighbour is nearer than the other word; equally near counts half."""
    if not rows:
        return Score(name=metric, value=0.5, better="higher", examples=0, of=of)
    word, near, other = space.units[np.array([[space.numbers[word] for word in row] for row in rows])].swapaxes(0, 1)
    nearer = np.einsum("nd,nd->n", word, near) - np.einsum("nd,nd->n", word, other)
    cases = ((np.sign(nearer) + 1) / 2).tolist()
    details = {"cases": cases} if of == "program" else {}
    found = wilson(sum(cases), len(cases))
    return Score.estimated(metric, found, better="higher", examples=len(cases), of=of, details=details)
