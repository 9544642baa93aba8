"""The verb `eval`: a program's scores on data, beside baselines fitted on that data's training split, and by slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sw2.base.config import apply_settings
from sw2.base.errors import DataError, UsageError
from sw2.core.program import Program
from sw2.core.registry import Registry
from sw2.core.task import Context, Score
from sw2.verbs.slices import Slice, cut

__all__ = ["Evaluation", "evaluate", "evaluation"]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The program's scores first, then the baselines'; and the main score on parts of the examples, if asked for."""

    scores: Sequence[Score]
    slices: Sequence[Slice] = ()


def evaluate(
    registry: Registry,
    program: Program,
    source: str | None,
    context: Context,
    *,
    split: str = "test",
    settings: Sequence[str] = (),
    task: str | None = None,
    record: bool = True,
) -> list[Score]:
    """Judge `program` on one split of the data at `source`, and keep the scores beside it.

    Args:
        registry: knows the data sets that bring their own judge.
        program: a saved program.
        source: a path or the name of a data set, read by the program's own task unless it brings its own judge; None
            for the tests that the program itself brings.
        split: which examples; data without that split but with only "train" is judged as a whole.
        settings: `data.key=value` texts.
        task: the name of another task to judge it by, which asks for capabilities that it has; that of the named data,
            or its own, when None.
        record: whether the scores are kept beside the program.

    Returns:
        The program's scores first, then the baselines' where the data has a training split or its own judge.

    Raises:
        DataError: when the data cannot be read or has no such split.
        ProgramError: when the program lacks a capability that the task asks for.
        UsageError: when there is no `source`, and the program brings no tests.
    """
    found = evaluation(registry, program, source, context, split=split, settings=settings, task=task, record=record)
    return list(found.scores)


def evaluation(
    registry: Registry,
    program: Program,
    source: str | None,
    context: Context,
    *,
    slices: str | None = None,
    split: str = "test",
    settings: Sequence[str] = (),
    task: str | None = None,
    record: bool = True,
) -> Evaluation:
    """As `evaluate`, with the main score on slices of the examples.

    Args:
        slices: by what the examples are divided, see `verbs.slices`; None for not at all.

    Raises:
        UsageError: also when the examples cannot be divided so.
    """
    judge = None if source is None else registry.judge(source)
    asked = program.task if source is None else registry.task_of_data(program, source, task)
    options = apply_settings({"data": (judge or asked).Options()}, settings)["data"]
    if source is None:
        data = asked.tests(options, context)
    else:
        data = judge.read(options, context) if judge else asked.read(source, options, context)
    if split not in data.splits:
        raise DataError(
            f"The data has no split '{split}'.",
            where=data.name,
            wanted=split,
            got=", ".join(data.splits),
            do=f"--split {next(iter(data.splits))}",
        )
    held_out = data.split(split)
    if slices is not None and judge is not None:
        raise UsageError(
            f"'{source}' is not divided into slices.",
            where="--slices",
            wanted="data that a task judges",
            got="data with a judge of its own",
        )
    scores = list((judge or asked).judge(program, held_out, context))
    parts = () if slices is None else cut(asked, held_out, scores[0], slices, context.seed)
    if judge is None and split == "test" and "train" in data.splits:
        scores += asked.baselines(data, program.prep, context)
    if record and program.path is not None:
        program.record(data.name, data.fingerprint, split, scores)
    return Evaluation(scores=scores, slices=parts)
