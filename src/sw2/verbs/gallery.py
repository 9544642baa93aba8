"""The gallery of claims: a page and drawings for each result that is kept beside the docs.

    docs/claims/NAME.json        what `sw2 claims run NAME --full --out DIR` wrote as DIR/result.json, copied
    docs/claims/NAME.md          question, verdict, drawings, table, rule: made from it
    docs/claims/NAME-1.svg …     a drawing for each plot
    docs/claims/README.md        all claims, those without a result too

A result is of the experiment that ran. It is *stale* when the experiment is no longer the same: `digest` is over the
code of the experiment and of what it takes from its own folder, without comments and docstrings, and what is claimed is
compared word by word. Code elsewhere (networks, data) is left to its own tests: a result is not thrown away for each
change of a reader. A stale page fails `make check`.

Drawings are files of their own, because the pages where people read Markdown take no drawing inside; they have a white
ground, for they are seen on dark pages too.

Not here: running (`verbs.claims`), the page that a user gets (the same).
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

from sw2.core.card import duration
from sw2.core.domain import ClaimEntry
from sw2.verbs.charts import number, ticks

__all__ = ["digest", "drawing", "index", "page", "why_stale"]

_CLAIMED: Final = ("question", "expected", "rule", "source")
_COLOURS: Final = ("#1f5f8b", "#c2571a", "#5b8f3a", "#7a4b9a")
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 640, 300, 62, 26, 34, 42
_POINTS: Final = 160  # that a drawn line has at most


# Whether a result is still that of its experiment


def digest(target: str) -> str:
    """SHA-256 over the code of an experiment, "module:function", and of what it imports from its own package.

    No module is imported but the packages around them. Comments, docstrings and layout do not count.
    """
    first = target.partition(":")[0]
    package = first.rpartition(".")[0]
    found: dict[str, ast.Module] = {}
    waiting = [first]
    while waiting:
        name = waiting.pop()
        path = _file(name) if name not in found else None
        if path is not None:
            found[name] = ast.parse(path.read_text(encoding="utf-8"))
            waiting += [each for each in _imported(found[name]) if each.startswith(f"{package}.")]
    whole = hashlib.sha256()
    for name in sorted(found):
        whole.update("".join((name, "\n", *_told(found[name]), "\n")).encode())
    return whole.hexdigest()


def _file(name: str) -> Path | None:
    """The file of a module; None where the name is that of a package or of something in a module."""
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None
    if spec is None or spec.origin is None or spec.submodule_search_locations:
        return None
    return Path(spec.origin)


def _imported(tree: ast.Module) -> Iterator[str]:
    """Names of modules that a module imports from; some of them name no module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{each.name}" for each in node.names)
        elif isinstance(node, ast.Import):
            yield from (each.name for each in node.names)


def _told(node: object) -> Iterator[str]:
    """A syntax tree as text that no version of Python writes in another way: what is empty is left out."""
    if isinstance(node, ast.AST):
        body = getattr(node, "body", None)
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and isinstance(body, list) and ast.get_docstring(node, clean=False) is not None:  # type: ignore[arg-type]
            node.body = body[1:]  # type: ignore[attr-defined]
        yield f"({type(node).__name__}"
        for name, value in ast.iter_fields(node):
            if value is not None and value != []:
                yield f" {name}="
                yield from _told(value)
        yield ")"
    elif isinstance(node, list):
        for each in node:
            yield from _told(each)
    else:
        yield repr(node)


def why_stale(name: str, entry: ClaimEntry, result: Mapping[str, Any]) -> str | None:
    """What makes a stored result that of another experiment, and what to do; None where nothing does."""
    changed = [each for each in _CLAIMED if result[each] != getattr(entry, each)]
    if result["made"].get("code") != digest(entry.target):
        changed.append("code")
    if not changed:
        return None
    form = " --full" if result["form"] == "full" else ""
    return (
        f"docs/claims/{name}.json is of another experiment: {', '.join(changed)} changed since it ran; "
        f"`sw2 claims run {name}{form} --out DIR`, then copy DIR/result.json there"
    )


# Pages


def index(entries: Mapping[str, ClaimEntry], results: Mapping[str, Mapping[str, Any]]) -> str:
    """The page of all claims.

    Args:
        entries: what is claimed, by name.
        results: those that are kept, by name.
    """
    lines = [
        "# What the field says, tried",
        "",
        "Each line is an experiment of `sw2 claims run NAME`: its rule was written down before it ran. How they are",
        "made and judged: [claims.md](../claims.md).",
        "",
        "| claim | question | verdict | form |",
        "|---|---|---|---|",
    ]
    for name, entry in sorted(entries.items()):
        if name in results:
            result = results[name]
            lines.append(f"| [{name}]({name}.md) | {entry.question} | **{result['verdict']}** | {_standing(result)} |")
        else:
            lines.append(f"| {name} | {entry.question} | not kept yet | `sw2 claims run {name}` |")
    return "\n".join(lines) + "\n"


