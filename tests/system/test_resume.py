"""Nothing is lost: `kill -9` at random moments and resume gives the bits of the run that nobody disturbed.

The disturbed and the undisturbed run decide the same (`--steps`, a fixed precision, one thread), which is checked.
Checkpoints are written far more often than by default, so that kills meet them at every stage of writing.
"""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

Sw2 = Callable[..., Any]
SETTINGS = ["--set", "learn.gradient.precision=fp32", "--set", "trainer.checkpoint_seconds=0.1"]
DIGITS = ["train", "image-classification", "digits", "--preset", "tiny", "--steps", "240", *SETTINGS]


def _text(folder: Path) -> list[str]:
    shape = ["--set", "prep.vocab_size=300", "--set", "model.context=32", "--set", "model.depth=1"]
    averaged = ["--set", "learn.gradient.average_decay=0.9", "--set", "learn.gradient.micro_batch=3"]
    task = ["train", "text-generation", str(folder), "--preset", "tiny", "--steps", "200"]
    return [*task, *shape, *averaged, *SETTINGS]


def _journal(run: Path) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for line in (run / "journal.jsonl").read_text().splitlines():
        merged.update(json.loads(line))
    return merged


def _disturb(sw2: Sw2, order: list[str], run: Path, kills: int, seed: int) -> int:
    """Train into `run`, killed at up to `kills` random moments; how many kills met a running process."""
    draw = random.Random(seed)
    met = 0
    while met < kills:
        began = (run / "config.toml").exists()
        command = sw2("train", "--resume", "--out", run) if began else sw2(*order, "--out", run)
        if draw.random() < 0.3:  # any moment at all: reading, fitting the preprocessing, the trial steps
            delay = draw.uniform(0.05, 4)
            until = time.monotonic() + delay
            running = command.wait_for(lambda until=until: time.monotonic() > until)
        else:  # while it learns
            steps, before = draw.randint(1, 40), _steps(run)
            running = command.wait_for(lambda steps=steps, before=before: _steps(run) >= before + steps)
        if not running:
            assert command.wait() == 0, command.err
            return met
        command.send(signal.SIGKILL)
        command.wait()
        met += 1
    command = sw2("train", "--resume", "--out", run) if (run / "config.toml").exists() else sw2(*order, "--out", run)
    assert command.wait() == 0, command.err
    return met


def _steps(run: Path) -> int:
    path = run / "events.jsonl"
    return path.read_bytes().count(b'"kind": "step"') if path.exists() else 0


def _assert_same(run: Path, other: Path) -> None:
    assert _journal(run)["choices"] == _journal(other)["choices"]
    assert _journal(run)["plan"]["total_steps"] == _journal(other)["plan"]["total_steps"]
    _assert_same_program(run, other)


def _assert_same_program(run: Path, other: Path) -> None:
    ours, theirs = (load_file(each / "program" / "weights.safetensors") for each in (run, other))
    assert ours.keys() == theirs.keys()
    different = [name for name in ours if not ours[name].equal(theirs[name])]
    assert not different
    assert _journal(run)["finished"] == _journal(other)["finished"]  # the programs' ids
    # Nothing half-written stays.
    assert not [path for path in run.rglob("*") if path.name.endswith((".partial", ".old"))]


@pytest.mark.parametrize(("kills", "seed"), [(2, 1), pytest.param(10, 2, marks=pytest.mark.slow)])
def test_pictures_survive_kills(sw2: Sw2, tmp_path: Path, kills: int, seed: int) -> None:
    """Muon, an average of the weights, batch normalisation, augmentation."""
    calm = sw2(*DIGITS, "--out", tmp_path / "calm")
    assert _disturb(sw2, DIGITS, tmp_path / "killed", kills, seed) > 0
    assert calm.wait() == 0, calm.err
    _assert_same(tmp_path / "killed", tmp_path / "calm")


@pytest.mark.parametrize(("kills", "seed"), [(2, 3), pytest.param(10, 4, marks=pytest.mark.slow)])
def test_texts_survive_kills(sw2: Sw2, tmp_path: Path, texts: Path, kills: int, seed: int) -> None:
    """Muon, an average of the weights, several micro-batches of unequal size."""
    order = _text(texts)
    calm = sw2(*order, "--out", tmp_path / "calm")
    assert _disturb(sw2, order, tmp_path / "killed", kills, seed) > 0
    assert calm.wait() == 0, calm.err
    _assert_same(tmp_path / "killed", tmp_path / "calm")


@pytest.mark.parametrize(("kills", "seed"), [(1, 5), pytest.param(10, 6, marks=pytest.mark.slow)])
def test_conversations_survive_kills(sw2: Sw2, tmp_path: Path, kills: int, seed: int) -> None:
    """Packed rows, several micro-batches, control tokens."""
    shape = ["--set", "model.depth=1", "--set", "learn.gradient.batch_size=4", "--set", "learn.gradient.micro_batch=3"]
    counts = [f"--set=data.{split}={count}" for split, count in (("train", 300), ("validation", 9), ("test", 9))]
    order = ["train", "chat", "arithmetic", "--preset", "tiny", "--steps", "40", *counts, *shape, *SETTINGS]
    calm = sw2(*order, "--out", tmp_path / "calm")
    assert _disturb(sw2, order, tmp_path / "killed", kills, seed) > 0
    assert calm.wait() == 0, calm.err
    _assert_same(tmp_path / "killed", tmp_path / "calm")


