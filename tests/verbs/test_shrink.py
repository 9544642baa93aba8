"""`shrink` with a program whose loss is known beforehand: the table, the refusal, the card, and which data count."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sw2.base.errors import DataError, ProgramError, UsageError
from sw2.core.capabilities import Shrink
from sw2.core.card import Card
from sw2.core.data import Data, Split
from sw2.core.model import Batch, Model, Outputs
from sw2.core.program import Answer, Net, Program, Runtime
from sw2.core.task import CheckReport, Context, Prep, Score, Task
from sw2.faces.cli import shrink_command
from sw2.testing.toys import NoPrep
from sw2.verbs.shrink import MOST_LOSS, shrink

LOSSES = {"good": 0.01, "bad": 0.2}


class Number(Model):
    """One number, which is what the task scores."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Nothing to set."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.number = torch.nn.Parameter(torch.ones(8))

    def forward(self, batch: Batch) -> Outputs:
        return {"number": batch["x"] * self.number}


class Counter(Runtime, Shrink):
    name = "counter"
    Prep = NoPrep

    def __init__(self, nets: Mapping[str, Model], prep: Any, uses: Mapping[str, Program]) -> None:
        del prep, uses
        self.net = nets["main"]

    def answer(self, inputs: Sequence[Any]) -> list[Answer]:
        return [{"number": float(self.net.number[0])} for _ in inputs]

    def ways_to_shrink(self, bits: int) -> Mapping[str, str]:
        del bits
        return dict.fromkeys(LOSSES, "a way")

    def shrink(self, bits: int, method: str, train: Split, seed: int) -> Mapping[str, Model]:
        del bits, seed
        assert train == TRAIN
        small = Number(Number.Config())
        small.number = torch.nn.Parameter(torch.full((2,), 1.0 + LOSSES[method]))
        return {"main": small}


@dataclass(frozen=True, kw_only=True)
class Options:
    """How examples are read."""

    start: int = 0


TRAIN, TEST = [{"x": 1.0}, {"x": 2.0}], [{"x": 3.0}, {"x": 4.0}, {"x": 5.0}]


class Counting(Task):
    name = "counting"
    inputs: Mapping[str, Any] = {"x": None}
    outputs: Mapping[str, Any] = {}
    metric = "error"
    runtime = "counter"
    better = "lower"
    Options = Options

    def read(self, source: str, options: Options, context: Context) -> Data:
        if source == "gone":
            raise DataError("There is nothing.", where=source)
        splits = {"train": TRAIN} if source == "untested" else {"train": TRAIN, "test": TEST}
        return Data(name=source, splits=splits, fingerprint=f"{source} from {options.start}")

    def check(self, data: Data) -> CheckReport:
        raise NotImplementedError

    def prepare(self, train: Split, config: Any) -> Prep:
        raise NotImplementedError

    def baselines(self, data: Data, prep: Prep, context: Context) -> Sequence[Score]:
        raise NotImplementedError

    def judge(self, program: Program, held_out: Split, context: Context) -> Sequence[Score]:
        value = program(None)["number"]
        value = value if self.better == "lower" else 1 / value
        return [Score(name=self.metric, value=value, better=self.better, examples=len(held_out))]


class Rating(Counting):
    metric = "rating"
    better = "higher"


def card(source: str = "numbers", fingerprint: str = "numbers from 3") -> Card:
    baseline = Score(name="error", value=9.0, better="lower", examples=3, of="chance").to_json()
    return Card(
        made={"seed": 7},
        data={"name": "numbers", "source": source, "fingerprint": fingerprint},
        facts={"latency of one answer in ms": 3.0, "steps": 5},
        scores=[{**baseline, "of": "program"}, baseline],
        settings={"run": {"data": source}, "data": {"start": 3}},
    )


@pytest.fixture
def make() -> Callable[..., Program]:
    def made(card: Card, task: Task | None = None) -> Program:
        return Program.assemble(
            task=task or Counting(),
            runtime=Counter,
            nets={"main": Net("number", Number(Number.Config()))},
            prep=NoPrep(),
            provider={"name": "numbers", "distribution": "sw2", "version": "0.1.0"},
            card=card,
        )

    return made