def page(name: str, result: Mapping[str, Any]) -> str:
    """The page of one claim, from its result as it is stored."""
    form = " --full" if result["form"] == "full" else ""
    seconds, made = duration(result["made"]["seconds"]), result["made"]
    lines = [
        f"# {result['question']}",
        "",
        f"**{result['verdict'].capitalize()}** ({_standing(result)}): {result['why']}",
        "",
    ]
    if result["indicative"]:
        lines += ["One seed alone: another may see something else.", ""]
    for place, plot in enumerate(result["plots"], start=1):
        lines += [f"![{plot['title']}]({name}-{place}.svg)", ""]
        lines += [plot["caption"], ""] if plot["caption"] else []
    lines += ["| " + " | ".join(result["head"]) + " |", "|" + "---|" * len(result["head"])]
    lines += ["| " + " | ".join(_cell(each) for each in row) + " |" for row in result["rows"]]
    lines += ["", f"**Expected.** {result['expected']}", "", f"**Rule.** {result['rule']}", ""]
    lines += [f"**Claimed by.** {result['source']}", ""]
    lines += [line for note in result["notes"] for line in (note, "")]
    lines += [
        f"Made by `sw2 claims run {name}{form} --seed {result['seeds'][0]}` in {seconds}, {made['threads']} "
        f"{'thread' if made['threads'] == 1 else 'threads'}, torch {made['torch']}. All claims: [README.md](README.md)."
    ]
    return "\n".join(lines) + "\n"


def _standing(result: Mapping[str, Any]) -> str:
    seeds = result["seeds"]
    return f"full, {len(seeds)} seeds" if result["form"] == "full" else f"indicative, seed {seeds[0]}"


def _cell(value: Any) -> str:
    return value.replace("|", "\\|") if isinstance(value, str) else number(value)


# Drawings


def drawing(plot: Mapping[str, Any]) -> str:
    """A plot of a stored result as SVG: lines with their places marked where these are few, a legend, both axes.

    Args:
        plot: as `core.claims.Plot` in JSON; values of None, and on a logarithmic scale those not above 0, are left out.
    """
    log = plot["log"]
    lines = {
        name: [(x, y) for x, y in points if y is not None and math.isfinite(y) and (y > 0 or not log)]
        for name, points in plot["lines"].items()
    }
    xs, ys = ([point[axis] for points in lines.values() for point in points] for axis in (0, 1))
    if not xs:
        return ""
    scale = math.log10 if log else float
    left, right = float(min(xs)), float(max(xs)) if max(xs) > min(xs) else min(xs) + 1.0
    low, high = scale(min(ys)), scale(max(ys))
    room = (high - low) * 0.06 or abs(high) * 0.5 or 1.0
    low, high = low - room, high + room

    def across(x: float) -> float:
        return _LEFT + (x - left) / (right - left) * (_WIDTH - _LEFT - _RIGHT)

    def down(y: float) -> float:
        return _HEIGHT - _BOTTOM - (scale(y) - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    marks = [y for y in _marks(low, high, log) if low <= scale(y) <= high]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
    ]
    parts += [
        f'<path d="M{_LEFT} {down(y):.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>'
        f'<text x="{_LEFT - 6}" y="{down(y) + 4:.1f}" text-anchor="end">{escape(number(y))}</text>'
        for y in marks
    ]
    parts += [
        f'<text x="{across(x):.1f}" y="{_HEIGHT - _BOTTOM + 17}" text-anchor="middle">{escape(number(x))}</text>'
        for x in ticks(left, right)
    ]
    parts.append(
        f'<text x="{(_LEFT + _WIDTH) / 2:.0f}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(plot["axis"])}</text>'
    )
    begin = float(_LEFT)
    for (name, points), colour in zip(lines.items(), _COLOURS, strict=False):
        if not points:
            continue
        thin = points[:: max(1, math.ceil(len(points) / _POINTS))]
        path = "L".join(f"{across(x):.1f} {down(y):.1f}" for x, y in thin)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if len(points) <= 40:
            parts += [f'<circle cx="{across(x):.1f}" cy="{down(y):.1f}" r="3" fill="{colour}"/>' for x, y in points]
        parts.append(f'<text x="{begin:.0f}" y="18" fill="{colour}">{escape(name)}</text>')
        begin += 14 + 6.4 * len(name)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _marks(low: float, high: float, log: bool) -> Sequence[float]:
    """Round numbers along the axis of values, whose ends are logarithms on a logarithmic scale."""
    if not log:
        return ticks(low, high)
    if high - low < 1:  # within a power of ten round numbers of the values themselves are told apart
        return [each for each in ticks(10**low, 10**high) if each > 0]
    powers = range(math.ceil(low), math.floor(high) + 1)
    return [10.0**each for each in powers[:: max(1, math.ceil(len(powers) / 6))]]
