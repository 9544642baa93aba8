"""The driver on a small task: budgets, resume, faults, early stopping, accumulation, players in turn."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from sw2.base.errors import LearningError, ResourceError, RunError, UsageError
from sw2.core.gradient import Gradient, GradientConfig, Lesson, Loss, Player, Source
from sw2.core.model import Batch
from sw2.core.objective import Enough
from sw2.core.run import Run, read_events, read_snapshot
from sw2.core.trainer import Budget, Silent, Trainer, TrainerConfig
from sw2.parts.optim.build import OptimConfig
from sw2.parts.optim.schedule import ScheduleConfig, multiplier


def _tensors(learned: Any) -> dict[str, Tensor]:
    return learned.program.tensors()


def _same(one: Any, other: Any) -> bool:
    ours, theirs = _tensors(one), _tensors(other)
    return ours.keys() == theirs.keys() and all(ours[name].equal(theirs[name]) for name in ours)


def _close(one: Any, other: Any, tolerance: float = 1e-6) -> bool:
    ours, theirs = _tensors(one), _tensors(other)
    return all(torch.allclose(ours[name], theirs[name], rtol=1e-4, atol=tolerance) for name in ours)


def _events(path: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_events(path) if event["kind"] == kind]


_CONSTANT = ScheduleConfig(shape="constant", warmup=0.0)


class Stop(Exception):
    """What a test raises in place of a kill."""


def _stop_at(toy: Any, step: int) -> Any:
    """A loss that fails like a crash when the step's batch comes."""
    calls = {"losses": 0}
    plain = toy.loss

    def loss(nets: Mapping[str, Any], batch: Batch) -> Loss:
        # The trial steps come first; they end before the plan is in the journal.
        if (toy.folder / "run" / "journal.jsonl").read_text().count('"plan"'):
            calls["losses"] += 1
            if calls["losses"] > step:
                raise Stop
        return plain(nets, batch)

    return replace(toy, loss=loss)


# ------------------------------------------------------------------------------------------------------------ budget


@pytest.mark.parametrize(
    "budget", [{}, {"steps": 0}, {"minutes": -1.0}, {"steps": 3, "epochs": 1.0}, {"minutes": float("nan")},
               {"minutes": float("inf")}]
)  # fmt: skip
def test_a_budget_is_one_number_above_zero(budget: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="The budget is not clear"):
        Budget(**budget)


@pytest.mark.parametrize("settings", [{"evaluations": -1}, {"patience": -1}, {"checkpoint_seconds": -1.0}])
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"trainer.{next(iter(settings))} is out of range"):
        TrainerConfig(**settings)


@pytest.mark.parametrize(
    "settings", [{"batch_size": 0}, {"micro_batch": -1}, {"clip_norm": -0.5}, {"average_decay": 1.0}]
)
def test_gradient_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"gradient.{next(iter(settings))} is out of range"):
        GradientConfig(**settings)


def test_steps_and_epochs(toy: Any) -> None:
    assert toy.fit("steps", steps=13).steps == 13
    assert toy.fit("epochs", epochs=2.5).steps == 10  # 64 rows in batches of 16


def test_minutes_are_kept(toy: Any) -> None:
    """The plan is made from measured steps, so that the end comes near to what was asked for."""
    began = time.monotonic()
    learned = toy.fit("run", minutes=0.06)
    spent = time.monotonic() - began
    assert learned.steps > 100
    assert learned.plan.minutes == pytest.approx(0.06, rel=0.3)
    assert 0.4 * 3.6 < spent < 3 * 3.6  # other programs run on this machine too


def test_steps_are_counted_once_more_and_a_repeat_schedules_each_as_it_was(toy: Any, tmp_path: Path) -> None:
    """The trial steps are slow, as the first ones of a process are; the others leave time for many more."""
    calls = {"losses": 0}
    plain, journal_file = toy.loss, tmp_path / "run" / "journal.jsonl"

    def loss(nets: Mapping[str, Any], batch: Batch) -> Loss:
        learns = torch.is_grad_enabled()
        decided = journal_file.read_text().count('"plan"')
        calls["losses"] += decided and learns
        if calls["losses"] == 40:
            raise Stop
        time.sleep(0.001 if decided else 0.01)
        return plain(nets, batch)

    slow = replace(toy, loss=loss)
    with pytest.raises(Stop):
        slow.fit("run", minutes=0.1)
    learned = slow.fit("run", minutes=0.1)
    with contextlib.closing(Run.open(tmp_path / "run")) as run:
        plan = run.journal()["plan"]
    (_, first), total = plan["counts"][0], plan["total_steps"]
    assert 100 <= first < total / 1.5
    assert learned.steps == total
    rates = {each["step"]: each["learning_rate"] for each in _events(tmp_path / "run", "step")}
    config = toy.gradient.optim
    for number, rate in rates.items():
        known = next((count for until, count in plan["counts"] if number - 1 < until), total)
        assert rate == pytest.approx(config.learning_rate * multiplier(config.schedule, number - 1, known))


