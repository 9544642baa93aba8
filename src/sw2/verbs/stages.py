"""Stages that have ended, and what each of them brought beside what it is compared with.

Where both programs' scores keep the examples' own scores, the same examples are compared pairwise, which is far sharper
than two separate intervals (`parts.metrics.intervals`); elsewhere the two values alone are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sw2.core.card import duration
from sw2.core.domain import Stage
from sw2.core.task import Score
from sw2.parts.metrics.intervals import Interval, averaged, paired_bootstrap

__all__ = ["Change", "Ended", "change", "changes", "rivals", "told", "yardsticks"]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A stage that has ended, or what the chain started from (then without a stage and a path).

    Args:
        title: what to call it.
        minutes: that it was given, and took with reading and judging.
        scores: as on its program's card, its own and the baselines'.
    """

    title: str
    task: str
    scores: Sequence[Score]
    stage: Stage | None = None
    path: Path | None = None
    minutes: tuple[float, float] = (0.0, 0.0)

    @property
    def lead(self) -> Score | None:
        """The score that decides: one that keeps the examples' own scores, where there is one; otherwise the first."""
        own = [score for score in self.scores if score.of == "program"]
        return next((score for score in own if score.details.get("cases")), own[0] if own else None)


@dataclass(frozen=True, kw_only=True)
class Change:
    """How a program differs from another by the score that decides.

    Args:
        against: whom it is compared with.
        gain: the difference, above 0 when it is better; with an interval where both judged the same examples.
    """

    against: str
    gain: float
    interval: Interval | None = None

    @property
    def verdict(self) -> str:
        """In a word or two."""
        if self.interval is None:
            return "gained" if self.gain > 0 else "no gain"
        if not self.interval.excludes(0):
            return "no clear gain"
        return "gained" if self.gain > 0 else "lost"


def change(old: Ended, new: Ended, seed: int = 0) -> Change | None:
    """How `new` differs from `old`; None where they were not judged by the same score.

    The details of a score may hold "cases", the examples' own scores in order; they are compared pairwise.
    """
    before, after = old.lead, new.lead
    if before is None or after is None or before.name != after.name or before.examples != after.examples:
        return None
    sign = 1.0 if after.better == "higher" else -1.0
    cases = [_cases(score) for score in (before, after)]
    interval = None
    if cases[0] and cases[1] and len(cases[0]) == len(cases[1]):
        interval = paired_bootstrap([sign * each for each in cases[0]], [sign * each for each in cases[1]], seed=seed)
    return Change(against=old.title, gain=sign * (after.value - before.value), interval=interval)


def _cases(score: Score) -> list[float]:
    """The examples' own scores; of one that was judged several times the mean, for it is one example."""
    cases, repeats = score.details.get("cases") or [], score.details.get("repeats")
    return averaged(cases, repeats).tolist() if cases and repeats else list(cases)


def rivals(ended: Sequence[Ended], stage: Stage) -> list[Ended]:
    """Whom a stage is compared with: what it started from, and its controls."""
    before = next((each for each in ended if each.title == stage.start), None)
    if before is None and ended and ended[0].stage is None and not stage.start:
        before = ended[0]
    controls = [each for each in ended if each.stage is not None and stage.name in each.stage.beside]
    return [*([] if before is None else [before]), *controls]


def changes(ended: Sequence[Ended], each: Ended, seed: int = 0) -> list[Change]:
    """How a stage differs from all that it is compared with; nothing for a control.

    One that answers something else than what it started from (a reward model, say) is held against its best baseline.
    """
    if each.stage is None or each.stage.beside:
        return []
    found = [one for other in rivals(ended, each.stage) if (one := change(other, each, seed)) is not None]
    return found or _over_baseline(each)


def _over_baseline(each: Ended) -> list[Change]:
    lead = each.lead
    best = None if lead is None else next(iter(_best(each, lead.name)), None)
    if lead is None or best is None:
        return []
    sign = 1.0 if lead.better == "higher" else -1.0
    gain = sign * (lead.value - best.value)
    interval = None
    if lead.interval is not None:
        low, high = sorted(sign * (end - best.value) for end in lead.interval)
        interval = Interval(gain, low, high)
    return [Change(against=best.of, gain=gain, interval=interval)]


def yardsticks(each: Ended, most: int = 3) -> list[Score]:
    """The best baselines of the score that decides; where that is not the first, the first and its baselines too."""
    lead = each.lead
    if lead is None:
        return []
    found = _best(each, lead.name)[:most]
    first = next(score for score in each.scores if score.of == "program")
    if first.name != lead.name:
        found += [first, *_best(each, first.name)[:most]]
    return found


def _best(each: Ended, name: str) -> list[Score]:
    rows = [score for score in each.scores if score.of != "program" and score.name == name]
    return sorted(rows, key=lambda score: score.value, reverse=bool(rows) and rows[0].better == "higher")


def told(ended: Sequence[Ended], stage: Stage, seed: int) -> Iterator[str]:
    """What a stage brought, in lines."""
    this = next(each for each in ended if each.title == stage.name)
    if this.lead is None:
        return
    yield f"{stage.name}: {this.lead.name} {this.lead.value:.4f}, in {duration(this.minutes[1] * 60)}"
    for other in (each for each in ended if each.title in stage.beside):  # those that this is the control of
        if (found := change(this, other, seed)) is not None:
            yield f"{other.title} against {stage.name}: {found.verdict} ({found.gain:+.4f})"
    for found in changes(ended, this, seed):
        yield f"{stage.name} against {found.against}: {found.verdict} ({found.gain:+.4f})"
