"""Event files: TensorBoard's own reader finds in them what events.jsonl says, resumes included."""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sw2.base.errors import MissingExtra
from sw2.core.run import Run
from sw2.core.trainer import TrainerConfig
from sw2.verbs.curves import read_curves

needs_tensorboard = pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed (extra tensorboard)"
)


class Stop(Exception):
    """What a test raises in place of a kill."""


def _train_until(toy: Any, step: int) -> None:
    """Train in the run folder until its event of `step` is written, and break off there as a killed process does."""
    plain = Run.event

    def event(run: Run, kind: str, at: int, **values: Any) -> None:
        plain(run, kind, at, **values)
        if (kind, at) == ("step", step):
            raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "event", event)
        with pytest.raises(Stop):
            toy.fit("run", steps=24)


def _scalars(path: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    found = EventAccumulator(str(path), size_guidance={SCALARS: 0}).Reload()
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def _texts(path: Path, tag: str) -> list[tuple[int, str]]:
    from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator

    found = EventAccumulator(str(path), size_guidance={TENSORS: 0}).Reload()
    return [(event.step, event.tensor_proto.string_val[0].decode()) for event in found.Tensors(f"{tag}/text_summary")]


def _assert_same(found: Mapping[str, Sequence[tuple[int, float]]], path: Path) -> None:
    """Every curve of events.jsonl as `sw2 watch` reads it, and no other; event files keep 32 bits of a number."""
    curves = read_curves(path)
    wanted: dict[str, list[tuple[int, float]]] = {}
    for group, series in (("training", curves.training), ("validation", curves.validation)):
        wanted |= {f"{group}/{name}": list(values) for name, values in series.items()}
    for probe in curves.probes:
        for layer in probe.layers:
            for name in layer.keys() - {"layer"}:
                wanted.setdefault(f"health/{name}/{layer['layer']}", []).append((probe.step, layer[name]))
    assert all(value > 1e6 for _, value in found.get("training/peak_memory", ()))
    assert found.keys() - {"training/peak_memory"} == wanted.keys()
    for tag, series in wanted.items():
        assert [step for step, _ in found[tag]] == [step for step, _ in series], tag
        assert [value for _, value in found[tag]] == pytest.approx([value for _, value in series], rel=1e-6), tag


@needs_tensorboard
def test_all_curves_arrive(toy: Any) -> None:
    replace(toy, trainer=TrainerConfig(evaluations=4, tensorboard="on")).fit("run", steps=24)
    found = _scalars(toy.folder / "run")
    assert [step for step, _ in found["training/loss"]] == list(range(1, 25))
    assert [step for step, _ in found["validation/loss"]] == [6, 12, 18, 24]
    assert any(tag.startswith("health/gradient/") for tag in found)
    _assert_same(found, toy.folder / "run")


@needs_tensorboard
def test_a_resumed_run_has_every_step_once(toy: Any) -> None:
    """Stopped after a checkpoint and its evaluation, then twice in the steps that follow, then finished."""
    toy = replace(toy, trainer=TrainerConfig(evaluations=4, tensorboard="on"))
    for step in (14, 17, 13):
        _train_until(toy, step)
    toy.fit("run", steps=24)
    path = toy.folder / "run"
    assert len(list(path.glob("events.out.tfevents.*"))) == 4
    found = _scalars(path)
    assert [step for step, _ in found["training/loss"]] == list(range(1, 25))
    assert [step for step, _ in found["validation/loss"]] == [6, 12, 18, 24]
    _assert_same(found, path)
    assert _texts(path, "notes") == [(12, "Went on from step 12.")] * 3


@needs_tensorboard
def test_failures_and_numbers_that_are_not_finite_arrive(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {"run": {"task": "toy"}})
    run.write_event_files(after=0)
    layers = [{"layer": "block 1", "gradient": math.inf, "dead": 0.25}]
    run.event("health", 10, layers=layers, findings=["Exploding gradients from 'block 1' down."])
    run.event("failed", 11, text="The loss is not finite.")
    run.close()
    assert _scalars(run.path) == {"health/gradient/block 1": [(10, math.inf)], "health/dead/block 1": [(10, 0.25)]}
    assert _texts(run.path, "findings") == [(10, "Exploding gradients from 'block 1' down.")]
    assert _texts(run.path, "notes") == [(11, "The loss is not finite.")]


@needs_tensorboard
def test_events_are_on_disk_at_once(tmp_path: Path) -> None:
    """A run that is killed has lost none: nothing waits in memory for a later flush."""
    run = Run.create(tmp_path / "run", {"run": {"task": "toy"}})
    run.write_event_files(after=0)
    run.event("step", 1, loss=0.5)
    assert _scalars(run.path) == {"training/loss": [(1, 0.5)]}
    run.close()


@needs_tensorboard
def test_a_discarded_run_leaves_no_event_files(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {"run": {"task": "toy"}})
    run.write_event_files(after=0)
    run.discard()
    assert not (tmp_path / "run").exists()


def test_without_the_extra_the_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    TrainerConfig()  # who does not ask for event files needs nothing
    with pytest.raises(MissingExtra, match="needs the package tensorboard") as caught:
        TrainerConfig(tensorboard="on")
    assert caught.value.exit_code == 2
    assert "pip install 'sw2[tensorboard]'" in str(caught.value)


def test_who_does_not_ask_does_not_import_it(toy: Any) -> None:
    toy.fit("run", steps=2)
    assert not list((toy.folder / "run").glob("events.out*"))
    code = "import sys, sw2.verbs.train, sw2.core.gradient; print('tensorboard' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
