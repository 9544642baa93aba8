"""What the server writes down: a JSON object a line, without what users wrote.

    {"time": "2030-01-01T12:00:00.000Z", "event": "request", "id": "req_…", "route": "/v1/chat/completions",
     "method": "POST", "status": 200, "seconds": 1.234, "key": "1a2b3c4d", "model": …, "prompt_tokens": …,
     "completion_tokens": …, "code": of an error}
    {…, "event": "fault", "id": …, "error": "ZeroDivisionError", "at": ["module.py:12 in name", …]}
    {…, "event": "http", "level": "warning", "said": …}     what uvicorn says of connections

A route is one that is registered, or "none"; a path, a query, a header or the message of an exception might hold a
user's text and stands nowhere. Conversations are kept only when asked for, in a file of their own (`Conversations`), in
the form of `sw2 chat --log`, of which `sw2 data from-feedback` makes pairs of answers. There is also what a refresh of
documents did: {…, "event": "documents", "said": […]}, with names of files and nothing of requests.
"""

from __future__ import annotations

import datetime
import json
import logging
import sys
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, final

from sw2.core.program import Program
from sw2.faces.server.errors import ApiError
from sw2.verbs.feedback import Log, Verdict

__all__ = ["Conversations", "FromLogging", "Keeper", "Lines", "fault", "to_stderr"]

Lines = Callable[[str, Mapping[str, Any]], None]
"""Takes an event's name and its facts."""


def to_stderr(event: str, facts: Mapping[str, Any]) -> None:
    """Write one line on standard error."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    sys.stderr.write(json.dumps({"time": now, "event": event, **facts}, ensure_ascii=False) + "\n")
    sys.stderr.flush()


def fault(error: BaseException) -> dict[str, Any]:
    """Where a mistake of ours happened, without its message."""
    if isinstance(error, ApiError) and error.__cause__ is not None:  # what was told of it says nothing
        error = error.__cause__
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "error": type(error).__name__,
        "at": [f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}" for frame in frames[-12:]],
    }


@final
class FromLogging(logging.Handler):
    """Makes lines of what a library logs: the text of a message, without its arguments and without a traceback.

    Args:
        lines: the log.
    """

    def __init__(self, lines: Lines) -> None:
        super().__init__(logging.WARNING)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines("http", {"level": record.levelname.lower(), "said": str(record.msg)})


Row = tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]], str]
"""The messages of a conversation up to an answer, its tools, and the id of the program."""

_MOST_ANSWERS: Final = 1000
_MOST_CHARACTERS: Final = 32_000_000


@dataclass
class _Kept:
    who: str
    row: Row
    size: int
    judged: bool = False


@final
class Conversations:
    """Keeps answered conversations in a file, a line each, and one more for each verdict about an answer.

    Answers can be judged while they are among the last thousand, or as many as have 32 million characters together.
    Everything is called from one thread, the event loop's.

    Args:
        path: a new file, or one that was made like this.

    Raises:
        UsageError: the file is there and is no such log.
    """

    def __init__(self, path: Path) -> None:
        self._log = Log(path)
        self._answers: OrderedDict[tuple[str, int], _Kept] = OrderedDict()
        self._size = 0

    def keep(self, answer: str, choice: int, who: str, row: Row) -> None:
        """Add a conversation up to its answer.

        Args:
            answer, choice: by which it may be judged.
            who: got it.
            row: what is kept.
        """
        size = self._log.append(*row, Verdict())
        self._answers[answer, choice] = _Kept(who, row, size)
        self._size += size
        while len(self._answers) > _MOST_ANSWERS or self._size > _MOST_CHARACTERS:
            self._size -= self._answers.popitem(last=False)[1].size

    def judge(self, answer: str, choice: int, who: str, verdict: Verdict) -> Literal["kept", "unknown", "judged"]:
        """Add what somebody said about an answer that they got."""
        kept = self._answers.get((answer, choice))
        if kept is None or kept.who != who:
            return "unknown"
        if kept.judged:
            return "judged"
        self._log.append(*kept.row, verdict)
        kept.judged = True
        return "kept"

    def close(self) -> None:
        """Let go of the file."""
        self._log.close()


@final
@dataclass(frozen=True)
class Keeper:
    """Keeps the conversations of one request; nothing where nothing is kept.

    Args:
        conversations: where.
        answer: the id of the answer.
        who: gets it.
        program: that gives it.
    """

    conversations: Conversations | None
    answer: str
    who: str
    program: Program

    def __call__(
        self, choice: int, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        """A choice came to its end, which is the last of the messages."""
        if self.conversations is not None:
            self.conversations.keep(self.answer, choice, self.who, (messages, tools, self.program.id))
