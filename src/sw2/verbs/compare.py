"""The verb `compare`: which held-out answers changed from one program to another, better or worse.

Both are judged by the same task on the same examples. Where its judge keeps the examples' own scores ("cases" in the
details of a `Score`), they are compared pairwise: an example on which both programs fail says nothing, which is why a
small gain can be told from chance here and not from two separate intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sw2.base.config import apply_settings
from sw2.base.errors import DataError, UsageError
from sw2.core.program import Program
from sw2.core.registry import Registry
from sw2.core.task import Context, Score
from sw2.verbs.stages import Change, Ended, change

__all__ = ["Changed", "Comparison", "compare"]


@dataclass(frozen=True, kw_only=True)
class Changed:
    """A held-out example that is answered otherwise.

    Args:
        number: its place among the examples that were judged.
        asked, old, new: what was asked, what each program said; "" where the judge does not tell.
        gain: how much better the new answer is, below 0 when it is worse, 0 when only its words differ.
    """

    number: int
    asked: str
    old: str
    new: str
    gain: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How two programs differ.

    Args:
        task: by whose judge.
        old, new: their scores, of the metric that keeps examples.
        change: the difference with its interval.
        changed: the examples that are answered otherwise: those that became worse, those that became better, others.
        beside: their other scores by the same judge, old and new, of those that both have.
    """

    task: str
    old: Score
    new: Score
    change: Change
    changed: Sequence[Changed]
    beside: Sequence[tuple[Score, Score]] = ()

    @property
    def better(self) -> int:
        """How many examples are answered better."""
        return sum(each.gain > 0 for each in self.changed)

    @property
    def worse(self) -> int:
        """How many examples are answered worse."""
        return sum(each.gain < 0 for each in self.changed)


def compare(
    registry: Registry,
    old: Program,
    new: Program,
    source: str | None,
    context: Context,
    *,
    split: str = "test",
    settings: Sequence[str] = (),
    task: str | None = None,
) -> Comparison:
    """Judge both programs on one split of the data at `source`, and compare their answers.

    Args:
        registry: knows the task of named data.
        old, new: programs of one task, or such that `task` can judge both.
        source: a path or the name of a data set; None for the tests that `old` itself brings.
        split: which examples.
        settings: `data.key=value` texts.
        task: the name of the task to judge by; that of the named data, or their own, when None.

    Raises:
        UsageError: the programs are of different tasks, or the task's judge keeps no examples' scores.
        DataError: the data cannot be read or has no such split.
        ProgramError: a program lacks what the task asks for.
    """
    if source is not None and registry.judge(source) is not None:
        raise UsageError(
            f"The answers to '{source}' are not compared one by one.",
            where=source,
            wanted="data that a task judges",
            got="data with a judge of its own",
            do=f"sw2 eval PROGRAM {source}, for each program",
        )
    asked, other = (
        program.task if source is None else registry.task_of_data(program, source, task) for program in (old, new)
    )
    if asked.name != other.name:
        raise UsageError(
            "These programs answer different questions.",
            where=f"{old.path} and {new.path}",
            wanted="two programs of one task, or --task",
            got=f"{asked.name} and {other.name}",
        )
    options = apply_settings({"data": asked.Options()}, settings)["data"]
    data = asked.tests(options, context) if source is None else asked.read(source, options, context)
    if split not in data.splits:
        raise DataError(f"The data has no split '{split}'.", where=data.name, wanted=", ".join(data.splits), got=split)
    held_out = data.split(split)
    first, second = (
        Ended(title=title, task=asked.name, scores=asked.judge(program, held_out, context))
        for title, program in (("old", old), ("new", new))
    )
    before, after = first.lead, second.lead
    if before is None or after is None or not before.details.get("cases") or not after.details.get("cases"):
        raise UsageError(
            "The answers to this data cannot be compared one by one.",
            where=source,
            wanted="a task whose judge says of each example how right it is",
            got=f"{asked.name}, judged as a whole" + ("" if before is None else f" ({before.name})"),
            do=f"sw2 eval PROGRAM {source}, for each program",
        )
    found = change(first, second, context.seed)
    assert found is not None, "one judge, one split"
    others = {score.name: score for score in second.scores if score.of == "program" and score is not after}
    beside = [
        (score, others[score.name])
        for score in first.scores
        if score.of == "program" and score is not before and score.name in others
    ]
    return Comparison(
        task=asked.name, old=before, new=after, change=found, changed=_changed(before, after), beside=beside
    )


def _changed(old: Score, new: Score) -> list[Changed]:
    cases = list(zip(old.details["cases"], new.details["cases"], strict=True))
    nothing = [("", "")] * len(cases)
    sign = 1 if new.better == "higher" else -1
    every = [
        Changed(number=number, asked=asked, old=first, new=second, gain=sign * (after - before))
        for number, ((before, after), (asked, first), (_, second)) in enumerate(
            zip(cases, old.answers or nothing, new.answers or nothing, strict=True)
        )
        if before != after or first != second
    ]
    return sorted(every, key=lambda each: (each.gain == 0, each.gain > 0, each.number))
