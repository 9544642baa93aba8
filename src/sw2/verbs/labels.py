"""What the verbs on labels share: the task that reads labelled data, rows under names of their own, tables of rows.

Not here: what is done with them (`suspects`, `choose`, `history`).
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sw2.base.config import apply_settings
from sw2.base.errors import MissingExtra, UsageError
from sw2.base.store import write_text
from sw2.core.data import Data, Example
from sw2.core.labelled import Labelled, Row
from sw2.core.task import Context, Task
from sw2.verbs.show import Names, task_of

__all__ = ["Found", "gather", "labelled_task", "named", "refuse_format", "write_table"]


@dataclass(frozen=True, kw_only=True)
class Found:
    """Labelled data that was read.

    Args:
        task: which read it; a `Labelled` one.
        data: as it was read.
        splits, examples, rows: of every example in order, its split, itself, and its row, each name once.
    """

    task: Task
    data: Data
    splits: Sequence[str]
    examples: Sequence[Example]
    rows: Sequence[Row]


def labelled_task(registry: Names, source: str, context: Context, name: str | None = None) -> Task:
    """The task whose labels at `source` can be looked after: the one named, or found out when None.

    Raises:
        UsageError: it has no such labels, or no such task reads the data, or more than one does.
    """
    if name is None:
        name = task_of(registry, source, context, _labelled_tasks(registry))
    task = registry.task(name)
    if not isinstance(task, Labelled):
        raise UsageError(
            "The examples of this task do not have one label each.",
            where=source,
            wanted="data for " + " or ".join(_labelled_tasks(registry)),
            got=f"data for {name}",
        )
    return task


def _labelled_tasks(registry: Names) -> list[str]:
    names = []
    for name in sorted(registry.tasks):
        with contextlib.suppress(MissingExtra):
            if isinstance(registry.task(name), Labelled):
                names.append(name)
    return names


def gather(
    registry: Names, source: str, context: Context, *, task: str | None = None, settings: Sequence[str] = ()
) -> Found:
    """Read every labelled example at `source`.

    Args:
        source: a path, or the name of a data set.
        task: which task reads it; found out when None.
        settings: `data.key=value` texts.

    Raises:
        UsageError: as `labelled_task`.
        DataError: it cannot be read.
    """
    chosen = labelled_task(registry, source, context, task)
    assert isinstance(chosen, Labelled)
    options = apply_settings({"data": chosen.Options()}, settings)["data"]
    data = chosen.gather(source, options, context)
    pairs = [(split, example) for split, examples in data.splits.items() for example in examples]
    return Found(
        task=chosen,
        data=data,
        splits=[split for split, _ in pairs],
        examples=[example for _, example in pairs],
        rows=named([chosen.row(example) for _, example in pairs]),
    )


def named(rows: Sequence[Row]) -> list[Row]:
    """`rows` with each name once: a second row of a name becomes "NAME (2)"."""
    seen: Counter[str] = Counter()
    taken = {row.name for row in rows}
    made = []
    for row in rows:
        seen[row.name] += 1
        name = row.name
        while seen[row.name] > 1 and (name := f"{row.name} ({seen[row.name]})") in taken:
            seen[row.name] += 1
        taken.add(name)
        made.append(replace(row, name=name))
    return made


def refuse_format(path: Path) -> None:
    """Complain about a table's name before anything is computed for it.

    Raises:
        UsageError: it ends neither in .csv nor in .jsonl, or is there already.
    """
    if path.suffix.lower() not in (".csv", ".jsonl"):
        raise UsageError(
            "This kind of table cannot be written.",
            where=path,
            wanted="a name that ends in .csv or .jsonl",
            got=path.suffix or "no ending",
        )
    if path.exists():
        raise UsageError("This file is there already; nothing was changed.", where=path, wanted="a new file", got=path)


def write_table(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows with the same keys as the new file `path`, CSV or JSON lines by its name.

    Raises:
        UsageError: as `refuse_format`.
    """
    refuse_format(path)
    if path.suffix.lower() == ".jsonl":
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    else:
        file = io.StringIO()
        table = csv.DictWriter(file, list(rows[0]) if rows else [], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        text = file.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
