r"""The task `learned-index`: where does this key stand in a sorted column, and which keys lie in this range?

    17              {"position": 3, "count": 2}      the first key that is not below 17; how many equal it
    10..20          {"position": 1, "count": 9}      the keys with 10 <= key < 20; an end may be left out
    usr/\..         {"position": 5, "count": 0}      where keys are text: "usr/..", two dots that part nothing

The program holds the model and not the keys: it binds their file by its hash, opens it with the first question, and
refuses one that has changed. Whatever the model predicts, an answer is proven on the keys (`kernels.cpp`), so answers
are not what is scored: time and bytes are.

What it does not do: inserts (`session` does, beside it, but not of texts); a file that is cut short while it is
searched ends the process, as every mapped file does.
"""

from __future__ import annotations

import dataclasses
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, final

import numpy as np
from numpy.typing import NDArray

from sw2.base.errors import ProgramError, UsageError
from sw2.core.capabilities import Amend, Locate
from sw2.core.data import Data, Example, Split
from sw2.core.kinds import Kind
from sw2.core.model import Model
from sw2.core.program import Answer, Program, Runtime
from sw2.core.task import CheckReport, Context, Score, Task
from sw2.domains.indexes import native
from sw2.domains.indexes.columns import Column, Place, open_column
from sw2.domains.indexes.data import NAMED, Keys, Questions, path_of
from sw2.domains.indexes.key_model import KeyModel
from sw2.domains.indexes.keys import TEXT, Asked, asked
from sw2.domains.indexes.models import MODELS
from sw2.domains.indexes.prep import ColumnPrep, ends_of
from sw2.domains.indexes.session import KeySession
from sw2.domains.indexes.tables import Rows
from sw2.domains.indexes.texts import Texts, asked_texts, ends_of_texts, packed

__all__ = ["KeyLocator", "LearnedIndex", "PrepConfig", "lower_bounds", "nanoseconds"]


_FEW: Final = 10_000  # questions to Python's own bisect
_BATCH: Final = 100_000  # questions of a batch that is measured, at least


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Where the keys are.

    Args:
        key: the column; may be left out where there is one only.
        table: of a database; may be left out where there is one only.
        order: what to do with keys that are not in order: "refuse" them, or "sort" them in memory whenever the file is
            opened; places are then those among the sorted keys.
        type: "found" takes keys as what they are; "text" takes the cells of a CSV file as text, whatever they look
            like.
    """

    key: str = ""
    table: str = ""
    order: Literal["refuse", "sort"] = "refuse"
    type: Literal["found", "text"] = "found"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrepConfig:
    """There is nothing to set."""


@final
class KeyLocator(Runtime, Locate, Amend):
    """Answers by a model and the column that it was fitted to."""

    name = "key-locator"
    Prep = ColumnPrep

    def __init__(self, nets: Mapping[str, Model], prep: ColumnPrep, uses: Mapping[str, Program]) -> None:
        del uses
        model = nets["index"]
        if not isinstance(model, KeyModel):
            raise ProgramError("This is no model of keys.", wanted=" or ".join(MODELS), got=type(model).__name__)
        self._model, self._prep = model, prep
        self._opened: tuple[Column, Rows] | None = None

    def position(self, keys: Any) -> np.ndarray:
        column = self._prep.column()
        if column.texts is not None:
            texts, shape = asked_texts(keys)
            return lower_bounds(self._model, column, texts).reshape(shape)
        shape = np.shape(keys)
        question = asked(keys, self._prep.kind)
        return self._places(column, question).reshape(shape)

    def range(self, low: Any, high: Any) -> tuple[int, int]:
        start = 0 if low is None else int(self.position(low))
        stop = self._prep.facts["keys"] if high is None else int(self.position(high))
        return start, max(start, stop)

    def rows(self, start: int, stop: int) -> np.ndarray:
        numbers = _numbers(self._prep.column(), start, stop)
        return np.arange(start, stop) if isinstance(numbers, range) else numbers

    def table(self, start: int, stop: int) -> Any:
        column = self._prep.column()
        numbers = _numbers(column, start, stop)
        if self._opened is None or self._opened[0] is not column:
            self._opened = column, Rows(Path(column.place.path))
        return self._opened[1].table(numbers)

    def amended(self, path: str | Path, *, sync: Literal["each", "never"] = "each") -> KeySession:
        if self._prep.kind == TEXT:
            raise UsageError(
                "Keys that are text do not come and go beside an index.",
                where=path,
                wanted="an index of numbers or times",
                got=f"keys that are {TEXT}",
                do="Write the new texts and the old ones to another file, sorted, and train an index of it.",
            )
        return KeySession(self._model, self._prep, path, sync=sync)

    def _places(self, column: Column, question: Asked) -> np.ndarray:
        """Lower bounds; NaN behind all numbers, and what is beyond the type behind all keys."""
        places = self._model.locate(column.searched, question.keys)
        places[question.beyond] = len(column.keys)
        return places

    def answer(self, inputs: Sequence[Any]) -> list[Answer]:
        column = self._prep.column()
        if column.texts is not None:
            return [self._answer_text(each) for each in inputs]
        ends = [ends_of(each) for each in inputs]
        kind, n = self._prep.kind, len(column.keys)
        answers: list[Answer] = []
        for low, high, ranged in ends:
            if ranged:
                start, stop = self.range(low, high)
            else:
                question = asked(low, kind)
                start, stop = int(self._places(column, question)[0]), 0
                if question.exact[0] and not question.beyond[0]:
                    stop = self._behind(column, question.keys[0], n)
            answers.append({"position": start, "count": max(stop - start, 0)})
        return answers

    def _answer_text(self, asked_for: Any) -> Answer:
        low, high, ranged = ends_of_texts(asked_for)
        if ranged:
            start, stop = self.range(low, high)
        else:
            ((text,), _) = asked_texts(low)
            start, stop = self.position([text, text + b"\0"]).tolist()  # nothing lies between a text and that one
        return {"position": start, "count": stop - start}

    def _behind(self, column: Column, key: Any, n: int) -> int:
        """The place behind the last key that equals `key`: where the next number of the type would be."""
        if key != key:
            return n
        if column.keys.dtype == np.float64:
            after = np.nextafter(key, np.inf) if key < np.inf else np.float64(np.nan)
        elif key == np.iinfo(column.keys.dtype).max:
            return n
        else:
            after = key + column.keys.dtype.type(1)
        return int(self._model.locate(column.searched, np.array([after], column.keys.dtype))[0])


def _numbers(column: Column, start: int, stop: int) -> range | NDArray[np.int64]:
    """The file's rows with the keys at these places."""
    if not 0 <= start <= stop <= len(column.keys):
        raise UsageError(
            "There are no such places.",
            wanted=f"0 <= start <= stop <= {len(column.keys)}",
            got=f"start {start}, stop {stop}",
        )
    return range(start, stop) if column.order is None else column.order[start:stop]


