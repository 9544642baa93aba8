"""What the server writes down: a JSON object a line, without what users wrote.

    {"time": "2030-01-01T12:00:00.000Z", "event": "request", "id": "req_…", "route": "/v1/chat/completions",
     "method": "POST", "status": 200, "seconds": 1.234, "key": "1a2b3c4d", "model": …, "prompt_tokens": …,
     "completion_tokens": …, "code": of an error}
    {…, "event": "fault", "id": …, "error": "ZeroDivisionError", "at": ["module.py:12 in name", …]}
    {…, "event": "http", "level": "warning", "said": …}     what uvicorn says of connections

A route is one that is registered, or "none"; a path, a query, a header or the message of an exception might hold a
user's text and stands nowhere. Conversations are kept only when asked for, in a file of their own (`Conversations`), in
the form of `sw2 chat --log`, of which `sw2 data from-feedback` makes pairs of answers.
"""

from __future__ import annotations

import datetime
import json
import logging
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

from sw2.faces.server.errors import ApiError
from sw2.verbs.feedback import Log, Verdict

__all__ = ["Conversations", "FromLogging", "Lines", "fault", "to_stderr"]

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


@final
class Conversations:
    """Keeps answered conversations in a file, a line each.

    Args:
        path: a new file, or one that was made like this.

    Raises:
        UsageError: the file is there and is no such log.
    """

    def __init__(self, path: Path) -> None:
        self._log = Log(path)

    def keep(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]], program: str) -> None:
        """Add a conversation up to its answer."""
        self._log.append(messages, tools, program, Verdict())

    def close(self) -> None:
        """Let go of the file."""
        self._log.close()
