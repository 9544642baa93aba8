"""The report of a search: OUT/report.html, all trials on one page.

The order is the reader's: what was found and how good it is; each trial with its settings; how the best came to be over
time; what the score depends on; which trials failed. The last training has a report of its own, which is linked.

What a setting matters is told as the spread of mean scores between its values. Trials are few, each has one seed, and
other settings differ at the same time, so a small spread is chance; no test is made of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Final

from sw2.base.store import write_text
from sw2.core.card import duration
from sw2.core.program import Program
from sw2.core.task import Score
from sw2.verbs.charts import Line, line_chart, number
from sw2.verbs.page import page, spelled, table, titled
from sw2.verbs.report import verdict_of
from sw2.verbs.strategies import Outcome, best_of
from sw2.verbs.train import Order

__all__ = ["Effect", "effects", "ranked", "write_search_report"]

_APART: Final = 4
"""Up to so many different numbers stand for themselves; of more, thirds are compared."""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What the score was where a setting had a value, or lay in a range.

    Args:
        key: the setting.
        groups: (value or range, trials, mean score), in the order of the values.
    """

    key: str
    groups: Sequence[tuple[str, int, float]]

    @property
    def spread(self) -> float:
        """Between the groups with the largest and the least mean; 0 where there is one."""
        means = [mean for _, _, mean in self.groups]
        return max(means) - min(means)


def effects(done: Sequence[Outcome]) -> list[Effect]:
    """What mattered: the settings by the spread of their scores, the largest first; trials at their first turn."""
    first: dict[int, Outcome] = {}
    for each in done:
        first.setdefault(each.turn.trial, each)
    learned = [each for each in first.values() if each.scores]
    if not learned:
        return []
    found = [Effect(key=key, groups=list(_groups(learned, key))) for key in learned[0].turn.values]
    return sorted(found, key=lambda each: -each.spread)


def _groups(learned: Sequence[Outcome], key: str) -> Iterator[tuple[str, int, float]]:
    pairs = [(each.turn.values[key], each.scores[0][1]) for each in learned]
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value, _ in pairs)
    if numbers:
        pairs.sort(key=lambda pair: pair[0])
    values = list(dict.fromkeys(spelled(value) for value, _ in pairs))
    if not numbers or len(values) <= _APART:
        for name in values:
            scores = [score for value, score in pairs if spelled(value) == name]
            yield name, len(scores), sum(scores) / len(scores)
        return
    for third in range(3):
        part = pairs[third * len(pairs) // 3 : (third + 1) * len(pairs) // 3]
        scores = [score for _, score in part]
        yield f"{spelled(part[0][0])} to {spelled(part[-1][0])}", len(scores), sum(scores) / len(scores)


def ranked(done: Sequence[Outcome]) -> list[Outcome]:
    """Each trial once, as far as it came: the longest and best first, those that failed last."""
    last = {each.turn.trial: each for each in done if each.scores}
    for each in done:
        last.setdefault(each.turn.trial, each)
    return sorted(last.values(), key=lambda each: (bool(each.scores), each.turn.share, each.rank), reverse=True)


def write_search_report(
    path: Path, order: Order, strategy: str, done: Sequence[Outcome], best: Outcome, program: Program
) -> Path:
    """Write OUT/report.html.

    Args:
        path: OUT.
        order: what was asked.
        strategy: by its name.
        done: every turn, in order.
        best: the one whose settings the program has.
        program: the last training's.

    Returns:
        The path of the page.
    """
    sections = [
        ("Trials", _trials(done, best)),
        ("Over time", _over_time(done)),
        ("What mattered", _mattered(done, best)),
        ("Failed trials", _failed(done)),
        ("The last training", _last(best)),
    ]
    text = page(
        f"{order.task} from {order.data}", _header(order, strategy, done, best, program), sections, "Written by sw2."
    )
    target = path / "report.html"
    write_text(target, text.encode("utf-8", "replace").decode("utf-8"))
    return target


def _header(order: Order, strategy: str, done: Sequence[Outcome], best: Outcome, program: Program) -> str:
    trials = {each.turn.trial for each in done}
    seconds = 60 * sum(each.minutes for each in done)
    last = 60 * float(program.card.measured.get("minutes", 0.0))
    name, value, _ = best.scores[0]
    tiles = [
        (f"{titled(name)}, validation", number(value), f"trial {best.turn.trial}"),
        ("trials", str(len(trials)), strategy),
        ("time", duration(seconds + last), f"trials {duration(seconds)}, last training {duration(last)}"),
    ]
    told = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(more)}</small></dd></div>"
        for name, value, more in tiles
    )
    scores = [Score(**row) for row in program.card.scores]
    return (
        f'<header><p class="eyebrow">sw2 report of a search</p><h1>{escape(order.task)} <span>from</span> '
        f'{escape(Path(order.data).name)}</h1><p class="verdict">{verdict_of(program.task.metric, scores)}</p>'
        f'<dl class="tiles">{told}</dl></header>'
    )


