"""Charts as inline SVG, for pages that must open with no network and no script.

Two kinds: lines over steps, or over what else a value depends on, and a heat map of layers over steps. Both return an
HTML `figure`. The picture itself stretches to any width (`preserveAspectRatio="none"`, strokes that do not scale); all
words stand outside it as HTML: they stay readable on a telephone. Hovering over a place names its values with the
browser's own tooltip.

Colours are classes of `report.css`, which knows the light and the dark page. Everything that comes from outside is
escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from sw2.core.card import count

__all__ = ["Line", "Look", "heat_map", "line_chart", "number", "ticks"]

WIDTH, HEIGHT = 1000.0, 400.0  # of the drawing, in its own units; the page stretches it
PLACES = 60  # where a chart answers to the mouse
POINTS = 500  # that a drawn line has at most
TINY = 1e-100  # below it a number is zero to a logarithmic scale
SHADES = 8  # of a heat map; classes shade-0 … shade-7 of report.css

Look = Literal["main", "faint", "second", "dots"]

Points = Sequence[tuple[float, float]]
"""(step or another number, value) by rising step. Where all of them are whole, only whole ones are named."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One series in a chart.

    Args:
        name: in the legend and the tooltips.
        points: (step, value), or another number for the step.
        look: "main" and "second" are the two colours, "faint" is the first one's background, "dots" the second with
            its points marked.
    """

    name: str
    points: Points
    look: Look = "main"


def number(value: float | None, digits: int = 4) -> str:
    """A number for people: a few digits, an exponent only when it is very small or large.

    >>> [number(value) for value in (0.25, 1e-5, 1234567, 0, None, float("inf"))]
    ['0.25', '1e-5', '1,234,567', '0', '–', 'inf']
    """
    if value is None:
        return "–"
    if not math.isfinite(value) or value == 0:
        return f"{value:.0f}"
    if value == int(value) and abs(value) < 1e12:
        return f"{int(value):,}"
    if 1e-3 <= abs(value) < 1e6:
        return f"{value:,.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers inside [low, high], at most `most` + 1 of them, in steps of 1, 2 or 5 times a power of ten.

    >>> ticks(0, 1)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    decimals = max(0, -math.floor(math.log10(step)))
    return [round(index * step, decimals) for index in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten inside [low, high], thinned to at most six; also their double and fivefold when they are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    stride = math.ceil(len(powers) / 6)
    factors = (1, 2, 5) if math.log10(high / low) < 2 else (1,)
    marks = [factor * 10.0**power for power in powers[::stride] for factor in factors]
    return [mark for mark in marks if low * (1 - 1e-9) <= mark <= high * (1 + 1e-9)]


@dataclass(frozen=True)
class _Axis:
    """Values on a line of a given length; `log` spaces them by their logarithm."""

    low: float
    high: float
    length: float
    log: bool = False

    def at(self, value: float) -> float:
        """Where `value` stands, from 0 to `length`."""
        scale = math.log10 if self.log else float
        low, high = scale(self.low), scale(self.high)
        return self.length * (scale(value) - low) / (high - low)

    def ticks(self) -> list[float]:
        """Values worth naming; the two ends when there is no rounder one."""
        marks = _log_ticks(self.low, self.high) if self.log else ticks(self.low, self.high)
        return marks if len(marks) > 1 else [self.low, self.high]


def _value_axis(values: Sequence[float], log: bool) -> _Axis:
    low, high = min(values), max(values)
    if log:
        room = (high / low) ** 0.04 if high > low else 2.0
        return _Axis(low / room, high * room, HEIGHT, log=True)
    room = (high - low) * 0.06 or abs(high) * 0.5 or 1.0
    # A curve that comes near zero stands on zero.
    bottom = 0.0 if 0 <= low < (high - low) * 0.25 else low - room
    return _Axis(bottom, high + room, HEIGHT)


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    log: bool = False,
    caption: str = "",
    wide: bool = False,
    axis: str = "step",
) -> str:
    """A chart of lines over steps, or over other numbers.

    Args:
        title: what the values are.
        lines: what to draw; values that are not finite (on a logarithmic scale: not above zero) leave a gap.
        log: a logarithmic scale of values.
        caption: a sentence below the chart.
        wide: whether it takes the whole width of the page.
        axis: what one of these numbers is, in the singular.

    Returns:
        HTML; empty when there is nothing to draw.
    """
    drawable = [
        _thin([(step, v) for step, v in line.points if math.isfinite(v) and (v > TINY or not log)]) for line in lines
    ]
    drawn = [(line, points) for line, points in zip(lines, drawable, strict=True) if points]
    if not drawn:
        return ""
    steps = [step for _, points in drawn for step, _ in points]
    whole = all(step == int(step) for step in steps)
    furthest = max(steps) if max(steps) > min(steps) else min(steps) + 1
    x_axis = _Axis(min(steps), furthest, WIDTH)
    y_axis = _value_axis([value for _, points in drawn for _, value in points], log)

    def place(step: float, value: float) -> str:
        return f"{x_axis.at(step):.1f} {HEIGHT - y_axis.at(value):.1f}"

    parts = [f'<path class="grid" d="M0 {HEIGHT - y_axis.at(mark):.1f}H{WIDTH:.0f}"/>' for mark in y_axis.ticks()]
    for line, points in drawn:
        look = "second" if line.look == "dots" else line.look
        parts.append(f'<path class="line {look}" d="M{"L".join(place(*point) for point in points)}"/>')
        if line.look == "dots" or len(points) == 1:
            # A line of no length with a round end is a dot that stays round however the chart is stretched.
            parts.append(f'<path class="dots {look}" d="{"".join(f"M{place(*point)}h0" for point in points)}"/>')
    parts += _places([(line.name, points) for line, points in drawn], x_axis, axis)
    said = ", ".join(f"{line.name} from {number(points[0][1])} to {number(points[-1][1])}" for line, points in drawn)
    label = escape(f"{title} over {axis}s {number(min(steps))} to {number(max(steps))}: {said}.", quote=True)
    named = "".join(f'<span class="key {line.look}">{escape(line.name)}</span>' for line, _ in drawn if len(drawn) > 1)
    y_words = "".join(
        f'<span style="bottom:{100 * y_axis.at(mark) / HEIGHT:.2f}%">{_tick(mark)}</span>' for mark in y_axis.ticks()
    )
    x_words = "".join(
        f'<span style="left:{100 * x_axis.at(mark) / WIDTH:.2f}%">{_tick(mark)}</span>'
        for mark in x_axis.ticks()
        if mark == int(mark) or not whole
    )
    return (
        f'<figure class="chart{" wide" if wide else ""}"><figcaption><b>{escape(title)}</b>{named}</figcaption>'
        f'<div class="plot"><div class="ys" aria-hidden="true">{y_words}</div>'
        f'<svg viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" preserveAspectRatio="none" role="img" aria-label="{label}">'
        f'{"".join(parts)}</svg><div class="xs" aria-hidden="true">{x_words}</div></div>'
        + (f'<p class="caption">{escape(caption)}</p>' if caption else "")
        + "</figure>"
    )


def _tick(value: float) -> str:
    return count(value).replace(".0 ", " ") if abs(value) >= 10_000 else number(value)


def _thin(points: Points) -> Points:
    """At most about POINTS of them: of each stretch the lowest and the highest, so that no spike is lost."""
    if len(points) <= POINTS:
        return points
    stretch = math.ceil(len(points) / (POINTS / 2))
    kept: list[tuple[float, float]] = []
    for start in range(0, len(points), stretch):
        part = points[start : start + stretch]
        kept += sorted({min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])})
    return kept


def _places(named: Sequence[tuple[str, Points]], x_axis: _Axis, axis: str) -> list[str]:
    """Invisible stripes that name the values under the mouse."""
    longest = max((points for _, points in named), key=len)
    chosen = longest[:: math.ceil(len(longest) / PLACES)]
    width = WIDTH / len(chosen)
    stripes = []
    for step, _ in chosen:
        text = f"{axis} {number(step)}"
        for name, points in named:
            at, value = min(points, key=lambda point: abs(point[0] - step))
            text += f"\n{name} {number(value)}" + (f" ({axis} {number(at)})" if at != step else "")
        x = x_axis.at(step)
        stripes.append(
            f'<g class="place"><path class="hair" d="M{x:.1f} 0V{HEIGHT:.0f}"/>'
            f'<rect x="{x - width / 2:.1f}" width="{width:.1f}" height="{HEIGHT:.0f}"/>'
            f"<title>{escape(text)}</title></g>"
        )
    return stripes


def heat_map(
    title: str,
    rows: Sequence[str],
    steps: Sequence[int],
    values: Callable[[str, int], float | None],
    *,
    scale: Literal["log", "share"] = "log",
    caption: str = "",
) -> str:
    """Values of layers over steps as shades; values that are not finite are marked.

    Args:
        title: what the values are.
        rows: names of layers, from input to output.
        steps: the columns.
        values: of a row and a step, zero or above; None where there is none.
        scale: "log" shades logarithms, over two powers of ten at least, so that small differences look small; "share"
            shades values from 0 to 1.
        caption: a sentence below the map.

    Returns:
        HTML; empty when there is nothing to draw.
    """
    cells = {(row, step): values(row, step) for row in rows for step in steps}
    rows = [row for row in rows if any(cells[row, step] is not None for step in steps)]
    usable = [value for value in cells.values() if value is not None and math.isfinite(value) and value > TINY]
    if not rows or not usable:
        return ""
    axis = _Axis(0.0, 1.0, SHADES) if scale == "share" else _two_decades(min(usable), max(usable))

    def shade(value: float) -> str:
        if not math.isfinite(value):
            return "bad"
        return f"shade-{min(SHADES - 1, int(axis.at(value))) if value > axis.low else 0}"

    parts = [
        f'<rect class="{shade(value)}" x="{x}" y="{y}" width="1.02" height="1.02">'
        f"<title>{escape(row)}, step {step:,}: {number(value)}</title></rect>"
        for y, row in enumerate(rows)
        for x, step in enumerate(steps)
        if (value := cells[row, step]) is not None
    ]
    names = "".join(f"<span>{escape(row)}</span>" for row in rows)
    last = "".join(f"<span>{number(cells[row, steps[-1]], 2)}</span>" for row in rows)
    shades = "".join(f'<i class="shade-{index}"></i>' for index in range(SHADES))
    label = escape(
        f"{title} of {len(rows)} layers at {len(steps)} steps, {number(min(usable))} to {number(max(usable))}."
    )
    return (
        f'<figure class="chart"><figcaption><b>{escape(title)}</b>'
        f'<span class="scale">{number(axis.low, 2)}{shades}{number(axis.high, 2)}</span></figcaption>'
        f'<div class="heat" style="--rows:{len(rows)}"><div class="names">{names}</div>'
        f'<svg viewBox="0 0 {len(steps)} {len(rows)}" preserveAspectRatio="none" role="img" aria-label="{label}">'
        f'{"".join(parts)}</svg><div class="last">{last}</div>'
        f'<div class="xs" aria-hidden="true"><span>step {steps[0]:,}</span><span>{steps[-1]:,}</span></div></div>'
        + (f'<p class="caption">{escape(caption)}</p>' if caption else "")
        + "</figure>"
    )


def _two_decades(low: float, high: float) -> _Axis:
    """A logarithmic axis around [low, high] that spans a factor of 100 or more."""
    room = max(1.0, 10 / math.sqrt(high / low))
    return _Axis(low / room, high * room, SHADES, log=True)
