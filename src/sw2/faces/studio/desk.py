"""What the pages share: the folder, the programs that are open, the log of thumbs.

A program is loaded when somebody first uses it, in a thread, and then stays: its worker is the server's, so that the
page and clients of the API stand in one queue. A program that changed on disk is another one (its id says so) and is
opened under a name with its id.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from sw2.catalog import Catalog
from sw2.core.task import Context
from sw2.faces.server.app import Server
from sw2.faces.server.programs import Served
from sw2.verbs.feedback import Log, Verdict
from sw2.verbs.shelf import Shelf, Shelved, shelve

__all__ = ["Desk"]


@final
class Desk:
    """The studio of one folder.

    Args:
        root: the folder.
        catalog: names of tasks, data sets and programs.
        server: serves what is opened.
        feedback: the file that thumbs and better answers go into; None keeps nothing.

    Raises:
        UsageError: `feedback` is there and is no such log.
    """

    def __init__(self, root: Path, catalog: Catalog, server: Server, feedback: Path | None) -> None:
        self.root, self.catalog, self.feedback = root, catalog, feedback
        self.library = server.library
        self.context = Context()  # which installs nothing
        self._server = server
        self._opened: dict[str, Served] = {}
        self._opening = asyncio.Lock()
        if feedback is not None and feedback.exists():
            Log(feedback).close()  # a file that is something else is told before anything is served

    def shelf(self) -> Shelf:
        """What lies in the folder now."""
        return shelve(self.root, self.catalog)

    async def opened(self, found: Shelved) -> Served:
        """The program, loaded on first use.

        Raises:
            Sw2Error: it cannot be loaded.
        """
        async with self._opening:
            if found.id not in self._opened:
                program = await asyncio.to_thread(self.catalog.program, str(found.path), self.context)
                taken = {served.name for served in self._opened.values()}
                name = re.sub(r"[^A-Za-z0-9._-]+", "-", found.name).strip("-.") or "program"
                name = f"{name}-{found.id[:8]}" if name in taken else name
                self._opened[found.id] = self._server.open(name, program)
            return self._opened[found.id]

    def judge(self, messages: Sequence[Mapping[str, Any]], program: str, verdict: Verdict) -> None:
        """Keep what was said about the last of `messages`, which the program with this id answered."""
        assert self.feedback is not None, "the page offers no thumbs"
        log = Log(self.feedback)
        try:
            log.append(messages, (), program, verdict)
        finally:
            log.close()
