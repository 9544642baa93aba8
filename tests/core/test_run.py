"""The run folder: torn lines, damaged files and leftovers of killed processes do no harm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sw2.base.errors import RunError
from sw2.core.objective import Snapshot
from sw2.core.run import Run, read_events, read_snapshot, write_snapshot

SETTINGS = {"run": {"task": "toy"}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    Run.create(tmp_path / "run", SETTINGS).close()
    return tmp_path / "run"


def test_a_torn_last_line_costs_only_itself(path: Path) -> None:
    run = Run.open(path)
    run.decide({"a": 1})
    run.event("step", 1, loss=0.5)
    run.close()
    for name in ("journal.jsonl", "events.jsonl"):
        with open(path / name, "a") as file:
            file.write('{"b": 2, "kin')  # a process was killed here
    run = Run.open(path)
    run.decide({"c": 3})
    run.event("step", 2, loss=0.4)
    assert run.journal().keys() == {"settings", "a", "c"}
    run.close()
    assert [event["step"] for event in read_events(path)] == [1, 2]


def test_later_decisions_overrule_earlier_ones(path: Path) -> None:
    run = Run.open(path)
    run.decide({"choices": {"micro_batch": 0}, "seed": 1})
    run.decide({"choices": {"micro_batch": 8}})
    assert run.journal()["choices"] == {"micro_batch": 8}
    assert run.journal()["seed"] == 1
    run.close()


def test_snapshots_round_trip(tmp_path: Path) -> None:
    shared = torch.arange(6, dtype=torch.float64)
    tensors = {
        "scalar": torch.tensor(3),
        "transposed": torch.randn(2, 3).T,
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "half": torch.randn(4).bfloat16(),
        "one": shared,
        "same": shared,
        "part": shared[2:],
        "empty": torch.zeros(0, 3),
    }
    values = {"source": {"cursor": [1, 2]}, "text": "é", "small": 1e-300}
    write_snapshot(tmp_path / "snapshot", Snapshot(tensors=tensors, values=values))
    kept = read_snapshot(tmp_path / "snapshot")
    assert kept.values == values
    assert kept.tensors.keys() == tensors.keys()
    assert all(kept.tensors[name].equal(tensor) for name, tensor in tensors.items())
    assert all(kept.tensors[name].dtype == tensor.dtype for name, tensor in tensors.items())


@pytest.mark.parametrize("keep", [0, 5, 50, -1])
def test_damaged_snapshots_are_named(tmp_path: Path, keep: int) -> None:
    file = tmp_path / "snapshot"
    write_snapshot(file, Snapshot(tensors={"a": torch.randn(50)}, values={}))
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(RunError, match="This checkpoint is damaged") as caught:
        read_snapshot(file)
    assert caught.value.where == file


def test_two_checkpoints_are_kept_and_the_newest_whole_one_is_found(path: Path) -> None:
    run = Run.open(path)
    for step in (9, 10, 11):
        run.save_checkpoint(step, Snapshot(tensors={"n": torch.tensor(step)}, values={"step": step}))
    assert [file.name for file in run.checkpoints()] == ["step-00000010.safetensors", "step-00000011.safetensors"]
    found = run.latest_checkpoint()
    assert found is not None
    assert found[0] == 11
    for file in run.checkpoints():
        file.write_bytes(b"")
    assert run.latest_checkpoint() is None
    run.close()
    assert sum("damaged and was passed over" in event["text"] for event in read_events(path)) == 2


def test_preprocessing_round_trips(path: Path, kinds_of_toys: Any) -> None:
    run = Run.open(path)
    assert run.load_prep() is None
    prep = kinds_of_toys["Shift"](np.arange(4, dtype=np.float32), "é")
    run.save_prep(prep)
    state = run.load_prep()
    run.close()
    assert state is not None
    again = kinds_of_toys["Shift"].restore(state)
    assert again.name == "é"
    assert np.array_equal(again.mean, prep.mean)


def test_leftovers_of_killed_processes_are_removed(path: Path) -> None:
    checkpoints = path / "checkpoints"
    checkpoints.mkdir()
    for leftover in (".step-00000003.safetensors.7.partial", "trial.safetensors"):
        (checkpoints / leftover).write_bytes(b"half")
    (path / ".program.7.partial").mkdir()
    (path / ".program.7.partial" / "weights.safetensors").write_bytes(b"half")
    Run.open(path).close()
    assert not list(checkpoints.iterdir())
    assert sorted(file.name for file in path.iterdir()) == [
        ".lock", "checkpoints", "config.toml", "events.jsonl", "journal.jsonl",
    ]  # fmt: skip


def test_a_discarded_run_leaves_other_files_alone(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", SETTINGS)
    run.discard()
    assert not (tmp_path / "run").exists()
    run = Run.create(tmp_path / "run", SETTINGS)
    (tmp_path / "run" / "mine.txt").write_text("mine")
    run.discard()
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["mine.txt"]


def test_only_an_unchanged_config_is_repeated(path: Path) -> None:
    run = Run.open(path)
    assert run.decisions_to_repeat() == {}  # nothing was decided yet
    run.decide({"plan": {"total_steps": 3}, "threads": 1, "finished": "id"})
    assert run.decisions_to_repeat() == {"plan": {"total_steps": 3}, "threads": 1}
    run.close()
    (path / "config.toml").write_text('[run]\ntask = "other"\n')
    assert Run(path).decisions_to_repeat() == {}
    assert Run(path.parent / "nowhere").decisions_to_repeat() == {}
    with pytest.raises(RunError, match="settings of this run were changed"):
        Run.open(path)


def test_the_resume_command_is_for_a_shell(tmp_path: Path) -> None:
    assert Run(Path("a run")).resume_command == "sw2 train --resume --out 'a run'"