def test_steps_are_counted_again_when_other_work_comes_and_goes(toy: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """By a clock of its own: after 10 of 60 seconds a step takes thrice as long, and after 30 as long as before."""
    plain, now = toy.loss, [0.0]
    monkeypatch.setattr("sw2.core.trainer.time", SimpleNamespace(monotonic=lambda: now[0], perf_counter=lambda: now[0]))

    def loss(nets: Mapping[str, Any], batch: Batch) -> Loss:
        if torch.is_grad_enabled():
            now[0] += 0.3 if 10 < now[0] < 30 else 0.1
        return plain(nets, batch)

    learned = replace(toy, loss=loss, trainer=TrainerConfig(evaluations=4, health="off")).fit("run", minutes=1)
    assert now[0] == pytest.approx(60, abs=2)
    assert learned.steps == pytest.approx(100 + 20 / 0.3 + 300, abs=30)
    (_, first), *later = learned.plan.counts
    assert first == pytest.approx(600, rel=0.05)
    assert len(later) >= 3
    assert min(total for _, total in later) < 400
    validated = [each["step"] for each in _events(tmp_path / "run", "evaluate")]
    assert len(validated) == 4
    assert validated[-1] == learned.steps


@pytest.mark.parametrize(("seconds", "judged"), [(0.2, 10), (1.0, 3), (40.0, 1)])
def test_looking_at_the_validation_split_takes_little_of_the_minutes(
    toy: Any, tmp_path: Path, monkeypatch: Any, seconds: float, judged: int
) -> None:
    """A twentieth of a minute is 3 seconds, by a clock of its own; one look there always is."""
    now = [0.0]
    monkeypatch.setattr("sw2.core.trainer.time", SimpleNamespace(monotonic=lambda: now[0], perf_counter=lambda: now[0]))

    def loss(nets: Mapping[str, Any], batch: Batch) -> Loss:
        now[0] += 0.1 * torch.is_grad_enabled()
        return toy.loss(nets, batch)

    def validate(nets: Mapping[str, Any]) -> dict[str, float]:
        now[0] += seconds
        return {"loss": 1.0}

    replace(toy, loss=loss, validate=validate, trainer=TrainerConfig(health="off")).fit("run", minutes=1)
    assert len(_events(tmp_path / "run", "evaluate")) == judged


@pytest.mark.parametrize(("seconds", "timed", "taken"), [(0.1, 17, 570), (2.0, 4, 25), (20.0, 1, 1)])
def test_trial_steps_take_little_of_the_minutes(
    toy: Any, monkeypatch: Any, seconds: float, timed: int, taken: int
) -> None:
    """Of a minute, by a clock of its own: one is always timed, no further one after 6 seconds."""
    now, steps = [0.0], [0]
    monkeypatch.setattr("sw2.core.trainer.time", SimpleNamespace(monotonic=lambda: now[0], perf_counter=lambda: now[0]))

    def loss(nets: Mapping[str, Any], batch: Batch) -> Loss:
        steps[0] += 1
        now[0] += seconds
        return toy.loss(nets, batch)

    learned = replace(toy, loss=loss, trainer=TrainerConfig(evaluations=0, health="off")).fit("run", minutes=1)
    assert steps[0] - learned.steps == timed
    assert learned.steps == pytest.approx(taken, rel=0.05)
    assert now[0] == pytest.approx(60, abs=seconds)


def test_compiling_in_the_first_step_is_no_part_of_a_step(toy: Any, monkeypatch: Any) -> None:
    """It took 9 of the 6 seconds of a minute in which steps are timed, and the plan was made of that step alone."""
    now, steps, compiled = [0.0], [0], [0.0]
    monkeypatch.setattr("sw2.core.trainer.time", SimpleNamespace(monotonic=lambda: now[0], perf_counter=lambda: now[0]))
    monkeypatch.setattr("sw2.core.trainer.native", SimpleNamespace(spent=lambda: compiled[0]))

    def loss(nets: Mapping[str, Any], batch: Batch) -> Loss:
        steps[0] += 1
        if steps[0] == 1:
            now[0] += 9.0
            compiled[0] = 9.0
        now[0] += 0.1
        return toy.loss(nets, batch)

    learned = replace(toy, loss=loss, trainer=TrainerConfig(evaluations=0, health="off")).fit("run", minutes=1)
    assert learned.steps == pytest.approx(480, rel=0.05)
    assert now[0] == pytest.approx(60, abs=1)


def test_a_plan_that_does_not_say_how_often_it_judges_goes_on(toy: Any, tmp_path: Path) -> None:
    """Those of earlier versions."""
    whole = toy.fit("whole", steps=9)
    with pytest.raises(Stop):
        _stop_at(toy, 5).fit("run", steps=9)
    journal = tmp_path / "run" / "journal.jsonl"
    *before, last = journal.read_text().splitlines()
    plan = json.loads(last)["plan"]
    del plan["evaluations"]
    journal.write_text("\n".join([*before, json.dumps({"plan": plan})]) + "\n")
    assert _same(toy.fit("run", steps=9), whole)


def test_a_run_of_another_version_is_no_riddle(toy: Any, tmp_path: Path) -> None:
    with pytest.raises(Stop):
        _stop_at(toy, 5).fit("run", steps=9)
    with open(tmp_path / "run" / "journal.jsonl", "a") as journal:
        plan = json.loads((tmp_path / "run" / "journal.jsonl").read_text().splitlines()[-1])["plan"]
        journal.write(json.dumps({"plan": plan | {"first_total": 3}}) + "\n")
    with pytest.raises(RunError, match="begun by another version of sw2"):
        toy.fit("run", steps=9)


def test_the_journal_is_frozen_before_the_first_step(toy: Any, tmp_path: Path) -> None:
    with pytest.raises(Stop):
        _stop_at(toy, 0).fit("run", steps=20)
    before = (tmp_path / "run" / "journal.jsonl").read_text()
    merged: dict[str, Any] = {}
    for line in before.splitlines():
        merged |= json.loads(line)
    assert merged["plan"]["total_steps"] == 20
    assert {"settings", "choices", "reasons", "threads", "seed", "fingerprint", "torch"} <= merged.keys()
    toy.fit("run", steps=99)  # the journal decides, not what is asked later
    assert (tmp_path / "run" / "journal.jsonl").read_text() == before
    assert _events(tmp_path / "run", "step")[-1]["step"] == 20


# ------------------------------------------------------------------------------------------------------------ resume


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("method", ["adamw", "muon", "sgd"])
@pytest.mark.parametrize("stop", [1, 7, 11])
def test_a_crash_changes_no_bit(toy: Any, kinds_of_toys: Any, norm: str, method: str, stop: int) -> None:
    """With dropout, an average of the weights and micro-batches, wherever the crash meets it."""
    toy = replace(
        toy,
        model=kinds_of_toys["Mlp"].Config(norm=norm, dropout=0.2),
        gradient=GradientConfig(
            batch_size=16, micro_batch=5 if norm == "none" else 8, precision="fp32", average_decay=0.9,
            optim=OptimConfig(method=method, learning_rate=1e-2, hidden=("first",)),
        ),
    )  # fmt: skip
    calm = toy.fit("calm", steps=12)
    micros = 4 if norm == "none" else 2
    with pytest.raises(Stop):
        _stop_at(toy, stop * micros + 1).fit("run", steps=12)
    assert _same(toy.fit("run", steps=12), calm)


def test_when_a_checkpoint_is_written_changes_no_bit(toy: Any, tmp_path: Path) -> None:
    often = replace(toy, trainer=TrainerConfig(evaluations=3, checkpoint_seconds=1e-9))
    never = replace(toy, trainer=TrainerConfig(evaluations=0, health="off"))
    assert _same(often.fit("often", steps=15), never.fit("never", steps=15))
    assert len(list((tmp_path / "often" / "checkpoints").glob("step-*"))) == 2


def test_large_checkpoints_are_written_more_seldom() -> None:
    """Those of a large network take seconds, and would cost a fifth of the time at 30 seconds each."""
    usual = TrainerConfig()
    assert [usual.between_checkpoints(seconds) for seconds in (0.0, 0.5, 6.0)] == pytest.approx([30, 30, 200])
    assert TrainerConfig(checkpoint_seconds=5.0).between_checkpoints(6.0) == 5.0


def _two(toy: Any, job: Any) -> Lesson:
    """One player with two networks, whose answers are added up."""
    first, second = toy.net(), replace(toy, seed=1).net()

    def loss(nets: Mapping[str, Any], batch: Batch) -> Loss:
        away = nets["first"](batch)["y"] + nets["second"](batch)["y"] - batch["y"]
        return Loss(away.square().sum(), len(batch["y"]))

    plain = replace(toy, lesson=None).teach(job)
    player = Player(name="both", nets=("first", "second"), loss=loss)
    return replace(plain, nets={"first": first, "second": second}, players=[player])


@pytest.mark.parametrize("lesson", [None, _two])
def test_evaluation_and_health_change_no_bit(toy: Any, lesson: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(Trainer, "_health_cadence", lambda self, *_: 5 if self.config.health == "on" else 0)
    busy = replace(toy, lesson=lesson, trainer=TrainerConfig(evaluations=15))
    quiet = replace(toy, lesson=lesson, trainer=TrainerConfig(evaluations=0, health="off"))
    assert _same(busy.fit("busy", steps=30), quiet.fit("quiet", steps=30))


def test_the_trial_steps_leave_no_trace(toy: Any) -> None:
    """What is measured before the first step is taken back: the objective alone, stepped by hand, gives the same."""
    from sw2.core.objective import Clock

    job = replace(toy.job(), choices={"micro_batch": 0, "compile": "off", "precision": "fp32"})
    objective = toy.objective()
    state = objective.start(job)
    for step in range(9):
        objective.step(state, Clock(step, 9))
    by_hand = objective.finish(state).tensors()
    driven = _tensors(toy.fit("run", steps=9))
    assert all(by_hand[name].equal(driven[name]) for name in by_hand)


def test_a_damaged_newest_checkpoint_is_passed_over(toy: Any, tmp_path: Path) -> None:
    calm = toy.fit("calm", steps=12)
    toy.fit("run", steps=12)
    newest = max((tmp_path / "run" / "checkpoints").glob("step-*"))
    newest.write_bytes(newest.read_bytes()[:100])
    assert _same(toy.fit("run", steps=12), calm)
    assert any("damaged and was passed over" in event["text"] for event in _events(tmp_path / "run", "note"))


def test_changed_data_is_refused(toy: Any) -> None:
    toy.fit("run", steps=2)
    with pytest.raises(RunError, match="The data is not what this run learns from") as caught:
        replace(toy, fingerprint="e" * 64).fit("run", steps=2)
    assert "ffff" in str(caught.value)
    assert "eeee" in str(caught.value)


# ------------------------------------------------------------------------------------------------------------ faults


def test_a_loss_that_is_not_finite_stops_before_the_step(toy: Any, tmp_path: Path) -> None:
    losses: list[int] = []

    def poisoned(nets: Mapping[str, Any], batch: Batch) -> Loss:
        plain = toy.loss(nets, batch)
        learning = (tmp_path / "run" / "journal.jsonl").read_text().count('"plan"')
        losses.append(1) if learning else None
        return Loss(plain.total * float("nan"), plain.count) if len(losses) == 8 else plain

    often = replace(toy, trainer=TrainerConfig(evaluations=0, checkpoint_seconds=1e-9, health="off"))
    with pytest.raises(LearningError, match="The loss is not finite") as caught:
        replace(often, loss=poisoned).fit("run", steps=12)
    assert caught.value.where == "step 7"
    assert "learning_rate" in str(caught.value.do)
    assert _events(tmp_path / "run", "failed")
    kept = read_snapshot(max((tmp_path / "run" / "checkpoints").glob("step-*")))
    assert all(tensor.isfinite().all() for tensor in kept.tensors.values() if tensor.is_floating_point())
    # Without the poison it goes on as if nothing had been.
    assert _same(often.fit("run", steps=12), often.fit("calm", steps=12))


def test_a_huge_learning_rate_is_told(toy: Any) -> None:
    huge = OptimConfig(method="sgd", learning_rate=1e30, schedule=OptimConfig().schedule)
    with pytest.raises(LearningError, match="The loss is not finite") as caught:
        replace(toy, gradient=replace(toy.gradient, optim=huge, clip_norm=0.0)).fit("run", steps=50)
    assert "1000000" not in str(caught.value)  # no number of a trial step


def _memory_for(toy: Any, rows: int) -> Any:
    """A machine whose memory holds at most `rows` rows."""

    def loss(nets: Mapping[str, Any], batch: Batch) -> Loss:
        if len(batch["y"]) > rows:
            nets_ran = toy.loss(nets, batch)  # fails after the forward pass, as real ones do
            raise RuntimeError(f"DefaultCPUAllocator: can't allocate memory: {int(nets_ran.count)} rows")
        return toy.loss(nets, batch)

    return replace(toy, loss=loss)


def test_out_of_memory_at_the_start_halves_the_micro_batch(toy: Any, tmp_path: Path) -> None:
    learned = _memory_for(toy, 5).fit("run", steps=10)
    assert learned.choices["micro_batch"] == 4  # 16, 8, 4
    lines = [json.loads(line) for line in (tmp_path / "run" / "journal.jsonl").read_text().splitlines()]
    assert [line["choices"]["micro_batch"] for line in lines if "choices" in line] == [0, 8, 4]
    small = replace(toy, gradient=replace(toy.gradient, micro_batch=4)).fit("small", steps=10)
    assert _same(learned, small)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_out_of_memory_on_the_way_is_journalled_first_and_resumes(
    toy: Any, kinds_of_toys: Any, tmp_path: Path, norm: str
) -> None:
    """Memory shrinks at the 6th step, in its first micro-batch, after the forward pass has moved running statistics."""
    toy = replace(toy, model=kinds_of_toys["Mlp"].Config(norm=norm), trainer=TrainerConfig(evaluations=0, health="off"))
    journal = tmp_path / "run" / "journal.jsonl"
    seen: list[str] = []

    def loss(nets: Mapping[str, Any], batch: Batch) -> Loss:
        found = toy.loss(nets, batch)
        if journal.read_text().count('"plan"'):
            seen.append(journal.read_text())
            if len(seen) > 5 and len(batch["y"]) > 8:
                raise torch.OutOfMemoryError("CUDA out of memory")
        return found

    learned = replace(toy, loss=loss).fit("run", steps=12)
    assert learned.choices["micro_batch"] == 8
    assert '"micro_batch": 8' in seen[6]
    assert '"micro_batch": 8' not in seen[5]
    if norm == "none":
        assert _close(learned, toy.fit("big", steps=12))
        assert _close(learned, replace(toy, gradient=replace(toy.gradient, micro_batch=8)).fit("small", steps=12))
    counter = [name for name in _tensors(learned) if name.endswith("num_batches_tracked")]
    for name in counter:
        assert int(_tensors(learned)[name]) == 5 + 2 * 7  # the forward pass that failed does not count


def test_memory_for_not_even_one_row(toy: Any) -> None:
    with pytest.raises(ResourceError, match="cannot be made smaller") as caught:
        _memory_for(toy, 0).fit("run", steps=3)
    assert "one example" in str(caught.value)


def test_other_errors_are_not_taken_for_memory(toy: Any) -> None:
    def broken(nets: Mapping[str, Any], batch: Batch) -> Loss:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        replace(toy, loss=broken).fit("run", steps=3)


# -------------------------------------------------------------------------------------- early stopping, accumulation


def _validated_by(losses: list[float], tmp_path: Path) -> Any:
    """Validation losses as listed, one for each evaluation after the trial's."""
    taken = {"n": 0}

    def validate(nets: Mapping[str, Any]) -> dict[str, float]:
        if not (tmp_path / "run" / "journal.jsonl").read_text().count('"plan"'):
            return {"loss": 9.0}
        taken["n"] += 1
        return {"loss": losses[taken["n"] - 1]}

    return validate


def test_patience_stops_and_best_is_kept(toy: Any, tmp_path: Path) -> None:
    losses = [5.0, 6.0, 3.0, 4.0, 3.5, 1.0]
    toy = replace(toy, validate=_validated_by(losses, tmp_path))
    eager = replace(toy, trainer=TrainerConfig(evaluations=6, patience=2, keep="best"))
    learned = eager.fit("run", steps=24)
    assert learned.steps == 20  # judged at 4, 8, 12 (best), 16 and 20: then two in a row were no better
    best = read_snapshot(tmp_path / "run" / "checkpoints" / "best.safetensors")
    assert _tensors(learned)["nets/main/first.weight"].equal(best.tensors["net/main/first.weight"])
    last = read_snapshot(max((tmp_path / "run" / "checkpoints").glob("step-*")))
    assert not _tensors(learned)["nets/main/first.weight"].equal(last.tensors["net/main/first.weight"])
    assert [event["step"] for event in _events(tmp_path / "run", "evaluate")] == [4, 8, 12, 16, 20]
    assert _same(eager.fit("run", steps=24), learned)  # and a resume ends the same way


@pytest.mark.parametrize("stop", [5, 9, 13, 17])
def test_early_stopping_resumes_exactly(toy: Any, tmp_path: Path, stop: int) -> None:
    """The losses of the real network this time; its learning rate is too high on purpose, so that it gets worse."""
    jumpy = replace(
        toy,
        gradient=replace(toy.gradient, optim=OptimConfig(method="adamw", learning_rate=0.3)),
        trainer=TrainerConfig(evaluations=10, patience=2, keep="best"),
    )
    calm = jumpy.fit("calm", steps=40)
    assert calm.steps < 40
    with contextlib.suppress(Stop):  # a late stop comes after the early one
        _stop_at(jumpy, stop).fit("run", steps=40)
    resumed = jumpy.fit("run", steps=40)
    assert resumed.steps == calm.steps
    assert _same(resumed, calm)


@pytest.mark.parametrize("config", [TrainerConfig(patience=2), TrainerConfig(keep="best"),
                                    TrainerConfig(keep="best", evaluations=0)])  # fmt: skip
def test_settings_that_need_validation_say_so(toy: Any, config: TrainerConfig) -> None:
    without = toy if config.evaluations == 0 else replace(toy, validate=None)
    with pytest.raises(UsageError, match="Nothing is validated on"):
        replace(without, trainer=config).fit("run", steps=3)


@pytest.mark.parametrize("micro", [1, 3, 5, 15])
def test_micro_batches_add_up_to_the_batch(toy: Any, micro: int) -> None:
    """Unequal ones too: the mean is over all rows, not over micro-batches."""
    whole = toy.fit("whole", steps=8)
    assert _close(replace(toy, gradient=replace(toy.gradient, micro_batch=micro)).fit("parts", steps=8), whole)


@pytest.mark.parametrize("clip", [0.05, 0.0])
def test_a_long_gradient_is_clipped_to_its_norm(toy: Any, tmp_path: Path, clip: float) -> None:
    """One step of plain SGD moves the weights by rate · gradient; what is logged is the norm before clipping."""
    plain = OptimConfig(method="sgd", learning_rate=0.5, momentum=0.0, weight_decay=0.0, schedule=_CONSTANT)
    gradient = replace(toy.gradient, optim=plain, clip_norm=clip)
    moved = _tensors(replace(toy, gradient=gradient).fit("run", steps=1))
    before = toy.net().state_dict()
    length = math.sqrt(
        sum(float((moved[f"nets/main/{name}"] - tensor).square().sum()) for name, tensor in before.items())
    )
    (event,) = _events(tmp_path / "run", "step")
    assert event["gradient_norm"] > 0.05
    assert length == pytest.approx(0.5 * (clip or event["gradient_norm"]), rel=1e-4)


def test_the_program_is_the_average_of_the_weights(toy: Any, tmp_path: Path) -> None:
    learned = replace(toy, gradient=replace(toy.gradient, average_decay=0.9)).fit("run", steps=12)
    last = read_snapshot(max((tmp_path / "run" / "checkpoints").glob("step-*"))).tensors
    for name in toy.net().state_dict():
        tensor = _tensors(learned)[f"nets/main/{name}"]
        assert tensor.equal(last[f"average/main/{name}"])
        assert not tensor.equal(last[f"net/main/{name}"])


def test_losses_count_their_items(toy: Any) -> None:
    """Rows with different numbers of items (as texts of different lengths have): still the mean over all items."""

    def masked(nets: Mapping[str, Any], batch: Batch) -> Loss:
        error = (nets["main"](batch)["y"] - batch["y"]).square()
        mask = batch["x"][:, :1] > 0
        return Loss((error * mask).sum(), float(mask.sum()))

    toy = replace(toy, loss=masked)
    whole = toy.fit("whole", steps=8)
    # By hand, for the first step.
    lesson, net = toy.teach(toy.job()), toy.net()
    found = masked({"main": net}, lesson.source.batch({}, 0, 0, 1))
    (found.total / found.count).backward()
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in net.parameters()])
    first = _events(toy.folder / "whole", "step")[0]
    assert first["gradient_norm"] == pytest.approx(float(norm.detach()), rel=1e-5)
    assert first["loss"] == pytest.approx(float(found.total.detach() / found.count), rel=1e-5)
    assert _close(replace(toy, gradient=replace(toy.gradient, micro_batch=3)).fit("parts", steps=8), whole)


