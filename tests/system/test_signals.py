"""Signals, finished and foreign runs, damaged checkpoints: what a user does between two commands."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

Sw2 = Callable[..., Any]
FIXED = ["--set", "learn.gradient.precision=fp32", "--set", "trainer.checkpoint_seconds=1000"]


def _order(texts: Path, steps: int) -> list[str]:
    shape = ["--set", "prep.vocab_size=300", "--set", "model.context=32", "--set", "model.depth=1"]
    return ["train", "text-generation", str(texts), "--preset", "tiny", "--steps", str(steps), *shape, *FIXED]


def _weights(run: Path) -> dict[str, Any]:
    return dict(load_file(run / "program" / "weights.safetensors"))


def _equal(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    return ours.keys() == theirs.keys() and all(ours[name].equal(theirs[name]) for name in ours)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_prints_what_resumes(
    sw2: Sw2, tmp_path: Path, texts: Path, count_steps: Callable[[Path], int], number: signal.Signals
) -> None:
    run = tmp_path / "a run"  # a space, which the printed command must survive
    command = sw2(*_order(texts, 120), "--out", run)
    assert command.wait_for(lambda: count_steps(run) > 10), command.err
    command.send(number)
    assert command.wait() == 130
    step = int(re.search(rf"Stopped by {number.name} at step (\d+) of 120; everything learned", command.err)[1])
    assert step > 10
    # Folders list files in any order.
    assert max(path.name for path in (run / "checkpoints").glob("step-*")) == f"step-{step:08d}.safetensors"
    assert "Traceback" not in command.err
    printed = re.search(r"do: +sw2 (.*)", command.err)[1]
    resumed = sw2(*shlex.split(printed))
    calm = sw2(*_order(texts, 120), "--out", tmp_path / "calm")
    assert resumed.wait() == 0, resumed.err
    assert f"Going on from step {step} of 120." in resumed.err
    assert calm.wait() == 0, calm.err
    assert _equal(_weights(run), _weights(tmp_path / "calm"))


def test_a_second_signal_ends_at_once(
    sw2: Sw2, tmp_path: Path, texts: Path, count_steps: Callable[[Path], int]
) -> None:
    """The first one waits for its step, which here takes about a second.

    They are sent back to back, so that no wait of this process lets the step end between them; two of one number would
    arrive as one.
    """
    run = tmp_path / "run"
    long_step = ["--set", "learn.gradient.batch_size=2048", "--set", "learn.gradient.micro_batch=8"]
    command = sw2(*_order(texts, 30), *long_step, "--out", run)
    assert command.wait_for(lambda: count_steps(run) >= 1), command.err
    command.send(signal.SIGINT)
    command.send(signal.SIGTERM)
    assert command.wait() == 130
    assert "Stopped at once; what the last checkpoint holds is kept." in command.err
    assert f"sw2 train --resume --out {run}" in command.err
    assert "Traceback" not in command.err


def _measuring(run: Path) -> bool:
    return (run / "journal.jsonl").exists() and "choices" in (run / "journal.jsonl").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_first_step_leaves_a_run_that_resumes(
    sw2: Sw2, tmp_path: Path, texts: Path, number: signal.Signals
) -> None:
    run = tmp_path / "run"
    # As many steps as a busy machine may need before it sends the signal.
    command = sw2(*_order(texts, 500), "--out", run)
    assert command.wait_for(lambda: _measuring(run)), command.err
    command.send(number)
    assert command.wait() == 130, command.err
    assert "Traceback" not in command.err
    assert f"sw2 train --resume --out {run}" in command.err
    resumed = sw2("train", "--resume", "--out", run)
    assert resumed.wait() == 0, resumed.err


def test_what_a_run_says_afterwards(sw2: Sw2, tmp_path: Path, texts: Path) -> None:
    """A finished run, changed data, changed settings, a taken folder, a damaged checkpoint."""
    run = tmp_path / "run"
    assert sw2(*_order(texts, 40), "--out", run).wait() == 0
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    copies = {name: shutil.copytree(run, tmp_path / name) for name in ("cut", "changed", "edited")}
    for copy in copies.values():  # as if it had been killed before the program was saved
        shutil.rmtree(copy / "program")
        lines = (copy / "journal.jsonl").read_text().splitlines()
        (copy / "journal.jsonl").write_text("\n".join(line for line in lines if "finished" not in line))

    resumed = sw2("train", "--resume", "--out", run)
    assert resumed.wait() == 0
    assert "This run is finished already." in resumed.err

    again = sw2(*_order(texts, 40), "--out", run)
    assert again.wait() == 1
    assert "already holds a run; nothing was changed" in again.err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before

    # The newest checkpoint is damaged: the one before it serves.
    newest = max((copies["cut"] / "checkpoints").glob("step-*"))
    newest.write_bytes(newest.read_bytes()[:-1000])
    fallen_back = sw2("train", "--resume", "--out", copies["cut"])
    assert fallen_back.wait() == 0, fallen_back.err
    assert "Going on from step 36 of 40." in fallen_back.err
    assert "step-00000040.safetensors is damaged and was passed over" in (copies["cut"] / "events.jsonl").read_text()
    assert _equal(_weights(copies["cut"]), _weights(run))

    config = copies["edited"] / "config.toml"
    config.write_text(config.read_text().replace("steps = 40", "steps = 50"))
    edited = sw2("train", "--resume", "--out", copies["edited"])
    assert edited.wait() == 1
    assert "The settings of this run were changed after it began." in edited.err

    (texts / "new.txt").write_text("one more document\n" * 50)
    changed = sw2("train", "--resume", "--out", copies["changed"])
    assert changed.wait() == 1
    assert "The data is not what this run learns from." in changed.err


def test_two_processes_cannot_train_in_one_folder(
    sw2: Sw2, tmp_path: Path, texts: Path, count_steps: Callable[[Path], int]
) -> None:
    run = tmp_path / "run"
    first = sw2(*_order(texts, 100_000), "--out", run)
    assert first.wait_for(lambda: count_steps(run) > 0), first.err
    second = sw2("train", "--resume", "--out", run)
    assert second.wait() == 1
    assert "Another process is training in this folder." in second.err
    assert first.running


def test_a_run_killed_before_it_had_settings_does_not_block_its_folder(sw2: Sw2, tmp_path: Path, texts: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / ".lock").touch()
    (run / "events.jsonl").touch()
    (run / ".config.toml.99.partial").write_text("[ru")
    command = sw2(*_order(texts, 2), "--out", run)
    assert command.wait() == 0, command.err
    assert not list(run.glob("*.partial")) + list(run.glob(".*.partial"))
