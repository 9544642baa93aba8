"""The page of runs: curves and training health while they are written, samples, two runs beside each other.

What is drawn is what the report pages draw, by the same functions from the same reader. While the page is seen the
run's logs are looked at every two seconds, and it is drawn again when they have changed.
"""

from __future__ import annotations

import time
import tomllib
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import gradio as gr

from sw2.base.errors import Sw2Error
from sw2.core.card import count, duration, size
from sw2.faces.studio.desk import Desk
from sw2.faces.studio.look import fragment
from sw2.faces.studio.writing import told
from sw2.verbs.charts import Line, number
from sw2.verbs.curves import Curves, current_run, read_curves, smooth, versions
from sw2.verbs.page import spelled, table, titled
from sw2.verbs.report import chart_of, curves_of, health_of, pictures_of, remarks_of, samples_of
from sw2.verbs.shelf import Shelved

__all__ = ["beside", "overview", "runs_page"]

_SECONDS: Final = 2.0
_QUIET: Final = 120.0
_NOTHING: Final = (
    '<div class="sw2"><div class="empty"><h3>No run lies in this folder yet</h3><p>A training that is started with '
    "<code>--out</code> in this folder is drawn here while it learns.</p></div></div>"
)
_TAGS: Final = {"waiting": "", "learning": "", "finished": " good", "failed": " bad"}


def overview(name: str, run: Path, program: Shelved | None, now: float) -> str:
    """A run as HTML: how far it is, its curves, its health, samples of its program, what happened.

    Args:
        name: what to call it.
        run: its folder; of a chain the stage that it is at.
        program: what it made, if it has.
        now: seconds since 1970.

    Raises:
        RunError: there is no run.
    """
    at = current_run(run)
    curves = read_curves(at)
    stage = f" <span>{escape(at.name)}</span>" if at != run else ""
    report = run / "report.html"
    link = (
        f'<p class="report"><a href="/studio/report?run={quote(name)}" target="_blank" rel="noopener">'
        "The training report</a></p>"
        if report.is_file()
        else ""
    )
    parts = [("Curves", curves_of(curves)), ("Training health", health_of(curves)), ("Samples", _samples(program))]
    parts.append(("What happened", remarks_of(curves)))
    sections = "".join(f"<section><h2>{title}</h2>{body}</section>" for title, body in parts if body)
    return (
        f'<div class="sw2"><header><h2 class="name">{escape(name)}{stage}</h2>{_progress(curves, at, now)}{link}'
        f"</header>{sections}</div>"
    )


def _progress(curves: Curves, run: Path, now: float) -> str:
    tiles = [("step", f"{curves.step:,}", f"of {curves.total_steps:,}" if curves.total_steps else "")]
    tiles.append(("time", duration(curves.seconds), f"{duration(curves.eta)} left" if curves.eta is not None else ""))
    if curves.throughput:
        tiles.append((f"{curves.unit} per second", count(curves.throughput[-1][1]), ""))
    for title, series in curves.validation.items():
        tiles.append((f"validation {titled(title)}", number(series[-1][1]), f"at step {series[-1][0]:,}"))
    if curves.peak_memory:
        planned = curves.planned.get("peak_memory")
        tiles.append(("memory", size(curves.peak_memory), f"planned {size(planned)}" if planned else ""))
    told = "".join(
        f"<div><dt>{escape(what)}</dt><dd>{escape(value)}<small>{escape(more)}</small></dd></div>"
        for what, value, more in tiles[:6]
    )
    written = max((when for when, _ in versions(run)), default=0) / 1e9
    quiet = now - written if written else 0.0
    silent = (
        f'<p class="caption">Nothing new for {duration(quiet)}: it may have been stopped. '
        f"<code>sw2 train --resume --out {escape(run.name)}</code> goes on.</p>"
        if curves.state == "learning" and quiet > _QUIET
        else ""
    )
    bar = (
        f'<progress max="{curves.total_steps}" value="{min(curves.step, curves.total_steps)}" '
        f'aria-label="Steps">{curves.step}</progress>'
        if curves.total_steps
        else ""
    )
    return (
        f'<p><span class="tag{_TAGS[curves.state]}" id="run-state">{curves.state}</span></p>{silent}{bar}'
        f'<dl class="tiles">{told}</dl>'
    )


def _samples(program: Shelved | None) -> str:
    details = [score.details for score in program.scores if score.of == "program"] if program else []
    return "".join(samples_of(each["samples"]) for each in details if each.get("samples")) + "".join(
        pictures_of(each["pictures"]) for each in details if each.get("pictures")
    )