# -------------------------------------------------------------------------------------------------- players in turn


def _gan(toy: Any, job: Any, fail: Callable[[], None] = lambda: None) -> Lesson:
    """A generator of one number and a critic; the critic moves at every second step only, and may `fail` first."""

    def realness(nets: Mapping[str, Any], x: Tensor) -> Tensor:
        return nets["critic"]({"x": x})["y"]

    def made(nets: Mapping[str, Any], batch: Batch) -> Tensor:
        return nets["generator"](batch)["y"].expand(-1, 4)

    def generate(nets: Mapping[str, Any], batch: Batch) -> Loss:
        return Loss(torch.nn.functional.softplus(-realness(nets, made(nets, batch))).sum(), len(batch["x"]))

    def criticise(nets: Mapping[str, Any], batch: Batch) -> Loss:
        fail()
        real = realness(nets, batch["y"].expand(-1, 4))
        fake = realness(nets, made(nets, batch).detach())
        plus = torch.nn.functional.softplus
        return Loss((plus(-real) + plus(fake)).sum(), len(batch["x"]))

    generator, critic = toy.net(), replace(toy, seed=1).net()
    source = replace(toy, lesson=None).teach(job).source
    return Lesson(
        nets={"generator": generator, "critic": critic},
        players=[
            Player(name="generator", nets=("generator",), loss=generate),
            Player(name="critic", nets=("critic",), loss=criticise, optim=OptimConfig(learning_rate=3e-3), every=2),
        ],
        source=source,
        validate=None,
        assemble=toy.assemble,
        items=("rows", 16),
    )


