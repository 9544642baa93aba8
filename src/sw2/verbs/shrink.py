"""The verb `shrink`: a program in fewer bits, measured beside what it was before it may be saved.

    the program ─┬────────────────────────────── judged on held-out examples, timed ─┐
                 └ calibrated on training examples → in fewer bits → judged, timed ──┴→ a row each, and the loss

Choices
- The data are those that the program's card names, if they are still the same; another source has to be said.
- The loss is relative: of a metric that should be low, how much higher it is. `save` refuses one that is too large, so
  a program that was spoilt cannot come to be by accident.
- Times are taken in turn, before and after, and the median counts.

What it does not do: fewer channels or layers, learning again; see `core.capabilities.Shrink` for who does the work.
"""

from __future__ import annotations

import datetime
import itertools
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from sw2.base.config import apply_settings, from_dict
from sw2.base.errors import DataError, ProgramError, UsageError
from sw2.base.names import pick
from sw2.base.store import refuse_taken
from sw2.core.capabilities import Generate, Shrink
from sw2.core.card import Card
from sw2.core.data import Data
from sw2.core.program import Net, Program
from sw2.core.task import Context, Score
from sw2.parts.decoding.sampling import Sampling

__all__ = ["MOST_LOSS", "Row", "Shrunk", "shrink", "tokens_per_second", "with_nets"]

MOST_LOSS: Final = 0.03
_ROUNDS: Final = 3
_TOKENS: Final = 64
_PROMPT: Final = 200
"""Of the question that is asked while times are taken, so many characters."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One form of the program.

    Args:
        name: "before", or its bits and method.
        bytes: of its weights.
        score: by the task's metric.
        per_second: what it wrote or answered.
        loss: relative to before, 0.03 for three per cent worse; negative for better. nan where it has no meaning.
    """

    name: str
    bytes: int
    score: float
    per_second: float
    loss: float


@dataclass(frozen=True, kw_only=True)
class Shrunk:
    """What came of it; not saved yet.

    Args:
        program: the smaller one.
        rows: before, then each method that was tried; the last is the program.
        metric: what the scores are.
        unit: what happens per second.
        examples: how many held-out examples were judged on.
        most_loss: what `save` allows.
        advice: what to do when the loss is larger.
    """

    program: Program
    rows: Sequence[Row]
    metric: str
    unit: str
    examples: int
    most_loss: float
    advice: str

    @property
    def loss(self) -> float:
        """Of the program."""
        return self.rows[-1].loss

    def save(self, out: str | Path) -> Path:
        """Write the program to the new folder `out`.

        Raises:
            ProgramError: it lost more than was allowed; nothing is written.
            UsageError: `out` is taken.
        """
        self.check()
        refuse_taken(Path(out))
        return self.program.save(out)

    def check(self) -> None:
        """Complain about a loss that is too large.

        Raises:
            ProgramError: naming the figures.
        """
        if not self.loss <= self.most_loss:
            before, after = self.rows[0], self.rows[-1]
            raise ProgramError(
                "Smaller, this program loses too much; nothing is saved.",
                where=f"{self.metric} on {self.examples} held-out examples",
                wanted=f"at most {self.most_loss:.1%} worse than {before.score:.4f}",
                got=f"{after.score:.4f} with {after.name}, {self.loss:.1%} worse",
                do=self.advice,
            )

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        rows = [vars(row) for row in self.rows]
        return {"program": self.program.id, "metric": self.metric, "unit": self.unit, "examples": self.examples,
                "loss": self.loss, "most_loss": self.most_loss, "rows": rows}  # fmt: skip


