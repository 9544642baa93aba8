"""Real processes that run the command line, cheap enough to be killed in numbers.

A server process imports torch and sw2 once and forks a child for each command (`multiprocessing`'s forkserver), which
saves the seconds that an import of torch costs. A child is an ordinary process: signals and `kill -9` meet what they
would meet in a shell.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest

PRELOAD = [
    "torch._dynamo",
    "sklearn.linear_model",
    "sw2.verbs.train",
    "sw2.faces.cli.progress",
    "sw2.domains.vision.presets",
    "sw2.domains.language.presets",
    "sw2.domains.language.road",
    "sw2.domains.language.ways",
]

_CHILD = """
import os, sys
os.environ.update({environment!r})
os.chdir({folder!r})
for number in (1, 2):
    os.dup2(os.open({streams!r}[number], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
import torch
torch.set_num_threads(1)
sys.argv = ["sw2", *{arguments!r}]
from sw2.faces.cli import main
main()
"""


@dataclass
class Command:
    """A running or ended command."""

    process: ForkServerProcess
    out_path: Path
    err_path: Path

    def wait(self, seconds: float = 100) -> int:
        """Its exit code; of a signal its number, negative."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, f"still running after {seconds} s\n{self.err}"
        return self.process.exitcode

    def send(self, number: int) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    @property
    def running(self) -> bool:
        return self.process.is_alive()

    @property
    def out(self) -> str:
        return self.out_path.read_text()

    @property
    def err(self) -> str:
        return self.err_path.read_text()

    def wait_for(self, condition: Callable[[], bool], seconds: float = 60) -> bool:
        """Whether `condition` came true while the command ran."""
        until = time.monotonic() + seconds
        while not condition():
            if not self.running:
                return False
            assert time.monotonic() < until, f"waited {seconds} s in vain\n{self.err}"
            time.sleep(0.005)
        return True


Sw2 = Callable[..., Command]


@pytest.fixture
def sw2(tmp_path: Path, own_home: Path) -> Iterator[Sw2]:
    """Start `sw2 ARGUMENTS…` in the test's folder, with further environment variables."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    started: list[Command] = []

    def start(*arguments: Any, **variables: str) -> Command:
        name = f"command-{len(started)}"
        streams = {1: str(tmp_path / f"{name}.out"), 2: str(tmp_path / f"{name}.err")}
        environment = {key: os.environ[key] for key in ("OMP_NUM_THREADS", "PIP_NO_INDEX", "TOKENIZERS_PARALLELISM")}
        code = _CHILD.format(
            environment={**environment, "SW2_HOME": str(own_home), **variables},
            folder=str(tmp_path),
            streams=streams,
            arguments=[str(each) for each in arguments],
        )
        for stream in streams.values():
            Path(stream).touch()
        process = context.Process(target=exec, args=(code,))
        process.start()
        started.append(Command(process, Path(streams[1]), Path(streams[2])))
        return started[-1]

    yield start
    for command in started:
        if command.running:
            command.send(signal.SIGKILL)
            command.process.join()


def events(run: Path, kind: str = "") -> list[dict[str, Any]]:
    """The whole events of a run so far."""
    found = []
    for line in (run / "events.jsonl").read_text().splitlines() if (run / "events.jsonl").exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return [event for event in found if not kind or event["kind"] == kind]


@pytest.fixture
def count_steps() -> Callable[[Path], int]:
    """How many steps the processes that worked on a run have told of."""
    return lambda run: len(events(run, "step"))


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A small folder of texts to learn from."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(60):
        words = [f"line {i} of text {number}: {'ab' * (i % 5)} {i * number}" for i in range(30)]
        (folder / f"{number}.txt").write_text("\n".join(words))
    return folder
