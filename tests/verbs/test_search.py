"""Searching for settings, on a small task of our own whose trials take milliseconds."""

from __future__ import annotations

import json
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sw2.base.errors import DataError, LearningError, RunError, UnknownName, UsageError
from sw2.base.names import pick
from sw2.base.seed import derive, generator
from sw2.core.data import Data, Example, Split
from sw2.core.domain import ModelEntry, Recipe, Request, TaskEntry
from sw2.core.gradient import Gradient, GradientConfig, Lesson, Loss, Player, Source
from sw2.core.kinds import Kind
from sw2.core.model import Batch, Model, Outputs, Shared
from sw2.core.objective import Job
from sw2.core.program import Answer, Net, Program, Runtime
from sw2.core.run import Run, read_events
from sw2.core.task import CheckReport, Context, Prep, Score, Task
from sw2.core.trainer import Budget, Silent
from sw2.parts.data.order import ShuffledOrder
from sw2.parts.optim.build import OptimConfig
from sw2.testing.toys import NoPrep
from sw2.verbs.curves import current_run, read_curves
from sw2.verbs.search import Searched, resume, search
from sw2.verbs.search_report import ranked
from sw2.verbs.strategies import STRATEGIES
from sw2.verbs.train import Order, settings_from_file, train
from sw2.verbs.train import resume as complete

RATE = "learn.gradient.optim.learning_rate=1e-4..1e-1 log"