def _short(keys: Sequence[str]) -> dict[str, str]:
    """Keys without the parts before the last, where that tells them apart."""
    last = [key.rpartition(".")[2] for key in keys]
    return {key: name if last.count(name) == 1 else key for key, name in zip(keys, last, strict=True)}


def _trials(done: Sequence[Outcome], best: Outcome) -> str:
    keys = _short(list(best.turn.values))
    times: dict[int, float] = {}
    for each in done:
        times[each.turn.trial] = times.get(each.turn.trial, 0.0) + each.minutes
    rows = (
        (
            f"<b>{each.turn.trial}</b>, taken" if each.turn.trial == best.turn.trial else str(each.turn.trial),
            *(escape(spelled(each.turn.values[key])) for key in keys),
            number(each.scores[0][1]) if each.scores else "failed",
            f"{each.turn.share:.0%}",
            f"{each.steps:,}" if each.steps else "–",
            duration(60 * times[each.turn.trial]),
        )
        for each in ranked(done)
    )
    name, _, better = best.scores[0]
    head = ("trial", *map(escape, keys.values()), escape(titled(name)), "length", "steps", "time")
    return (
        f'<p class="intro">{escape(titled(name).capitalize())} on the validation split; {escape(better)} is better. '
        "Length is the share of a whole trial that was learned. Scores of another length cannot be compared.</p>"
        + table(head, rows)
    )


def _over_time(done: Sequence[Outcome]) -> str:
    each_turn, best_so_far = [], []
    seconds = 0.0
    for number_done, each in enumerate(done, start=1):
        seconds += 60 * each.minutes
        best = best_of(done[:number_done])
        if each.scores:
            each_turn.append((round(seconds), each.scores[0][1]))
        if best is not None:
            best_so_far.append((round(seconds), best.scores[0][1]))
    lines = [Line(name="each turn", points=each_turn, look="dots"), Line(name="best so far", points=best_so_far)]
    name = next(each.scores[0][0] for each in done if each.scores)
    chart = line_chart(
        titled(name).capitalize(),
        lines,
        axis="second",
        wide=True,
        caption="The best is that of the longest trials; it may fall where longer ones begin.",
    )
    return f'<div class="charts">{chart}</div>'


def _mattered(done: Sequence[Outcome], best: Outcome) -> str:
    keys = _short(list(best.turn.values))
    rows = [
        (
            escape(keys[each.key]) if not at else "",
            escape(value),
            str(trials),
            number(mean),
            number(each.spread) if not at else "",
        )
        for each in effects(done)
        for at, (value, trials, mean) in enumerate(each.groups)
    ]
    return (
        '<p class="intro">Mean scores of the trials by what a setting was, the setting with the largest spread first. '
        "Each trial has one seed, and other settings differed too: a small spread is chance.</p>"
        + table(("setting", "value", "trials", f"mean {titled(best.scores[0][0])}", "spread"), rows, words=2)
    )


def _failed(done: Sequence[Outcome]) -> str:
    rows = [(str(each.turn.trial), escape(_values(each.turn.values)), escape(each.why)) for each in done if each.why]
    return table(("trial", "settings", "why"), rows, words=3) if rows else ""


def _values(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {spelled(value)}" for key, value in values.items())


def _last(best: Outcome) -> str:
    return (
        f"<p>With the settings of trial {best.turn.trial} and what was left of the budget: "
        '<a href="best/report.html">its own report</a>. Only its program was judged on the test split, once.</p>'
    )
