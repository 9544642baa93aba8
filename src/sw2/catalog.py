"""The catalogue: every domain, task, model, data set and set of weights by name. Never imports torch by itself.

Domains come in through one door: an object `DOMAIN` of `core.domain.Domain`. Built-in ones are the folders of
`sw2.domains`; third-party ones name theirs in the entry-point group `sw2.domains`:

    [project.entry-points."sw2.domains"]
    weather = "sw2_weather:DOMAIN"

Two domains that register the same name are an error that names both.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.resources
import pkgutil
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sw2.base.errors import ProgramError, UsageError
from sw2.base.names import nearest, pick, resolve
from sw2.base.store import parse_json
from sw2.core.domain import (
    ChainEntry,
    ChainRequest,
    ClaimEntry,
    DataEntry,
    DocumentsEntry,
    Domain,
    FormatEntry,
    ModelEntry,
    ObjectiveEntry,
    Recipe,
    Request,
    Stage,
    Start,
    TaskEntry,
    WeightsEntry,
    WrittenEntry,
)

if TYPE_CHECKING:
    from sw2.core.claims import Result
    from sw2.core.documents import Documents
    from sw2.core.draft import Draft
    from sw2.core.estimate import Estimate, Target
    from sw2.core.model import Model, Shared
    from sw2.core.objective import Objective
    from sw2.core.program import Program, Runtime
    from sw2.core.task import Context, Judge, Task

__all__ = ["Catalog", "catalog"]

GROUP = "sw2.domains"


@dataclass(frozen=True)
class _Owned:
    """A domain and the distribution that it came with."""

    domain: Domain
    distribution: str
    version: str


class Catalog:
    """All registered names; implements `core.registry.Registry`.

    Args:
        owned: the domains with their distributions.

    Raises:
        UsageError: when two domains register the same name.
    """

    def __init__(self, owned: list[_Owned]) -> None:
        self._owned = owned
        self.domains: Mapping[str, Domain] = {each.domain.name: each.domain for each in owned}
        self.tasks: Mapping[str, TaskEntry] = self._merge("tasks")
        self.models: Mapping[str, ModelEntry] = self._merge("models")
        self.objectives: Mapping[str, ObjectiveEntry] = self._merge("objectives")
        self.runtimes: Mapping[str, str] = self._merge("runtimes")
        self.data: Mapping[str, DataEntry] = self._merge("data")
        self.weights_entries: Mapping[str, WeightsEntry] = self._merge("weights")
        self.formats: Mapping[str, FormatEntry] = self._merge("formats")
        self.chains: Mapping[str, ChainEntry] = self._merge("chains")
        self.written: Mapping[str, WrittenEntry] = self._merge("written")
        self.files: Mapping[str, tuple[WrittenEntry, str]] = {
            name: (entry, summary) for entry in self.written.values() for name, summary in entry.files.items()
        }
        """Written programs that come along, by name, each with its kind and one line."""
        self.documents_entries: Mapping[str, DocumentsEntry] = self._merge("documents")
        self.claims: Mapping[str, ClaimEntry] = self._merge("claims")
        for name in (*self.chains, *self.written):
            assert name not in self.tasks, f"{name} is a task and something else"

    def _merge(self, what: str) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        owner: dict[str, str] = {}
        for each in self._owned:
            for name, entry in getattr(each.domain, what).items():
                if name in merged:
                    raise UsageError(
                        f"Two domains register the same name under {what}.",
                        where=f"{owner[name]} and {each.distribution}",
                        wanted="different names",
                        got=name,
                        do=f"Uninstall one of them: pip uninstall {each.distribution}",
                    )
                merged[name], owner[name] = entry, each.distribution
        return merged

    def task_entry(self, name: str) -> TaskEntry:
        """The entry of a task."""
        return pick("task", name, self.tasks)

    def task(self, name: str) -> Task:
        """A task, ready to use."""
        made: Task = resolve(self.written[name].task if name in self.written else self.task_entry(name).target)()
        return made

    def task_of_data(self, program: Program, data: str, task: str | None = None) -> Task:
        """The task that judges `program` on `data`: that of this name, of the named data set, or the program's own.

        Where programs of several tasks are judged on the named data set, that is the program's own.
        """
        if task is None and data in self.data and not Path(data).exists():
            entry = self.data[data]
            task = None if program.task.name in entry.also else entry.task
        return program.task if task is None else self.task(task)

    def is_chain(self, name: str) -> bool:
        """Whether `sw2 train NAME` runs several trainings."""
        return name in self.chains

    def chain_entry(self, name: str) -> ChainEntry:
        """The entry of a chain."""
        return pick("chain", name, self.chains)

    def stages(self, chain: str) -> Callable[[ChainRequest], Sequence[Stage]]:
        """The function that divides a chain into stages."""
        function: Callable[[ChainRequest], Sequence[Stage]] = resolve(self.chain_entry(chain).target)
        return function

    def claim_entry(self, name: str) -> ClaimEntry:
        """What is claimed, and how it is judged."""
        return pick("claim", name, self.claims)

    def claim(self, name: str) -> Callable[[Context, bool], Result]:
        """The experiment of a claim: `run(context, full)`."""
        function: Callable[[Context, bool], Result] = resolve(self.claim_entry(name).target)
        return function

    def recipe(self, task: str) -> Callable[[Request], Recipe]:
        """The function that derives every setting for a task.

        Raises:
            UsageError: nothing learns this task.
        """
        entry = self.task_entry(task)
        if not entry.recipe:
            named = [name for name, weights in self.weights_entries.items() if weights.task == task]
            raise UsageError(
                f"Nothing learns '{task}' here; its programs are weights by name.",
                wanted="one of: " + ", ".join(sorted(name for name, each in self.tasks.items() if each.recipe)),
                got=task,
                do=f"sw2 run {named[0]} INPUT" if named else None,
            )
        function: Callable[[Request], Recipe] = resolve(entry.recipe)
        return function

    def starts(self, task: str) -> Callable[[Request], Sequence[Start]] | None:
        """The function that says between which ways to begin a trial decides; None where there is no choice."""
        named = self.task_entry(task).starts
        return resolve(named) if named else None

    def estimate(self, task: str) -> Callable[[Target], Estimate]:
        """The function that says what a training on machines elsewhere would take.

        Raises:
            UsageError: when the task has none.
        """
        entry = self.task_entry(task)
        if not entry.estimate:
            raise UsageError(
                f"There is no estimate for '{task}' on other machines.",
                wanted="one of: " + ", ".join(sorted(name for name, each in self.tasks.items() if each.estimate)),
                got=task,
                do=f"sw2 plan {task} DATA measures on this machine.",
            )
        function: Callable[[Target], Estimate] = resolve(entry.estimate)
        return function

    def model_entry(self, name: str) -> ModelEntry:
        """The entry of a model."""
        return pick("model", name, self.models)

    def model_class(self, name: str) -> type[Model]:
        """The class of a model."""
        found: type[Model] = resolve(self.model_entry(name).target)
        return found

    def shared_class(self, name: str) -> type[Shared] | None:
        """The class of the network that holds the weights of many of that name; None where they share none."""
        target = self.model_entry(name).shared
        found: type[Shared] | None = resolve(target) if target else None
        return found

    def runtime_class(self, name: str) -> type[Runtime]:
        """The class of a runtime."""
        found: type[Runtime] = resolve(pick("runtime", name, self.runtimes))
        return found

    def objective(self, name: str, config: Any, task: str) -> Objective[Any]:
        """A way to learn, configured, for programs provided by the domain of `task`."""
        made: Objective[Any] = resolve(pick("objective", name, self.objectives).target)(config, self.provider(task))
        return made

    def objective_config(self, name: str) -> type[Any]:
        """The config class of a way to learn."""
        found: type[Any] = resolve(pick("objective", name, self.objectives).config)
        return found

    def provider(self, task: str) -> Mapping[str, str]:
        """Which domain and distribution a task belongs to."""
        if task not in self.written:
            self.task_entry(task)
        each = next(each for each in self._owned if task in (*each.domain.tasks, *each.domain.written))
        return {"name": each.domain.name, "distribution": each.distribution, "version": each.version}

    def judge(self, data: str) -> Judge | None:
        """The judge that the named data set brings; None for a path and for data that a program's task judges."""
        if data not in self.data or not self.data[data].judge or Path(data).exists():
            return None
        made: Judge = resolve(self.data[data].judge)()
        return made

    def has_weights(self, name: str) -> bool:
        """Whether `name` is in the catalogue of weights."""
        return name in self.weights_entries

    def weights(self, name: str, context: Context) -> Program:
        """Named pretrained weights as a program, installed on first use after asking."""
        loaded: Program = resolve(pick("set of weights", name, self.weights_entries).target)(self, context)
        return loaded

    def documents(self, folder: str | Path, home: Path | None = None, embedder: Program | None = None) -> Documents:
        """A folder of documents, searched by its words and, with an embedder, by their meaning.

        Args:
            folder: of the documents.
            home: of their index; None takes a place of its own.
            embedder: a program that can `Embed`.

        Raises:
            DataError: there is no such folder.
            SessionError: what is at `home` is no index, damaged, or of another version.
        """
        entry = next(iter(self.documents_entries.values()))
        opened: Documents = resolve(entry.target)(Path(folder), home, embedder)
        return opened

    def usual_embedder(self) -> str:
        """The named weights that embed documents where nobody says otherwise."""
        return next(iter(self.documents_entries.values())).embedder

    def is_written(self, path: Path) -> bool:
        """Whether the file at `path` is a written program, by its name and how it begins; a link is none."""
        for entry in self.written.values():
            if path.name.endswith(entry.suffix) and path.is_file() and not path.is_symlink():
                try:
                    with path.open("rb") as file:
                        return file.read(len(entry.begins.encode())) == entry.begins.encode()
                except OSError:  # not ours to read
                    return False
        return False

    def draft(self, source: str, name: str) -> Draft:
        """The text of a written program, read.

        Args:
            source: the text.
            name: of its file, which says by its ending what it is.

        Raises:
            UsageError: no written program is called so.
            ProgramError: something is wrong with the text, with the line.
        """
        for entry in self.written.values():
            if name.endswith(entry.suffix):
                read: Draft = resolve(entry.reads)(source, name)
                return read
        wanted = " or ".join(f"a name that ends with {entry.suffix}" for entry in self.written.values())
        raise UsageError("No written program is called so.", wanted=wanted, got=name or "no name")

    def text(self, name: str) -> str:
        """The text of a written program that comes along (`files`)."""
        entry, _ = pick("written program", name, self.files)
        return (importlib.resources.files(entry.folder) / f"{name}{entry.suffix}").read_text("utf-8")

    def program(self, name: str, context: Context) -> Program:
        """The program in the folder `name`, the model of another toolkit at that path, or the named weights.

        Or a written one, a file or by its name; NAME@PROGRAM runs it on another program than it says itself.
        """
        from sw2.core.program import Program, is_program

        if (written := self._written(name)) is not None:
            return self._open(*written, context)
        path = Path(name)
        if self.has_weights(name) and not path.exists():
            return self.weights(name, context)
        if not is_program(path) and (entry := self._format(path)) is not None:
            opened: Program = resolve(entry.target)(path, self)
            return opened
        if not path.exists():
            close = nearest(name, (*self.weights_entries, *self.files))
            raise ProgramError(
                "There is no program here.",
                where=path,
                wanted="a program's or run's folder, another toolkit's model, a prompt, or named weights",
                got="no such path, and no such name",
                do=f"Did you mean '{close}'?" if close else "See `sw2 list weights`, or make one with `sw2 train`.",
            )
        return Program.load(name, self)

    def _format(self, path: Path) -> FormatEntry | None:
        """The format of another toolkit that what is at `path` has; None where it has none of them."""
        fitting = [
            entry
            for entry in self.formats.values()
            if (entry.suffix and path.is_file() and path.name.endswith(entry.suffix))
            or (entry.file and (path / entry.file).is_file())
        ]
        if len(fitting) < 2:
            return fitting[0] if fitting else None
        if path.is_file():
            start = _start(path)
            return next((each for each in fitting if re.match(each.begins, start, re.DOTALL)), fitting[0])
        named = _architectures(path / fitting[0].file)
        for entry in fitting:
            if not named or not set(named).isdisjoint(entry.architectures):
                return entry
        raise ProgramError(
            "This architecture is not known.",
            where=path / fitting[0].file,
            wanted=" or ".join(each for entry in fitting for each in entry.architectures),
            got=", ".join(named),
            do="Convert the weights to one of these, if they are one under another name.",
        )

    def _written(self, name: str) -> tuple[str, WrittenEntry, str] | None:
        """What `name` says of a written program: the file or its name, its kind, and what to run it on."""
        head, _, on = (name, "", "") if Path(name).exists() else name.partition("@")
        if head in self.files and not Path(head).exists():
            return head, self.files[head][0], on
        ends = [entry for entry in self.written.values() if head.endswith(entry.suffix) and not Path(head).is_dir()]
        return (head, ends[0], on) if ends else None

    def _open(self, name: str, entry: WrittenEntry, on: str, context: Context) -> Program:
        opens: Callable[..., Program] = resolve(entry.target)
        if name not in self.files or Path(name).exists():
            return opens(Path(name), self, context, on)
        with importlib.resources.as_file(importlib.resources.files(entry.folder) / f"{name}{entry.suffix}") as path:
            return opens(path, self, context, on)