@pytest.mark.slow
@pytest.mark.parametrize("way", ["contrastive", "masked-autoencoding"])
def test_pictures_without_labels_survive_kills(sw2: Sw2, tmp_path: Path, way: str) -> None:
    """Two networks, of which one is thrown away in the end; views and masks drawn at every step."""
    task = ["train", "image-feature-extraction", "digits", "--objective", way, "--preset", "tiny", "--steps", "400"]
    order = [*task, "--set", "learn.gradient.batch_size=64", *SETTINGS]
    calm = sw2(*order, "--out", tmp_path / "calm")
    assert _disturb(sw2, order, tmp_path / "killed", 3, 8) > 0
    assert calm.wait() == 0, calm.err
    _assert_same(tmp_path / "killed", tmp_path / "calm")


@pytest.mark.slow
def test_masks_survive_kills(sw2: Sw2, tmp_path: Path) -> None:
    """Several rounds of clicks in a step, each where the network is wrong; statistics of batch normalisation."""
    draw = np.random.default_rng(0)
    for number in range(16):
        mask = np.zeros((32, 32), np.uint8)
        mask[4 + number % 8 : 20, 6:22] = 255
        for name, values in (("images", draw.integers(0, 120, (32, 32), dtype=np.uint8) + mask // 2), ("masks", mask)):
            (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(tmp_path / "data" / name / f"{number}.png")
    order = ["train", "image-segmentation", str(tmp_path / "data"), "--preset", "tiny", "--steps", "40", *SETTINGS]
    order += ["--set", "prep.size=32"]
    calm = sw2(*order, "--out", tmp_path / "calm")
    assert _disturb(sw2, order, tmp_path / "killed", 3, 9) > 0
    assert calm.wait() == 0, calm.err
    _assert_same(tmp_path / "killed", tmp_path / "calm")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["skip-gram", "fasttext", "glove"])
def test_words_survive_kills(sw2: Sw2, tmp_path: Path, texts: Path, model: str) -> None:
    """A mapped corpus and two matrices; steps that cross its end."""
    settings = ["--set", "learn.threads=1", "--set", "trainer.checkpoint_seconds=0.1"]
    order = ["train", "word-vectors", str(texts), "--model", model, "--preset", "tiny", "--steps", "60", *settings]
    calm = sw2(*order, "--out", tmp_path / "calm")
    assert _disturb(sw2, order, tmp_path / "killed", 3, 7) > 0
    assert calm.wait() == 0, calm.err
    _assert_same(tmp_path / "killed", tmp_path / "calm")


@pytest.mark.slow
def test_a_window_of_words_survives_kills(sw2: Sw2, tmp_path: Path, texts: Path) -> None:
    """A model whose preprocessing is not the task's usual one; dropout."""
    shape = ["--model", "bengio", "--set", "model.context=32", "--set", "model.dropout=0.2"]
    order = ["train", "text-generation", str(texts), "--preset", "tiny", "--steps", "800", *shape, *SETTINGS]
    calm = sw2(*order, "--out", tmp_path / "calm")
    assert _disturb(sw2, order, tmp_path / "killed", 3, 8) > 0
    assert calm.wait() == 0, calm.err
    _assert_same(tmp_path / "killed", tmp_path / "calm")


STAGES = ("pretrain", "sft", "reward", "dpo", "ppo", "sft-more")


@pytest.mark.parametrize(
    "stage", [pytest.param(name, marks=[] if name == "dpo" else pytest.mark.slow) for name in STAGES]
)
def test_a_chain_survives_a_kill_in_any_stage(sw2: Sw2, tmp_path: Path, stage: str) -> None:
    """Killed while that stage learns, and gone on with: the stages before stay, the program is the same."""
    talks = tmp_path / "talks.jsonl"
    talks.write_text("".join(json.dumps(_pair(number)) + "\n" for number in range(60)))
    settings = [f"--set={name}.{setting}" for name in STAGES for setting in SETTINGS[1::2]]
    shape = ["--set=pretrain.prep.vocab_size=300", "--set=pretrain.model.depth=1", "--set=sft.model.context=128"]
    shape += ["--set=ppo.learn.rollouts.max_tokens=4"]
    order = ["train", "assistant", str(talks), "--preset", "tiny", "--steps", "25", *shape, *settings]
    calm = sw2(*order, "--out", tmp_path / "calm")
    killed = tmp_path / "killed"
    there = killed / "stages" / f"{STAGES.index(stage) + 1:02d}-{stage}"
    command = sw2(*order, "--out", killed)
    assert command.wait_for(lambda: _steps(there) >= 5), command.err
    command.send(signal.SIGKILL)
    command.wait()
    assert "finished" not in _journal(there)
    before = {name for name in _journal(killed) if name.startswith("ended")}
    assert len(before) == STAGES.index(stage)
    command = sw2("train", "--resume", "--out", killed)
    assert command.wait() == 0, command.err
    assert calm.wait() == 0, calm.err
    for name in STAGES:
        ids = {_journal(run)[f"ended {name}"]["id"] for run in (killed, tmp_path / "calm")}
        assert len(ids) == 1, name
    _assert_same_program(killed, tmp_path / "calm")


def _pair(number: int) -> dict[str, Any]:
    asked = {"role": "user", "content": f"What is {number} and {number * 7 % 13}?"}
    return {
        "messages": [asked, {"role": "assistant", "content": f"It is {number + number * 7 % 13}."}],
        "rejected": {"role": "assistant", "content": f"No idea, {number}."},
    }
