"""What an answer is worth: by the example's rule, by a reward program, by a user's own function, or a weighted sum.

    rule       "check" of the example, as judging has it: its score from 0 to 1, or whether it passed
    program    `--with reward=PROGRAM`: its score. It is given messages, so its tokenizer may be any
    function   `--set learn.reward.function=module:name`: the user's own code, called `name(messages, example)`

A function runs in a process of its own: one that raises, hangs or returns something other than a finite number costs
that one answer, which is then learned nothing from; it is counted, and past a share learning stops, because what is
left would be a sample of the answers that the function happens to like.

What it does not do: whiten or clip rewards (both ways of learning normalise what they make of them).
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal, final

from sw2.base.config import check_ranges
from sw2.base.errors import LearningError, Sw2Error, UsageError
from sw2.core.capabilities import Rate
from sw2.core.data import Example
from sw2.core.program import Program
from sw2.domains.language.chat.judging import check_answer
from sw2.domains.language.chat.template import Message

__all__ = ["RewardFunction", "Rewards", "RewardsConfig", "Worth"]

_LOADING: Final = 120.0
"""Seconds that the user's module may take to load."""


@dataclass(frozen=True, kw_only=True)
class RewardsConfig:
    """What an answer is worth: a sum of up to three parts.

    Args:
        check: weight of the example's own rule.
        rule: what the rule gives: "score", the share of what matters that is right, or "passed", 1 or 0.
        program: weight of the program of `--with reward=PROGRAM`.
        function: the user's own function as "module:name"; "" for none.
        function_weight: its weight.
        seconds: how long one call of it may take.
        failed: the share of a step's answers that may fail to get a reward.
    """

    check: float = 1.0
    rule: Literal["score", "passed"] = "score"
    program: float = 0.0
    function: str = ""
    function_weight: float = 1.0
    seconds: float = 10.0
    failed: float = 0.25

    def __post_init__(self) -> None:
        allowed = {
            "function": (
                not self.function or all(part for part in self.function.partition(":")),
                '"module:name", a function of a module that Python finds from here',
            ),
            "seconds": (self.seconds > 0, "a number above 0"),
            "failed": (0 <= self.failed < 1, "a share from 0 to below 1"),
        }
        check_ranges("learn.reward", self, allowed)
        if not (self.check or self.program or self.function):
            raise UsageError(
                "Nothing says what an answer is worth.",
                wanted="learn.reward.check, learn.reward.program or learn.reward.function",
                got="none of them",
            )


@final
@dataclass(frozen=True)
class Worth:
    """What one answer is worth.

    Args:
        reward: a finite number, or NaN where it failed.
        passed: whether the example's rule is kept; None without a rule.
        problem: why it failed.
    """

    reward: float
    passed: bool | None = None
    problem: str = ""


@final
class Rewards:
    """Says what answers are worth.

    Args:
        config: see RewardsConfig.
        program: the reward program, where `config.program` is not 0.

    Raises:
        UsageError: the program is missing or cannot rate, or the function cannot be loaded.
    """

    def __init__(self, config: RewardsConfig, program: Program | None) -> None:
        self.config = config
        if bool(config.program) != (program is not None):
            raise UsageError(
                "The reward program and its weight go together.",
                wanted="--with reward=PROGRAM and learn.reward.program, or neither",
                got=f"learn.reward.program={config.program:g} and {'a' if program else 'no'} program",
            )
        self._judge = None if program is None else program.capability(Rate)  # type: ignore[type-abstract]
        self._function = RewardFunction(config.function, config.seconds) if config.function else None

    def __str__(self) -> str:
        parts = {
            f"the rule of the example ({self.config.rule})": self.config.check,
            "the reward program": self.config.program,
            f"{self.config.function}": self.config.function_weight if self.config.function else 0.0,
        }
        return " + ".join(f"{weight:g} x {name}" for name, weight in parts.items() if weight)

    def of(self, examples: Sequence[Example], talks: Sequence[Sequence[Message]]) -> list[Worth]:
        """What the last answer of each conversation is worth; `talks` are whole, as they went."""
        talks = [_answered(talk) for talk in talks]
        rated = self._rated(examples, talks)
        return [self._one(*each) for each in zip(examples, talks, rated, strict=True)]

    def refuse_failures(self, worths: Sequence[Worth], failed: float) -> None:
        """Stop when too many have failed; `failed` is their share, over all processes.

        Raises:
            LearningError: it is above the share that may.
        """
        if failed > self.config.failed:
            problem = next((worth.problem for worth in worths if worth.problem), "in another process")
            raise LearningError(
                "Too many answers got no reward; learning stopped before it could spoil the weights.",
                where="learn.reward",
                wanted=f"a finite number for all but {self.config.failed:.0%} of the answers",
                got=f"none for {failed:.0%}; the first: {problem}",
                do="Repair the reward; the last checkpoint is kept.",
            )

    def _rated(self, examples: Sequence[Example], talks: Sequence[Sequence[Message]]) -> list[float | str]:
        """By the reward program; a sentence where it cannot."""
        if self._judge is None or not talks:
            return [0.0] * len(talks)
        asked = [
            {"messages": talk, "tools": example.get("tools") or ()}
            for example, talk in zip(examples, talks, strict=True)
        ]
        with contextlib.suppress(Sw2Error):
            return [float(score) for score in self._judge.rate(asked)]
        found: list[float | str] = []
        for each in asked:  # one of them is at fault
            try:
                found.append(float(self._judge.rate([each])[0]))
            except Sw2Error as error:
                found.append(error.message)
        return found

    def _one(self, example: Example, talk: Sequence[Message], rated: float | str) -> Worth:
        config = self.config
        passed: bool | None = None
        reward = 0.0
        if example.get("check"):
            try:
                verdict = check_answer(example, talk)
            except Sw2Error:  # the rule itself is at fault, and every answer would fail
                raise
            except Exception as error:
                return Worth(math.nan, None, f"the rule of {example.get('where')}: {type(error).__name__}: {error}")
            passed = verdict.passed
            reward += config.check * (verdict.score if config.rule == "score" else float(passed))
        if isinstance(rated, str):
            return Worth(math.nan, passed, rated)
        reward += config.program * rated
        if self._function is not None:
            found = self._function(talk, example)
            if isinstance(found, str):
                return Worth(math.nan, passed, found)
            reward += config.function_weight * found
        return Worth(reward, passed) if math.isfinite(reward) else Worth(math.nan, passed, f"a reward of {reward}")


