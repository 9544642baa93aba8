"""The contract, over all that is registered: each domain, each task on its example data, a program of each model.

A new domain is held by these tests as soon as its folder is there. `SMALL` names tasks whose example data takes longer
to read than a test may; they get a small set of the same kind.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sw2.base.errors import UsageError
from sw2.catalog import catalog
from sw2.core.data import Data
from sw2.core.domain import Domain
from sw2.core.objective import Choices, Clock, Job, Metrics, Objective, Snapshot
from sw2.core.program import Answer, Net, Program
from sw2.core.run import Run
from sw2.core.task import Context
from sw2.core.trainer import Budget, Trainer, TrainerConfig
from sw2.domains.vision.prep import PicturePrep, PrepConfig
from sw2.domains.vision.resnet import ResNet
from sw2.domains.vision.task import PictureClassifier
from sw2.testing import check_domain, check_program, check_task
from sw2.verbs.train import Order, train

SOURCES = Path(__file__).resolve().parents[1] / "src" / "sw2"
FOUND = catalog()


def _text(folder: Path) -> str:
    """A few of our own files instead of all of Python's."""
    folder.mkdir()
    for file in sorted((SOURCES / "base").glob("*.py")):
        (folder / file.name).write_bytes(file.read_bytes())
    return str(folder)


