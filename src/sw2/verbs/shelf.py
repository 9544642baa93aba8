"""What lies in a folder: its programs, those that somebody wrote, and its runs, found without reading a weight.

    DIR/cats/…             a run: named "cats", and its program "cats"
    DIR/assistant/stages/… a chain's stages: "assistant/stages/1-reading" …
    DIR/old.program        a program that lies by itself
    DIR/extract.toml       a program that somebody wrote

Names are paths from the folder. A name is only ever looked up among what was found and never joined to a path, and
links are not followed, so that nothing outside can be named. Damaged programs are listed with what is wrong with them.

What it does not do: models of other toolkits (`catalog.program` opens those by their path), hidden folders.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sw2.base.errors import DataError, ProgramError, Sw2Error, UsageError
from sw2.base.names import pick
from sw2.core.kinds import Kind
from sw2.core.program import is_program, locate, read_document
from sw2.core.registry import Registry
from sw2.core.task import Score

__all__ = ["Shelf", "Shelved", "shelve", "talkers", "within"]

_DEEPEST: Final = 4
"""Folders below DIR that are looked into: a stage of a chain lies three deep."""

_MOST: Final = 5000
"""Folders that are looked into at most; a shelf of more is named by its parts."""


@dataclass(frozen=True, kw_only=True)
class Shelved:
    """A program that was found.

    Args:
        name: its path from the shelf.
        path: its folder.
        id: what names it, "" for a damaged one.
        task: its name.
        metric: the score that decides.
        inputs, outputs: the kinds that it takes and gives.
        capabilities: what it can do beyond answering.
        bytes: of its files.
        scores: from its card, its own and the baselines'.
        data: the name of what it was learned from.
        made: when, as the card says it.
        fault: what is wrong with it, "" for a sound one.
    """

    name: str
    path: Path
    id: str = ""
    task: str = ""
    metric: str = ""
    inputs: Mapping[str, Kind] = field(default_factory=dict)
    outputs: Mapping[str, Kind] = field(default_factory=dict)
    capabilities: Sequence[str] = ()
    bytes: int = 0
    scores: Sequence[Score] = ()
    data: str = ""
    made: str = ""
    fault: str = ""


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """What lies in a folder.

    Args:
        root: the folder.
        programs, runs: by name; runs are the folders in which something was, or is being, learned.
        written: programs that somebody wrote, files by their paths from the shelf.
        cut: whether there were more folders than are looked into.
    """

    root: Path
    programs: Mapping[str, Shelved] = field(default_factory=dict)
    runs: Mapping[str, Path] = field(default_factory=dict)
    written: Mapping[str, Path] = field(default_factory=dict)
    cut: bool = False

    def program(self, name: str) -> Shelved:
        """The sound program of this name.

        Raises:
            ProgramError: there is none, or it is damaged.
        """
        found = pick("program", name, self.programs)
        if found.fault:
            raise ProgramError("This program cannot be used.", where=name, got=found.fault)
        return found

    def run(self, name: str) -> Path:
        """The folder of the run of this name.

        Raises:
            UnknownName: there is none.
        """
        return pick("run", name, self.runs)

    def written_file(self, name: str) -> Path:
        """The written program of this name.

        Raises:
            UnknownName: there is none.
        """
        return pick("written program", name, self.written)


def talkers(shelf: Shelf) -> list[str]:
    """Names of the programs that chat."""
    return [
        name
        for name, found in shelf.programs.items()
        if "Chat" in found.capabilities and "Generate" in found.capabilities and not found.fault
    ]


def shelve(root: Path, registry: Registry) -> Shelf:
    """Look through the folder `root`.

    Raises:
        DataError: it is no folder.
    """
    if not root.is_dir():
        raise DataError(
            "There is no such folder.", where=root, wanted="a folder of programs and runs", got="a file or nothing"
        )
    programs: dict[str, Shelved] = {}
    runs: dict[str, Path] = {}
    written: dict[str, Path] = {}
    looked = 0
    for place, folders, files in os.walk(root):
        path = Path(place)
        depth = len(path.relative_to(root).parts)
        looked += 1
        if looked > _MOST:
            break
        name = "/".join(path.relative_to(root).parts) or root.resolve().name
        if "config.toml" in files:
            runs[name] = path
        for file in files:
            if not file.startswith(".") and "program.json" not in files and registry.is_written(path / file):
                written["/".join((path / file).relative_to(root).parts)] = path / file
        inside = path.name == "program" and path != root and "/".join(path.parent.relative_to(root).parts) in programs
        if is_program(path) and not inside:
            programs[name] = _described(name, locate(path), registry)
        # What lies inside a program's own folder is no program of its own, and checkpoints are many.
        dull = {"checkpoints", "evaluations", "program"} if "config.toml" in files else set()
        stop = depth >= _DEEPEST or "program.json" in files
        folders[:] = [] if stop else sorted(each for each in folders if each not in dull and not each.startswith("."))
    return Shelf(
        root=root,
        programs=dict(sorted(programs.items())),
        runs=dict(sorted(runs.items())),
        written=dict(sorted(written.items())),
        cut=looked > _MOST,
    )


def _described(name: str, path: Path, registry: Registry) -> Shelved:
    try:
        document = read_document(path)
        task = registry.task(document["task"])
        runtime = registry.runtime_class(document["runtime"])
        card = document["card"]
        return Shelved(
            name=name,
            path=path,
            id=document.get("id", ""),
            task=task.name,
            metric=task.metric,
            inputs=task.inputs,
            outputs=task.outputs,
            capabilities=runtime.offers(),
            bytes=sum(file["bytes"] for file in document["files"].values()),
            # A score that was no number (the loss of a run that diverged) is null on a card.
            scores=tuple(Score(**row) for row in card["scores"] if isinstance(row["value"], (int, float))),
            data=str(card["data"].get("name", "")),
            made=str(card["made"].get("date", "")),
        )
    except Sw2Error as error:
        return Shelved(name=name, path=path, fault=str(error))
    except (OSError, LookupError, TypeError, ValueError) as error:  # entries of the card that are none
        return Shelved(name=name, path=path, fault=f"{type(error).__name__}: {error}")


def within(root: Path, text: str) -> Path:
    """The path that `text` names inside `root`, links resolved.

    Raises:
        UsageError: it leaves the folder, or is no path.
    """
    try:
        path = (root / text).resolve()
        inside = path.is_relative_to(root.resolve())
    except (OSError, ValueError, RuntimeError):  # too long, a zero byte, a loop of links
        inside = False
    if not inside:
        raise UsageError("This path leads out of the folder.", where=text, wanted=f"a path inside {root}", got=text)
    return path
