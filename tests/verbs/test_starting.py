"""Ways to begin: what a short trial takes, what it leaves out, and when there is none."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sw2.base.errors import Interrupted, UsageError
from sw2.catalog import Catalog, catalog
from sw2.core.data import Data
from sw2.core.domain import Request, Start
from sw2.core.program import Program
from sw2.core.task import Context
from sw2.core.trainer import Budget, Reporter
from sw2.domains.vision.presets import starts
from sw2.verbs import train as training
from sw2.verbs.starting import _held_out
from sw2.verbs.train import Order, plan, resume, train

IDLE = Start(name="idle", settings=("model.widths=[4,4,4]", "learn.gradient.optim.learning_rate=1e-9"))
EAGER = Start(name="eager", settings=("model.widths=[8,16,32]",))
AWAY = Start(name="from afar", parent="far-away")


class Told(Reporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)

    def progress(self, step: int, total: int, values: Mapping[str, float | str]) -> None:
        del step, total, values


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Catalog]:
    """The catalogue, in which a task begins in one of the given ways."""

    def of(*ways: Start) -> Catalog:
        def found(self: Catalog, task: str) -> Callable[[Request], Sequence[Start]]:
            del self, task
            return lambda request: ways

        def refused(self: Catalog, name: str, context: Context) -> Program:
            raise UsageError("These weights are not here, and were not to be fetched.", where=name)

        monkeypatch.setattr(Catalog, "starts", found)
        monkeypatch.setattr(Catalog, "program", refused)
        return catalog()

    return of


def order(**changed: Any) -> Order:
    usual = Order(task="image-classification", data="digits", budget=Budget(minutes=0.2))
    return dataclasses.replace(usual, **changed)


def widths(program: Program) -> Any:
    return program.nets["classifier"].module.config.widths  # type: ignore[attr-defined]


def test_the_best_of_a_trial_begins(
    offer: Callable[..., Catalog], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told()
    monkeypatch.setattr("sw2.verbs.starting._SHARE", 0.8)  # seconds are few for a trial of so short a training
    program = train(offer(IDLE, EAGER, AWAY), order(), tmp_path / "run", Context(), told)
    assert widths(program) == (8, 16, 32)
    text = "\n".join(told.lines)
    assert "trying 2 ways to begin" in text
    assert "To begin from far-away is not tried" in text
    assert "  idle: accuracy 0." in text
    assert "begins eager" in text
    assert "start: eager: idle accuracy 0." in text  # with what a run says of its settings
    assert program.card.settings["run"]["minutes"] < 0.2
    assert widths(resume(catalog(), tmp_path / "run", Context())) == (8, 16, 32)


@pytest.mark.parametrize(
    "changed",
    [
        {"budget": Budget(steps=3)},
        {"model": "resnet"},
        {"depth": 8},
        {"settings": ("model.widths=[4,4,4]",)},
    ],
)
def test_who_says_how_gets_no_trial(
    changed: dict[str, Any], offer: Callable[..., Catalog], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*given: Any, **named: Any) -> None:
        raise AssertionError("a trial")

    monkeypatch.setattr(training, "fit", never)
    told = Told()
    train(offer(IDLE, EAGER), order(**{"budget": Budget(minutes=0.02), **changed}), tmp_path / "run", Context(), told)
    assert not any("trying" in line for line in told.lines)


def test_where_nothing_is_offered_no_example_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def touched(*given: Any) -> None:
        raise AssertionError("examples were drawn")

    monkeypatch.setattr("sw2.verbs.starting._held_out", touched)
    train(
        catalog(), order(budget=Budget(minutes=0.02)), tmp_path / "run", Context()
    )  # digits are too small to offer any


def test_one_way_that_can_be_gone_is_gone_without_a_trial(offer: Callable[..., Catalog], tmp_path: Path) -> None:
    told = Told()
    train(offer(AWAY, IDLE), order(budget=Budget(minutes=0.02)), tmp_path / "run", Context(), told)
    assert not any("trying" in line for line in told.lines)
    assert any("not tried" in line for line in told.lines)


def test_a_plan_says_that_there_will_be_a_trial(offer: Callable[..., Catalog]) -> None:
    found = plan(offer(IDLE, EAGER), order(), Context())
    assert found.reasons["start"] == "tried first, in a part of the minutes: idle; eager"
    assert "start" not in plan(offer(IDLE, EAGER), order(model="resnet"), Context()).reasons


@pytest.mark.parametrize(
    "signal", [Interrupted("Stopped.", where="somewhere temporary", do="sw2 resume there"), KeyboardInterrupt()]
)
def test_stopped_in_a_trial_nothing_is_left(
    signal: BaseException, offer: Callable[..., Catalog], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*given: Any, **named: Any) -> None:
        raise signal

    monkeypatch.setattr(training, "fit", stopped)
    with pytest.raises(Interrupted, match="while ways to begin were tried"):
        train(offer(IDLE, EAGER), order(), tmp_path / "run", Context())
    assert not (tmp_path / "run").exists()


def test_no_label_is_met_for_the_first_time_where_a_trial_is_judged() -> None:
    rows = [{"label": "often"}] * 97 + [{"label": name} for name in ("once", "here", "there")]
    for seed in range(20):
        seen = _held_out(Data(name="rare", splits={"train": rows}, fingerprint="0"), seed)
        assert seen is not None
        train, judged = ({row["label"] for row in seen.split(name)} for name in ("train", "validation"))
        assert judged <= train
        assert len(seen.split("validation")) == 20
    assert _held_out(Data(name="few", splits={"train": rows[:40]}, fingerprint="0"), 0) is None


def pictures(side: int, number: int) -> Data:
    draw = np.random.default_rng(0)
    rows = [{"image": draw.integers(0, 256, (side, side, 3), np.uint8), "label": str(i % 3)} for i in range(64)]
    return Data(name="noise", splits={"train": (rows * (number // 64 + 1))[:number]}, fingerprint="0")


def test_imagenet_is_tried_on_pictures_of_some_size_that_minutes_allow() -> None:
    offered = starts(Request(data=pictures(64, 200), preset="small", minutes=5.0))
    assert [each.parent for each in offered] == ["efficientnet-lite0", "efficientnet-lite0", None]
    assert not starts(Request(data=pictures(28, 200), preset="small", minutes=5.0))  # too small to be photographs
    assert not starts(Request(data=pictures(64, 60_000), preset="small", minutes=5.0))  # too many for it
    assert not starts(Request(data=pictures(64, 200), preset="small"))  # no minutes
    assert not starts(Request(data=pictures(64, 200), preset="tiny", minutes=5.0))