def _at_call(number: int, run: Path, error: type[BaseException]) -> Callable[[], None]:
    """Raises `error` at its call of that number after the trial steps."""
    calls: list[int] = []

    def maybe() -> None:
        if '"plan"' in (run / "journal.jsonl").read_text():
            calls.append(1)
            if len(calls) == number:
                raise error

    return maybe


@pytest.mark.parametrize("stop", [3, 8])
def test_two_players_resume_exactly(toy: Any, tmp_path: Path, stop: int) -> None:
    toy = replace(toy, lesson=_gan, gradient=replace(toy.gradient, average_decay=0.9))
    calm = toy.fit("calm", steps=30)
    assert {name.split("/")[1] for name in _tensors(calm)} == {"generator", "critic", "mean"}
    crash = _at_call(stop, tmp_path / "run", Stop)
    with pytest.raises(Stop):
        replace(toy, lesson=lambda toy, job: _gan(toy, job, crash)).fit("run", steps=30)
    assert _same(toy.fit("run", steps=30), calm)


def test_players_are_watched_and_told_apart(toy: Any, tmp_path: Path) -> None:
    """Health looks at the first player even when the second has moved last."""
    replace(toy, lesson=_gan).fit("run", steps=30)
    first = _events(tmp_path / "run", "step")[0]
    assert {"generator.loss", "critic.loss", "generator.gradient_norm", "critic.gradient_norm"} <= first.keys()
    assert "critic.loss" not in _events(tmp_path / "run", "step")[1]
    rows = {row["layer"]: row for row in _events(tmp_path / "run", "health")[0]["layers"]}
    for layer in ("first", "last"):
        assert rows[layer]["gradient"] > 0
        assert rows[layer]["update"] > 0