def lower_bounds(model: KeyModel, column: Column, questions: np.ndarray | Texts) -> NDArray[np.int64]:
    """The place of the first key that is not below each question, [M].

    Args:
        model: fitted to `column.searched`.
        column: the keys.
        questions: [M], numbers of the keys' type, or texts where keys are texts.
    """
    if isinstance(questions, Texts):
        assert column.texts is not None
        return column.texts.places(model.locate, questions)
    return model.locate(column.searched, questions)


def nanoseconds(locate: Any, questions: Sized, rounds: int = 3) -> float:
    """Nanoseconds a question of `locate(questions)`, the best of a few rounds after one to warm up.

    They are those of this thread on a processor: on a busy machine the clock on the wall measures the neighbours.

    What is told of an index is measured in one way, the trial's candidates, the program and what it is judged beside:
    one large batch of questions in the keys' own form, to `lower_bounds`. What is left out is what a call costs by
    itself, some ten microseconds, and making that form of a user's questions, which takes its time where they are text.
    """
    locate(questions)
    times = []
    for _ in range(rounds):
        began = time.thread_time_ns()
        locate(questions)
        times.append(time.thread_time_ns() - began)
    return min(times) / len(questions)


@final
class LearnedIndex(Task):
    """Where does this key stand in a sorted column?"""

    name = "learned-index"
    inputs = {
        "key": Kind("text", about="A key, such as 17 or 2024-05-01, or a range such as 10..20 (without its end).")
    }
    outputs = {
        "position": Kind("number", about="The place of the first key that is not below, from 0."),
        "count": Kind("number", about="How many keys are equal, or lie in the range."),
    }
    metric: ClassVar[str] = "nanoseconds a key"
    runtime: ClassVar[str] = "key-locator"
    Options = ReadOptions

    def read(self, source: str, options: ReadOptions, context: Context) -> Data:
        column = open_column(
            Place(
                path=str(path_of(source)), key=options.key, table=options.table, order=options.order, type=options.type
            )
        )
        named = source == NAMED and not Path(source).exists()
        return Data(
            name=source if named else Path(source).name,
            splits={"train": Keys(column), "test": Questions(column, context.seed)},
            fingerprint=column.sha256,
            licence="Apache-2.0" if named else "unknown",
            source=source if named else column.place.path,
            facts={"column": column.place.key or "the only one", "type of the keys": str(column.kind)},
        )

    def check(self, data: Data) -> CheckReport:
        column = _column(data.split("train"))
        keys = column.searched
        facts = {
            "keys": len(column.keys),
            "type": str(column.kind),
            "first": column.spoken(0),
            "last": column.spoken(len(keys) - 1),
        }
        if column.texts is not None:
            facts |= {
                "all begin with": f'"{column.texts.prefix.decode(errors="replace")}"',
                "most texts with the same 8 bytes behind that": column.texts.longest_run(),
            }
        notes = []
        if nan := len(column.keys) - column.numbers:
            notes.append(f"{nan} keys are NaN; they stand behind all numbers")
        if column.order is not None:
            notes.append(
                "the keys were sorted in memory; places are those among the sorted keys, `rows` names the file's"
            )
        return CheckReport(facts=facts, notes=notes)

    def prepare(self, train: Split, config: PrepConfig) -> ColumnPrep:
        del config
        column = _column(train)
        named = column.place.path == str(path_of(NAMED)) if Path(column.place.path).stem == NAMED else False
        return ColumnPrep.of(column, NAMED if named else column.place.path)

    def question(self, example: Example) -> Any:
        return example["key"]

    def baselines(self, data: Data, prep: ColumnPrep, context: Context) -> Sequence[Score]:  # type: ignore[override]
        del context
        questions = data.split("test")
        assert isinstance(questions, Questions)
        column = prep.column()
        keys = column.searched
        asked_for = _batch(column, questions.keys)
        if column.texts is None:
            measured = nanoseconds(lambda some: np.searchsorted(keys, some), asked_for)
            scores = [self._score(measured, "numpy.searchsorted", questions)]
        else:
            assert isinstance(asked_for, Texts)
            few = asked_for.take(range(min(len(asked_for), _FEW)))
            measured = nanoseconds(lambda some: _bisected(column, some), few)
            scores = [
                self._score(measured, "bisect of Python", questions),
                self._score(nanoseconds(column.texts.halved, asked_for), "halving all texts", questions),
            ]
        for name in ("binary-search", "b-plus-tree"):
            model = MODELS[name].fit(keys, MODELS[name].Config())
            measured = nanoseconds(lambda some, model=model: lower_bounds(model, column, some), asked_for)
            scores += [self._score(measured, name, questions), _bytes(model, column, name, questions)]
        return scores

    def judge(self, program: Program, held_out: Split, context: Context) -> Sequence[Score]:
        del context
        assert isinstance(held_out, (Questions, Keys))
        locate = program.capability(Locate)  # type: ignore[type-abstract]
        prep = program.prep
        assert isinstance(prep, ColumnPrep)
        column = prep.column()
        if column.texts is None:
            questions = held_out.keys if isinstance(held_out, Questions) else held_out.column.searched
            right = np.searchsorted(column.searched, asked(questions, prep.kind).keys)
        else:
            questions = np.array([each["key"] for each in held_out], dtype=object)
            right = _bisected(column, asked_texts(questions)[0])
        wrong = int((locate.position(questions) != right).sum())
        model = program.nets["index"].module
        assert isinstance(model, KeyModel)
        measured = nanoseconds(lambda some: lower_bounds(model, column, some), _batch(column, questions))
        return [
            self._score(measured, "program", held_out),
            Score(name="wrong answers", value=float(wrong), better="lower", examples=len(questions)),
            _bytes(model, column, "program", held_out),
        ]

    def _score(self, measured: float, of: str, questions: Split) -> Score:
        return Score(name=self.metric, value=measured, better="lower", examples=len(questions), of=of)


def _bytes(model: KeyModel, column: Column, of: str, questions: Split) -> Score:
    taken = float(model.beyond() + column.beside)
    return Score(name="bytes beyond the keys", value=taken, better="lower", examples=len(questions), of=of)


def _batch(column: Column, questions: np.ndarray) -> np.ndarray | Texts:
    """Questions in the keys' own form; of few ones many are drawn, so that what a call costs by itself is not seen.

    They are drawn, since a processor learns what comes over and over in one order. Without kernels a call's cost is not
    seen anyway, and so many look-ups would be waited for.
    """
    if len(questions) < _BATCH and native.why_not() is None:
        questions = questions[np.random.Generator(np.random.PCG64(0)).integers(0, len(questions), _BATCH)]
    return questions if column.texts is None else packed(questions)


def _bisected(column: Column, questions: Texts) -> NDArray[np.int64]:
    assert column.texts is not None
    return np.array([bisect_left(column.texts.texts, question) for question in questions], np.int64)


def _column(split: Split) -> Column:
    assert isinstance(split, Keys)
    return split.column
