"""The live view of a run on a terminal: the loss as a curve of braille dots, scores, pace, health and the latest notes.

It reads the run's folder and nothing else (`verbs.curves`), so it may be opened and closed at will, on another terminal
or for a run of long ago, without the training noticing. A braille character is 2 × 4 dots, which makes a window of
80 × 12 characters a drawing of 160 × 48 (Unicode 15, section 21.1); a terminal without Unicode gets stars.

Text that comes from the run is shown without its control characters: a label cannot move the cursor.
"""

from __future__ import annotations

import io
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sw2.core.card import count, duration, size
from sw2.verbs.charts import number
from sw2.verbs.curves import Curves, Series, current_run, read_curves, smooth, versions

__all__ = ["braille", "draw", "watch"]

POLL_SECONDS = 0.5
QUIET_SECONDS = 120.0  # after so long without an event, the view says so
MARGIN = 9  # characters left of a chart for its values
LAYERS = 8  # that the live view has room for; a printed one shows all
NOTES = 4

STATES = {"waiting": "yellow", "learning": "cyan", "finished": "green", "failed": "red"}


def watch(run: Path, once: bool, console: Console | None = None) -> None:
    """Show `run` until it has ended or Ctrl-C; where the output is no terminal, or with `once`, show it once.

    Args:
        run: the run's folder; of a chain or a search the run that it is at is shown, then the next.
        once: print the present state and return.
        console: where to show it; standard output by default.

    Raises:
        RunError: when there is no run.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What an old terminal cannot show becomes a question mark, not a crash.
        sys.stdout.reconfigure(errors="replace")
    console = console or Console(highlight=False)
    curves = read_curves(current_run(run))
    if once or not console.is_terminal or _over(run, curves):
        console.print(draw(curves, console))
        return
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        try:
            _follow(run, curves, live)
        except KeyboardInterrupt:
            return  # the usual way to stop looking; the training goes on


def _follow(run: Path, curves: Curves, live: Live) -> None:
    seen = versions(curves.path)
    changed = time.monotonic()
    while True:
        live.update(draw(curves, live.console, live=True, quiet=time.monotonic() - changed), refresh=True)
        if _over(run, curves):
            return
        time.sleep(POLL_SECONDS)
        at = current_run(run)
        if (now := versions(at)) != seen or at != curves.path:
            seen, changed, curves = now, time.monotonic(), read_curves(at)


def _over(run: Path, curves: Curves) -> bool:
    """Whether nothing will follow: after a run's end its chain or search may go on."""
    if curves.path == run:
        return curves.state in ("finished", "failed")
    # A trial that failed is passed over.
    failed = curves.state == "failed" and curves.path.parent.name != "trials"
    return failed or read_curves(run).state == "finished"


def draw(curves: Curves, console: Console, *, live: bool = False, quiet: float = 0.0) -> RenderableType:
    """The view of `curves`, for the size of `console`.

    Args:
        live: whether it must fit on one screen.
        quiet: seconds since the run last wrote something.
    """
    top = [_head(curves, quiet), *_progress(curves), Text()]
    layers = LAYERS if live else max((len(probe.layers) for probe in curves.probes), default=0)
    bottom = [*_health(curves, layers), *_findings(curves), *_remarks(curves)]
    # Below the chart stand its steps, above it its legend, and the cursor needs a line.
    room = console.height - len(console.render_lines(Group(*top, *bottom))) - 3
    height = max(5, min(16, room)) if live else 12
    return Group(*top, *_chart(curves, console, height), *bottom)


# -- the head --------------------------------------------------------------------------------------------------------


def _head(curves: Curves, quiet: float) -> Text:
    # The path comes last and is cut: a long one must not hide the warning, nor need an ellipsis that ASCII lacks.
    line = Text(no_wrap=True, overflow="crop")
    line.append(curves.state, style=f"bold {STATES[curves.state]}")
    if quiet > QUIET_SECONDS:
        line.append(f"  nothing new for {duration(quiet)}: it may have been stopped", style="yellow")
    line.append(f"  {_clean(str(curves.path))}", style="bold")
    return line


def _progress(curves: Curves) -> list[RenderableType]:
    if curves.state == "waiting":
        return [Text("No step yet: the data is being read, or a few steps are being timed.", style="dim")]
    words = [f"step {curves.step:,}" + (f" of {curves.total_steps:,}" if curves.total_steps else "")]
    words.append(f"{duration(curves.seconds)} so far")
    if curves.eta is not None:
        words.append(f"{duration(curves.eta)} left")
    if curves.throughput:
        words.append(f"{count(curves.throughput[-1][1])} {_clean(curves.unit)}/s")
    memory = {"taken": curves.peak_memory, "planned": curves.planned.get("peak_memory")}
    known = [f"{size(value)} {name}" for name, value in memory.items() if value is not None]
    scores = [f"{_clean(name)} {number(series[-1][1])}" for name, series in curves.validation.items()]
    lines: list[RenderableType] = [Text("   ".join(words))]
    if known:
        lines.append(Text("memory       " + ", ".join(known)))
    if scores:
        lines.append(Text("validation   " + "   ".join(scores), style="yellow"))
    if curves.total_steps:
        lines.append(ProgressBar(total=curves.total_steps, completed=min(curves.step, curves.total_steps)))
    return lines


# -- the curve -------------------------------------------------------------------------------------------------------


