"""The verb `claims`: one of the field's claims tried, told as JSON and as a page for people.

    OUT/result.json   what was claimed, how it was judged, the numbers, the verdict, what made a repeat differ
    OUT/report.html   the same with its plots; opens anywhere, with no network and no script

The folder is whole or absent: it gets its name when everything is written, and an interrupted run leaves nothing. Where
it cannot be made, that is said before the experiment runs and not after.

Not here: what is claimed (`core.claims`) and the experiments (domains).
"""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sw2.base.device import keep_freed_memory
from sw2.base.store import finite, folder, pretty_json, refuse_taken
from sw2.core.card import duration
from sw2.core.claims import Plot, Result, seeds_of
from sw2.core.domain import ClaimEntry
from sw2.core.registry import Registry
from sw2.core.task import Context
from sw2.verbs.charts import Line, Look, line_chart
from sw2.verbs.gallery import digest
from sw2.verbs.page import fact_list, page, spelled, table

__all__ = ["FORMAT", "Tried", "try_claim"]

FORMAT = 1  # of result.json
MARKED = 60  # up to so many points a line shows each of them
_TAGS = {"holds": "good", "does not hold": "bad", "undecided": ""}


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A claim that was tried.

    Args:
        name: of the claim.
        entry: what was claimed, and by which rule it was judged.
        full: whether it was the full form.
        seed: the first one.
        result: what was found.
        seconds: that it took.
        threads: that torch had.
        code: the digest of the experiment's code as it was before it ran; see `verbs.gallery`.
    """

    name: str
    entry: ClaimEntry
    full: bool
    seed: int
    result: Result
    seconds: float
    threads: int
    code: str

    @property
    def seeds(self) -> list[int]:
        """Those that it took."""
        return seeds_of(self.seed, self.full, self.entry.full_seeds)

    @property
    def standing(self) -> str:
        """How much the verdict is worth, in words."""
        seeds = self.seeds
        if self.full:
            return f"full form, seeds {seeds[0]} to {seeds[-1]}"
        return f"quick form, indicative: seed {self.seed} alone"

    @property
    def budget(self) -> float:
        """The minutes that this form may take on two cores."""
        return self.entry.full_minutes if self.full else self.entry.minutes

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON object; numbers that JSON does not have are null."""
        claim = {name: value for name, value in asdict(self.entry).items() if name != "target"}
        made: dict[str, Any] = {"seconds": round(self.seconds, 1), "threads": self.threads, "cores": os.cpu_count()}
        made |= {
            "code": self.code,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": str(np.__version__),
        }
        return dict(
            finite({
                "format": FORMAT, "claim": self.name, **claim, "form": "full" if self.full else "quick",
                "indicative": not self.full, "seeds": self.seeds, **self.result.to_json(),
                "made": made,
            })
        )  # fmt: skip


def try_claim(registry: Registry, name: str, context: Context, *, full: bool = False, out: Path | None = None) -> Tried:
    """Run the experiment of the claim `name`.

    Args:
        registry: where claims are found.
        name: of the claim.
        context: its seed is the first one; its `say` hears of progress.
        full: several seeds and intervals over them, in place of one seed.
        out: the folder to write, a new or an empty one; None writes nothing.

    Raises:
        UnknownName: there is no such claim.
        UsageError: there is something else at `out`.
        DiskFull: nothing was written.
    """
    entry, run = registry.claim_entry(name), registry.claim(name)
    code = digest(entry.target)
    keep_freed_memory()
    with _folder(out) as partial:
        began = time.perf_counter()
        result = run(context, full)
        tried = Tried(
            name=name,
            entry=entry,
            full=full,
            seed=context.seed,
            result=result,
            seconds=time.perf_counter() - began,
            threads=torch.get_num_threads(),
            code=code,
        )
        if partial is not None:
            (partial / "result.json").write_text(pretty_json(tried.to_json()), encoding="utf-8")
            (partial / "report.html").write_text(_page(tried), encoding="utf-8")
    return tried


@contextlib.contextmanager
def _folder(out: Path | None) -> Iterator[Path | None]:
    if out is None:
        yield None
        return
    refuse_taken(out)
    with folder(out) as partial:
        yield partial


def _page(tried: Tried) -> str:
    result, entry = tried.result, tried.entry
    cells = [[escape(spelled(cell)) for cell in row] for row in result.rows]
    words = next((i for i, cell in enumerate(result.rows[0]) if not isinstance(cell, str)), 1) if result.rows else 1
    took = f"took {duration(tried.seconds)}, of at most {duration(tried.budget * 60)}"
    sections = [
        ("What was seen", f'<div class="charts">{"".join(map(_chart, result.plots))}</div>' if result.plots else ""),
        ("In numbers", table([escape(name) for name in result.head], cells, words=words)),
        ("How it is judged", fact_list({"expected": entry.expected, "rule": entry.rule, "claimed by": entry.source})),
        ("What to know", "".join(f"<p>{escape(note)}</p>" for note in result.notes)),
        ("How it was made", fact_list({"command": _command(tried), "time": took, "threads": tried.threads})),
    ]
    header = (
        f'<header><p class="eyebrow">sw2 claim</p><h1>{escape(entry.question)}</h1><p class="verdict">'
        f'<span class="tag {_TAGS[result.verdict]}">{escape(result.verdict)}</span> {escape(result.why)}</p>'
        f'<p class="intro">{escape(tried.standing)}</p></header>'
    )
    return page(entry.question, header, sections, "Written by sw2.")


def _chart(plot: Plot) -> str:
    # Where two lines lie upon each other, marked points show the one below; many of them would hide it.
    few = all(len(points) <= MARKED for points in plot.lines.values())
    looks: tuple[Look, ...] = ("main", "dots" if few else "second", "faint", "second" if few else "dots")
    lines = [
        Line(name=name, points=points, look=look)
        for (name, points), look in zip(plot.lines.items(), looks, strict=False)
    ]
    return line_chart(plot.title, lines, log=plot.log, caption=plot.caption, axis=plot.axis)


def _command(tried: Tried) -> str:
    return f"sw2 claims run {tried.name}{' --full' if tried.full else ''} --seed {tried.seed}"
