"""The report of a training: RUN/report.html, one file for people.

It opens anywhere, with no network and no script: the page's own policy forbids both. The order is the reader's: is it
good, where is it wrong, how did learning go, what did it cost, how was it made.

What the task's scores may hold in their `details`, and how it is shown:

    labels, confusion    K names and K × K counts (row: the label, column: the answer) as a matrix of shares
    pictures             [{"image": "data:image/…", "label", "answer", "probability"}, …] as a gallery
    samples              [{"prompt", "text"}, …] as texts

`card.data["rejected"]`, where there, holds the first rejected rows as {"where", "why"}. All text from the run, the data
and the program is escaped; pictures are taken as data URLs of bitmaps only. Curves are drawn by `verbs.charts`.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import fmean
from typing import Any

from sw2.base.store import write_text
from sw2.core.card import count, duration, size
from sw2.core.model import count_parameters
from sw2.core.program import Program
from sw2.core.task import Score
from sw2.verbs.charts import Line, heat_map, line_chart, number
from sw2.verbs.curves import Curves, read_curves, smooth
from sw2.verbs.page import fact_list, page, spelled, table, titled

__all__ = [
    "chart_of",
    "curves_of",
    "health_of",
    "pictures_of",
    "pushed",
    "remarks_of",
    "samples_of",
    "verdict_of",
    "write_report",
]

CELLS = 24  # up to so many classes a confusion matrix shows its counts; above, it is a map
MAPPED = 200  # up to so many classes it is a map; above, only the worst confusions are told
PROBES = 48  # columns of a heat map
DISTANCES = 10  # points of a curve over the distance from the start
LOG_ABOVE = 50  # a chart whose values span more than this factor is logarithmic
BITMAP = re.compile(r"data:image/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/=]+")


def write_report(run_path: Path, program: Program) -> Path:
    """Write RUN/report.html about the run in `run_path` and the program that it made.

    Returns:
        The path of the page.

    Raises:
        RunError: when `run_path` holds no run.
        ResourceError: when the disk is full.
    """
    target = run_path / "report.html"
    page = _page(run_path, read_curves(run_path), program)
    # Half a surrogate pair can come in by a JSON escape, and no file can hold it.
    write_text(target, page.encode("utf-8", "replace").decode("utf-8"))
    return target


def _page(run_path: Path, curves: Curves, program: Program) -> str:
    card = program.card
    scores = [Score(**row) for row in card.scores]
    own = [score for score in scores if score.of == "program"]
    details = [score.details for score in own]
    sections = [
        ("Scores", _scores(scores)),
        ("Confusions", "".join(_confusion(d["labels"], d["confusion"]) for d in details if "confusion" in d)),
        ("Pictures", "".join(pictures_of(d["pictures"]) for d in details if d.get("pictures"))),
        ("Samples", "".join(samples_of(d["samples"]) for d in details if d.get("samples"))),
        ("Curves", curves_of(curves)),
        ("Training health", health_of(curves)),
        ("Planned and measured", _planned(card.planned, card.measured)),
        ("Data", _data(card.data)),
        ("How it was made", _made(program)),
        ("What happened", remarks_of(curves)),
        ("Settings", _settings(card.settings)),
        ("Use it", _use(run_path)),
    ]
    return page(
        f"{program.task.name} from {card.data.get('name', 'examples')}",
        _headline(program, scores),
        sections,
        f'Program <span class="mono">{program.id[:12]}</span>, written by sw2.',
    )


def _interval(score: Score) -> str:
    return f"{number(score.interval[0])} to {number(score.interval[1])}" if score.interval else ""


# -- is it good ------------------------------------------------------------------------------------------------------


def _headline(program: Program, scores: Sequence[Score]) -> str:
    card = program.card
    lead, best = _lead_and_best(program.task.metric, scores)
    parameters = sum(count_parameters(net.module) for net in program.nets.values())
    stored = sum(tensor.numel() * tensor.element_size() for tensor in program.tensors().values())
    tiles: list[tuple[str, str, str]] = []
    if lead:
        spread = f"95 % interval {_interval(lead)}" if lead.interval else f"{lead.examples:,} examples"
        tiles.append((titled(lead.name), number(lead.value), spread))
    if best:
        tiles.append(("best baseline", number(best.value), best.of))
    if "minutes" in card.measured:
        seconds = float(card.measured["minutes"]) * 60
        planned = f"planned {duration(card.planned['minutes'] * 60)}" if "minutes" in card.planned else ""
        tiles.append(("training", duration(seconds), planned))
    tiles.append(("size", size(stored), f"{count(parameters)} parameters"))
    told = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(more)}</small></dd></div>"
        for name, value, more in tiles
    )
    return (
        f'<header><p class="eyebrow">sw2 training report</p><h1>{escape(program.task.name)} '
        f"<span>from</span> {escape(str(card.data.get('name', 'examples')))}</h1>"
        f'<p class="verdict">{_verdict(lead, best)}</p><dl class="tiles">{told}</dl></header>'
    )


def verdict_of(metric: str, scores: Sequence[Score]) -> str:
    """One sentence, as HTML, about the score that decides and its best baseline; it claims no more than they show."""
    return _verdict(*_lead_and_best(metric, scores))


def _lead_and_best(metric: str, scores: Sequence[Score]) -> tuple[Score | None, Score | None]:
    """The program's score that decides, and the best baseline beside it."""
    own = [score for score in scores if score.of == "program"]
    lead = next((score for score in own if score.name == metric), own[0] if own else None)
    return lead, _best_baseline(lead, scores) if lead else None