def test_memory_that_ends_between_two_players(toy: Any, tmp_path: Path) -> None:
    """The first one has had its turn; it does not move again when the step is taken once more."""
    toy = replace(toy, trainer=TrainerConfig(evaluations=0, health="off"))
    calm = replace(toy, lesson=_gan).fit("calm", steps=10)
    fail = _at_call(3, tmp_path / "run", MemoryError)
    short = replace(toy, lesson=lambda toy, job: _gan(toy, job, fail)).fit("run", steps=10)
    assert short.choices["micro_batch"] == 8
    assert _close(short, calm)


# ------------------------------------------------------------------------------------- batches that see the networks


class _Seen(Source):
    """Another source's batches, and the size of the weights that each was made with; enough of them at some size."""

    def __init__(self, source: Source, least: float) -> None:
        self.source, self.least, self.sizes = source, least, list[float]()

    def batch(self, nets: Mapping[str, Any], step: int, rank: int, size: int) -> Batch:
        total = sum(float(parameter.detach().square().sum()) for parameter in nets["main"].parameters())
        self.sizes = [*self.sizes, total]
        if total < self.least:
            raise Enough(f"the weights are smaller than {self.least:.3f}.")
        return self.source.batch(nets, step, rank, size)

    def steps_per_epoch(self) -> float:
        return self.source.steps_per_epoch()

    def metrics(self) -> Mapping[str, float]:
        return {"size": self.sizes[-1]}

    def state(self) -> Mapping[str, Any]:
        return {"sizes": self.sizes}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.sizes = list(state["sizes"])


