"""What happened in a run, as numbers: its curves, its training health and its remarks, read from the run's folder.

`read_curves` only reads, so it may look at a run that another process is training in. Drawing is done elsewhere: by
`verbs.report` on a page and by `faces.cli.watch` on a terminal.

A run that was stopped goes on from its last checkpoint, which lies before its last event: the steps in between are
learned, and written down, twice. An event at step n therefore retires every earlier event of a later step, and the last
event at a step wins. The clock of an event starts with its process; `Curves.seconds` adds the processes up.

Numbers that are not finite stay as they are in Curves (a gradient that is infinite is a finding) and become null in
`to_json`, because JSON has none.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise, takewhile
from pathlib import Path
from typing import Any, Literal

from sw2.base.errors import RunError
from sw2.base.store import finite
from sw2.core.run import Run, read_events

__all__ = ["Curves", "Finding", "Probe", "Remark", "Series", "current_run", "read_curves", "smooth", "versions"]

Series = Sequence[tuple[int, float]]
"""(step, value) by rising step."""

# How many points a throughput curve has at most, and over which share of the latest steps the present pace is taken.
WINDOWS = 100
RECENT = 0.2


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One look at training health; see `core.health` for what the rows hold."""

    step: int
    layers: Sequence[Mapping[str, Any]]
    findings: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The same complaint of several probes: its latest words, and when it was heard."""

    text: str
    first: int
    last: int
    probes: int


@dataclass(frozen=True, kw_only=True)
class Remark:
    """A line that the driver wrote; its kind is "note", "resume" or "failed"."""

    kind: str
    step: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Curves:
    """A run as numbers.

    Args:
        path: the run's folder.
        state: "waiting" before the first event, then "learning" until it is "finished" or "failed".
        step: the last step that was recorded.
        total_steps: how many there will be; None until the driver has measured a few.
        seconds: of all processes that learned in this run, up to the last event.
        eta: seconds that the remaining steps take at the present pace; None when unknown or over.
        peak_memory: of the present process so far, in bytes; None before the first step.
        unit: what throughput counts: "pictures", "tokens", "steps" …
        throughput: units per second, pauses for evaluations and checkpoints included.
        training: what each step measured, by name ("loss", "learning_rate" …).
        validation: what each evaluation measured, by name.
        probes: training health.
        remarks: notes, resumes and failures in the order in which they happened.
        planned: minutes, peak_memory and disk as they were planned.
    """

    path: Path
    state: Literal["waiting", "learning", "finished", "failed"]
    step: int = 0
    total_steps: int | None = None
    seconds: float = 0.0
    eta: float | None = None
    peak_memory: int | None = None
    unit: str = "steps"
    throughput: Series = ()
    training: Mapping[str, Series] = field(default_factory=dict)
    validation: Mapping[str, Series] = field(default_factory=dict)
    probes: Sequence[Probe] = ()
    remarks: Sequence[Remark] = ()
    planned: Mapping[str, float] = field(default_factory=dict)

    def findings(self) -> list[Finding]:
        """The probes' findings, each told once; the numbers inside change from probe to probe, its names do not."""
        found: dict[str, Finding] = {}
        for probe in self.probes:
            for text in probe.findings:
                key = _without_numbers(text)
                before = found.get(key)
                found[key] = Finding(
                    text=text,
                    first=before.first if before else probe.step,
                    last=probe.step,
                    probes=before.probes + 1 if before else 1,
                )
        return list(found.values())

    def to_json(self) -> dict[str, Any]:
        """The curves as a JSON object; series are lists of [step, value]."""
        values = {
            **vars(self),
            "path": str(self.path),
            "probes": [vars(probe) for probe in self.probes],
            "findings": [vars(finding) for finding in self.findings()],
            "remarks": [vars(remark) for remark in self.remarks],
        }
        return dict(finite(values))


@dataclass(frozen=True)
class _Moment:
    """When a step was recorded: the clock of its process, and the how-manieth process that was."""

    seconds: float
    process: int


