"""Where written programs are tried: one after the other, in a thread of their own, on programs of the folder.

The page's text is read as it stands, saved or not. What it runs on is chosen among the programs of the folder that
chat; what a text itself names is looked up there too, or is a name of the catalogue, and is no path that leads out.

What is tried does not stand in the server's queue: a run of tests would stop every conversation until its end. So its
model is loaded once more, and the two that were used last are kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar, final

from sw2.base.errors import ProgramError
from sw2.core.draft import Draft
from sw2.core.program import Program
from sw2.faces.studio.desk import Desk

__all__ = ["Bench", "Trial"]

T = TypeVar("T")

_KEPT: Final = 2


@final
@dataclass(frozen=True, kw_only=True)
class Trial:
    """A text, the name of its file, and the name of the program that it is to run on, "" for what it says itself."""

    text: str
    name: str
    on: str = ""


@final
class Bench:
    """Tries texts of a desk.

    Args:
        desk: whose programs they run on.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._models: dict[str, Program] = {}
        # What has begun goes on to its end, even when nobody waits for it any more, and nothing begins beside it.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="bench")

    async def tried(self, trials: Sequence[Trial], work: Callable[..., T]) -> T:
        """What `work` makes of the programs of some texts, after what is tried already.

        Raises:
            Sw2Error: a text cannot be read, or its program not be opened; and what `work` raises.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._try, trials, work)

    def read(self, text: str, name: str) -> Draft:
        """A text, read.

        Raises:
            Sw2Error: something is wrong with it, with the line.
        """
        return self._desk.catalog.draft(text, name)

    def _try(self, trials: Sequence[Trial], work: Callable[..., T]) -> T:
        drafts = [(trial, self.read(trial.text, trial.name)) for trial in trials]
        programs = [draft.on(self._model(draft, trial), self._desk.catalog) for trial, draft in drafts]
        return work(*programs)

    def _model(self, draft: Draft, trial: Trial) -> Program:
        place, key = self._place(draft, trial)
        if key not in self._models:
            self._models[key] = self._desk.catalog.program(place, self._desk.context)
        self._models[key] = self._models.pop(key)  # the last one used is the last
        while len(self._models) > _KEPT:
            del self._models[next(iter(self._models))]
        return self._models[key]

    def _place(self, draft: Draft, trial: Trial) -> tuple[str, str]:
        """Where the program is that a trial runs on, and what to know it by."""
        shelf, catalog = self._desk.shelf(), self._desk.catalog
        if trial.on:
            found = shelf.program(trial.on)
            return str(found.path), found.id
        said = draft.program
        folder = (self._desk.root / trial.name).parent
        for found in shelf.programs.values():
            path = found.path.resolve()
            # A run's program is named by its run.
            if said and not found.fault and (folder / said).resolve() in (path, path.parent):
                return str(found.path), found.id
        if catalog.has_weights(said):
            return said, said
        raise ProgramError(
            "What this text runs on is not in this folder.",
            where=trial.name,
            wanted="a program of this folder, or named weights",
            got=said,
            do="Choose a program under 'Runs on'.",
        )