def _start(path: Path) -> str:
    """The first 64 bytes of a file, each a character; none where it cannot be read, which its opener will say."""
    try:
        with path.open("rb") as file:
            return file.read(64).decode("latin-1")
    except OSError:
        return ""


def _architectures(path: Path) -> list[str]:
    """What a JSON object names as its architectures; empty where it cannot be read, which its opener will say."""
    try:
        values = parse_json(path.read_bytes())
    except (ValueError, OSError):
        return []
    named = values.get("architectures") if isinstance(values, dict) else None
    return [str(each) for each in named] if isinstance(named, list) else []


def _built_in() -> list[_Owned]:
    version = importlib.metadata.version("sw2")
    package = importlib.import_module(GROUP)
    return [
        _Owned(importlib.import_module(f"{GROUP}.{module.name}").DOMAIN, "sw2", version)
        for module in pkgutil.iter_modules(package.__path__)
        if module.ispkg
    ]


def _third_party() -> list[_Owned]:
    found = []
    for point in importlib.metadata.entry_points(group=GROUP):
        assert point.dist is not None
        try:
            domain = point.load()
        except Exception as error:  # whatever a plug-in stumbles on while it is imported
            raise UsageError(
                f"The plug-in '{point.dist.name}' cannot be loaded.",
                where=point.value,
                wanted="a Domain",
                got=f"{type(error).__name__}: {error}",
                do=f"Update it, or remove it: pip uninstall {point.dist.name}",
            ) from error
        found.append(_Owned(domain, point.dist.name, point.dist.version))
    return found


@functools.cache
def catalog() -> Catalog:
    """The catalogue of this installation, built on first use."""
    return Catalog([*_built_in(), *_third_party()])