def beside(name: str, run: Path, other_name: str, other: Path) -> str:
    """Two runs on the same axes as HTML: every curve that both have, their last scores, and the settings that differ.

    Raises:
        RunError: one of them is no run.
    """
    runs = current_run(run), current_run(other)
    first, second = (read_curves(each) for each in runs)
    charts = []
    for what, (a, b) in {
        **{
            title: (first.training[title], second.training[title])
            for title in first.training
            if title in second.training
        },
        **{
            f"validation {title}": (first.validation[title], second.validation[title])
            for title in first.validation
            if title in second.validation
        },
    }.items():
        lines = [Line(name=name, points=smooth(a)), Line(name=other_name, points=smooth(b), look="second")]
        charts.append(chart_of(titled(what).capitalize(), lines, wide=what == "loss"))
    last = {
        title: (number(first.validation[title][-1][1]), number(second.validation[title][-1][1]))
        for title in first.validation
        if title in second.validation
    }
    last |= {
        "steps": (f"{first.step:,}", f"{second.step:,}"),
        "time": (duration(first.seconds), duration(second.seconds)),
    }
    heads = (escape(name), escape(other_name))
    numbers = table(("", *heads), ((escape(titled(title)), *pair) for title, pair in last.items()))
    settings = _differences(*runs)
    differ = (
        table(("setting", *heads), ((escape(key), escape(a), escape(b)) for key, (a, b) in settings.items()), words=3)
        if settings
        else '<p class="intro">Their settings are the same.</p>'
    )
    drawn = "".join(charts)
    curves = f'<div class="charts">{drawn}</div>' if drawn else '<p class="intro">They have no curve in common.</p>'
    return (
        f'<div class="sw2"><section><h2>Side by side</h2>{numbers}{curves}</section>'
        f"<section><h2>Settings that differ</h2>{differ}</section></div>"
    )


def _differences(run: Path, other: Path) -> dict[str, tuple[str, str]]:
    first, second = (_settings(each) for each in (run, other))
    return {
        key: (first.get(key, "–"), second.get(key, "–"))
        for key in sorted(first.keys() | second.keys())
        if first.get(key) != second.get(key)
    }


def _settings(run: Path) -> dict[str, str]:
    try:
        return dict(_flat(tomllib.loads((run / "config.toml").read_text(encoding="utf-8")), ""))
    except (OSError, ValueError):
        return {}


def _flat(values: Mapping[str, Any], before: str) -> list[tuple[str, str]]:
    found = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{before}{name}.")
        else:
            found.append((f"{before}{name}", spelled(value)))
    return found


def runs_page(desk: Desk) -> tuple[Any, Any, Any]:
    """Lay the page out; called inside a tab.

    Returns:
        The choice of a run, the function that offers what there is, and the timer to be running while the page is seen.
    """
    with gr.Row(elem_classes="bar"):
        run = gr.Dropdown([], label="Run", elem_id="run")
        other = gr.Dropdown([], label="Compare with", elem_id="other-run")
    seen = gr.State(("", "", ()))
    drawn = gr.HTML(elem_id="run-view", apply_default_css=False)
    timer = gr.Timer(_SECONDS, active=False)

    def offer(current: str | None, compared: str | None) -> tuple[Any, Any]:
        shelf = desk.shelf()
        names = sorted(shelf.runs, key=lambda name: -_latest(shelf.runs[name]))
        first = current if current in names else next(iter(names), None)
        return (
            gr.Dropdown(choices=names, value=first),
            gr.Dropdown(
                choices=[("nothing", ""), *((name, name) for name in names)],
                value=compared if compared in names else "",
            ),
        )

    def draw(name: str | None, compared: str | None, before: Any) -> tuple[Any, Any]:
        shelf = desk.shelf()
        if not name:
            return ("", "", ()), fragment(_NOTHING)
        try:
            path = shelf.run(name)
            beside_it = shelf.run(compared) if compared and compared != name else None
            written = [*versions(current_run(path)), *(versions(current_run(beside_it)) if beside_it else ())]
            state = (name, compared or "", tuple(written))
            if state == tuple(before) and time.time() % 30 > _SECONDS:
                return gr.skip(), gr.skip()
            html = overview(name, path, shelf.programs.get(name), time.time())
            if compared and beside_it is not None:
                html = beside(name, path, compared, beside_it) + html
        except Sw2Error as error:
            return ("", "", ()), told(error)
        return state, fragment(html)

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    gr.on([run.change, other.change, timer.tick], draw, [run, other, seen], [seen, drawn], **quiet)
    return (run, other), offer, timer


def _latest(run: Path) -> float:
    return max((when for when, _ in versions(run)), default=0.0)
