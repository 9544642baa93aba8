"""Who said what of which example: a log that only grows, and what follows from it.

    {"n": 1, "when": "2030-01-01T10:00:00+00:00", "act": "labels", "labels": ["cat", "dog"]}
    {"n": 2, "when": …, "who": "anna", "act": "label", "content": SHA-256, "name": "7.jpg", "label": "cat"}
    {"n": 3, "when": …, "who": "anna", "act": "skip", "content": …, "name": …}
    {"n": 4, "when": …, "who": "anna", "act": "undo", "content": …, "name": …, "undoes": 3}
    {"n": 5, "when": …, "who": "otto", "act": "decide", "content": …, "name": …, "label": "dog"}

A line is one write, synced to disk before anybody is told that it is kept, so `kill -9` loses nothing that was
acknowledged; what a kill leaves half-written is a line that says nothing. What is true follows from the set of lines
alone: they may stand in any order and several times, because each has its number, and the highest one that was not
undone holds. So when something else wrote to the file while it was open, both sets of lines are put together: what came
is taken over, what is gone is written again.

What it does not do: two processes at once (a lock beside the file keeps the second one out); deciding what is shown to
whom (`labelling`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, final

from sw2.base.errors import ResourceError
from sw2.base.store import Held, canonical_json, full_disk_told, held, parse_json, write_bytes

__all__ = ["Act", "Opinions", "Said", "told_by"]

_TEXTS: Final = ("when", "who", "content", "name", "label")


@final
@dataclass(frozen=True, kw_only=True)
class Act:
    """A line of the log.

    Args:
        n: its number, from 1; later ones are higher.
        act: "label", "skip", "undo" of a label or skip, "decide" between labels, or "labels" (which there are).
        when: in UTC, by ISO 8601.
        who: did it; "" for the program itself.
        content: SHA-256 of the example.
        name: of the example, for people who read the log.
        label: what was said; "" where nothing is.
        undoes: the number of the line that is taken back.
        labels: which there are.
    """

    n: int
    act: str
    when: str = ""
    who: str = ""
    content: str = ""
    name: str = ""
    label: str = ""
    undoes: int = 0
    labels: tuple[str, ...] = ()

    def line(self) -> str:
        """As it stands in the log, without the end of the line."""
        return json.dumps({key: value for key, value in vars(self).items() if value}, ensure_ascii=False)


@dataclass(kw_only=True)
class Said:
    """What follows from the lines of a log.

    Attributes:
        of: by content, what each labeller said last: a label, or "" for a skip. In the order in which they first did.
        by: by labeller, the contents of which they said something, in the order in which they first did.
        decided: by content, the label that was decided, and by whom.
        labels: which there are; () before anybody said so.
        stack: by labeller, their labels and skips that hold or held, oldest first, without those taken back.
    """

    of: dict[str, dict[str, str]] = field(default_factory=dict)
    by: dict[str, dict[str, None]] = field(default_factory=dict)
    decided: dict[str, tuple[str, str]] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    stack: dict[str, list[Act]] = field(default_factory=dict)

    def add(self, act: Act) -> None:
        """Take in a line with a higher number than all before that is no undo."""
        if act.act == "labels":
            self.labels = act.labels
        elif act.act == "decide":
            self.decided[act.content] = (act.label, act.who)
        else:
            self.of.setdefault(act.content, {})[act.who] = act.label
            self.by.setdefault(act.who, {})[act.content] = None
            self.stack.setdefault(act.who, []).append(act)


def told_by(acts: Iterable[Act]) -> Said:
    """What follows from lines, in whatever order they are, each any number of times."""
    different = set(acts)
    undone = {(act.who, act.undoes) for act in different if act.act == "undo"}
    said = Said()
    for act in sorted(different, key=lambda act: (act.n, act.line())):
        if act.act != "undo" and (act.who, act.n) not in undone:
            said.add(act)
    return said


@final
class Opinions:
    """A log that is open for writing; nobody else can open it until it is closed.

    Args:
        folder: in which it lies, as `log.jsonl`; made if it is not there.
        note: told what happened to the file from outside, in words for people; may be another one later.

    Attributes:
        path: of the log.
        said: what follows from it.

    Raises:
        ResourceError: another process has it open.
    """

    def __init__(self, folder: Path, note: Callable[[str], None]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.note = folder / "log.jsonl", note
        self._closing = ExitStack()
        try:
            self._closing.enter_context(held(folder / "lock"))
        except Held as who:
            raise ResourceError(
                "These examples are being labelled by another process.",
                where=folder,
                wanted="one process that serves them",
                got=str(who),
                do="Open its page instead: several people can label in it at once.",
            ) from who
        self._lines: dict[str, Act] = {}  # every line that was understood, once
        self._highest = 0
        self._make()
        self._read()
        if self._unread:
            self.note(f"{self._unread} lines of {self.path} say nothing that is understood, and are left as they are")

    def close(self) -> None:
        """Put back what something else removed, and let others open it."""
        with self._closing:
            self.refresh()

    def add(
        self, act: str, *, who: str = "", content: str = "", name: str = "", label: str = "", undoes: int = 0,
        labels: Sequence[str] = (),
    ) -> Act:  # fmt: skip
        """Write a line (see `Act`); on return it is on the disk.

        Raises:
            DiskFull: it is not written.
        """
        self.refresh()
        made = Act(
            n=self._highest + 1, act=act, when=datetime.now(UTC).isoformat(timespec="seconds"), who=who,
            content=content, name=name, label=label, undoes=undoes, labels=tuple(labels),
        )  # fmt: skip
        self._write([made.line()])
        self._keep(made)
        if act == "undo":
            self.said = told_by(self._lines.values())
        else:
            self.said.add(made)
        return made

    def refresh(self) -> None:
        """Look whether something else wrote to the file; if so, put both sets of lines together, and note it."""
        self._make()
        if self._seen == _stamp(self.path.stat()):
            return
        before = dict(self._lines)
        there = self._read()
        come, gone = self._lines.keys() - before.keys(), before.keys() - there
        if gone:
            self._write([line for line in before if line in gone])
            for line in gone:
                self._keep(before[line])
        if come or gone:
            self.note(
                f"{self.path.name} was changed by something else: {len(come)} lines taken over, {len(gone)} put back"
            )
            self.said = told_by(self._lines.values())

    def _make(self) -> None:
        if not self.path.exists():
            write_bytes(self.path, b"")  # which syncs the folder too

    def _keep(self, act: Act) -> None:
        self._lines[act.line()] = act
        self._highest = max(self._highest, act.n)

    def _read(self) -> set[str]:
        """Read the file anew; the lines that were understood, as we would write them."""
        self._seen = _stamp(self.path.stat())  # the file as it was at our last look
        acts = [_act(line) for line in self.path.read_bytes().split(b"\n") if line.strip()]
        self._unread = acts.count(None)
        there = [act for act in acts if act is not None]
        for act in there:
            self._keep(act)
        self.said = told_by(self._lines.values())
        return {act.line() for act in there}

    def _write(self, lines: Sequence[str]) -> None:
        """Add lines at the end of the file, in one write that is on the disk when this returns."""
        with full_disk_told(self.path), open(self.path, "ab+", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            known = (os.fstat(file.fileno()).st_ino, end) == self._seen[:2]
            # A line that a kill or a full disk cut stays a line of its own.
            cut = end > 0 and os.pread(file.fileno(), 1, end - 1) != b"\n"
            left = memoryview((("\n" if cut else "") + "".join(line + "\n" for line in lines)).encode())
            try:
                while left:
                    left = left[file.write(left) :]
                os.fsync(file.fileno())
            except OSError:  # what is told to be not kept is not to be found there later
                os.ftruncate(file.fileno(), end)
                raise
            if known:  # else something wrote since our last look, and the next look is to find it
                self._seen = _stamp(os.fstat(file.fileno()))


def _stamp(found: os.stat_result) -> tuple[int, int, int]:
    """By what a file is known to be as it was."""
    return (found.st_ino, found.st_size, found.st_mtime_ns)


def _act(line: bytes) -> Act | None:
    """What a line says; None where it is not understood."""
    try:
        row = parse_json(line)
        if not isinstance(row, Mapping):
            return None
        canonical_json(row).encode()  # half a character cannot be shown or written again
        made = Act(**{**row, "labels": tuple(row.get("labels", ()))})
    except (TypeError, ValueError):  # of another form, no JSON
        return None
    return made if _sound(made) else None


def _sound(act: Any) -> bool:
    numbers = all(isinstance(each, int) and not isinstance(each, bool) for each in (act.n, act.undoes))
    texts = all(isinstance(getattr(act, name), str) for name in _TEXTS)
    if not numbers or not texts or act.n < 1 or not all(isinstance(each, str) for each in act.labels):
        return False
    wants = {
        "labels": bool(act.labels),
        "label": bool(act.who and act.content and act.label),
        "skip": bool(act.who and act.content and not act.label),
        "undo": bool(act.who and act.undoes),
        "decide": bool(act.who and act.content and act.label),
    }
    return wants.get(act.act, False) if isinstance(act.act, str) else False