def test_what_came_of_it(make: Callable[..., Program], tmp_path: Path) -> None:
    program = make(card())
    shrunk = shrink(program, 4, Context())
    assert [(row.name, row.bytes) for row in shrunk.rows] == [("before", 32), ("4 bits, good", 8)]
    assert shrunk.loss == pytest.approx(0.01, rel=1e-3)
    assert (shrunk.metric, shrunk.unit, shrunk.examples) == ("error", "answers/s", 3)
    assert all(row.per_second > 0 for row in shrunk.rows)
    assert shrunk.program(None)["number"] == pytest.approx(1.01)
    assert program(None)["number"] == 1.0
    made = shrunk.program.card
    assert made.made["seed"] == 7
    assert made.made["shrunk from"] == program.id
    assert made.made["shrunk to"] == "4 bits, good"
    assert made.made["calibrated and judged on"] == "numbers, numbers from 3"
    assert made.facts["bytes of weights before shrinking"] == 32
    assert made.facts["loss in error"] == shrunk.loss
    assert made.facts["steps"] == 5
    assert "latency of one answer in ms" not in made.facts
    assert [score["of"] for score in made.scores] == ["program", "before", "chance"]
    assert shrunk.save(tmp_path / "small") == tmp_path / "small"
    with pytest.raises(UsageError, match="something else at this path"):
        shrunk.save(tmp_path / "small")


def test_a_large_loss_is_not_saved(make: Callable[..., Program], tmp_path: Path) -> None:
    shrunk = shrink(make(card()), 4, Context(), method="bad")
    with pytest.raises(ProgramError) as caught:
        shrunk.save(tmp_path / "small")
    assert str(caught.value) == (
        "Smaller, this program loses too much; nothing is saved.\n"
        "  where:  error on 3 held-out examples\n"
        "  wanted: at most 3.0% worse than 1.0000\n"
        "  got:    1.2000 with 4 bits, bad, 20.0% worse\n"
        "  do:     Take --bits 8 or --method good, or allow more: --most-loss."
    )
    assert not list(tmp_path.iterdir())
    allowed = shrink(make(card()), 8, Context(), method="bad", most_loss=0.25)
    assert allowed.save(tmp_path / "small").is_dir()
    with pytest.raises(ProgramError, match="loses too much") as caught:
        replace(allowed, most_loss=0.1).check()
    assert "Take --method good, or" in str(caught.value)


def test_a_score_that_should_be_high_loses_by_falling(make: Callable[..., Program]) -> None:
    shrunk = shrink(make(card(), Rating()), 4, Context(), method="bad")
    assert shrunk.loss == pytest.approx(1 - 1 / 1.2)


def test_every_method_is_compared_and_one_is_the_program(make: Callable[..., Program]) -> None:
    shrunk = shrink(make(card()), 4, Context(), method="bad", compare=True)
    assert [row.name for row in shrunk.rows] == ["before", "4 bits, good", "4 bits, bad"]
    assert shrunk.program(None)["number"] == pytest.approx(1.2)
    scores = shrunk.program.card.scores
    assert [score["of"] for score in scores] == ["program", "before", "4 bits, good", "chance"]
    assert [row["name"] for row in shrunk.to_json()["rows"]] == [row.name for row in shrunk.rows]


def test_data_of_its_own(make: Callable[..., Program]) -> None:
    shrunk = shrink(make(Card()), 4, Context(), source="others", settings=["data.start=5"], examples=2)
    assert shrunk.examples == 2
    made = shrunk.program.card
    assert made.made["calibrated and judged on"] == "others, others from 5"
    assert [score["of"] for score in made.scores] == ["program", "before"]  # baselines were those of other data


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (Card(), ("names no data", "--data DATA")),
        (card(fingerprint="numbers from 2"), ("have changed", "numbers from", "--data DATA")),
        (card("gone"), ("cannot be read", "There is nothing.", "--data DATA")),
        (card("untested", "untested from 3"), ("no split 'test'", "--data DATA")),
    ],
)
def test_without_the_data_that_it_was_learned_from(
    make: Callable[..., Program], told: Card, says: tuple[str, ...]
) -> None:
    with pytest.raises(DataError) as caught:
        shrink(make(told), 4, Context())
    assert all(text in str(caught.value) for text in says)


def test_mistakes(make: Callable[..., Program]) -> None:
    program = make(card())
    with pytest.raises(UsageError, match="Did you mean 'good'"):
        shrink(program, 4, Context(), method="god")
    with pytest.raises(UsageError, match="cannot be measured"):
        shrink(program, 4, Context(), most_loss=-1.0)
    with pytest.raises(UsageError, match="cannot be measured"):
        shrink(program, 4, Context(), examples=0)
    with pytest.raises(UsageError, match="--set says how --data is read"):
        shrink(program, 4, Context(), settings=["data.start=5"])


def test_the_command_line_allows_the_same_loss() -> None:
    assert inspect.signature(shrink_command.shrink_command).parameters["most_loss"].default == MOST_LOSS