def _seen(toy: Any, least: float, passes: int = 1) -> Any:
    def lesson(toy: Any, job: Any) -> Lesson:
        plain = replace(toy, lesson=None).teach(job)
        players = [replace(player, passes=passes) for player in plain.players]
        return replace(plain, source=_Seen(plain.source, least), players=players)

    return replace(toy, lesson=lesson, trainer=TrainerConfig(evaluations=2, health="off"))


def test_a_source_may_end_learning(toy: Any, tmp_path: Path) -> None:
    _seen(toy, 0.0).fit("whole", steps=40)
    sizes = [event["size"] for event in _events(tmp_path / "whole", "step")]
    end = next(step for step in range(8, 40) if sizes[step] < min(sizes[:step]))
    least = (min(sizes[:end]) + sizes[end]) / 2
    learned = _seen(toy, least).fit("run", steps=40)
    assert learned.steps == end
    notes = [event["text"] for event in _events(tmp_path / "run", "note")]
    assert notes == [f"the weights are smaller than {least:.3f}."]
    assert _events(tmp_path / "run", "evaluate")[-1]["step"] == end
    assert learned.last
    # A resume ends where it ended.
    assert _same(_seen(toy, least).fit("run", steps=40), learned)
    with pytest.raises(LearningError, match="would end within a few steps") as caught:
        _seen(toy, sizes[0] * 2).fit("early", steps=40)
    assert "the weights are smaller" in str(caught.value)