def _talks(folder: Path) -> str:
    """A few sums instead of thousands."""
    path = folder.with_suffix(".jsonl")
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"What is {number} + 1?"},
                {"role": "assistant", "content": f"{number + 1}"},
            ],
            "check": {"equals": f"{number + 1}"},
        }
        for number in range(60)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def _pairs(folder: Path) -> str:
    """A few right and wrong sums instead of thousands of spoiled answers."""
    path = folder.with_suffix(".jsonl")
    rows = [
        {
            "prompt": [{"role": "user", "content": f"What is {number} + 1?"}],
            "chosen": {"role": "assistant", "content": f"{number + 1}"},
            "rejected": {"role": "assistant", "content": f"{number + 2 + number % 3}"},
        }
        for number in range(60)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def _keys(folder: Path) -> str:
    """A few keys instead of a million, which take long to fit without a compiler."""
    path = folder.with_suffix(".npy")
    np.save(path, np.arange(500) ** 2)
    return str(path)


def _labelled(folder: Path) -> str:
    """A few lines instead of all docstrings of Python."""
    path = folder.with_suffix(".txt")
    rows = [f"__label__{'odd' if number % 2 else 'even'} {number} is {number % 2}" for number in range(90)]
    path.write_text("\n".join(rows))
    return str(path)


def _masked(folder: Path) -> str:
    """A few squares instead of stamps, which are fetched."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(20):
        mask = np.zeros((48, 48), np.uint8)
        top, left = random.integers(4, 24, 2)
        mask[top : top + 16, left : left + 16] = 255
        picture = random.integers(0, 120, (48, 48, 3), dtype=np.uint8) + mask[..., None] // 4
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
        Image.fromarray(picture.astype(np.uint8)).save(folder / "images" / f"{number}.png")
    return str(folder)


SMALL: Mapping[str, Callable[[Path], str]] = {
    "text-generation": _text,
    "chat": _talks,
    "reward-modeling": _pairs,
    "learned-index": _keys,
    "text-classification": _labelled,
    "word-vectors": _text,
    "image-segmentation": _masked,
}


def _source(task: str, folder: Path) -> str:
    return SMALL[task](folder / "data") if task in SMALL else FOUND.task_entry(task).data


@pytest.mark.parametrize("name", sorted(FOUND.domains))
def test_each_domain(name: str) -> None:
    check_domain(FOUND, FOUND.domains[name])


@pytest.mark.parametrize("name", sorted(FOUND.tasks))
def test_each_task(name: str, tmp_path: Path) -> None:
    data, _ = check_task(FOUND, name, _source(name, tmp_path), Context())
    assert "test" in data.splits, "example data can be judged on"


@pytest.mark.parametrize(
    ("task", "model"),
    [
        pytest.param(name, model, marks=[pytest.mark.slow] if number else [])
        for name, entry in sorted(FOUND.tasks.items())
        for number, model in enumerate(entry.models if entry.recipe else ())
    ],
)
def test_a_program_of_each_model(task: str, model: str, tmp_path: Path) -> None:
    # In minutes and not in steps: what learns by a length of its own takes no others.
    order = Order(
        task=task, data=_source(task, tmp_path), model=model, preset="tiny", budget=Budget(minutes=0.02), device="cpu"
    )
    program = train(FOUND, order, tmp_path / "run", Context())
    assert program.card.facts["steps"] >= 1
    own = [score for score in program.card.scores if score["of"] == "program"]
    baselines = [score for score in program.card.scores if score["of"] != "program"]
    assert own[0]["name"] == program.task.metric, "the first score is the task's metric"
    assert program.task.metric in {score["name"] for score in baselines}, "the metric stands beside a baseline"
    test = program.task.read(order.data, program.task.Options(), Context()).split("test")
    check_program(FOUND, program, program.task.question(test[0]), tmp_path / "check")


# ------------------------------------------------------------------------------------------- the checks notice


def _task_of(domain: Domain) -> str:
    return next(iter(domain.tasks))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda domain: replace(domain, name="two words"), "identifier"),
        (lambda domain: replace(domain, summary="no full stop"), "sentence"),
        (lambda domain: replace(domain, runtimes={}), "not registered"),
        (
            lambda domain: replace(
                domain, tasks={_task_of(domain): replace(domain.tasks[_task_of(domain)], models=())}
            ),
            "no model",
        ),
    ],
)
def test_a_spoiled_domain_is_noticed(spoil: Callable[[Domain], Domain], told: str) -> None:
    domain = FOUND.domains["vision"]
    with pytest.raises(AssertionError, match=told):
        check_domain(FOUND, spoil(domain))


class _Verbose(PictureClassifier):
    """Answers more than the task's outputs."""

    def answer(self, inputs: Sequence[Any]) -> list[Answer]:
        return [{**answer, "seconds": 0.0} for answer in super().answer(inputs)]


class _Moody(PictureClassifier):
    """Answers by the place in the batch."""

    def answer(self, inputs: Sequence[Any]) -> list[Answer]:
        return [{**answer, "label": str(place)} for place, answer in enumerate(super().answer(inputs))]


class _Drifting(PictureClassifier):
    """Answers with probabilities that differ by a thousandth from place to place."""

    def answer(self, inputs: Sequence[Any]) -> list[Answer]:
        return [
            {**answer, "probabilities": {label: p + place / 1000 for label, p in answer["probabilities"].items()}}
            for place, answer in enumerate(super().answer(inputs))
        ]


class _Exposed(PictureClassifier):
    """Answers what JSON cannot say."""

    def answer(self, inputs: Sequence[Any]) -> list[Answer]:
        return [{**answer, "label": b"1"} for answer in super().answer(inputs)]


@pytest.mark.parametrize(
    ("runtime", "error", "told"),
    [
        (_Verbose, AssertionError, "an answer holds"),
        (_Moody, AssertionError, "two equal inputs"),
        (_Drifting, AssertionError, "two equal inputs"),
        (_Exposed, TypeError, "not JSON serializable"),
    ],
)
def test_a_spoiled_program_is_noticed(
    runtime: type[PictureClassifier], error: type[Exception], told: str, tmp_path: Path
) -> None:
    program = Program.assemble(
        task=FOUND.task("image-classification"),
        runtime=runtime,
        nets={"classifier": Net("resnet", ResNet(ResNet.Config(classes=2, widths=(8,), blocks=(1,), stem=8)))},
        prep=PicturePrep(PrepConfig(size=8, mean=(0.0,), deviation=(1.0,)), ["0", "1"]),
        provider=FOUND.provider("image-classification"),
    )
    with pytest.raises(error, match=told):
        check_program(FOUND, program, np.zeros((8, 8), np.uint8), tmp_path)


# --------------------------------------------------------------------------- what learns by a length of its own


class _InOrder(Objective[list[Clock]]):
    """Takes `length` steps, each once and in order, and no step of another schedule."""

    makes = "image-classification"

    def __init__(self, length: int) -> None:
        self.length = length

    def choose(self, job: Job) -> Choices:
        return Choices()

    def start(self, job: Job) -> list[Clock]:
        return []

    def own_length(self, state: list[Clock]) -> int:
        return self.length

    def step(self, state: list[Clock], clock: Clock) -> Metrics:
        assert clock == Clock(len(state), self.length)
        state.append(clock)
        return {}

    def snapshot(self, state: list[Clock]) -> Snapshot:
        return Snapshot(tensors={"done": torch.tensor(len(state))})

    def restore(self, state: list[Clock], snapshot: Snapshot) -> None:
        state[:] = [Clock(step, self.length) for step in range(int(snapshot.tensors["done"]))]

    def finish(self, state: list[Clock]) -> Any:
        return len(state)


def _job() -> Job:
    nothing: Any = None
    return Job(
        task=nothing,
        data=Data(name="none", splits={}, fingerprint="0"),
        prep=nothing,
        model_name="none",
        model_class=nothing,
        model_config=None,
        seed=0,
        device=torch.device("cpu"),
    )


@pytest.mark.parametrize("health", ["on", "off"])
@pytest.mark.parametrize("length", [1, 2, 7, 80])
def test_a_length_of_its_own_is_kept(length: int, health: Any, tmp_path: Path) -> None:
    trainer, objective = Trainer(TrainerConfig(health=health)), _InOrder(length)
    plan, _ = trainer.plan(_job(), objective, Budget(minutes=100))
    assert plan.total_steps == length
    run = Run.create(tmp_path / "run", {})
    learned = trainer.fit(_job(), objective, Budget(minutes=100), run)
    run.close()
    assert (learned.steps, learned.program) == (length, length)


@pytest.mark.parametrize(("budget", "given"), [(Budget(steps=12), "--steps 12"), (Budget(epochs=0.5), "--epochs 0.5")])
def test_another_length_is_refused(budget: Budget, given: str) -> None:
    with pytest.raises(UsageError, match="a length of its own") as told:
        Trainer().plan(_job(), _InOrder(7), budget)
    assert (told.value.got, told.value.do) == (given, "Leave them out; it takes 7 steps.")