def _chart(curves: Curves, console: Console, height: int) -> list[RenderableType]:
    training, validation = smooth(curves.training.get("loss", ())), _finite(curves.validation.get("loss", ()))
    if not training and not validation:
        return []
    width = max(20, console.width - MARGIN - 1)
    steps = [step for step, _ in [*training, *validation]]
    values = [value for _, value in [*training, *validation]]
    low, high = min(values), max(values)
    window = (min(steps), max(steps), low, high)
    unicode = console.encoding.startswith("utf")
    rows = [list(row) for row in braille(training, window, width, height)]
    if not unicode:
        rows = [[" " if cell == chr(0x2800) else "*" for cell in row] for row in rows]
    dots = {_cell(step, value, window, width, height) for step, value in validation}
    lines: list[RenderableType] = [_legend(unicode, bool(training), bool(validation))]
    marks = {0: high, height // 2: high - (high - low) * (height // 2) / max(1, height - 1), height - 1: low}
    for y, row in enumerate(rows):
        line = Text(f"{number(marks[y], 3) if y in marks else '':>{MARGIN - 1}} ", style="dim", no_wrap=True)
        for x, cell in enumerate(row):
            if (x, y) in dots:
                line.append("●" if unicode else "o", style="not dim yellow")
            else:
                line.append(cell, style="not dim cyan")
        lines.append(line)
    first, last = f"{window[0]:,}", f"{window[1]:,}"
    lines.append(Text(f"{'':{MARGIN}}{first}{last:>{width - len(first)}}", style="dim", no_wrap=True))
    return lines


def _legend(unicode: bool, training: bool, validation: bool) -> Text:
    line = Text(" " * MARGIN + "loss", style="bold")
    if training:
        line.append("   ⠒⠒ training" if unicode else "   * training", style="not bold cyan")
    if validation:
        line.append("   ● validation" if unicode else "   o validation", style="not bold yellow")
    return line


def braille(series: Series, window: tuple[int, int, float, float], width: int, height: int) -> list[str]:
    """A line through `series` as `height` rows of `width` braille characters.

    The dots of a character are the bits of its code: 1, 2, 4, 64 down the left side and 8, 16, 32, 128 down the right.

    Args:
        series: (step, value), finite.
        window: the first and last step, the lowest and highest value of the drawing.
    """
    dots = [[0] * width for _ in range(height)]
    bits = ((1, 8), (2, 16), (4, 32), (64, 128))
    before: tuple[int, int] | None = None
    for step, value in series:
        x, y = _dot(step, value, window, 2 * width, 4 * height)
        for x_between, y_between in _between(before or (x, y), (x, y)):
            dots[y_between // 4][x_between // 2] |= bits[y_between % 4][x_between % 2]
        before = (x, y)
    return ["".join(chr(0x2800 + cell) for cell in row) for row in dots]


def _between(start: tuple[int, int], end: tuple[int, int]) -> list[tuple[int, int]]:
    """The dots of a straight line, both ends included."""
    length = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
    return [
        (start[0] + round((end[0] - start[0]) * i / length), start[1] + round((end[1] - start[1]) * i / length))
        for i in range(length + 1)
    ]


def _dot(step: int, value: float, window: tuple[int, int, float, float], width: int, height: int) -> tuple[int, int]:
    """The column and row of a point on a raster; row 0 is the highest value."""
    first, last, low, high = window
    x = (step - first) / (last - first) if last > first else 0.0
    y = (high - value) / (high - low) if high > low else 0.5
    return round(x * (width - 1)), round(y * (height - 1))


def _cell(step: int, value: float, window: tuple[int, int, float, float], width: int, height: int) -> tuple[int, int]:
    x, y = _dot(step, value, window, 2 * width, 4 * height)
    return x // 2, y // 4


def _finite(series: Series) -> list[tuple[int, float]]:
    return [(step, value) for step, value in series if math.isfinite(value)]


# -- health and notes ------------------------------------------------------------------------------------------------


def _health(curves: Curves, most: int) -> list[RenderableType]:
    if not curves.probes:
        return []
    probe = curves.probes[-1]
    names = [name for name in ("activation", "gradient", "update", "dead") if any(name in row for row in probe.layers)]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(f"health at step {probe.step:,}", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for row in _spread(probe.layers, most):
        cells = [Text(_clean(str(row["layer"])))]
        for name in names:
            value = row.get(name)
            words = "" if value is None else f"{value:.0%}" if name == "dead" else number(value, 3)
            bad = value is not None and not math.isfinite(value)
            cells.append(Text(words, style="bold red" if bad else ""))
        table.add_row(*cells)
    return [Text(), table]


def _spread(rows: Sequence[Mapping[str, Any]], most: int) -> list[Mapping[str, Any]]:
    """At most `most` of the rows, evenly, the first and the last among them."""
    if len(rows) <= most:
        return list(rows)
    return [rows[round(i * (len(rows) - 1) / (most - 1))] for i in range(most)]


def _findings(curves: Curves) -> list[RenderableType]:
    if not curves.probes:
        return []
    end = curves.probes[-1].step
    present = [finding for finding in curves.findings() if finding.last == end]
    if not present:
        return [Text("healthy: no vanishing or exploding gradients, dead layers or oversized steps", style="green")]
    return [Text(_clean(finding.text), style="red") for finding in present]


def _remarks(curves: Curves) -> list[RenderableType]:
    return [
        Text(
            f"{remark.kind} at step {remark.step:,}: {_clean(remark.text)}",
            style="red" if remark.kind == "failed" else "dim",
        )
        for remark in curves.remarks[-NOTES:]
    ]


def _clean(text: str) -> str:
    """`text` on one line without control characters."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