def _best_baseline(lead: Score, scores: Sequence[Score]) -> Score | None:
    rivals = [score for score in scores if score.of != "program" and score.name == lead.name]
    best = None
    for rival in rivals:
        if best is None or rival.beats(best):
            best = rival
    return best


def _verdict(lead: Score | None, best: Score | None) -> str:
    if lead is None:
        return '<span class="tag">Not judged</span> There were no held-out examples to judge it on.'
    said = f"<b>{escape(titled(lead.name))} {number(lead.value)}</b> on {lead.examples:,} held-out examples"
    if best is None:
        return f'<span class="tag">No baseline</span> {said}.'
    against = f"{said}, against {number(best.value)} of the best baseline, {escape(best.of)}"
    if lead.beats(best) and _apart(lead, best):
        return f'<span class="tag good">Beats its baseline</span> {against}.'
    if lead.beats(best):
        return f'<span class="tag">Above its baseline</span> {against}. The intervals overlap, so this may be chance.'
    return f'<span class="tag bad">Does not beat its baseline</span> {against}.'


def _apart(left: Score, right: Score) -> bool:
    """Whether the intervals do not overlap; a score without one counts as a point."""
    (low, high), (other_low, other_high) = (score.interval or (score.value, score.value) for score in (left, right))
    return low > other_high or high < other_low


def _scores(scores: Sequence[Score]) -> str:
    if not scores:
        return '<p class="intro">Nothing was judged: the data has no test split.</p>'
    rows = []
    for name in dict.fromkeys(score.name for score in scores):
        group = [score for score in scores if score.name == name]
        better = escape(f"{titled(name)}: {group[0].better} is better")
        rows.append(f'<tr class="group"><td colspan="5">{better}</td></tr>')
        for score in group:
            own = ' class="own"' if score.of == "program" else ""
            who = "this program" if score.of == "program" else score.of
            rows.append(
                f'<tr{own}><td>{escape(who)}</td><td class="num">{number(score.value)}</td>'
                f'<td class="num">{_interval(score)}</td><td class="num spare">{score.examples:,}</td>'
                f'<td class="span">{_span(score, group)}</td></tr>'
            )
    return (
        '<p class="intro">On examples that were kept apart from learning, beside what simpler means reach on the same '
        'examples.</p><div class="scroll"><table><thead><tr><th>who</th><th class="num">value</th>'
        '<th class="num">95 % interval</th><th class="num spare">examples</th><th class="span"></th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _span(score: Score, group: Sequence[Score]) -> str:
    """A score as a dot on its interval, on the scale of its group."""
    ends = [end for one in group for end in (one.value, *(one.interval or ()))]
    low, high = min(ends), max(ends)
    if len(group) < 2 or not high > low:
        return ""

    def at(value: float) -> float:
        return 3 + 94 * (value - low) / (high - low)

    look = "main" if score.of == "program" else "mute"
    whisker = f'<path class="line thin {look}" d="M{at(score.interval[0]):.1f} 10H{at(score.interval[1]):.1f}"/>' if (
        score.interval
    ) else ""  # fmt: skip
    guide = "".join(f'<path class="guide" d="M{at(one.value):.1f} 0V20"/>' for one in group if one.of == "program")
    return (
        f'<svg viewBox="0 0 100 20" preserveAspectRatio="none" aria-hidden="true">{guide}{whisker}'
        f'<path class="dots {look}" d="M{at(score.value):.1f} 10h0"/></svg>'
    )


# -- where is it wrong -----------------------------------------------------------------------------------------------


def _confusion(labels: Sequence[Any], counts: Sequence[Sequence[int]]) -> str:
    names = [str(label) for label in labels]
    totals = [sum(row) for row in counts]
    drawn = ""
    if len(names) <= CELLS:
        drawn = _confusion_cells(names, counts, totals)
    elif len(names) <= MAPPED:
        drawn = _confusion_map(names, counts, totals)
    pairs = [
        (counts[true][answer], true, answer)
        for true in range(len(names))
        for answer in range(len(names))
        if true != answer and counts[true][answer]
    ]
    worst = sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2]))[:10]
    told = table(
        ("label", "taken for", "times", "of"),
        (
            (escape(names[true]), escape(names[answer]), f"{times:,}", f"{totals[true]:,}")
            for times, true, answer in worst
        ),
        words=2,
    )
    return (
        '<p class="intro">Each row holds the examples of one label; its cells say what they were taken for. Blue is '
        f'right, orange is wrong, and the shade is the share of the row.</p><div class="beside">{drawn}<div>'
        + (f"<h3>The most frequent mistakes</h3>{told}" if worst else "<p>There are no mistakes.</p>")
        + "</div></div>"
    )


