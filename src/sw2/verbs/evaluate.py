"""The verb `eval`: a program's scores on data, beside baselines fitted on that data's training split."""

from __future__ import annotations

from collections.abc import Sequence

from sw2.base.config import apply_settings
from sw2.base.errors import DataError
from sw2.core.program import Program
from sw2.core.task import Context, Score, Task

__all__ = ["evaluate"]


def evaluate(
    program: Program,
    source: str,
    context: Context,
    *,
    split: str = "test",
    settings: Sequence[str] = (),
    task: Task | None = None,
    record: bool = True,
) -> list[Score]:
    """Judge `program` on one split of the data at `source`, and keep the scores beside it.

    Args:
        program: a saved program.
        source: a path or the name of a data set, read by the program's own task.
        split: which examples; data without that split but with only "train" is judged as a whole.
        settings: `data.key=value` texts.
        task: another task to judge it by, which asks for capabilities that it has; its own when None.
        record: whether the scores are kept beside the program.

    Returns:
        The program's scores first, then the baselines' where the data has a training split.

    Raises:
        DataError: when the data cannot be read or has no such split.
        ProgramError: when the program lacks a capability that the task asks for.
    """
    task = task or program.task
    options = apply_settings({"data": task.Options()}, settings)["data"]
    data = task.read(source, options, context)
    if split not in data.splits:
        raise DataError(
            f"The data has no split '{split}'.",
            where=data.name,
            wanted=split,
            got=", ".join(data.splits),
            do=f"--split {next(iter(data.splits))}",
        )
    held_out = data.split(split)
    scores = list(task.judge(program, held_out, context))
    if split == "test" and "train" in data.splits:
        scores += task.baselines(data, program.prep, context)
    if record and program.path is not None:
        program.record(data.name, data.fingerprint, split, scores)
    return scores
