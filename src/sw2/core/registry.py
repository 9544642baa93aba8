"""What the layers above the nouns need from the catalogue, as a protocol.

Verbs take a Registry as an argument, so they can act on every domain without importing one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from sw2.core.domain import Recipe, Request, TaskEntry
from sw2.core.model import Model
from sw2.core.objective import Objective
from sw2.core.program import Program, Runtime
from sw2.core.task import Context, Judge, Task

__all__ = ["Registry"]


class Registry(Protocol):
    """Names of registered things, and the things."""

    def task(self, name: str) -> Task: ...

    def task_entry(self, name: str) -> TaskEntry: ...

    def recipe(self, task: str) -> Callable[[Request], Recipe]: ...

    def model_class(self, name: str) -> type[Model]: ...

    def runtime_class(self, name: str) -> type[Runtime]: ...

    def objective(self, name: str, config: Any, task: str) -> Objective[Any]: ...

    def objective_config(self, name: str) -> type[Any]: ...

    def provider(self, task: str) -> Mapping[str, str]: ...

    def weights(self, name: str, context: Context) -> Program: ...

    def has_weights(self, name: str) -> bool: ...

    def judge(self, data: str) -> Judge | None:
        """The judge that the named data set brings; None for a path and for data that a program's task judges."""
        ...

    def program(self, name: str, context: Context) -> Program:
        """The program in a folder, or the named weights."""
        ...
