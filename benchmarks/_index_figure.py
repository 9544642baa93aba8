"""Size against time of indexes as a picture: one panel for each key set, bytes along a logarithmic axis, ns a key up.

    drawn({set: rows of learned_index.py}) -> the text of an SVG

A line joins those that nothing beats in both. What needs no bytes stands at the left edge. Peers that take a key at a
time in Python are left out: they would make all others one point.

What it does not do: be read without its table, which has the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

__all__ = ["drawn"]

_COLOURS: Final = {
    "pgm": "#1b6ca8",
    "radix-spline": "#2a9d5c",
    "rmi": "#c77700",
    "quantised-spline": "#b3261e",
    "b-plus-tree": "#333333",
    "eytzinger": "#00838f",
    "binary-search": "#7a7a7a",
    "interpolation-search": "#b0b0b0",
    "absl::btree_map": "#7b4fa3",
}
_WIDTH: Final = 360
_HEIGHT: Final = 250
_LEAST: Final = 2.0  # log10 of the bytes at the left edge
_MOST: Final = 10.0


def drawn(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The picture.

    Args:
        found: rows with "bytes", "random" and "model" or "family", for each key set.
    """
    across = min(len(found), 3)
    down = math.ceil(len(found) / max(across, 1))
    legend = sum(24 + 6 * len(name) for name in _COLOURS)
    width, height = max(across * _WIDTH, legend), down * _HEIGHT + 40
    font = 'font-family="sans-serif" font-size="11"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {font}>',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for number, (name, rows) in enumerate(found.items()):
        x, y = number % across * _WIDTH, number // across * _HEIGHT
        parts.append(f'<g transform="translate({x},{y})">{_panel(name, rows)}</g>')
    at = 12
    for name, colour in _COLOURS.items():
        parts.append(f'<circle cx="{at}" cy="{height - 20}" r="4" fill="{colour}"/>')
        parts.append(f'<text x="{at + 8}" y="{height - 16}">{escape(name)}</text>')
        at += 24 + 6 * len(name)
    return "\n".join([*parts, "</svg>", ""])


def _panel(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    points = [
        (row["bytes"], row["random"], row.get("family", row["model"]), row["model"])
        for row in rows
        if row.get("family", row["model"]) in _COLOURS and "random" in row
    ]
    slowest = max((time for _, time, _, _ in points), default=1.0)
    top = math.ceil(slowest / 50) * 50

    def x(size: float) -> float:
        place = (math.log10(max(size, 10**_LEAST)) - _LEAST) / (_MOST - _LEAST)
        return 48 + place * (_WIDTH - 64)

    def y(time: float) -> float:
        return _HEIGHT - 40 - time / top * (_HEIGHT - 70)

    parts = [f'<text x="48" y="18" font-weight="bold">{escape(name)}</text>']
    for power, label in ((2, "none"), (4, "10 kB"), (6, "1 MB"), (8, "100 MB")):
        at = x(10**power)
        parts.append(f'<line x1="{at:.1f}" y1="{y(0):.1f}" x2="{at:.1f}" y2="{y(top):.1f}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="{at:.1f}" y="{y(0) + 14:.1f}" text-anchor="middle">{label}</text>')
    for step in range(5):
        time = top * step / 4
        parts.append(f'<line x1="48" y1="{y(time):.1f}" x2="{_WIDTH - 16}" y2="{y(time):.1f}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="42" y="{y(time) + 4:.1f}" text-anchor="end">{time:.0f}</text>')
    parts.append(f'<text x="48" y="{y(0) + 28:.1f}">bytes beyond the keys; up: ns a key, random questions</text>')
    curve, fastest = [], math.inf
    for size, time, _, _ in sorted(points):
        if time < fastest:
            curve.append(f"{x(size):.1f},{y(time):.1f}")
            fastest = time
    parts.append(f'<polyline points="{" ".join(curve)}" fill="none" stroke="#999999" stroke-dasharray="3 2"/>')
    for size, time, family, model in points:
        title = escape(f"{model}: {size:,} bytes, {time:.1f} ns")
        dot = f'<circle cx="{x(size):.1f}" cy="{y(time):.1f}" r="4" fill="{_COLOURS[family]}">'
        parts.append(f"{dot}<title>{title}</title></circle>")
    return "".join(parts)