@pytest.mark.parametrize("stop", [3, 8])
def test_several_passes_resume_exactly(toy: Any, stop: int) -> None:
    toy = _seen(toy, 0.0, passes=3)
    calm = toy.fit("calm", steps=10)
    assert not _same(calm, _seen(toy, 0.0).fit("once", steps=10))
    with pytest.raises(Stop):
        _stop_at(toy, 3 * stop).fit("run", steps=10)
    assert _same(toy.fit("run", steps=10), calm)


# ------------------------------------------------------------------------------------------ what does not learn


def _referred(toy: Any, job: Any) -> Lesson:
    """The last layer alone learns, held near a reference with batch normalisation and dropout that nobody changes."""
    reference = replace(toy, seed=1, model=replace(toy.model, norm="batch", dropout=0.5)).net()

    def loss(nets: Mapping[str, Any], batch: Batch) -> Loss:
        assert not nets["reference"].training
        assert not any(parameter.requires_grad for parameter in nets["reference"].parameters())
        away = nets["main"](batch)["y"] - nets["reference"](batch)["y"]
        return Loss((nets["main"](batch)["y"] - batch["y"]).square().sum() + away.square().sum(), len(batch["y"]))

    return Lesson(
        nets={"reference": reference, "main": toy.net()},
        players=[Player(name="main", nets=("main",), loss=loss, learns=lambda name: name.startswith("last."))],
        source=replace(toy, lesson=None).teach(job).source,
        validate=None,
        assemble=lambda nets: toy.assemble({"main": nets["main"]}),
        items=("rows", 16),
    )


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_what_does_not_learn_is_in_no_checkpoint(toy: Any, tmp_path: Path, decay: float) -> None:
    toy = replace(toy, lesson=_referred, gradient=replace(toy.gradient, average_decay=decay))
    learned = toy.fit("run", steps=6)
    run = Run(tmp_path / "run")
    _, snapshot = run.latest_checkpoint()
    kept = {"net/main/last.weight", "net/main/last.bias"}
    kept |= {name.replace("net/", "average/") for name in kept} if decay else set()
    assert {name for name in snapshot.tensors if not name.startswith("optim/")} == kept
    assert all("/main.last." in name for name in snapshot.tensors if name.startswith("optim/"))
    before, after = dict(toy.net().named_parameters()), _tensors(learned)
    for name, parameter in before.items():
        assert after[f"nets/main/{name}"].equal(parameter.detach()) == (not name.startswith("last."))
    facts = learned.plan.facts
    assert facts["learning parameters"] == 9
    assert facts["parameters"] == sum(parameter.numel() for parameter in before.values())


