"""Documents that chats are answered from: kept up to date behind the requests, searched for those who may read.

    refresh → embed what has no vector → wait → refresh …          one thread, from the start of the server to its end
                    ↕ the index, searchable throughout
    look(question, names) ← a chat

Until the folder was read once nothing is answered from it (503): an index of before may hold what was removed since, or
what others owned then. A refresh that fails leaves what was there, is told in the log and on `/healthz`, and is tried
again at its time.

Who asks goes by the names of their key (`keys`), and gets no passage that none of these may read; `core.documents` sees
to that, and `verbs.ask` cites passages that it was given and no others.

What it does not do: several folders, documents that clients upload.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, Literal, final

from sw2.base.errors import Sw2Error
from sw2.core.documents import Documents, Embedded, Passage, Refreshed
from sw2.faces.server.errors import ApiError
from sw2.faces.server.log import Lines, fault
from sw2.faces.server.metrics import DocumentsMeter
from sw2.verbs.ask import AskConfig, Looked, look

__all__ = ["Library", "State"]

State = Literal["reading", "embedding", "ready", "failed"]
"""What goes on: the folder is read, what has no vector gets one, neither, or the last refresh failed."""

_JOIN_SECONDS: Final = 5.0


@final
class Library:
    """A folder of documents, and the thread that keeps it up to date.

    Args:
        documents: opened; whoever opened it closes it, after this.
        every: seconds from the end of one refresh to the next one, > 0.
        lines: the log; told what a refresh changed.
        meter: told the same in numbers.
    """

    def __init__(self, documents: Documents, every: float, lines: Lines, meter: DocumentsMeter) -> None:
        assert every > 0
        self._documents, self._every, self._lines, self._meter = documents, every, lines, meter
        self._state: State = "reading"
        self._read = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="documents", daemon=True)
        self._thread.start()

    @property
    def state(self) -> State:
        """What goes on."""
        return self._state

    @property
    def read(self) -> bool:
        """Whether the folder was read since the start, so that questions are answered from it."""
        return self._read

    def search(self, question: str, count: int, names: Collection[str]) -> Sequence[Any]:
        """The passages that fit best, of those that somebody who goes by `names` may read.

        Raises:
            ApiError: 503, the folder was not read yet.
        """
        self._check()
        with self._meter.searching():
            return self._documents.search(question, count, owners=names)

    def look(
        self, question: str, history: Sequence[Mapping[str, Any]], names: Collection[str], config: AskConfig
    ) -> Looked:
        """What the documents say to a question, to somebody who goes by `names`.

        Raises:
            ApiError: 503, the folder was not read yet.
        """
        self._check()
        with self._meter.searching():
            return look(self._documents, question, history=history, owners=names, config=config)

    def around(self, id: int, count: int, names: Collection[str]) -> Sequence[Passage]:
        """A passage with its neighbours; see `core.documents.Documents.around`."""
        return self._documents.around(id, count, owners=names)

    def settled(self, model: str, how: Literal["answered", "quoted", "refused"]) -> None:
        """Count an answer."""
        self._meter.settled(model, how)

    def alive(self) -> bool:
        """Whether its thread works."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End the thread, after the batch or refresh that runs; it is not waited for long, as a kill loses nothing."""
        self._ended.set()
        self._thread.join(_JOIN_SECONDS)

    def _check(self) -> None:
        if not self._read:
            raise ApiError(
                503,
                "The documents are being read. Ask again later, or without them (documents: false)."
                if self._state != "failed"
                else "The documents could not be read; the server's log says why.",
                code="documents_not_ready",
                headers={"retry-after": "5"},
            )

    # -- in the thread -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._bring_up_to_date()
                self._state = "ready"
            except Sw2Error as error:
                self._fail({"said": str(error)})
            except Exception as error:  # ours; the old state is still there to answer from
                self._fail(fault(error))
            self._ended.wait(self._every)

    def _bring_up_to_date(self) -> None:
        if not self._read:
            self._state = "reading"
        done = self._documents.refresh()
        first, self._read = not self._read, True
        self._meter.refreshed(done)
        if done.changed or first:
            self._tell(done)
        self._meter.embedded(self._documents.fill(self._embedding))

    def _embedding(self, far: Embedded) -> bool:
        if far.embedded < far.passages:
            self._state = "embedding"
        self._meter.embedded(far)
        return not self._ended.is_set()

    def _tell(self, done: Refreshed) -> None:
        self._lines("documents", {"said": list(done.said)})

    def _fail(self, facts: Mapping[str, Any]) -> None:
        self._state = "failed"
        self._meter.failed()
        self._lines("documents", {"level": "warning", **facts})
