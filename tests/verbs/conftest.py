"""A small real program and synthetic run folders, for what reads them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sw2.core.card import Card
from sw2.core.data import Data, Split
from sw2.core.model import Batch, Model, Outputs
from sw2.core.program import Answer, Net, Program, Runtime
from sw2.core.run import Run
from sw2.core.task import CheckReport, Context, Prep, Score, Task
from sw2.testing.toys import NoPrep


class ShiftModel(Model):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        """How many features."""

        features: int = 7

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.linear = nn.Linear(config.features, 3)

    def forward(self, batch: Batch) -> Outputs:
        return {"logits": self.linear(batch["x"])}


class Shifter(Runtime):
    name = "shifter"
    Prep = NoPrep

    def __init__(self, nets: Mapping[str, Model], prep: Any, uses: Mapping[str, Program]) -> None:
        del prep, uses
        self.net = nets["main"]

    def answer(self, inputs: Sequence[Any]) -> list[Answer]:
        x = torch.tensor(np.array(inputs), dtype=torch.float32)
        return [{"label": int(row.argmax())} for row in self.net({"x": x})["logits"]]


class ShiftTask(Task):
    name = "shift-classification"
    inputs: Mapping[str, Any] = {}
    outputs: Mapping[str, Any] = {}
    metric = "accuracy"
    runtime = "shifter"
    Options = ShiftModel.Config

    def read(self, source: str, options: Any, context: Context) -> Data:
        raise NotImplementedError

    def check(self, data: Data) -> CheckReport:
        raise NotImplementedError

    def prepare(self, train: Split, config: Any) -> Prep:
        raise NotImplementedError

    def baselines(self, data: Data, context: Context) -> Sequence[Score]:
        raise NotImplementedError

    def judge(self, program: Program, held_out: Split, context: Context) -> Sequence[Score]:
        raise NotImplementedError


@pytest.fixture
def make_program() -> Callable[[Card], Program]:
    """A program with the given card."""

    def make(card: Card) -> Program:
        return Program.assemble(
            task=ShiftTask(),
            runtime=Shifter,
            nets={"main": Net("shift", ShiftModel(ShiftModel.Config()))},
            prep=NoPrep(),
            provider={"name": "shifts", "distribution": "sw2", "version": "0.1.0"},
            card=card,
        )

    return make


def health_rows(step: int, layers: int) -> list[dict[str, Any]]:
    rows = []
    for layer in range(layers):
        depth = layers - layer
        rows.append(
            {
                "layer": f"stage{layer}",
                "activation": 0.5 + 0.1 * layer,
                "gradient": 0.01 * 0.8**depth * math.exp(-step / 600),
                "weight": 0.05,
                "dead": 0.1 * (layer % 3),
                "update": 2e-3 * math.exp(-step / 400),
            }
        )
    return rows


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """A run's folder as the driver leaves it, with `steps` steps of a plausible curve."""

    def make(steps: int = 600, *, finished: bool = True, findings: Sequence[str] = (), layers: int = 9) -> Path:
        run = Run.create(tmp_path / "run", {"run": {"task": "shift-classification", "seed": 0}})
        plan = {"total_steps": 600, "minutes": 1.0, "peak_memory": 5e8, "disk": 3e7, "step_seconds": 0.1}
        run.decide({"plan": {**plan, "health_every": 25, "facts": {"unit": "pictures", "pictures_per_step": 64}}})
        run.close()
        noise = np.random.default_rng(0)
        rows: list[dict[str, Any]] = []
        for step in range(1, steps + 1):
            loss = 0.25 + 2.05 * math.exp(-step / 90) + 0.08 * float(noise.normal()) * math.exp(-step / 400)
            rate = 3e-3 * min(step / 60, 1.0) * 0.5 * (1 + math.cos(math.pi * step / 600))
            now = {"step": step, "seconds": round(0.1 * step + 0.02 * math.sin(step), 3)}
            rows.append({"kind": "step", **now, "loss": loss, "gradient_norm": 2 * loss, "learning_rate": rate})
            if step % 25 == 1:
                rows.append({"kind": "health", **now, "layers": health_rows(step, layers), "findings": list(findings)})
            if step % 60 == 0:
                held_out = 0.31 + 1.8 * math.exp(-step / 95)
                rows.append(
                    {"kind": "evaluate", **now, "loss": held_out, "accuracy": 0.96 - 0.8 * math.exp(-step / 70)}
                )
        if finished:
            rows.append(
                {"kind": "note", "step": steps, "seconds": 0.1 * steps + 1, "text": f"kept the state of step {steps}"}
            )
        (run.path / "events.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        if finished:
            run.decide({"finished": "ab" * 32})
        return run.path

    return make


@pytest.fixture
def full_card() -> Card:
    """A card with everything that a report shows."""
    labels = [str(digit) for digit in range(10)]
    confusion = [[44 if i == j else (2 if (i, j) in {(3, 5), (8, 1)} else 0) for j in range(10)] for i in range(10)]
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    pictures = [
        {"image": f"data:image/png;base64,{pixel}", "label": "3", "answer": "5", "probability": 0.93 - 0.05 * n}
        for n in range(8)
    ]
    samples = [{"prompt": "Once upon a time", "text": "Once upon a time there was a tailor\nwho had three sons."}]

    def row(
        name: str, value: float, better: str, of: str, interval: list[float] | None, **details: Any
    ) -> dict[str, Any]:
        return {
            "name": name, "value": value, "better": better, "examples": 450, "interval": interval, "of": of,
            "details": details,
        }  # fmt: skip

    return Card(
        made={"date": "2030-01-01", "seed": 0, "threads": 2, "torch": "2.13.0", "chosen micro_batch": 64,
              "why micro_batch": "measured: 64 pictures are quickest on this machine"},
        data={"name": "digits", "source": "handwritten digits", "licence": "CC BY 4.0", "fingerprint": "5f" * 32,
              "rejected rows": 3, "rejected": [{"where": "row 17", "why": "the picture is damaged"}],
              "train examples": 1200, "validation examples": 147, "test examples": 450, "pixels": [8, 8]},
        planned={"minutes": 1.0, "peak_memory": 512_000_000, "disk": 30_000_000},
        measured={"minutes": 1.04, "peak_memory": 498_000_000, "disk": 28_600_000},
        facts={"steps": 600, "parameters": 24, "FLOPs of one answer": 4.2e6, "latency of one answer in ms": 0.42},
        scores=[
            row("accuracy", 0.978, "higher", "program", [0.960, 0.988], labels=labels, confusion=confusion,
                pictures=pictures, samples=samples),
            row("log loss", 0.081, "lower", "program", None),
            row("accuracy", 0.102, "higher", "most frequent label", [0.077, 0.134]),
            row("accuracy", 0.931, "higher", "logistic regression", [0.904, 0.951]),
        ],
        settings={"run": {"task": "shift-classification", "seed": 0},
                  "learn": {"optimizer": {"name": "adamw", "betas": [0.9, 0.95]}, "label_smoothing": 0.1}},
    )  # fmt: skip
