"""What is served: programs by name, each with its worker, and what is answered when one is not there or cannot.

A program's name is that of its folder or file, or of the named weights; a run's program is called as the run, a prompt
without what it runs on. Two with the same name are refused when the server starts: which one a client meant could not
be told.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, final

from sw2.base.errors import UsageError
from sw2.base.names import nearest
from sw2.core.capabilities import Embed, Generate
from sw2.core.program import Program
from sw2.faces.server.errors import ApiError, bad_request
from sw2.faces.server.metrics import Meter, Metrics
from sw2.faces.server.worker import Worker

__all__ = ["Programs", "Served", "name_of", "named"]

C = TypeVar("C")

_FINE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def name_of(argument: str) -> str:
    """The name under which the program at `argument` is served.

    >>> [name_of(each) for each in ("runs/digits", "runs/digits/program", "smollm2-135m-instruct", "a/b.gguf")]
    ['digits', 'digits', 'smollm2-135m-instruct', 'b']
    >>> [name_of(each) for each in ("a/extract.toml", "extract@runs/other")]
    ['extract', 'extract']
    """
    path = Path(argument)
    if path.exists():
        path = path.absolute()
    else:
        path = Path(argument.partition("@")[0])
    if path.name == "program":
        path = path.parent
    return path.stem if path.suffix in (".gguf", ".toml") else path.name


def named(arguments: Sequence[str]) -> dict[str, str]:
    """The arguments by the names under which they are served.

    Raises:
        UsageError: two have the same name, or one cannot stand in an address.
    """
    found: dict[str, str] = {}
    for argument in arguments:
        name = name_of(argument)
        if not _FINE.fullmatch(name):
            raise UsageError(
                "This name cannot stand in an address.",
                where=argument,
                wanted="letters, digits, dots, hyphens and underscores",
                got=name,
                do="Rename the folder, or serve it through a link with another name.",
            )
        if name in found:
            raise UsageError(
                f"Two programs would be served as '{name}'.",
                where=f"{found[name]} and {argument}",
                wanted="a name for each",
                got=name,
                do="Rename one of the folders, or serve it through a link with another name.",
            )
        found[name] = argument
    return found


@final
@dataclass(frozen=True)
class Served:
    """A program that is served; `created` is in seconds since 1970."""

    name: str
    program: Program
    worker: Worker
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def writer(self) -> Generate | None:
        """The program as one that writes."""
        runtime = self.program.runtime
        return runtime if isinstance(runtime, Generate) else None

    def offers(self, wanted: type) -> bool:
        """Whether the routes that need this capability can ask the program; what they embed are texts."""
        takes = [kind.name for kind in self.program.task.inputs.values()]
        return isinstance(self.program.runtime, wanted) and (wanted is not Embed or takes == ["text"])

    def capability(self, wanted: type[C]) -> C:
        """What the program can do with what the routes ask: see `offers`.

        Raises:
            ApiError: 400, it cannot.
        """
        runtime = self.program.runtime
        if isinstance(runtime, wanted) and not self.offers(wanted):
            # The path of a picture, as text, would have the server look into its own files.
            raise bad_request(
                f"The model '{self.name}' embeds no texts; ask it at /v1/run/{self.name}.",
                param="model",
                code="model_cannot",
            )
        if not isinstance(runtime, wanted):
            can = ", ".join(self.program.capabilities()) or "none of what has a route of its own"
            raise bad_request(
                f"The model '{self.name}' cannot '{wanted.__name__}'. It can: {can}"
                + ("." if self.writer else f"; ask it at /v1/run/{self.name}."),
                param="model",
                code="model_cannot",
            )
        return runtime


@final
class Programs:
    """All that are served.

    Args:
        programs: by name.
        slots: how many texts of each run at once, ≥ 1.
        queue_size: how many more of each may wait, ≥ 0.
        metrics: told what their workers do.
    """

    def __init__(self, programs: Mapping[str, Program], *, slots: int, queue_size: int, metrics: Metrics) -> None:
        self._slots, self._queue_size, self._metrics = slots, queue_size, metrics
        self._served: dict[str, Served] = {}
        for name, program in programs.items():
            self.add(name, program)

    def add(self, name: str, program: Program) -> Served:
        """Serve one more under a name that is free."""
        assert name not in self._served, f"{name} is served already"
        writer = program.runtime if isinstance(program.runtime, Generate) else None
        meter = Meter(self._metrics, name, self._slots if writer else 1)
        worker = Worker(name, writer, slots=self._slots, queue_size=self._queue_size, meter=meter)
        self._served[name] = Served(name, program, worker)
        return self._served[name]

    def all(self) -> list[Served]:
        """In the order in which they were named."""
        return list(self._served.values())

    def __getitem__(self, name: str) -> Served:
        """The program of this name.

        Raises:
            ApiError: 404, with the nearest name.
        """
        if name not in self._served:
            close = nearest(name, self._served)
            raise ApiError(
                404,
                f"There is no model {name!r} here."
                + (f" Did you mean '{close}'?" if close else f" There are: {', '.join(self._served)}."),
                param="model",
                code="model_not_found",
            )
        return self._served[name]

    def alive(self) -> bool:
        """Whether all workers work."""
        return all(each.worker.alive() for each in self.all())

    def close(self) -> None:
        """End all workers; what is under way is answered with 503."""
        for each in self.all():
            each.worker.close()
