"""The task `prompt`: what a file asks for. Its inputs and its answer are the file's own.

Judged by the share of tests that are **passed**: all that a test expects of an answer. Beside it stand the share of
answers that came to their end (`complete`), and of an object the share of right values for each field.

Baselines, which take no model: the answer that most tests expect, the same to every question; and the input itself.
The first is chosen with the tests before it, so it is hard to beat by chance.

With several orders of the examples (`data.orders`) the share is that over all of them, and the worst and the best order
are told.

What it does not do: learn. `sw2 train` knows no such task.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from sw2.base.errors import ProgramError, UsageError
from sw2.core.capabilities import Outcome
from sw2.core.data import Data, Example, Split
from sw2.core.kinds import Kind
from sw2.core.program import Program
from sw2.core.task import CheckReport, Context, Prep, Score, Task
from sw2.domains.prompts.cases import CaseOptions, in_orders, own_cases, read_cases
from sw2.domains.prompts.expecting import by_field, met, named
from sw2.domains.prompts.file import EXPECT, Prompt
from sw2.domains.prompts.outputs import Output
from sw2.domains.prompts.writer import PromptPrep, PromptTalker, PromptWriter
from sw2.parts.metrics.intervals import averaged, wilson

__all__ = ["PromptTask"]

_AT_ONCE: Final = 32
_TOLD: Final = 8
"""How many tests that failed are told, each with what was said."""
_TOO_LONG: Final = Outcome(answer=None, text="", finished="length", tokens=0)


class PromptTask(Task):
    """The task at the top of this file.

    Args:
        prompt: whose; None for the name alone.
    """

    name = "prompt"
    # Of a saved prompt whose file nobody has read yet.
    inputs: Mapping[str, Kind] = {"inputs": Kind("record", about="all inputs by name")}
    outputs: Mapping[str, Kind] = {"answer": Kind("record")}
    metric = "passed"
    runtime = PromptWriter.name
    Options = CaseOptions

    def __init__(self, prompt: Prompt | None = None) -> None:
        self._prompt = prompt
        if prompt is not None:
            self.inputs, self.outputs = prompt.inputs, {"answer": prompt.output.as_kind}

    def suited(self, prep: Prep) -> PromptTask:
        assert isinstance(prep, PromptPrep)
        return PromptTask(prep.prompt)

    def tests(self, options: CaseOptions, context: Context) -> Data:
        del context
        return own_cases(self._known, options)

    def read(self, source: str, options: CaseOptions, context: Context) -> Data:
        del context
        return read_cases(source, self._known, options)

    def question(self, example: Example) -> Any:
        values = dict(example["values"])
        if self._known.converses:
            return [{"role": "user", "content": turn} for turn in next(iter(values.values()))[:1]]
        return values

    def check(self, data: Data) -> CheckReport:
        return CheckReport(facts={name: f"{len(split)} cases" for name, split in data.splits.items()})

    def prepare(self, train: Split, config: Any) -> Prep:
        raise UsageError("A prompt is written, not learned.", wanted="a file; see docs/prompts.md", got="a training")

    def baselines(self, data: Data, prep: Prep, context: Context) -> Sequence[Score]:
        """None beside those that judging gives: there is nothing to learn from."""
        del data, prep, context
        return []

    def judge(self, program: Program, held_out: Split, context: Context) -> Sequence[Score]:
        runtime = program.runtime
        if isinstance(runtime, PromptTalker):
            answers = _talked(runtime, held_out, context)
        elif isinstance(runtime, PromptWriter):
            answers = _asked(runtime, held_out, context)
        else:
            raise ProgramError(
                "This program is no prompt.", where=program.path, wanted="a prompt", got=f"one for {program.task.name}"
            )
        output = runtime.prompt.output
        found = [met(case[EXPECT], each.answer, output) for case, each in zip(held_out, answers, strict=True)]
        asked = [_short(case["values"]) for case in held_out]
        failed = [number for number, each in enumerate(found) if not all(each.values())]
        for number in failed[:_TOLD]:
            context.say(f"failed: {held_out[number]['where']}: {answers[number].text.strip()[:200]!r}")
        if len(failed) > _TOLD:
            context.say(f"failed: {len(failed) - _TOLD} more")
        cases = [case["case"] for case in held_out]
        scores = [
            _share(self.metric, [all(each.values()) for each in found],
                   answers=list(zip(asked, [each.text for each in answers], strict=True)),
                   samples=[{"prompt": question, "text": each.text, "passed": all(right.values())}
                            for question, each, right in list(zip(asked, answers, found, strict=True))[:8]],
                   cases=cases),
            _share("complete", [each.answer is not None for each in answers], cases=cases),
        ]  # fmt: skip
        for field in dict.fromkeys(field for each in found for field in each if field):
            judged = [(case, each[field]) for case, each in zip(cases, found, strict=True) if field in each]
            numbers, right = zip(*judged, strict=True)
            scores.append(_share(f"right: {field}", right, cases=numbers))
        orders: dict[int, list[bool]] = {}
        for case, each in zip(held_out, found, strict=True):
            orders.setdefault(case["order"], []).append(all(each.values()))
        if len(orders) > 1:
            scores[0] = replace(scores[0], details={**scores[0].details, "repeats": cases})
            ranked = sorted(orders.values(), key=sum)
            scores += [_share("passed, worst order", ranked[0]), _share("passed, best order", ranked[-1])]
        return [*scores, *_baselines(held_out, output)]

    @property
    def _known(self) -> Prompt:
        if self._prompt is None:
            raise UsageError(
                "There is nothing to learn here: a prompt is a file that somebody writes.",
                where="prompt",
                wanted="a prompt's file, where a program is named",
                got="the name of the task alone",
                do="docs/prompts.md says how one is written.",
            )
        return self._prompt


def _asked(runtime: PromptWriter, cases: Split, context: Context) -> list[Outcome]:
    """The answers to all cases; one whose question fills the context is none."""
    context.say(f"asking {len(cases)} questions")
    found = [_TOO_LONG] * len(cases)
    orders = in_orders(runtime.prompt.examples, 1 + max(case["order"] for case in cases), context.seed)
    for first in range(0, len(cases), _AT_ONCE):
        numbers, talks = [], []
        for number in range(first, min(first + _AT_ONCE, len(cases))):
            examples = orders[cases[number]["order"]]
            if runtime.fits(cases[number]["values"], examples):
                numbers.append(number)
                talks.append(runtime.prompt.conversation(cases[number]["values"], examples))
        outcomes = runtime.written(talks, runtime.sampling, runtime.max_tokens) if talks else []
        for number, outcome in zip(numbers, outcomes, strict=True):
            found[number] = outcome
    return found


def _talked(runtime: PromptTalker, cases: Split, context: Context) -> list[Outcome]:
    """What was said last in each conversation."""
    context.say(f"holding {len(cases)} conversations")
    found = []
    for case in cases:
        try:
            last = runtime.played(next(iter(case["values"].values())))[-1]["content"]
        except UsageError:  # it became longer than the context
            found.append(_TOO_LONG)
            continue
        found.append(Outcome(answer=last, text=last, finished="end", tokens=0))
    return found


def _share(
    name: str, right: Sequence[bool], of: str = "program", *, answers: Sequence[tuple[str, str]] = (),
    samples: Sequence[Mapping[str, Any]] = (), cases: Sequence[int] = (),
) -> Score:  # fmt: skip
    """The share of what is right; of `cases` that come several times, each counts once for the interval.

    A case that is asked in every order is one case: what is sure grows with cases, not with orders.
    """
    once = averaged([float(each) for each in right], cases or range(len(right)))
    details: dict[str, Any] = {"cases": [float(each) for each in right]} if answers else {}
    if samples:
        details["samples"] = list(samples)
    found = wilson(float(once.sum()), len(once))
    return Score.estimated(name, found, better="higher", examples=len(right), of=of, details=details, answers=answers)


def _baselines(cases: Split, output: Output) -> list[Score]:
    """The best answer that is always the same, and the input itself."""
    scores = []
    numbers = [case["case"] for case in cases]
    always = [best for best in (_best_whole(cases, output), _best_fields(cases, output)) if best is not None]
    if always:
        scores.append(_share(PromptTask.metric, max(always, key=sum), "always the same answer", cases=numbers))
    if output.kind == "text":
        echoes = [_said(case["values"]) for case in cases]
        scores.append(_share(PromptTask.metric, _passing(cases, echoes, output), "the input itself", cases=numbers))
    return scores


def _best_whole(cases: Split, output: Output) -> list[bool] | None:
    """What the best of the answers passes that a test names as a whole."""
    answers: dict[str, Any] = {}
    for case in cases:
        expect = case[EXPECT]
        if by_field(expect, output):
            fields = {name: found[0] for name, each in expect.items() if (found := named(each))}
            answers[json.dumps(fields)] = fields
        else:
            answers |= {json.dumps(each): each for each in named(expect)}
    return max((_passing(cases, [each] * len(cases), output) for each in answers.values()), key=sum, default=None)


def _best_fields(cases: Split, output: Output) -> list[bool] | None:
    """What an object passes whose every field has the value that most tests let pass."""
    expected: dict[str, list[Any]] = {}
    for case in cases:
        if by_field(case[EXPECT], output):
            for name, each in case[EXPECT].items():
                expected.setdefault(name, []).append(each)
    best = {}
    for name, each in expected.items():
        values = {json.dumps(value): value for one in each for value in named(one)}.values()
        passes = [sum(met({name: one}, {name: value}, output)[name] for one in each) for value in values]
        best[name] = max(zip(passes, values), key=lambda pair: pair[0])[1] if passes else ""
    return _passing(cases, [best] * len(cases), output) if best else None


def _passing(cases: Split, answers: Sequence[Any], output: Output) -> list[bool]:
    return [all(met(case[EXPECT], answer, output).values()) for case, answer in zip(cases, answers, strict=True)]


def _said(values: Mapping[str, Any]) -> str:
    """The first text among the inputs; of a conversation what the user says last."""
    first = next(iter(values.values()), "")
    return str(first[-1] if isinstance(first, list) and first else first)


def _short(values: Mapping[str, Any]) -> str:
    return " / ".join(str(value) for value in values.values())
