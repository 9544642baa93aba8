"""What the layers above the nouns need from the catalogue, as a protocol.

Verbs take a Registry as an argument, so they can act on every domain without importing one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sw2.core.domain import ChainEntry, ChainRequest, ClaimEntry, ModelEntry, Recipe, Request, Stage, Start, TaskEntry
from sw2.core.model import Model, Shared
from sw2.core.objective import Objective
from sw2.core.program import Program, Runtime
from sw2.core.task import Context, Judge, Task

if TYPE_CHECKING:
    from sw2.core.claims import Result

__all__ = ["Registry"]


class Registry(Protocol):
    """Names of registered things, and the things."""

    def task(self, name: str) -> Task: ...

    def task_entry(self, name: str) -> TaskEntry: ...

    def task_of_data(self, program: Program, data: str, task: str | None = None) -> Task:
        """The task that judges `program` on `data`: `task`, that of the named data set, or the program's own.

        Where the data set is also for programs of that kind, it is the program's own.
        """
        ...

    def is_chain(self, name: str) -> bool: ...

    def chain_entry(self, name: str) -> ChainEntry: ...

    def stages(self, chain: str) -> Callable[[ChainRequest], Sequence[Stage]]: ...

    def claim_entry(self, name: str) -> ClaimEntry: ...

    def claim(self, name: str) -> Callable[[Context, bool], Result]:
        """The experiment of a claim: `run(context, full)`."""
        ...

    def recipe(self, task: str) -> Callable[[Request], Recipe]:
        """The function that derives every setting for a task; a UsageError where nothing learns it."""
        ...

    def starts(self, task: str) -> Callable[[Request], Sequence[Start]] | None:
        """The function that says between which ways to begin a trial decides; None where there is no choice."""
        ...

    def model_entry(self, name: str) -> ModelEntry: ...

    def model_class(self, name: str) -> type[Model]: ...

    def shared_class(self, name: str) -> type[Shared] | None:
        """The class of the network that holds the weights of many of that name; None where they share none."""
        ...

    def runtime_class(self, name: str) -> type[Runtime]: ...

    def objective(self, name: str, config: Any, task: str) -> Objective[Any]: ...

    def objective_config(self, name: str) -> type[Any]: ...

    def provider(self, task: str) -> Mapping[str, str]: ...

    def weights(self, name: str, context: Context) -> Program: ...

    def has_weights(self, name: str) -> bool: ...

    def judge(self, data: str) -> Judge | None:
        """The judge that the named data set brings; None for a path and for data that a program's task judges."""
        ...

    def is_written(self, path: Path) -> bool:
        """Whether the file at `path` is a written program, by its name and how it begins."""
        ...

    def program(self, name: str, context: Context) -> Program:
        """The program in a folder, or the named weights."""
        ...
