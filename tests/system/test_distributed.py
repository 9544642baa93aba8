"""Two processes learn what one learns, in both layouts, recomputing or not; what they saved resumes on one and two.

Killed and resumed in the same layout they give the bits of two that nobody disturbed. That one and two processes learn
from the same examples in the same order is tested in `tests/parts/test_data_order.py`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

Sw2 = Callable[..., Any]
LAYOUTS = ["replicate", "shard"]


def _order(
    texts: Path, out: Path, *, steps: int = 16, layout: str = "auto", batch: int = 8, recompute: str = "off"
) -> list[str]:
    settings = {
        "prep.vocab_size": 300,
        "model.context": 32,
        "model.depth": 2,
        "learn.gradient.precision": "fp32",
        "learn.gradient.average_decay": 0.9,
        "learn.gradient.parallel": layout,
        "learn.gradient.recompute": recompute,
        "learn.gradient.batch_size": batch,
        "learn.gradient.micro_batch": 3,
        "learn.gradient.optim.schedule.warmup": 0.0,
        "trainer.checkpoint_seconds": 0.2,
    }
    texts_of = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    task = ["train", "text-generation", str(texts), "--preset", "tiny", "--steps", str(steps)]
    return [*task, *texts_of, "--out", str(out)]


def _losses(run: Path, kind: str) -> list[float]:
    lines = map(json.loads, (run / "events.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if line["kind"] == kind]


def _two(sw2: Sw2, arguments: list[str]) -> list[Any]:
    """The command in two processes that find each other as torchrun's do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    return [sw2(*arguments, RANK=str(rank), LOCAL_RANK=str(rank), **place) for rank in range(2)]


def _assert_close(run: Path, other: Path) -> None:
    for kind in ("step", "evaluate"):
        assert _losses(run, kind) == pytest.approx(_losses(other, kind), rel=1e-4)
    ours, theirs = (load_file(each / "program" / "weights.safetensors") for each in (run, other))
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.allclose(tensor, theirs[name], rtol=1e-3, atol=1e-4), name


@pytest.mark.parametrize(("layout", "recompute"), [("replicate", "off"), ("shard", "off"), ("shard", "on")])
def test_two_processes_learn_what_one_learns(
    sw2: Sw2, tmp_path: Path, texts: Path, layout: str, recompute: str
) -> None:
    one = sw2(*_order(texts, tmp_path / "one"))
    both = _two(sw2, _order(texts, tmp_path / "two", layout=layout, recompute=recompute))
    for command in (one, *both):
        assert command.wait() == 0, command.err
    assert len(_losses(tmp_path / "two", "step")) == 16
    _assert_close(tmp_path / "two", tmp_path / "one")
    assert both[0].out
    assert not both[1].out


def test_a_batch_that_cannot_be_shared_is_refused(sw2: Sw2, tmp_path: Path, texts: Path) -> None:
    both = _two(sw2, _order(texts, tmp_path / "two", batch=7))
    assert [command.wait() for command in both] == [2, 2]
    assert "A batch cannot be shared equally among the processes." in both[0].err


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_two_saved_resumes_on_one(
    sw2: Sw2, tmp_path: Path, texts: Path, layout: str, count_steps: Callable[[Path], int]
) -> None:
    calm = sw2(*_order(texts, tmp_path / "calm", steps=60))
    both = _two(sw2, _order(texts, tmp_path / "two", steps=60, layout=layout))
    assert both[0].wait_for(lambda: count_steps(tmp_path / "two") > 8), both[0].err
    both[1].send(signal.SIGTERM)  # told to one, heard by both
    assert [command.wait() for command in both] == [130, 130], both[0].err
    resumed = sw2("train", "--resume", "--out", tmp_path / "two")
    assert resumed.wait() == 0, resumed.err
    assert "Going on from step" in resumed.err
    assert calm.wait() == 0, calm.err
    ours, theirs = _losses(tmp_path / "two", "step"), _losses(tmp_path / "calm", "step")
    assert ours == pytest.approx(theirs, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_one_saved_resumes_on_two(
    sw2: Sw2, tmp_path: Path, texts: Path, layout: str, count_steps: Callable[[Path], int]
) -> None:
    calm = sw2(*_order(texts, tmp_path / "calm", steps=60))
    one = sw2(*_order(texts, tmp_path / "one", steps=60, layout=layout))
    assert one.wait_for(lambda: count_steps(tmp_path / "one") > 8), one.err
    one.send(signal.SIGTERM)
    assert one.wait() == 130, one.err
    both = _two(sw2, ["train", "--resume", "--out", str(tmp_path / "one")])
    assert [command.wait() for command in both] == [0, 0], both[0].err
    assert "Going on from step" in both[0].err
    assert calm.wait() == 0, calm.err
    ours, theirs = _losses(tmp_path / "one", "step"), _losses(tmp_path / "calm", "step")
    assert ours == pytest.approx(theirs, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_torchrun(sw2: Sw2, tmp_path: Path, texts: Path, layout: str) -> None:
    """The command as users type it; a kill in the middle changes no bit."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    calm = _two(sw2, _order(texts, tmp_path / "calm", steps=60, layout=layout))
    assert [command.wait() for command in calm] == [0, 0], calm[0].err
    order = _order(texts, tmp_path / "two", steps=60, layout=layout)
    with open(tmp_path / "log", "w") as log:
        first = subprocess.Popen([*launcher, "sw2.faces.cli", *order], stdout=log, stderr=log, start_new_session=True)
        until = time.monotonic() + 120
        while not (tmp_path / "two" / "events.jsonl").exists() or len(_losses(tmp_path / "two", "step")) < 10:
            assert first.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < until
            time.sleep(0.02)
        children = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
        for process in (*map(int, children), first.pid):
            os.kill(process, signal.SIGKILL)
        first.wait()
    resume = ["train", "--resume", "--out", str(tmp_path / "two")]
    again = subprocess.run([*launcher, "sw2.faces.cli", *resume], capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "Going on from step" in again.stderr
    assert _losses(tmp_path / "two", "evaluate")[-1] == _losses(tmp_path / "calm", "evaluate")[-1]
    ours, theirs = (load_file(tmp_path / each / "program" / "weights.safetensors") for each in ("two", "calm"))
    assert not [name for name in ours if not ours[name].equal(theirs[name])]


@pytest.mark.slow
def test_a_mixture_goes_on_with_the_same_tokens_on_another_number_of_processes(
    sw2: Sw2, tmp_path: Path, texts: Path, count_steps: Callable[[Path], int]
) -> None:
    (tmp_path / "more").mkdir()
    for number in range(60):
        (tmp_path / "more" / f"{number}.txt").write_text(" ".join(f"word{number * i % 97}" for i in range(200)))
    mixture = tmp_path / "mixture.toml"
    mixture.write_text("[sources.lines]\npath = 'texts'\nshare = 0.3\n[sources.words]\npath = 'more'\nshare = 0.7\n")
    calm = sw2(*_order(mixture, tmp_path / "calm", steps=60))
    both = _two(sw2, _order(mixture, tmp_path / "two", steps=60))
    assert both[0].wait_for(lambda: count_steps(tmp_path / "two") > 8), both[0].err
    both[1].send(signal.SIGTERM)
    assert [command.wait() for command in both] == [130, 130], both[0].err
    resumed = sw2("train", "--resume", "--out", tmp_path / "two")
    assert resumed.wait() == 0, resumed.err
    assert calm.wait() == 0, calm.err
    assert _losses(tmp_path / "two", "step") == pytest.approx(_losses(tmp_path / "calm", "step"), rel=1e-3)