def shrink(
    program: Program,
    bits: int,
    context: Context,
    *,
    method: str | None = None,
    compare: bool = False,
    source: str | None = None,
    settings: Sequence[str] = (),
    examples: int | None = None,
    most_loss: float = MOST_LOSS,
) -> Shrunk:
    """Make a program smaller and measure it.

    Args:
        program: one with the capability `Shrink`.
        bits: how many a number may take.
        context: seed, and what reading may use.
        method: one that the program names; None for its own choice.
        compare: whether to measure all methods; the program is that of `method`.
        source: the data to calibrate on (training split) and to judge on (test split); None for those of the card.
        settings: `data.key=value` texts for `source`.
        examples: judge on so many of the held-out examples; None for all.
        most_loss: what `Shrunk.save` allows, relative, ≥ 0.

    Raises:
        UsageError: no such method or bits, or a setting out of range.
        DataError: there is nothing to calibrate or judge on.
        ProgramError: the program cannot be shrunk, or has as few bits already.
    """
    if not most_loss >= 0 or (examples is not None and examples < 1):
        raise UsageError(
            "This cannot be measured.",
            wanted="a loss of 0 or more, and 1 example or more",
            got=f"a loss of {most_loss:g}, {'all' if examples is None else examples} examples",
        )
    worker: Shrink = program.capability(Shrink)  # type: ignore[type-abstract]
    known = worker.ways_to_shrink(bits)
    method = next(iter(known)) if method is None else method
    pick("method to shrink", method, known)
    data = _data(program, source, settings, context)
    held_out = data.split("test")[:examples]

    forms = {"before": program}
    others = [each for each in known if each != method] if compare else []
    for each in (*others, method):
        context.say(f"shrinking to {bits} bits: {known[each]}")
        nets = worker.shrink(bits, each, data.split("train"), context.seed)
        forms[f"{bits} bits, {each}"] = with_nets(program, nets)
    scores: dict[str, Sequence[Score]] = {}
    for name, form in forms.items():
        context.say(f"judging: {name}")
        scores[name] = form.task.judge(form, held_out, context)
    speeds, unit = _speeds(forms, program.task.question(held_out[0]), context)
    rows = [
        Row(
            name=name,
            bytes=sum(tensor.numel() * tensor.element_size() for tensor in form.tensors().values()),
            score=scores[name][0].value,
            per_second=speeds[name],
            loss=_loss(scores["before"][0], scores[name][0]),
        )
        for name, form in forms.items()
    ]
    made = list(forms.values())[-1]
    shrunk = Shrunk(
        program=made,
        rows=rows,
        metric=program.task.metric,
        unit=unit,
        examples=len(held_out),
        most_loss=most_loss,
        advice=_advice(bits, method, known),
    )
    return replace(shrunk, program=replace(made, card=_card(program, data, shrunk, scores)))


def _data(program: Program, source: str | None, settings: Sequence[str], context: Context) -> Data:
    """The data that are named, or those of the card if nothing about them has changed."""
    task, card = program.task, program.card
    if source is not None:
        data = task.read(source, apply_settings({"data": task.Options()}, settings)["data"], context)
    else:
        data = _data_of_card(program, settings, context)
        if data.fingerprint != card.data.get("fingerprint"):
            raise DataError(
                "The data that this program was learned from have changed.",
                where=card.data.get("source"),
                wanted=f"the fingerprint {str(card.data.get('fingerprint'))[:12]}",
                got=data.fingerprint[:12],
                do="Name what to calibrate and judge on: --data DATA. Held-out examples must be new to the program.",
            )
    for split in ("train", "test"):
        if not data.splits.get(split):
            raise DataError(
                f"The data has no split '{split}'.",
                where=data.name,
                wanted="examples to calibrate on (train) and to judge on (test)",
                got=", ".join(data.splits),
                do="Name other data: --data DATA.",
            )
    return data


def _data_of_card(program: Program, settings: Sequence[str], context: Context) -> Data:
    said = program.card.settings
    if settings:
        raise UsageError("--set says how --data is read, and there is none.", do="Name the data too: --data DATA.")
    try:
        name, options = said["run"]["data"], from_dict(program.task.Options, said["data"], "data")
    except KeyError:
        raise DataError(
            "The card of this program names no data.",
            where=program.path or program.task.name,
            wanted="examples to calibrate on and to judge on",
            got="a program that was not learned here",
            do="Name them: --data DATA.",
        ) from None
    try:
        return program.task.read(name, options, context)
    except (DataError, UsageError) as error:
        raise DataError(
            "The data that this program was learned from cannot be read.",
            where=name,
            wanted="the same examples as then",
            got=error.message,
            do="Name what to calibrate and judge on: --data DATA. Held-out examples must be new to the program.",
        ) from error