@pytest.mark.parametrize("stop", [3, 8])
def test_what_does_not_learn_resumes_exactly(toy: Any, tmp_path: Path, stop: int) -> None:
    toy = replace(toy, lesson=_referred, gradient=replace(toy.gradient, average_decay=0.9))
    calm = toy.fit("calm", steps=12)
    crash = _at_call(stop, tmp_path / "run", Stop)

    def crashing(toy: Any, job: Any) -> Lesson:
        lesson = _referred(toy, job)
        (player,) = lesson.players

        def loss(nets: Mapping[str, Any], batch: Batch) -> Loss:
            crash()
            return player.loss(nets, batch)

        return replace(lesson, players=[replace(player, loss=loss)])

    with pytest.raises(Stop):
        replace(toy, lesson=crashing).fit("run", steps=12)
    assert _same(toy.fit("run", steps=12), calm)


def test_notes_of_a_lesson_are_told(toy: Any) -> None:
    told: list[str] = []

    class Listening(Silent):
        def note(self, text: str) -> None:
            told.append(text)

    teach = toy.teach
    objective = Gradient("toy", toy.gradient, lambda job: replace(teach(job), notes=["three rows are long"]))
    run = Run.create(toy.folder / "run", {})
    Trainer(toy.trainer, Listening()).fit(toy.job(), objective, Budget(steps=2), run)
    run.close()
    assert "three rows are long" in told


def test_a_run_is_held_by_one(toy: Any, tmp_path: Path) -> None:
    toy.fit("run", steps=2)
    held = Run.open(tmp_path / "run")
    try:
        with pytest.raises(RunError, match="Another process is training in this folder"):
            Run.open(tmp_path / "run")
    finally:
        held.close()
