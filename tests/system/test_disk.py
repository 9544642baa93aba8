"""A full disk, for real: a small file system in memory (needs the right to mount), and `/dev/full` for single files."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from sw2.base.errors import ResourceError
from sw2.core.run import Run

Sw2 = Callable[..., Any]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    ) if os.geteuid() == 0 else None  # fmt: skip
    if mounted is None or mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.strip() if mounted else 'not root'}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def _fill(disk: Path, leave: int) -> Path:
    """A file that leaves about `leave` bytes free."""
    filler = disk / "filler"
    with open(filler, "wb", buffering=0) as file:
        status = os.statvfs(disk)
        room = status.f_bavail * status.f_frsize - leave
        while room > 0:
            room -= file.write(b"\0" * min(room, 65536))
    return filler


def test_a_full_disk_during_a_checkpoint(
    sw2: Sw2, tmp_path: Path, texts: Path, small_disk: Path, count_steps: Callable[[Path], int]
) -> None:
    run, calm = small_disk / "run", tmp_path / "calm"
    order = ["train", "text-generation", texts, "--preset", "tiny", "--steps", "60", "--set", "model.context=32"]
    order += ["--set", "model.depth=1", "--set", "prep.vocab_size=300", "--set", "learn.gradient.precision=fp32"]
    undisturbed = sw2(*order, "--out", calm)
    command = sw2(*order, "--set", "trainer.evaluations=10", "--out", run)
    checkpoints = run / "checkpoints"
    assert command.wait_for(lambda: bool(list(checkpoints.glob("step-*")))), command.err
    filler = _fill(small_disk, leave=100_000)
    assert command.wait() == 1, command.err
    assert "The disk is full" in command.err
    assert str(checkpoints / "step-") in command.err
    assert f"do:     Free some space, then: sw2 train --resume --out {run}" in command.err
    assert "Traceback" not in command.err
    kept = sorted(checkpoints.iterdir())
    assert kept
    assert all(path.name.startswith("step-") for path in kept)
    filler.unlink()
    resumed = sw2("train", "--resume", "--out", run)
    assert resumed.wait() == 0, resumed.err
    assert f"Going on from step {int(kept[-1].stem[5:])} of 60." in resumed.err
    assert undisturbed.wait() == 0, undisturbed.err
    ours, theirs = (load_file(each / "program" / "weights.safetensors") for each in (run, calm))
    assert all(ours[name].equal(theirs[name]) for name in theirs)


def test_a_disk_that_is_full_from_the_start(sw2: Sw2, texts: Path, small_disk: Path) -> None:
    _fill(small_disk, leave=0)
    command = sw2("train", "text-generation", texts, "--preset", "tiny", "--steps", "3", "--out", small_disk / "run")
    assert command.wait() == 1
    assert "The disk is full" in command.err
    assert "Traceback" not in command.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("name", ["events.jsonl", "journal.jsonl"])
def test_lines_that_find_no_room(tmp_path: Path, name: str) -> None:
    run = Run.create(tmp_path / "run", {"run": {"task": "toy"}})
    run.close()
    (tmp_path / "run" / name).unlink()
    run = Run.open(tmp_path / "run")
    run.close()
    (tmp_path / "run" / name).unlink(missing_ok=True)
    (tmp_path / "run" / name).symlink_to("/dev/full")
    run._events = open(tmp_path / "run" / "events.jsonl", "a")  # noqa: SIM115
    try:
        with pytest.raises(ResourceError, match="The disk is full") as caught:
            run.event("step", 1, loss=1.0) if name == "events.jsonl" else run.decide({"a": 1})
        assert caught.value.where == tmp_path / "run" / name
    finally:
        run.close()