class Spy(Sequence[Example]):
    """The test split, which counts how often it is looked at."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.examples, self.looks = examples, 0

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: Any) -> Any:
        self.looks += 1
        return self.examples[index]

    def __iter__(self) -> Iterator[Example]:
        self.looks += 1
        return iter(self.examples)


class Mlp(Model):
    """x float32 [B, 4] -> y float32 [B, 1]; the heads divide the width."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """As in `Mlp`."""

        width: int = 8
        heads: int = 1
        act: Literal["relu", "tanh"] = "relu"

        def __post_init__(self) -> None:
            if self.width < 1 or self.width % self.heads:
                raise UsageError("The heads do not divide the width.", got=f"{self.width} and {self.heads}")

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.first, self.last = nn.Linear(4, config.width), nn.Linear(config.width, 1)

    def forward(self, batch: Batch) -> Outputs:
        return {"y": self.last(getattr(torch, self.config.act)(self.first(batch["x"])))}


class SharedMlp(Shared):
    """The first `width` units of 16, behind either function: every Mlp of these settings."""

    settings: ClassVar = ("model.width", "model.act")
    Config = Mlp.Config

    def __init__(self, config: Mlp.Config) -> None:
        super().__init__()
        self.config = self.chosen = config
        self.first, self.last = nn.Linear(4, 16), nn.Linear(16, 1)

    def choose(self, config: Mlp.Config) -> None:
        self.chosen = config

    def forward(self, batch: Batch) -> Outputs:
        seen = getattr(torch, self.chosen.act)(self.first(batch["x"]))[:, : self.chosen.width]
        return {"y": nn.functional.linear(seen, self.last.weight[:, : self.chosen.width], self.last.bias)}


class Sum(Runtime):
    """Answers with y."""

    name = "sum"
    Prep = NoPrep

    def __init__(self, nets: Mapping[str, Model], prep: Any, uses: Mapping[str, Program]) -> None:
        self.net = nets["main"]

    def answer(self, inputs: Sequence[Any]) -> list[Answer]:
        with torch.inference_mode():
            return [{"y": float(y)} for y in self.net({"x": torch.tensor(list(inputs))})["y"][:, 0]]


class Sums(Task):
    """What is y? Reading gives the test split as a spy."""

    name = "sums"
    inputs = {"x": Kind("record")}
    outputs = {"y": Kind("number")}
    metric = "squared error"
    runtime = Sum.name

    @dataclass(frozen=True, kw_only=True)
    class Options:
        """How many rows."""

        rows: int = 48

    spy: Spy

    def read(self, source: str, options: Any, context: Context) -> Data:
        splits: dict[str, Split] = {}
        for name in ("train", "validation", "test"):
            draw = generator(7, name)
            x = torch.randn(options.rows, 4, generator=draw)
            y = torch.sin(x.sum(1)) + 0.1 * torch.randn(options.rows, generator=draw)
            splits[name] = [{"x": row, "y": value} for row, value in zip(x.tolist(), y.tolist(), strict=True)]
        Sums.spy = Spy(splits["test"])
        splits["test"] = Sums.spy
        if source == "unvalidated":
            del splits["validation"]
        return Data(name=source, splits=splits, fingerprint="f" * 64)

    def check(self, data: Data) -> CheckReport:
        return CheckReport(facts={})

    def prepare(self, train: Split, config: Any) -> NoPrep:
        return NoPrep()

    def baselines(self, data: Data, prep: Prep, context: Context) -> Sequence[Score]:
        return []

    def judge(self, program: Program, held_out: Split, context: Context) -> Sequence[Score]:
        answers = program.runtime.answer([each["x"] for each in held_out])
        errors = [(said["y"] - each["y"]) ** 2 for said, each in zip(answers, held_out, strict=True)]
        return [Score(name="squared error", value=sum(errors) / len(errors), better="lower", examples=len(errors))]


class Rows(Source):
    """Batches of the training split."""

    def __init__(self, train: Split, batch: int, seed: int) -> None:
        self.x = torch.tensor([each["x"] for each in train])
        self.y = torch.tensor([[each["y"]] for each in train])
        self.order = ShuffledOrder(len(train), batch, seed)

    def batch(self, nets: Mapping[str, Model], step: int, rank: int, size: int) -> Batch:
        chosen = torch.from_numpy(self.order.share(step, rank, size))
        return {"x": self.x[chosen], "y": self.y[chosen]}

    def steps_per_epoch(self) -> float:
        return self.order.steps_per_epoch()


@dataclass(frozen=True, kw_only=True)
class Learn:
    """A learning rate above 50 answers with a loss that is not a number."""

    gradient: GradientConfig = field(
        default_factory=lambda: GradientConfig(batch_size=16, precision="fp32", optim=OptimConfig(learning_rate=1e-2))
    )


@dataclass(frozen=True, kw_only=True)
class NoSettings:
    """None."""


def teach(job: Job, config: Learn) -> Lesson:
    def loss(nets: Mapping[str, Any], batch: Batch) -> Loss:
        total: Tensor = (nets["main"](batch)["y"] - batch["y"]).square().sum()
        return Loss(total * float("nan") if config.gradient.optim.learning_rate > 50 else total, len(batch["y"]))

    def assemble(nets: Mapping[str, Model]) -> Program:
        nets = {role: Net("mlp", net) for role, net in nets.items()}  # type: ignore[misc]
        return Program.assemble(task=Sums(), runtime=Sum, nets=nets, prep=NoPrep(), provider=PROVIDER)  # type: ignore[arg-type]

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(job.seed, "weights"))
        net = job.model_class(job.model_config)
    return Lesson(
        nets={"main": net},
        players=[Player(name="main", nets=("main",), loss=loss)],
        source=Rows(job.data.split("train"), config.gradient.batch_size, job.seed),
        validate=None,
        assemble=assemble,
        items=("rows", config.gradient.batch_size),
    )


PROVIDER = {"name": "toys", "distribution": "sw2-toys", "version": "1.2"}


class Toys:
    """The part of the catalogue that a search needs."""

    space: Mapping[str, str] = {"model.width": "2..16", "model.act": "relu, tanh"}

    def task(self, name: str) -> Task:
        return pick("task", name, {"sums": Sums})()

    def task_entry(self, name: str) -> TaskEntry:
        return TaskEntry(target="", summary="", models=("mlp",), data="rows")

    def is_chain(self, name: str) -> bool:
        return name == "road"

    def judge(self, data: str) -> None:
        return None

    def recipe(self, task: str) -> Callable[[Request], Recipe]:
        return lambda request: Recipe(
            model="mlp",
            model_config=Mlp.Config(),
            prep_config=NoSettings(),
            objective="squares",
            learn_config=Learn(),
        )

    def starts(self, task: str) -> None:
        del task

    def model_entry(self, name: str) -> ModelEntry:
        return ModelEntry(target="", summary="", source="", space=self.space)

    def model_class(self, name: str) -> type[Model]:
        return Mlp

    def shared_class(self, name: str) -> type[Shared] | None:
        return SharedMlp

    def runtime_class(self, name: str) -> type[Runtime]:
        return Sum

    def objective(self, name: str, config: Any, task: str) -> Gradient:
        return Gradient("sums", config.gradient, lambda job: teach(job, config))

    def objective_config(self, name: str) -> type[Any]:
        return Learn

    def provider(self, task: str) -> Mapping[str, str]:
        return PROVIDER


def found(out: Path, *space: str, steps: int = 360, registry: Any = None, **options: Any) -> Searched:
    order = Order(task="sums", data=options.pop("data", "rows"), budget=options.pop("budget", Budget(steps=steps)))
    order = Order(**{**vars(order), "settings": options.pop("settings", ())})
    return search(registry or Toys(), order, out, Context(), space=space, **options)  # type: ignore[arg-type]


def weights(path: Path) -> dict[str, Tensor]:
    return load_file(path / "program" / "weights.safetensors")


# ------------------------------------------------------------------------------------------------------- what is found


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "shared"])
def test_a_search_finds_settings_and_learns_with_them(strategy: str, tmp_path: Path) -> None:
    if strategy == "tpe":
        pytest.importorskip("optuna")
    out = tmp_path / "out"
    searched = found(out, RATE, "model.heads=1,2,3", "model.width=4..12", strategy=strategy, trials=9)
    # The toy learns nothing at the least of these rates, and well at the larger ones.
    assert searched.best.turn.values["learn.gradient.optim.learning_rate"] > 1e-3
    assert searched.best.scores[0][1] == min(
        each.scores[0][1] for each in searched.done if each.turn.share == searched.best.turn.share
    )
    assert all(each.turn.values["model.width"] % each.turn.values["model.heads"] == 0 for each in searched.done)
    combinations = {each.turn.trial: str(each.turn.values) for each in searched.done}
    assert len(set(combinations.values())) == len(combinations) == 9
    (score,) = searched.program.card.scores
    assert score["name"] == "squared error"
    assert searched.program.card.settings["model"]["width"] == searched.best.turn.values["model.width"]
    assert searched.program.card.facts["steps"] == 180
    assert (
        searched.program.card.made["settings found by search"] == f"trial {searched.best.turn.trial} of 9, {strategy}"
    )
    page = (out / "report.html").read_text()
    assert "What mattered" in page
    assert "learning_rate" in page
    assert json.dumps(searched.to_json())


def test_halving_takes_short_trials_and_the_best_go_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    searched = found(tmp_path / "out", RATE, strategy="halving", trials=9, steps=504)
    turns = [(each.turn.trial, round(each.turn.share, 3)) for each in searched.done]
    assert [share for _, share in turns] == [0.111] * 9 + [0.333] * 3 + [1.0]
    by_rung = {share: [trial for trial, its in turns if its == share] for share in (0.111, 0.333, 1.0)}
    scores = {each.turn.trial: each.scores[0][1] for each in searched.done[:9]}
    assert by_rung[0.333] == sorted(scores, key=lambda trial: scores[trial])[:3]
    assert set(by_rung[1.0]) <= set(by_rung[0.333])
    # 252 steps for trials; 9 of them cost 9/9 + 3 · 2/9 + 6/9 = 7/3 lengths.
    assert [each.steps for each in searched.done] == [12] * 9 + [36] * 3 + [108]
    # The run of a trial that went through all rungs has the weights of one that never paused.
    trial = tmp_path / "out" / "trials" / f"{searched.best.turn.trial:03d}"
    order, _ = settings_from_file(trial / "config.toml")
    paused = complete(Toys(), trial, Context()).tensors()  # type: ignore[arg-type]
    again = train(Toys(), order, tmp_path / "again", Context(), repeats=trial / "config.toml")  # type: ignore[arg-type]
    assert all(again.tensors()[name].equal(tensor) for name, tensor in paused.items())
    assert again.card.facts["steps"] == 108


def test_the_test_split_is_looked_at_by_the_last_program_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    judged: list[int] = []
    judge = Sums.judge

    def watched(self: Sums, program: Program, held_out: Split, context: Context) -> Sequence[Score]:
        looks.append(Sums.spy.looks)
        judged.append(held_out is Sums.spy)
        return judge(self, program, held_out, context)

    monkeypatch.setattr(Sums, "judge", watched)
    found(tmp_path / "out", RATE, strategy="random", trials=4)
    assert looks[:4] == [0] * 4
    assert judged == [False] * 4 + [True]


def test_without_a_space_the_model_says_what_to_try(tmp_path: Path) -> None:
    searched = found(tmp_path / "out", strategy="random", trials=3, steps=60)
    assert list(searched.best.turn.values) == ["model.width", "model.act"]
    more = found(tmp_path / "more", "default", "model.width=3,4", strategy="random", trials=3, settings=["act=tanh"])
    assert {each.turn.values["model.width"] for each in more.done} == {3, 4}
    assert len(more.done) == 2, "a space that is exhausted ends the trials"
    assert "model.act" not in more.best.turn.values


def test_what_the_losing_trials_could_go_on_from_is_removed_at_the_end(tmp_path: Path) -> None:
    searched = found(tmp_path / "out", RATE, strategy="halving", trials=3, steps=60)
    trials = tmp_path / "out" / "trials"
    assert [path.parent.name for path in trials.glob("*/checkpoints")] == [f"{searched.best.turn.trial:03d}"]
    lost = min({each.turn.trial for each in searched.done} - {searched.best.turn.trial})
    program = complete(Toys(), trials / f"{lost:03d}", Context())  # type: ignore[arg-type]
    assert program.card.facts["steps"] == max(each.steps for each in searched.done)


def test_few_validation_examples_are_pointed_out(tmp_path: Path) -> None:
    said: list[str] = []

    class Heard(Silent):
        def headline(self, text: str) -> None:
            said.append(text)

    order = Order(task="sums", data="rows", budget=Budget(steps=12))
    search(Toys(), order, tmp_path / "out", Context(), Heard(), space=["model.width=2,4"], trials=2)  # type: ignore[arg-type]
    assert any("only 48 examples" in text for text in said)


def test_a_search_is_watched_by_the_trial_under_way(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert killed_at(2, lambda: found(out, RATE, strategy="random", trials=3)) == -signal.SIGKILL
    assert current_run(out) == out / "trials" / "002"
    resume(Toys(), out, Context())  # type: ignore[arg-type]
    assert current_run(out) == out / "best"
    assert read_curves(current_run(out)).state == "finished"
    assert current_run(out / "best") == out / "best"


def test_minutes_are_shared_by_the_clock(tmp_path: Path) -> None:
    searched = found(tmp_path / "out", RATE, strategy="random", trials=3, budget=Budget(minutes=0.05))
    journal = [json.loads(line) for line in (tmp_path / "out" / "journal.jsonl").read_text().splitlines()]
    (left,) = [row["last"] for row in journal if "last" in row]
    used = sum(each.minutes for each in searched.done) / 0.05
    assert left == pytest.approx(max(0.25, 1 - used))


# ---------------------------------------------------------------------------------------------- weights that are shared


def test_networks_learn_together_first_and_the_best_with_shared_weights_are_tried(tmp_path: Path) -> None:
    out = tmp_path / "out"
    searched = found(out, "model.width=1..16", "model.act=relu,tanh", strategy="shared", steps=700)
    together = Run(out).journal()["together"]
    scores = [row["scores"][0][1] for row in together["candidates"]]
    assert scores == sorted(scores)
    assert 3 < len(scores) <= 32
    assert [each.turn.values for each in searched.done] == [row["values"] for row in together["candidates"][:3]]
    # 350 steps are 7 lengths: four of them together, three trials; the last training has the rest.
    assert Run(out / "shared").journal()["plan"]["total_steps"] == 200
    assert [each.steps for each in searched.done] == [50, 50, 50]
    assert searched.program.card.facts["steps"] == 350
    assert searched.program.card.settings["model"]["width"] == searched.best.turn.values["model.width"]
    rewards = [row["reward"] for row in read_events(out / "shared") if "reward" in row]
    assert len(rewards) == 150, "the first quarter asks nobody"
    assert not list((out / "shared").glob("checkpoints/*"))


def test_the_run_of_shared_weights_is_not_taken_for_one_of_its_networks(tmp_path: Path) -> None:
    found(tmp_path / "out", "model.width=2,4", strategy="shared", steps=70)
    with pytest.raises(RunError, match="not whole") as caught:
        complete(Toys(), tmp_path / "out" / "shared", Context())  # type: ignore[arg-type]
    assert "also shared" in str(caught.value.got)


def test_networks_that_share_no_weights_are_refused_before_anything_is_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="share no weights") as caught:
        found(tmp_path / "out", RATE, "model.act=relu,tanh", strategy="shared")
    assert "learning_rate" in str(caught.value.where)
    monkeypatch.setattr(Toys, "shared_class", lambda self, name: None)
    with pytest.raises(UsageError, match="'mlp' share no weights"):
        found(tmp_path / "out", strategy="shared")
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------------------------- what is wrong


def test_a_trial_that_fails_is_told_and_passed_over(tmp_path: Path) -> None:
    searched = found(
        tmp_path / "out", "learn.gradient.optim.learning_rate=0.001,0.01,100.0", strategy="random", trials=3
    )
    (failed,) = [each for each in searched.done if not each.scores]
    assert failed.turn.values == {"learn.gradient.optim.learning_rate": 100.0}
    assert failed.why
    assert ranked(searched.done)[-1] is failed
    assert "Failed trials" in (tmp_path / "out" / "report.html").read_text()
    with pytest.raises(LearningError, match="No trial could be learned") as caught:
        found(tmp_path / "none", "learn.gradient.optim.learning_rate=90.0,100.0", strategy="random", trials=2)
    assert "trial 1" in str(caught.value.got)


@pytest.mark.parametrize(
    ("space", "says"),
    [
        (["model.widht=2,4"], "model.width"),
        (["model.width=two,four"], "does not fit"),
        (["model.width=4"], "nothing to choose"),
        (["model.width=8..4"], "nothing in this range"),
        (["model.width=0..4 log"], "nothing in this range"),
        (["model.width=-3,4"], "do not divide"),
        (["model.width=2..3.5"], "does not fit"),
        (["learn.gradient.optim.learning_rate=-1..1"], "out of range"),
        (["model.heads=1,2", "model.act=relu,sigmoid"], "does not fit"),
        (["data.rows=8,16"], "same examples"),
        (["trainer.patience=0,1"], "the same for all trials"),
        (["nowhere.toml"], "no search space"),
        (["width=2,4", "model.width=2,4"], "decided twice"),
    ],
)
def test_a_wrong_space_is_refused_before_anything_is_learned(space: list[str], says: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        found(tmp_path / "out", *space)
    assert says in str(caught.value)
    assert "--space" in str(caught.value.where)
    assert not (tmp_path / "out").exists()


def test_other_data_is_refused_when_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    assert killed_at(2, lambda: found(out, RATE, strategy="random", trials=3)) == -signal.SIGKILL
    read = Sums.read
    monkeypatch.setattr(Sums, "read", lambda self, *rest: replace(read(self, *rest), fingerprint="e" * 64))
    with pytest.raises(RunError, match="not what this search began with"):
        resume(Toys(), out, Context())  # type: ignore[arg-type]


def test_other_wrong_use_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UnknownName, match="strategy"):
        found(out, RATE, strategy="halfing")
    with pytest.raises(UsageError, match="Nothing is compared"):
        found(out, RATE, trials=1)
    with pytest.raises(UsageError, match="decided twice"):
        found(out, "model.width=2,4", settings=["model.width=8"])
    with pytest.raises(DataError, match="nothing to score"):
        found(out, RATE, data="unvalidated")
    with pytest.raises(UsageError, match="chain"):
        search(Toys(), Order(task="road", data="rows"), out, Context())  # type: ignore[arg-type]
    silent = Toys()
    silent.space = {}
    with pytest.raises(UsageError, match="declares no search space"):
        found(out, registry=silent)
    assert not out.exists()
    with pytest.raises(RunError, match="no search to resume"):
        resume(Toys(), out, Context())  # type: ignore[arg-type]
    out.mkdir()
    (out / "other.txt").write_text("mine")
    with pytest.raises(UsageError, match="something else"):
        found(out, RATE)
    (out / "config.toml").write_text('[run]\ntask = "sums"\n')
    with pytest.raises(UsageError, match="something else"):
        found(out, RATE)
    with pytest.raises(RunError, match="not the folder of a search"):
        resume(Toys(), out, Context())  # type: ignore[arg-type]
    (out / "config.toml").write_text('[search]\ntask = "sums"\n')
    with pytest.raises(RunError, match="already holds a search") as told:
        found(out, RATE)
    assert f"sw2 search --resume --out {out}" in str(told.value.do)


# --------------------------------------------------------------------------------------------------------- after a kill


def killed_at(moment: int, act: Callable[[], Any]) -> int:
    """Run `act` in a process that kills itself when a program is judged, or saved, for the `moment`-th time."""
    child = os.fork()
    if child == 0:
        try:
            calls = 0
            judge, save = Sums.judge, Program.save

            def count() -> None:
                nonlocal calls
                calls += 1
                if calls == moment:
                    os.kill(os.getpid(), signal.SIGKILL)

            def judged(self: Any, *rest: Any) -> Any:
                count()
                return judge(self, *rest)

            def saved(self: Any, *rest: Any) -> Any:
                count()
                return save(self, *rest)

            Sums.judge, Program.save = judged, saved  # type: ignore[method-assign]
            act()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def test_after_kill_9_networks_go_on_learning_together_as_if_nothing_had_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"strategy": "shared", "steps": 280, "settings": ["trainer.checkpoint_seconds=1e-9"]}
    whole = found(tmp_path / "whole", **options)
    out, take = tmp_path / "out", Rows.batch

    def dies_in(number: int) -> Callable[..., Batch]:
        def batch(self: Rows, nets: Mapping[str, Model], step: int, rank: int, size: int) -> Batch:
            if step == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return take(self, nets, step, rank, size)

        return batch

    # Step 10 is one of the even draws, 47 and 79 of those that the controller learns from; 80 are all.
    for number in (10, 47, 79):
        monkeypatch.setattr(Rows, "batch", dies_in(number))
        begun = (out / "config.toml").exists()
        act = (lambda: resume(Toys(), out, Context())) if begun else (lambda: found(out, **options))  # type: ignore[arg-type]
        assert killed_at(99, act) == -signal.SIGKILL
        assert not (out / "trials").exists()
        assert current_run(out) == out / "shared"
    monkeypatch.setattr(Rows, "batch", take)
    again = resume(Toys(), out, Context())  # type: ignore[arg-type]
    ours, theirs = (Run(path).journal()["together"]["candidates"] for path in (out, tmp_path / "whole"))
    assert ours == theirs
    assert [(each.turn, each.scores) for each in again.done] == [(each.turn, each.scores) for each in whole.done]
    kept, wanted = weights(out), weights(tmp_path / "whole")
    assert all(kept[name].equal(wanted[name]) for name in wanted)


@pytest.mark.parametrize("strategy", ["halving", "evolution", "tpe", "shared"])
def test_after_kill_9_nothing_is_lost_but_the_trial_under_way(strategy: str, tmp_path: Path) -> None:
    if strategy == "tpe":
        pytest.importorskip("optuna")
    options: dict[str, Any] = {"strategy": strategy, "trials": 5, "steps": 120}
    space = ("model.act=relu,tanh" if strategy == "shared" else RATE, "model.width=2..9")
    whole = found(tmp_path / "whole", *space, **options)
    out = tmp_path / "out"
    ended, moment = -signal.SIGKILL, 0
    while ended == -signal.SIGKILL:
        # Each process is killed a judging or a saving later than the one before, so at other places.
        moment += 1

        def act() -> None:
            if (out / "config.toml").exists():
                resume(Toys(), out, Context())  # type: ignore[arg-type]
            else:
                found(out, *space, **options)

        ended = killed_at(moment, act)
        assert moment < 20
    assert ended == 0
    assert moment > 3, "it was killed several times"
    again = resume(Toys(), out, Context())  # type: ignore[arg-type]
    assert [(each.turn, each.scores, each.steps) for each in again.done] == [
        (each.turn, each.scores, each.steps) for each in whole.done
    ]
    assert again.best.turn == whole.best.turn
    ours, theirs = weights(out), weights(tmp_path / "whole")
    assert all(ours[name].equal(theirs[name]) for name in theirs)
