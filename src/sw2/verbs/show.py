"""The verb `data show`: examples of a data set as people see them, and as a network gets them.

A task that reads the data is found by trying each of them; none is asked to install anything that the
user did not agree to. What a network gets of an example depends on the program that learns from it: one that is there
already, or the preprocessing that a small one would be given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sw2.base.config import apply_settings
from sw2.base.errors import DataError, MissingExtra, UnknownName, UsageError
from sw2.core.data import Data, Example
from sw2.core.domain import DataEntry, Request, TaskEntry
from sw2.core.labelled import Labelled
from sw2.core.program import Program
from sw2.core.registry import Registry
from sw2.core.task import Context, Prep, Shown, Task

__all__ = ["Names", "Opened", "open_data", "task_of"]


class Names(Registry, Protocol):
    """A registry whose names can be gone through."""

    @property
    def tasks(self) -> Mapping[str, TaskEntry]: ...

    @property
    def data(self) -> Mapping[str, DataEntry]: ...


@dataclass(kw_only=True)
class Opened:
    """A data set that was read.

    Args:
        data: its examples.
        task: which reads it.
        registry: knows how the task would learn from it.
        start: the program for which examples are prepared, if any.
    """

    data: Data
    task: Task
    registry: Registry
    start: Program | None = None
    _prep: Prep | None = field(default=None, init=False)

    def examples(self, split: str, first: int, count: int) -> Sequence[Example]:
        """At most `count` examples of a split, from number `first` ≥ 0.

        Raises:
            DataError: there is no such split.
        """
        rows = self.data.split(split)
        return [rows[number] for number in range(first, min(first + count, len(rows)))]

    def masked(self, examples: Iterable[Example], split: str = "train") -> list[list[Sequence[Shown]]]:
        """For each example the rows of a batch that it fills, in pieces that are learned and pieces that are not.

        Args:
            split: fits the preprocessing where the data has no training split.

        Raises:
            UsageError: this task cannot show that.
        """
        if self._prep is None:
            train = self.data.split("train" if "train" in self.data.splits else split)
            if self.start is not None:
                self._prep = self.task.adopt(self.start.prep, train)
            else:
                recipe = self.registry.recipe(self.task.name)(Request(data=self.data, preset="small"))
                self._prep = self.task.prepare(train, recipe.prep_config)
        return [list(self.task.show(example, self._prep)) for example in examples]


def open_data(
    registry: Names,
    source: str,
    context: Context,
    *,
    task: str | None = None,
    start: Program | None = None,
    settings: Sequence[str] = (),
) -> Opened:
    """Read the data at `source`.

    Args:
        source: a path, or the name of a data set.
        task: which task reads it; found out when None, where one that can show its examples goes before others.
        start: prepare examples as for this program; its task is tried first.
        settings: `data.key=value` texts.

    Raises:
        DataError: it cannot be read.
        UsageError: no task reads it, or more than one does and none was named.
    """
    name = task or (start.task.name if start and _readers(registry, source, context, [start.task.name]) else None)
    if name is None and source not in registry.data:
        # A plain text is read by several; of these, one can show what is learned of it.
        shows = [each for each in sorted(registry.tasks) if type(registry.task(each)).show is not Task.show]
        readers = _readers(registry, source, context, shows)
        name = readers[0] if len(readers) == 1 else None
    name = name or task_of(registry, source, context, sorted(registry.tasks))
    chosen = registry.task(name)
    options = apply_settings({"data": chosen.Options()}, settings)["data"]
    return Opened(data=chosen.read(source, options, context), task=chosen, registry=registry, start=start)


def task_of(registry: Names, data: str, context: Context, among: Sequence[str]) -> str:
    """The one task of `among`, at least one, that reads this data, or that of several reads its labels.

    Reading is not tried where there is no choice.

    Raises:
        UsageError: there is none, or more than one.
    """
    if data in registry.data:
        return registry.data[data].task
    if len(among) == 1:
        return among[0]
    readers = _readers(registry, data, context, among)
    if len(readers) > 1:
        # Of labelled pictures, say, others read the pictures alone; who reads the labels as well goes before them.
        readers = [name for name in readers if isinstance(registry.task(name), Labelled)] or readers
    if len(readers) != 1:
        raise UsageError(
            "Several tasks read this data." if readers else "No task reads this data.",
            where=data,
            wanted="--task " + " or ".join(readers or among),
            got="no --task",
        )
    return readers[0]


def _readers(registry: Registry, data: str, context: Context, names: Sequence[str]) -> list[str]:
    readers: list[str] = []
    for name in names:
        task: Any = registry.task(name)
        try:
            task.read(data, task.Options(), context)
        except (DataError, MissingExtra, UnknownName, UsageError):  # or it would have to be told more, as which column
            continue
        readers.append(name)
    return readers
