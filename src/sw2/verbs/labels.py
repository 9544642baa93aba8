"""What the verbs on labels share: tasks that read data with labels or without, rows under names of their own, tables.

Not here: what is done with them (`suspects`, `choose`, `history`, `labelling`).
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
from sw2.base.errors import DataError, MissingExtra, UnknownName, UsageError
from sw2.base.store import write_text
from sw2.core.data import Data, Example
from sw2.core.labelled import Labelled, Row
from sw2.core.task import Context, Task
from sw2.verbs.show import Names, task_of

__all__ = ["Found", "Pool", "gather", "labelled_task", "named", "pool", "pool_of", "refuse_format", "write_table"]


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


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Examples to be labelled, each content once.

    Args:
        task: which read them; a `Labelled` one.
        examples, rows: of each, itself and its row, in the order of the source; each name once.
        notes: what was left out, for people.
    """

    task: Task
    examples: Sequence[Example]
    rows: Sequence[Row]
    notes: Sequence[str]

    @property
    def column(self) -> str:
        """The column in which a table of such data has its examples."""
        return next(iter(self.task.inputs))


def pool(
    registry: Names, source: str, context: Context, *, task: str | None = None, settings: Sequence[str] = ()
) -> Pool:
    """Read the examples at `source`, labels that they have not looked at.

    Args:
        source: a path, or the name of a data set.
        task: which task reads it; found out when None.
        settings: `data.key=value` texts.

    Raises:
        UsageError: no such task reads it, or more than one does.
        DataError: it cannot be read, or there is nothing in it.
    """
    names = _labelled_tasks(registry) if task is None else [task]
    if task is not None or len(names) == 1:
        return pool_of(labelled_task(registry, source, context, names[0]), source, context, settings)
    read: dict[str, Pool] = {}
    faults: list[DataError] = []
    for name in names:
        try:
            read[name] = pool_of(registry.task(name), source, context, settings)
        except (UnknownName, UsageError, DataError) as error:
            faults += [error] if isinstance(error, DataError) else []
    if len(read) == 1:
        return next(iter(read.values()))
    if not read and faults:
        raise faults[0]
    raise UsageError(
        "Several tasks read this data." if read else "No task reads this data.",
        where=source,
        wanted="--task " + " or ".join(read or names),
        got="no --task",
    )


def pool_of(task: Task, source: str, context: Context, settings: Sequence[str] = ()) -> Pool:
    """The same by a task that is known; it has to be `Labelled`.

    Raises:
        DataError: it cannot be read, or there is nothing in it.
    """
    assert isinstance(task, Labelled)
    options = apply_settings({"data": task.Options()}, settings)["data"]
    data = task.unlabelled(source, options, context)
    examples = data.split("unlabelled")
    rows = named([task.row(example) for example in examples])
    first: dict[str, int] = {}  # a second copy of a content teaches nothing
    for i, row in enumerate(rows):
        first.setdefault(row.content, i)
    notes = [f"left out {row.where}: {row.why}" for row in data.rejected[:5]]
    if len(data.rejected) > 5:
        notes.append(f"left out {len(data.rejected) - 5} more that cannot be read")
    if len(first) < len(rows):
        notes.append(f"{len(rows) - len(first)} copies of others were left out")
    return Pool(
        task=task, examples=[examples[i] for i in first.values()], rows=[rows[i] for i in first.values()], notes=notes
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
