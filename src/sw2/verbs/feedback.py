"""What people said about answers: a log of conversations, and the pairs of answers that it makes.

    LOG       one JSON object a line, a conversation up to an answer:
              {"messages": […], "tools": […], "program": its id,
               perhaps "thumb": "up" or "down", "why": text, "edit": the better answer}

    pairs     {"messages": up to the better answer, "rejected": the worse one, "tools": […], "where": "LOG, line 7"}

An edited answer is a pair by itself: the edit is better than what was written. An answer with its thumb down and no
edit is a pair with the first answer to the same that has its thumb up; without one nobody knows what is better, and it
is counted as not usable. A line is appended when it is settled, so that a log is never written over.

What it does not do: thumbs up alone (they say nothing of what would be worse), edits of calls.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sw2.base.errors import DataError, UsageError
from sw2.base.store import canonical_json, write_text

__all__ = ["Log", "Made", "Verdict", "pairs", "write_pairs"]

_THUMBS: Final = ("up", "down")


@dataclass(kw_only=True)
class Verdict:
    """What a person said about an answer; all empty for nothing.

    Args:
        thumb: "up", "down" or "".
        why: what was wrong with it.
        edit: what it should have been.
    """

    thumb: str = ""
    why: str = ""
    edit: str = ""


class Log:
    """A log to write to: a file that is made, or gone on with.

    Raises:
        UsageError: the file is there and is no such log.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists() and path.read_bytes():
            with path.open(encoding="utf-8", errors="replace") as file:
                first = file.readline()
            if not isinstance(_value(first), Mapping) or "messages" not in _value(first):
                raise UsageError(
                    "This file is no log of conversations; nothing was written.",
                    where=path,
                    wanted="a new file, or one that `sw2 chat --log` made",
                    got=first[:60].strip(),
                )
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8", errors="replace")
        if path.stat().st_size and not path.read_bytes().endswith(b"\n"):
            self._file.write("\n")  # a line that was cut stays a line of its own

    def append(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]], program: str, verdict: Verdict
    ) -> int:
        """Add a conversation up to its answer, with what was said about it; how many characters it took."""
        said = {name: text for name, text in vars(verdict).items() if text}
        row = {"messages": list(messages), "tools": list(tools), "program": program, **said}
        size = self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._file.flush()
        return size

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


@dataclass(frozen=True, kw_only=True)
class Made:
    """The pairs of a log.

    Args:
        pairs: in the order of the log.
        counts: how many came from edits and how many from thumbs.
        unusable: how many answers that were judged made no pair, by the reason.
        unread: lines that are no conversation, by the reason.
    """

    pairs: Sequence[Mapping[str, Any]]
    counts: Mapping[str, int]
    unusable: Mapping[str, int] = field(default_factory=dict)
    unread: Mapping[str, int] = field(default_factory=dict)


def pairs(log: Path) -> Made:
    """The pairs that `log` makes; the same log gives the same.

    Raises:
        DataError: it cannot be read, or makes none.
    """
    rows, unread = _read(log)
    good: dict[str, Mapping[str, Any]] = {}
    for _, row in rows:
        if row.get("thumb") == "up" and not row.get("edit"):
            good.setdefault(_prompt(row), row["messages"][-1])
    down = {_prompt(row) for _, row in rows if row.get("thumb") == "down" and not row.get("edit")}
    found: dict[str, dict[str, Any]] = {}
    counts = Counter({"edits": 0, "thumbs": 0})
    unusable: Counter[str] = Counter()
    for number, row in rows:
        worse, edit = row["messages"][-1], row.get("edit")
        if edit:
            better: Mapping[str, Any] | None = {"role": "assistant", "content": edit}
        elif row.get("thumb") == "down":
            better = good.get(_prompt(row))
        else:
            if row.get("thumb") == "up":
                unusable["thumb up, and nothing worse to the same"] += _prompt(row) not in down
            continue
        if better is None:
            unusable["thumb down, and nothing better to the same"] += 1
        elif not _text(worse).strip() and not worse.get("tool_calls"):
            unusable["the answer is empty"] += 1
        elif _text(better) == _text(worse) and better.get("tool_calls") == worse.get("tool_calls"):
            unusable["both answers are the same"] += 1
        else:
            pair = {
                "messages": [*row["messages"][:-1], better],
                "rejected": worse,
                "tools": row.get("tools") or [],
                "where": f"{log.name}, line {number}",
            }
            key = canonical_json([pair["messages"], worse, pair["tools"]])
            if key in found:
                unusable["said before"] += 1
            else:
                found[key] = pair
                counts["edits" if edit else "thumbs"] += 1
    if not found:
        told = [f"{count} lines: {why}" for why, count in {**unusable, **unread}.items() if count]
        raise DataError(
            "This log makes no pair of answers.",
            where=log,
            wanted="an answer with /edit, or one with /bad and another to the same with /good",
            got="; ".join(told) or f"{len(rows)} conversations that nobody judged",
        )
    kept = {why: count for why, count in unusable.items() if count}
    return Made(pairs=list(found.values()), counts=dict(counts), unusable=kept, unread=unread)


def write_pairs(made: Made, out: Path) -> None:
    """Write the pairs as JSON lines into the new file `out`.

    Raises:
        UsageError: it is there already.
    """
    if out.exists():
        raise UsageError("This file is there already; nothing was changed.", where=out, wanted="a new file", got=out)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, "".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in made.pairs))


def _read(log: Path) -> tuple[list[tuple[int, Mapping[str, Any]]], dict[str, int]]:
    """The conversations with the numbers of their lines, and how many lines are none."""
    try:
        text = log.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise DataError(
            "There is no such log.", where=log, wanted="a file of `sw2 chat --log`", got="nothing"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError("This file is not UTF-8.", where=log, wanted="JSON lines", got=f"byte {error.start}") from error
    rows: list[tuple[int, Mapping[str, Any]]] = []
    unread: Counter[str] = Counter()
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        if why := _fault(row := _value(line)):
            unread[why] += 1
        else:
            rows.append((number, row))
    return rows, dict(unread)


def _value(line: str) -> Any:
    """What a line says; None where it is no JSON that could be written again."""
    try:
        value = json.loads(line)
        canonical_json(value).encode()
    except (ValueError, RecursionError):
        return None
    return value


def _fault(row: Any) -> str:
    """What makes a line unusable, "" for a good one."""
    if not isinstance(row, Mapping) or not isinstance(row.get("messages"), list):
        return "not a conversation"
    messages = row["messages"]
    if not all(isinstance(each, Mapping) and isinstance(each.get("role"), str) for each in messages):
        return "a message without a role"
    if len(messages) < 2 or messages[-1]["role"] != "assistant":
        return "no answer at the end"
    if row.get("thumb", "up") not in _THUMBS or not all(isinstance(row.get(key, ""), str) for key in ("why", "edit")):
        return "feedback that is not understood"
    return ""


def _text(message: Mapping[str, Any]) -> str:
    return str(message.get("content") or "")


def _prompt(row: Mapping[str, Any]) -> str:
    return canonical_json([row["messages"][:-1], row.get("tools") or []])
