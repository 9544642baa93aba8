"""A small task, network and lesson of our own, so that the driver is tested without any domain.

x float32 [B, 4] -> MLP -> y float32 [B, 1];   the loss is the sum of squared errors over B rows
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sw2.base.seed import derive, generator
from sw2.core.data import Data, Split
from sw2.core.gradient import Gradient, GradientConfig, Lesson, Loss, Player, Source
from sw2.core.kinds import Kind
from sw2.core.model import Batch, Model, Outputs
from sw2.core.objective import Job
from sw2.core.program import Answer, Net, Program, Runtime
from sw2.core.run import Run
from sw2.core.task import CheckReport, Context, Prep, PrepState, Score, Task
from sw2.core.trainer import Budget, Learned, Trainer, TrainerConfig
from sw2.parts.data.order import ShuffledOrder

ROWS = 64


class Mlp(Model):
    """Width 8, with batch normalisation, dropout or a tied pair where asked."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """As in `Mlp`."""

        features: int = 4
        width: int = 8
        norm: Literal["none", "batch"] = "none"
        dropout: float = 0.0

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.first = nn.Linear(config.features, config.width)
        self.norm = nn.BatchNorm1d(config.width) if config.norm == "batch" else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)
        self.last = nn.Linear(config.width, 1)
        # Computed, not saved: what a rotary table is to a decoder.
        self.register_buffer("scale", torch.full((), 0.5), persistent=False)

    def forward(self, batch: Batch) -> Outputs:
        hidden = torch.relu(self.norm(self.first(batch["x"])))
        return {"y": self.last(self.dropout(hidden)) * self.scale}


class TiedPair(Model):
    """Two names for one matrix."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """As in `TiedPair`."""

        features: int = 4

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.down = nn.Linear(config.features, config.features, bias=False)
        self.up = nn.Linear(config.features, config.features, bias=False)
        self.up.weight = self.down.weight

    def forward(self, batch: Batch) -> Outputs:
        return {"y": self.up(self.down(batch["x"])).sum(1, keepdim=True)}


class Shift(Prep):
    """Subtracts a mean; has a value, an array and an asset to save."""

    def __init__(self, mean: np.ndarray, name: str = "shift") -> None:
        self.mean, self.name = mean, name

    def state(self) -> PrepState:
        return PrepState(config={"name": self.name}, arrays={"mean": self.mean}, assets={"notes.txt": b"a note"})

    @classmethod
    def restore(cls, state: PrepState) -> Shift:
        assert state.assets["notes.txt"] == b"a note"
        return cls(state.arrays["mean"], state.config["name"])


class Regressor(Runtime):
    """Answers with y."""

    name = "toy-regressor"
    Prep = Shift

    def __init__(self, nets: Mapping[str, Model], prep: Shift, uses: Mapping[str, Program]) -> None:
        self.net, self.prep, self.uses = next(iter(nets.values())), prep, uses

    def answer(self, inputs: Sequence[Any]) -> list[Answer]:
        x = torch.tensor(np.asarray(inputs) - self.prep.mean, dtype=torch.float32)
        with torch.inference_mode():
            return [{"y": float(row)} for row in self.net({"x": x})["y"][:, 0]]


class Regression(Task):
    """What is y?"""

    name = "toy-regression"
    inputs = {"x": Kind("record")}
    outputs = {"y": Kind("number")}
    metric = "squared error"
    runtime = Regressor.name
    Options = Mlp.Config

    def read(self, source: str, options: Any, context: Context) -> Data:
        raise NotImplementedError

    def check(self, data: Data) -> CheckReport:
        return CheckReport(facts={})

    def prepare(self, train: Split, config: Any) -> Shift:
        return Shift(np.zeros(4, np.float32))

    def baselines(self, data: Data, prep: Prep, context: Context) -> Sequence[Score]:
        return []

    def judge(self, program: Program, held_out: Split, context: Context) -> Sequence[Score]:
        return []


class Catalogue:
    """The part of the catalogue that loading needs."""

    models: Mapping[str, type[Model]] = {"mlp": Mlp, "tied": TiedPair}

    def task(self, name: str) -> Task:
        return self._pick({Regression.name: Regression}, name)()

    def model_class(self, name: str) -> type[Model]:
        return self._pick(self.models, name)

    def runtime_class(self, name: str) -> type[Runtime]:
        return self._pick({Regressor.name: Regressor}, name)

    @staticmethod
    def _pick(known: Mapping[str, Any], name: str) -> Any:
        from sw2.base.names import pick

        return pick("thing", name, known)


PROVIDER = {"name": "toys", "distribution": "sw2-toys", "version": "1.2"}


class Rows(Source):
    """Rows of a fixed noisy function."""

    def __init__(self, batch: int, seed: int) -> None:
        self.x, self.y = rows("train")
        self.order = ShuffledOrder(ROWS, batch, seed)

    def batch(self, nets: Mapping[str, Model], step: int, rank: int, size: int) -> Batch:
        chosen = torch.from_numpy(self.order.share(step, rank, size))
        return {"x": self.x[chosen], "y": self.y[chosen]}

    def steps_per_epoch(self) -> float:
        return self.order.steps_per_epoch()


def rows(split: str) -> tuple[Tensor, Tensor]:
    draw = generator(7, split)
    x = torch.randn(ROWS, 4, generator=draw)
    y = torch.sin(x.sum(1, keepdim=True)) + 0.1 * torch.randn(ROWS, 1, generator=draw)
    return x, y


def squared_error(nets: Mapping[str, Any], batch: Batch) -> Loss:
    total = (next(iter(nets.values()))(batch)["y"] - batch["y"]).square().sum()
    return Loss(total, len(batch["y"]), {"root": total.detach().sqrt()})


def validate(nets: Mapping[str, Model]) -> dict[str, float]:
    x, y = rows("validation")
    return {"loss": float((next(iter(nets.values()))({"x": x})["y"] - y).square().mean())}


@dataclass
class Toy:
    """Builds and trains the small things above; every field may be replaced before `fit`."""

    folder: Path
    model: Mlp.Config = field(default_factory=Mlp.Config)
    gradient: GradientConfig = field(default_factory=lambda: GradientConfig(batch_size=16, precision="fp32"))
    trainer: TrainerConfig = field(default_factory=lambda: TrainerConfig(evaluations=4))
    loss: Callable[[Mapping[str, Any], Batch], Loss] = squared_error
    validate: Callable[[Mapping[str, Model]], dict[str, float]] | None = validate
    lesson: Callable[[Toy, Job], Lesson] | None = None
    fingerprint: str = "f" * 64
    seed: int = 0

    def net(self) -> Mlp:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(self.seed, "weights"))
            return Mlp(self.model)

    def assemble(self, nets: Mapping[str, Model]) -> Program:
        return Program.assemble(
            task=Regression(),
            runtime=Regressor,
            nets={role: Net("mlp", net) for role, net in nets.items()},
            prep=Shift(np.full(4, 0.25, np.float32)),
            provider=PROVIDER,
        )

    def teach(self, job: Job) -> Lesson:
        if self.lesson is not None:
            return self.lesson(self, job)
        return Lesson(
            nets={"main": self.net()},
            players=[Player(name="main", nets=("main",), loss=lambda nets, batch: self.loss(nets, batch))],
            source=Rows(self.gradient.batch_size, self.seed),
            validate=self.validate,
            assemble=self.assemble,
            items=("rows", self.gradient.batch_size),
        )

    def job(self) -> Job:
        return Job(
            task=Regression(),
            data=Data(name="toy", splits={}, fingerprint=self.fingerprint),
            prep=Shift(np.zeros(4, np.float32)),
            model_name="mlp",
            model_class=Mlp,
            model_config=self.model,
            seed=self.seed,
            device=torch.device("cpu"),
        )

    def objective(self) -> Gradient:
        return Gradient("toy-regression", self.gradient, self.teach)

    def fit(self, name: str, **budget: Any) -> Learned:
        """Train in the run folder `name`, from where it stands."""
        path = self.folder / name
        run = Run.open(path) if (path / "config.toml").exists() else Run.create(path, {"run": {"task": "toy"}})
        try:
            return Trainer(self.trainer).fit(self.job(), self.objective(), Budget(**budget), run)
        finally:
            run.close()


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return Toy(tmp_path)


@pytest.fixture
def catalogue() -> Catalogue:
    return Catalogue()


@pytest.fixture
def kinds_of_toys() -> dict[str, Any]:
    """The classes, for tests that build programs themselves."""
    return {"Mlp": Mlp, "TiedPair": TiedPair, "Regressor": Regressor, "Regression": Regression, "Shift": Shift,
            "Rows": Rows, "PROVIDER": PROVIDER, "Toy": Toy}  # fmt: skip