def _confusion_cells(names: Sequence[str], counts: Sequence[Sequence[int]], totals: Sequence[int]) -> str:
    many = " many" if len(names) > 6 and max(map(len, names)) > 3 else ""
    head = "".join(f'<th scope="col" title="{escape(name)}">{escape(name)}</th>' for name in names)
    rows = []
    for true, name in enumerate(names):
        cells = []
        for answer, times in enumerate(counts[true]):
            share = times / max(1, totals[true])
            # A wash of at most 55 % keeps the count readable; the root lets a few mistakes be seen.
            wash = 55 * share**0.5
            words = escape(f"{name} taken for {names[answer]}: {times:,} ({share:.1%})")
            look = "hit" if true == answer else "miss"
            cells.append(f'<td class="{look}" style="--share:{wash:.0f}" title="{words}">{times or ""}</td>')
        recall = f"{counts[true][true] / totals[true]:.0%}" if totals[true] else ""
        rows.append(
            f'<tr><th scope="row" title="{escape(name)}">{escape(name)}</th>{"".join(cells)}'
            f'<td class="recall">{recall}</td></tr>'
        )
    return (
        f'<div class="scroll"><table class="confusion{many}" aria-label="Confusion matrix"><thead><tr><th></th>{head}'
        f'<th scope="col">found</th></tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def _confusion_map(names: Sequence[str], counts: Sequence[Sequence[int]], totals: Sequence[int]) -> str:
    cells = "".join(
        f'<rect class="{"hit" if true == answer else "miss"}" x="{answer}" y="{true}" width="1" height="1" '
        f'opacity="{0.15 + 0.85 * (times / totals[true]) ** 0.5:.2f}">'
        f"<title>{escape(names[true])} taken for {escape(names[answer])}: {times:,} of {totals[true]:,}</title></rect>"
        for true in range(len(names))
        for answer, times in enumerate(counts[true])
        if times
    )
    k = len(names)
    return (
        f'<svg class="map" viewBox="0 0 {k} {k}" role="img" aria-label="Confusion matrix of {k} labels">'
        f'<rect class="back" width="{k}" height="{k}"/>{cells}</svg>'
    )


def pictures_of(pictures: Sequence[Mapping[str, Any]]) -> str:
    """Judged pictures as HTML; "" where none is a bitmap."""
    shown = []
    for picture in pictures:
        image = str(picture["image"])
        if not BITMAP.fullmatch(image):
            continue
        label, answer = escape(str(picture["label"])), escape(str(picture["answer"]))
        sure = f", {picture['probability']:.0%} sure" if "probability" in picture else ""
        shown.append(
            f'<figure><img src="{image}" alt="Labelled {label}, answered {answer}" loading="lazy">'
            f"<figcaption>labelled <b>{label}</b><br>answered <b>{answer}</b>{sure}</figcaption></figure>"
        )
    return (
        '<p class="intro">Examples that the task chose to show, often its most confident mistakes; some of them may be '
        f'mislabelled.</p><div class="pictures">{"".join(shown)}</div>'
        if shown
        else ""
    )


def samples_of(samples: Sequence[Mapping[str, Any]]) -> str:
    """Prompts and what was written on from them, as HTML."""
    texts = []
    for sample in samples:
        prompt, text = str(sample.get("prompt", "")), str(sample["text"])
        texts.append(f'<pre><span class="prompt">{escape(prompt)}</span>{escape(text.removeprefix(prompt))}</pre>')
    return f'<p class="intro">What it wrote; a prompt is coloured.</p>{"".join(texts)}'


# -- how did learning go ---------------------------------------------------------------------------------------------


def curves_of(curves: Curves) -> str:
    """All curves of a run as HTML, the loss first."""
    names = dict.fromkeys(["loss", *curves.validation, *curves.training])
    charts = []
    for name in names:
        seen = curves.training.get(name, ())
        lines = [] if name == "learning_rate" else [Line(name="each step", points=seen, look="faint")]
        lines.append(Line(name="training", points=seen if name == "learning_rate" else smooth(seen)))
        lines.append(Line(name="validation", points=curves.validation.get(name, ()), look="dots"))
        charts.append(chart_of(titled(name).capitalize(), lines, wide=name == "loss"))
    pace = [
        Line(name="each moment", points=curves.throughput, look="faint"),
        Line(name="smoothed", points=smooth(curves.throughput)),
    ]
    charts.append(chart_of(f"{curves.unit.capitalize()} per second", pace, caption="Pauses for evaluations included."))
    charts += pushed(curves)
    drawn = "".join(charts)
    if not drawn:
        return '<p class="intro">No step was recorded.</p>'
    return (
        '<p class="intro">Over steps of learning. Touch or hover over a chart to read its values.</p>'
        f'<div class="charts">{drawn}</div>'
    )


def pushed(curves: Curves) -> list[str]:
    """What answers were worth against how far they were from the start, as HTML: by the reward, and by the rule.

    Where another program or function gives the reward, the two part in the end: pushed far enough, a policy finds what
    the reward likes by mistake (Gao, Schulman & Hilton 2022, https://arxiv.org/abs/2210.10760). Each point is of steps
    that followed one another: a single step asks a few questions, and hard ones are far and badly answered from the
    start. Empty for a run without rewards.
    """
    distances = curves.training.get("kl", ())
    names = {"reward": "Reward against distance", "passed": "Share right by the rule against distance"}
    charts = []
    for name, title in names.items():
        seen = dict(curves.training.get(name, ()))
        steps = [(distance, seen[step]) for step, distance in distances if step in seen and math.isfinite(distance)]
        if len(steps) < DISTANCES:
            continue
        parts = [
            steps[len(steps) * part // DISTANCES : len(steps) * (part + 1) // DISTANCES] for part in range(DISTANCES)
        ]
        points = sorted((fmean(far for far, _ in part), fmean(value for _, value in part)) for part in parts)
        note = (
            f"Nats per answer from the start; each point is the mean of some {len(steps) // DISTANCES} steps in a row."
        )
        charts.append(line_chart(title, [Line(name=name, points=points, look="dots")], caption=note, axis="nat"))
    return charts


def chart_of(title: str, lines: Sequence[Line], *, wide: bool = False, caption: str = "") -> str:
    """Lines over steps as HTML, on a logarithmic scale where that shows more; "" without points."""
    lines = [line for line in lines if line.points]
    values = [value for line in lines for _, value in line.points]
    log = bool(values) and min(values) > 0 and max(values) > LOG_ABOVE * min(values)
    note = " ".join(part for part in (caption, "Logarithmic scale." if log else "") if part)
    return line_chart(title, lines, log=log, caption=note, wide=wide)


HEALTH = (
    ("gradient", "Gradient", "Root mean square with respect to each layer's output. It should be alike in all layers."),
    ("activation", "Activation", "Root mean square of each layer's output."),
    ("update", "Update", "Size of a step relative to the weights. Near 1e-3 is usual, above 0.1 is too large."),
    ("dead", "Dead units", "Share of ReLU units that answer zero to every example."),
)


def health_of(curves: Curves) -> str:
    """Training health as HTML: what was found, maps of layers over steps, the last numbers; "" without probes."""
    if not curves.probes:
        return ""
    findings = curves.findings()
    end = curves.probes[-1].step
    told = "".join(
        f'<li class="finding">{escape(finding.text)}<small>Seen by {finding.probes} of {len(curves.probes)} probes, '
        f"from step {finding.first:,} to {finding.last:,}"
        f"{', still so at the last one' if finding.last == end else ', and not since'}.</small></li>"
        for finding in findings
    )
    verdict = (
        f'<ul class="plain">{told}</ul>'
        if findings
        else f'<p><span class="tag good">Healthy</span> {len(curves.probes)} probes found no vanishing or exploding '
        "gradients, no layer of dead units and no oversized steps.</p>"
    )
    stride = -(-len(curves.probes) // PROBES)
    probes = [*curves.probes[:-1:stride], curves.probes[-1]]
    rows = {probe.step: {str(row["layer"]): row for row in probe.layers} for probe in probes}
    layers = list(dict.fromkeys(str(row["layer"]) for probe in probes for row in probe.layers))

    def column(name: str) -> Callable[[str, int], float | None]:
        return lambda layer, step: rows[step].get(layer, {}).get(name)

    maps = "".join(
        heat_map(
            title,
            layers,
            [probe.step for probe in probes],
            column(name),
            scale="share" if name == "dead" else "log",
            caption=caption,
        )
        for name, title, caption in HEALTH
    )
    names = [name for name in ("activation", "gradient", "weight", "update", "dead") if any(
        name in row for row in curves.probes[-1].layers
    )]  # fmt: skip
    last = table(
        ("layer", *names),
        ((escape(str(row["layer"])), *(number(row.get(name)) for name in names)) for row in curves.probes[-1].layers),
    )
    return (
        '<p class="intro">Layers from input to output, over steps; darker is larger on a light page, lighter on a dark '
        "one. The number is the last probe's.</p>"
        f'{verdict}<div class="charts">{maps}</div><details><summary>All numbers of the last probe, step {end:,}'
        f"</summary>{last}</details>"
    )


def remarks_of(curves: Curves) -> str:
    """Notes, resumes and failures as HTML; "" without any."""
    lines = "".join(
        f"<li>{escape(remark.text)}<small>{remark.kind}, step {remark.step:,}</small></li>" for remark in curves.remarks
    )
    return f'<ul class="plain">{lines}</ul>' if lines else ""


# -- what did it cost, how was it made -------------------------------------------------------------------------------


def _planned(planned: Mapping[str, Any], measured: Mapping[str, Any]) -> str:
    def words(name: str, values: Mapping[str, Any]) -> str:
        if name not in values:
            return "–"
        if name == "minutes":
            return duration(float(values[name]) * 60)
        return size(values[name]) if name in ("peak_memory", "disk") else escape(spelled(values[name]))

    rows = []
    for name in dict.fromkeys([*planned, *measured]):
        known = all(isinstance(values.get(name), (int, float)) for values in (planned, measured)) and planned[name] > 0
        ratio = f"{measured[name] / planned[name]:.0%}" if known else "–"
        title = "time" if name == "minutes" else titled(name)
        rows.append((escape(title), words(name, planned), words(name, measured), ratio))
    if not rows:
        return ""
    intro = '<p class="intro">The plan was made from a few timed steps before learning began.</p>'
    return intro + table(("", "planned", "measured", "ratio"), rows)


def _data(data: Mapping[str, Any]) -> str:
    rejected = data.get("rejected rows", 0)
    told = ""
    if rejected:
        rows = data.get("rejected", ())
        told = f'<p><span class="tag bad">{rejected:,} rejected</span> Rows that could not be used were skipped.</p>'
        if rows:
            told += table(("where", "why"), ((escape(str(r["where"])), escape(str(r["why"]))) for r in rows), words=2)
            more = rejected - len(rows)
            told += f'<p class="caption">And {more:,} more.</p>' if more > 0 else ""
    return told + fact_list({name: value for name, value in data.items() if name != "rejected"})


def _made(program: Program) -> str:
    nets = {f"network {role}": net.model for role, net in program.nets.items()}
    provider = " ".join(str(program.provider[key]) for key in ("distribution", "version") if key in program.provider)
    facts = {**nets, **program.card.facts, "learned by": provider or "unknown", **program.card.made}
    return fact_list(facts)


def _settings(settings: Mapping[str, Any]) -> str:
    if not settings:
        return ""
    groups = []
    for section, values in settings.items():
        inner = fact_list(dict(_flat(values))) if isinstance(values, Mapping) else f"<p>{escape(spelled(values))}</p>"
        groups.append(f"<h3>{escape(titled(str(section)))}</h3>{inner}")
    return (
        '<p class="intro">Every setting after all of them were derived, as in config.toml beside this page.</p>'
        f"<details><summary>Show all settings</summary>{''.join(groups)}</details>"
    )


def _flat(values: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, Any]]:
    """Nested settings under dotted names, as `--set` takes them."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _use(run_path: Path) -> str:
    run = escape(shlex.quote(str(run_path)))
    return (
        f"<pre>sw2 run {run} INPUT          # ask it\n"
        f"sw2 eval {run} DATA          # judge it on other examples\n"
        f"sw2 train --config {run}/config.toml --out ANOTHER   # learn it again</pre>"
    )