def with_nets(program: Program, nets: Mapping[str, Any]) -> Program:
    """The program with other networks in these roles."""
    made = Program.assemble(
        task=program.task,
        runtime=type(program.runtime),
        nets={role: Net(net.model, nets.get(role, net.module)) for role, net in program.nets.items()},
        prep=program.prep,
        provider=program.provider,
        uses=program.uses,
    )
    return replace(made, binds=program.binds)


def _loss(before: Score, after: Score) -> float:
    if not before.value > 0:
        return 0.0 if after.value == before.value else float("nan")
    change = after.value / before.value - 1
    return change if before.better == "lower" else -change


def _advice(bits: int, method: str, known: Mapping[str, str]) -> str:
    ways = [f"--bits {more}" for more in (8,) if bits < more]
    best = next(iter(known))
    ways += [f"--method {best}"] if method != best else []
    return f"Take {' or '.join(ways)}, or allow more: --most-loss." if ways else "Allow more: --most-loss."


def _speeds(forms: Mapping[str, Program], question: Any, context: Context) -> tuple[dict[str, float], str]:
    """What each form does per second, the median of rounds in which all of them take their turn."""
    writes = all(isinstance(form.runtime, Generate) for form in forms.values())
    context.say("timing")
    times: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(1 + _ROUNDS):
        for name, form in forms.items():
            times[name].append(tokens_per_second(form, question) if writes else _answers_per_second(form, question))
    speeds = {name: statistics.median(each[1:]) for name, each in times.items()}  # the first warms up
    return speeds, "tokens/s" if writes else "answers/s"


def tokens_per_second(program: Program, question: str) -> float:
    """Of writing on, reading the prompt not counted."""
    writer: Generate = program.capability(Generate)  # type: ignore[type-abstract]
    tokens, seconds = 0, 0.0
    for seed in itertools.count():
        begin = None
        for piece in writer.generate(question[:_PROMPT], Sampling(seed=seed), max_tokens=_TOKENS):
            if begin is None:
                begin = time.perf_counter()
            else:
                tokens += len(piece.tokens)
                seconds = seconds + time.perf_counter() - begin
                begin = time.perf_counter()
        if tokens >= _TOKENS // 2 or seed == 8:  # a model may end its texts early
            break
    return tokens / seconds if seconds else float("nan")


def _answers_per_second(program: Program, question: Any) -> float:
    begin = time.perf_counter()
    program(question)
    return 1 / (time.perf_counter() - begin)


def _card(program: Program, data: Data, shrunk: Shrunk, scores: Mapping[str, Sequence[Score]]) -> Card:
    """The card of before with what was done to it; the scores of now, before those of before and other methods."""
    card, (before, *_, after) = program.card, shrunk.rows
    same = data.fingerprint == card.data.get("fingerprint") and len(data.split("test")) == shrunk.examples
    baselines = [score for score in card.scores if same and score["of"] != "program"]
    others = [replace(score, of=name) for name, each in scores.items() if name != after.name for score in each]
    # What was measured of the larger program says nothing about this one.
    facts = {name: value for name, value in card.facts.items() if "latency" not in name}
    return replace(
        card,
        made={
            **card.made,
            "shrunk from": program.id,
            "shrunk on": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "shrunk to": after.name,
            "calibrated and judged on": f"{data.name}, {data.fingerprint}",
        },
        facts={
            **facts,
            "bytes of weights before shrinking": before.bytes,
            "bytes of weights": after.bytes,
            f"{shrunk.unit} before shrinking": before.per_second,
            shrunk.unit: after.per_second,
            f"loss in {shrunk.metric}": after.loss,
        },
        scores=[*(score.to_json() for score in (*scores[after.name], *others)), *baselines],
    )
