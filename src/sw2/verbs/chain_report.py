"""The report of a chain: OUT/report.html, all stages on one page.

The order is the reader's: what each stage brought, beside what it is compared with; how the same questions are answered
after each; how each learned; where learning stood against what it costs (reward against the distance from the start,
for stages that measure both); what was planned and taken. Each stage's own report is linked.

What a stage may record for it: metrics "reward" and "kl" of its steps; "samples" in the details of its first score, as
in `verbs.report`; "flaws", a count by name, of what its held-out answers got wrong.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

from sw2.base.store import write_text
from sw2.core.card import Card, duration, size
from sw2.core.domain import ChainEntry
from sw2.verbs.charts import Line, number
from sw2.verbs.curves import read_curves, smooth
from sw2.verbs.page import page, table, titled
from sw2.verbs.report import chart_of, pushed, samples_of
from sw2.verbs.stages import Change, Ended, changes, yardsticks
from sw2.verbs.train import Order

__all__ = ["write_chain_report"]


def write_chain_report(path: Path, entry: ChainEntry, order: Order, ended: Sequence[Ended]) -> Path:
    """Write OUT/report.html about the stages of a chain that have ended so far.

    Args:
        path: OUT.
        entry: the chain's.
        order: what was asked.
        ended: what it started from, where that was judged, and its stages, in order.

    Returns:
        The path of the page.
    """
    sections = [
        ("Stages", _stages(ended, order.seed)),
        ("Flaws that remain", _flaws(ended)),
        ("The same questions after each stage", _samples(ended, entry.task)),
        ("Curves", "".join(_curves(each) for each in ended)),
        ("Reward and distance", "".join(_reward(each) for each in ended)),
        ("Planned and measured", _costs(ended)),
        ("Data", _data(ended)),
    ]
    target = path / "report.html"
    text = page(f"{order.task} from {order.data}", _header(entry, order, ended), sections, "Written by sw2.")
    write_text(target, text.encode("utf-8", "replace").decode("utf-8"))
    return target


def _header(entry: ChainEntry, order: Order, ended: Sequence[Ended]) -> str:
    done = [each for each in ended if each.stage is not None and not each.stage.beside]
    last = next((each for each in reversed(done) if each.task == entry.task and each.lead), None)
    first = next((each for each in ended if each.task == entry.task and each.lead and each is not last), None)
    said = entry.summary
    if last is not None and last.lead is not None:
        said = f"<b>{escape(titled(last.lead.name))} {number(last.lead.value)}</b> after {escape(last.title)}"
        if first is not None and first.lead is not None:
            said += f", {number(first.lead.value)} after {escape(first.title)}"
        said += f", on {last.lead.examples:,} held-out examples."
    minutes = sum(each.minutes[1] for each in ended)
    tiles = [("stages", str(len(done)), ", ".join(each.title for each in done)), ("time", duration(minutes * 60), "")]
    told = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(more)}</small></dd></div>"
        for name, value, more in tiles
    )
    return (
        f'<header><p class="eyebrow">sw2 report of a chain</p><h1>{escape(order.task)} <span>from</span> '
        f'{escape(Path(order.data).name)}</h1><p class="verdict">{said}</p><dl class="tiles">{told}</dl></header>'
    )


def _stages(ended: Sequence[Ended], seed: int) -> str:
    rows = []
    for each in ended:
        lead = each.lead
        name = escape(each.title)
        if each.path is not None:
            name = f'<a href="stages/{escape(each.path.name)}/report.html">{name}</a>'
        if each.stage is not None:
            name += f"<br><small>{escape(each.stage.why)}</small>"
        score = "" if lead is None else f"{number(lead.value)}<br><small>{escape(titled(lead.name))}</small>"
        interval = "" if lead is None or lead.interval is None else " to ".join(map(number, lead.interval))
        rows.append((name, _compared(ended, each, seed), score, interval, duration(each.minutes[1] * 60)))
    return (
        '<p class="intro">Each stage is judged on examples that no stage may learn from, and stands beside what it '
        "started from, its control and its baselines. A stage without gain is called so.</p>"
        + table(("stage", "beside it", "score", "95 % interval", "time"), rows, words=2)
    )


def _compared(ended: Sequence[Ended], each: Ended, seed: int) -> str:
    lines = [_changed(found) for found in changes(ended, each, seed)]
    if each.stage is not None and each.stage.beside:
        lines.append(f"control of {escape(', '.join(each.stage.beside))}")
    lines += [
        f"{escape(score.name if score.of == 'program' else score.of)} {number(score.value)}"
        for score in yardsticks(each)
    ]
    return "<br>".join(lines)


def _changed(found: Change) -> str:
    look = {"gained": " good", "lost": " bad"}.get(found.verdict, "")
    spread = f" ({number(found.interval.low)} to {number(found.interval.high)})" if found.interval else ""
    return f'<span class="tag{look}">{found.verdict}</span> {found.gain:+.4f}{spread} against {escape(found.against)}'


def _flaws(ended: Sequence[Ended]) -> str:
    told = [(each, each.lead.details["flaws"]) for each in ended if each.lead and each.lead.details.get("flaws")]
    names = list(dict.fromkeys(name for _, flaws in told for name in flaws))
    if not names:
        return ""
    rows = [(escape(name), *(f"{flaws.get(name, 0):,}" for _, flaws in told)) for name in names]
    intro = '<p class="intro">How many held-out answers have each flaw.</p>'
    return intro + table(("flaw", *(escape(each.title) for each, _ in told)), rows)


def _samples(ended: Sequence[Ended], task: str) -> str:
    shown = [(each, each.lead.details["samples"]) for each in ended if each.lead and each.lead.details.get("samples")]
    shown = [(each, samples) for each, samples in shown if each.task == task] or shown
    return "".join(f"<h3>{escape(each.title)}</h3>{samples_of(samples)}" for each, samples in shown)


def _curves(each: Ended) -> str:
    if each.path is None:
        return ""
    curves = read_curves(each.path)
    lines = [
        Line(name="training", points=smooth(curves.training.get("loss", ()))),
        Line(name="validation", points=curves.validation.get("loss", ()), look="dots"),
    ]
    drawn = chart_of("Loss", lines)
    return f'<h3>{escape(each.title)}</h3><div class="charts">{drawn}</div>' if drawn else ""


def _reward(each: Ended) -> str:
    if each.path is None:
        return ""
    curves = read_curves(each.path)
    training = curves.training
    if not ("reward" in training and "kl" in training):
        return ""
    drawn = "".join(chart_of(title, [Line(name=name, points=smooth(training[name]))]) for name, title in (
        ("reward", "Reward"), ("kl", "Distance from the start, nats")
    ))  # fmt: skip
    drawn += "".join(pushed(curves))
    return f'<h3>{escape(each.title)}</h3><div class="charts">{drawn}</div>'


def _costs(ended: Sequence[Ended]) -> str:
    rows = []
    for each in ended:
        if each.path is None:
            continue
        card = _card(each.path)
        planned, measured = card.planned, card.measured
        rows.append(
            (
                escape(each.title),
                duration(each.minutes[0] * 60),
                duration(planned["minutes"] * 60),
                duration(measured["minutes"] * 60),
                duration(each.minutes[1] * 60),
                size(planned["peak_memory"]),
                size(measured["peak_memory"]),
            )
        )
    head = ("stage", "given", "planned", "learning took", "with judging", "memory planned", "memory taken")
    return table(head, rows) if rows else ""


def _data(ended: Sequence[Ended]) -> str:
    rows = []
    for each in ended:
        if each.path is None:
            continue
        data = _card(each.path).data
        rows.append((escape(each.title), escape(str(data["name"])), f"<code>{str(data['fingerprint'])[:12]}</code>"))
    return table(("stage", "data", "fingerprint"), rows, words=3) if rows else ""


def _card(path: Path) -> Card:
    return Card.from_json(json.loads((path / "program" / "program.json").read_text(encoding="utf-8"))["card"])