def _answered(talk: Sequence[Message]) -> Sequence[Message]:
    """A conversation whose room ended at a tool's result has an empty answer, which can be rated as any other."""
    if talk and talk[-1]["role"] == "assistant":
        return talk
    return [*talk, {"role": "assistant", "content": ""}]


@final
class RewardFunction:
    """A user's function in a process of its own, which is started anew after a call that took too long.

    Args:
        name: "module:function".
        seconds: how long one call may take.

    Raises:
        UsageError: it cannot be loaded.
    """

    def __init__(self, name: str, seconds: float) -> None:
        self._name, self._seconds = name, seconds
        self._worker: _Worker | None = self._start()

    def __call__(self, messages: Sequence[Message], example: Example) -> float | str:
        """The function's number, or why there is none."""
        if self._worker is None:
            self._worker = self._start()
        line = json.dumps({"messages": list(messages), "example": dict(example)}, default=str)
        answer = self._worker.ask(line, self._seconds)
        if answer is None:
            self._worker.end()
            self._worker = None
            return f"{self._name} took longer than {self._seconds:g} seconds, or ended its process"
        if "error" in answer:
            return f"{self._name}: {answer['error']}"
        reward = float(answer["reward"])
        return reward if math.isfinite(reward) else f"{self._name} returned {reward}"

    def _start(self) -> _Worker:
        worker = _Worker(self._name)
        answer = worker.ask("", _LOADING) or {"error": f"it took longer than {_LOADING:g} seconds"}
        if "error" in answer:
            worker.end()
            raise UsageError(
                "The reward function cannot be loaded.",
                where=f"learn.reward.function={self._name}",
                wanted="module:name of a function (messages, example) -> number, found from the present folder",
                got=answer["error"],
            )
        return worker


class _Worker:
    """The process of `worker.py`."""

    def __init__(self, name: str) -> None:
        # The user's module is found as it would be by `import` here, or in the present folder.
        path = os.pathsep.join([*filter(None, sys.path), str(Path.cwd())])
        command = [sys.executable, "-m", f"{__package__}.worker", name]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is for learning, which saves first
        )
        assert self._process.stdout is not None
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=_read, args=(self._process.stdout, self._lines), daemon=True)
        self._reader.start()
        self._finalizer = weakref.finalize(self, _end, self._process, self._reader)

    def ask(self, line: str, seconds: float) -> Mapping[str, Any] | None:
        """Its answer to `line`; None when it gives none in time."""
        assert self._process.stdin is not None
        try:
            if line:
                self._process.stdin.write(line + "\n")
                self._process.stdin.flush()
            said = self._lines.get(timeout=seconds)
            answer = json.loads(said)
        except (OSError, queue.Empty, ValueError):
            return None
        return answer if isinstance(answer, dict) else None

    def end(self) -> None:
        """Stop the process, whatever it does."""
        self._finalizer()


def _read(stream: IO[str], lines: queue.Queue[str]) -> None:
    for line in stream:
        lines.put(line)
    lines.put("")  # it has ended: no JSON


def _end(process: subprocess.Popen[str], reader: threading.Thread) -> None:
    process.kill()
    process.wait()
    reader.join(timeout=5)
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        with contextlib.suppress(OSError):
            stream.close()
