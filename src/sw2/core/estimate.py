"""An Estimate: what a training on machines that are not here would take, from arithmetic and published runs.

`sw2 plan` measures where it can: a few steps on this machine. For a cluster that nobody has at hand, a task may offer a
function `estimate(Target) -> Estimate` (`TaskEntry.estimate`). What it assumes is part of the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Estimate", "Target"]


@dataclass(frozen=True, kw_only=True)
class Target:
    """What would be trained, and on what.

    Args:
        parameters: a number ("65e9", "65B") or a name that the task knows.
        gpu: the name of a device that the task knows.
        tokens: a number of units to learn from ("1.4e12", "1.4T"); None for what is best for the size.
        gpus: how many devices; None for the fewest that hold it.
        settings: `key=value` texts for what is assumed.
    """

    parameters: str
    gpu: str
    tokens: str | None = None
    gpus: int | None = None
    settings: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The answer.

    Args:
        facts: numbers by name, JSON-able.
        lines: the same for people, one line by topic.
        table: rows of cells for people, the first being the head.
        reasons: what was derived or assumed, by name, and why.
    """

    facts: Mapping[str, Any]
    lines: Mapping[str, str]
    table: Sequence[Sequence[str]] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)