def current_run(path: Path) -> Path:
    """The run that a chain or a search in `path` is at, or was last; `path` itself where there is neither."""
    try:
        made_by = tomllib.loads((path / "config.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return path
    inside = ("stages/*",) if "chain" in made_by else ("shared", "trials/*", "best") if "search" in made_by else ()
    begun = sorted(each for names in inside for each in path.glob(names) if (each / "config.toml").exists())
    if "chain" in made_by:
        return begun[-1] if begun else path
    return max(
        begun, key=lambda run: max(versions(run), default=(0, 0)), default=path
    )  # a trial may go on after others


def read_curves(run_path: Path) -> Curves:
    """The curves of the run in `run_path`, as far as it has come.

    Raises:
        RunError: when there is no run.
    """
    if not (run_path / "config.toml").is_file():
        raise RunError(
            "There is no run here.",
            where=run_path,
            wanted="a folder that `sw2 train --out` made",
            got="a folder without config.toml" if run_path.is_dir() else "a file" if run_path.exists() else "nothing",
            do="Give the folder that `sw2 train` printed, or start a run with `sw2 train TASK DATA --out DIR`.",
        )
    training: dict[str, dict[int, float]] = {}
    validation: dict[str, dict[int, float]] = {}
    moments: dict[int, _Moment] = {}
    probes: dict[int, Probe] = {}
    remarks: list[Remark] = []
    process, earlier, latest = 0, 0.0, 0.0
    last_kind, last_step = "", 0
    peak_memory: int | None = None
    for event in read_events(run_path):
        kind, step, seconds = event.get("kind"), event.get("step"), event.get("seconds")
        if not isinstance(kind, str) or not isinstance(step, int) or not isinstance(seconds, (int, float)):
            continue
        # A new process shows by its clock or by a step that was there before. What it says before its resume is notes.
        went_back = (kind == "resume" and last_kind != "note") or (kind == "step" and step in moments)
        if seconds < latest or went_back:
            process, earlier = process + 1, earlier + latest
        latest = seconds
        if kind in ("step", "evaluate", "health", "resume"):
            last_step = step
            _retire(step, *training.values(), *validation.values(), moments, probes)
        if kind in ("step", "evaluate"):
            _record(event, training if kind == "step" else validation)
        if kind == "step":
            moments[step] = _Moment(seconds, process)
            peak_memory = event.get("peak_memory", peak_memory)
        elif kind == "health":
            probes[step] = Probe(
                step=step, layers=tuple(event.get("layers", ())), findings=tuple(map(str, event.get("findings", ())))
            )
        elif kind in ("resume", "note", "failed"):
            remarks.append(Remark(kind=kind, step=step, text=str(event.get("text", f"Went on from step {step}."))))
        last_kind = kind

    journal = Run(run_path).journal()
    plan = journal.get("plan", {})
    facts = plan.get("facts", {})
    unit = str(facts.get("unit", "steps"))
    finished = "finished" in journal
    total = plan.get("total_steps")
    pace = None if finished or total is None or last_kind == "failed" else _seconds_per_step(moments)
    return Curves(
        path=run_path,
        state="finished" if finished else "failed" if last_kind == "failed" else "learning" if last_kind else "waiting",
        step=last_step,
        total_steps=total,
        seconds=earlier + latest,
        peak_memory=peak_memory,
        eta=None if pace is None or total is None else pace * max(0, total - last_step),
        unit=unit,
        throughput=_throughput(moments, float(facts.get(f"{unit}_per_step", 1))),
        training=_series(training),
        validation=_series(validation),
        probes=tuple(probes.values()),
        remarks=tuple(remarks),
        planned={name: plan[name] for name in ("minutes", "peak_memory", "disk") if name in plan},
    )


def versions(run_path: Path) -> list[tuple[int, int]]:
    """What changes when the run in `run_path` writes: time and size of its two logs."""
    found = []
    for name in ("events.jsonl", "journal.jsonl"):
        try:
            about = (run_path / name).stat()
        except FileNotFoundError:
            continue
        found.append((about.st_mtime_ns, about.st_size))
    return found


def smooth(series: Series) -> list[tuple[int, float]]:
    """The mean of each point and its neighbours, as many on either side, so that the curve does not lag behind.

    There are a 40th of the points on either side, fewer near the ends. Values that are not finite are left out.
    """
    points = [(step, value) for step, value in series if math.isfinite(value)]
    sums = list(accumulate((value for _, value in points), initial=0.0))
    reach = len(points) // 40
    smoothed = []
    for index, (step, _) in enumerate(points):
        side = min(reach, index, len(points) - 1 - index)
        smoothed.append((step, (sums[index + side + 1] - sums[index - side]) / (2 * side + 1)))
    return smoothed


def _retire(step: int, *columns: dict[int, Any]) -> None:
    """Forget what was recorded after `step`: the run has gone back before it."""
    for column in columns:
        for later in list(takewhile(lambda key: key > step, reversed(column))):
            del column[later]


def _record(event: Mapping[str, Any], into: dict[str, dict[int, float]]) -> None:
    for name, value in event.items():
        if (
            name not in ("kind", "step", "seconds", "peak_memory")
            and isinstance(value, (int, float))
            and not isinstance(value, bool)
        ):
            into.setdefault(name, {})[event["step"]] = float(value)


def _series(columns: Mapping[str, Mapping[int, float]]) -> dict[str, Series]:
    return {name: tuple(column.items()) for name, column in columns.items() if column}


def _throughput(moments: Mapping[int, _Moment], per_step: float) -> Series:
    """Units per second over windows of equal numbers of records; fast steps are too short to time one by one."""
    rows = list(moments.items())
    stride = max(1, math.ceil(len(rows) / WINDOWS))
    marks = rows[::stride]
    return tuple(
        (step, per_step * (step - step_before) / (now.seconds - before.seconds))
        for (step_before, before), (step, now) in pairwise(marks)
        if now.process == before.process and now.seconds > before.seconds
    )


def _seconds_per_step(moments: Mapping[int, _Moment]) -> float | None:
    """The pace of the latest steps of the present process."""
    rows = list(moments.items())
    if not rows:
        return None
    present = [(step, moment.seconds) for step, moment in rows if moment.process == rows[-1][1].process]
    recent = present[-max(10, math.ceil(RECENT * len(present))) :]
    (first, began), (last, now) = recent[0], recent[-1]
    return (now - began) / (last - first) if last > first else None


def _without_numbers(text: str) -> str:
    """`text` with numbers blanked, except inside quoted names such as 'layer3'."""
    return re.sub(r"'[^']*'|\d+(\.\d+)?(e[+-]?\d+)?|\binf\b|\bnan\b", lambda m: m[0] if m[0][0] == "'" else "#", text)
