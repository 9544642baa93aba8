"""The history of a data set: what was in it, commit by commit, in a store beside it.

    photos/.sw2/history/               of the folder photos
    .sw2/labels.csv/history/           of the file labels.csv, beside it
        rows/SHA256.jsonl.gz           the rows of a state, [name, split, label, content] each; named by their hash
        commits/ID.json                what a Commit says; ID is the hash of the file
        HEAD                           the id of the last commit

A commit writes its rows, then itself, then HEAD, each to another name that is synced and renamed: a kill at any moment
leaves the commit of before or the whole new one. Writers take turns by a lock that ends with its process.

A difference pairs the rows of two states: those of one name and content, then those of one content (with the same
label rather than another), then those of one name. So a picture moved to another label's folder is relabelled, not
removed and added, and a row keeps its identity when rows above it go.

What it does not do: keep the examples themselves. A commit says exactly what there was, by hashes, and can tell what
changed; bringing a deleted picture back is the business of backups. No branches: a copy of the folder has its own
history.
"""

from __future__ import annotations

import contextlib
import gzip
import json
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sw2.base.errors import DataError, ResourceError, UsageError
from sw2.base.store import Held, full_disk_told, held, remove_partials, sha256_of_bytes, write_bytes

__all__ = ["KINDS", "Change", "Commit", "Entry", "History", "commit_trained_from", "difference"]

KINDS: Final = ("relabelled", "changed", "moved", "renamed", "added", "removed")
"""What can happen to a row: another label (and perhaps more), another content under its name, split, or name."""

_WAIT_SECONDS: Final = 10.0
_LEAST_PREFIX: Final = 4


@dataclass(frozen=True)
class Entry:
    """A row of a state: its name, which is there once, its split, its label and the SHA-256 of its content."""

    name: str
    split: str
    label: str
    content: str


@dataclass(frozen=True, kw_only=True)
class Commit:
    """A state of a data set that somebody gave a message.

    Args:
        id: SHA-256, in hexadecimal, over all that follows.
        parent: the id of the commit before, "" for the first.
        date: in UTC, to the second, by ISO 8601.
        message: what the user said.
        task: which read the data.
        settings: `data.key=value` texts with which it was read.
        fingerprint: of the data, as on the card of a program that learned from it.
        rows: the name of the file of rows.
        labels: how many rows each label has.
    """

    id: str
    parent: str
    date: str
    message: str
    task: str
    settings: Sequence[str]
    fingerprint: str
    rows: str
    labels: Mapping[str, int]

    @property
    def examples(self) -> int:
        """How many rows it has."""
        return sum(self.labels.values())


@dataclass(frozen=True, kw_only=True)
class Change:
    """A row that is not as it was: what happened, one of `KINDS`; the row before and after, None where it is not."""

    kind: str
    was: Entry | None = None
    now: Entry | None = None


class History:
    """The commits of the data at a path.

    Raises:
        UsageError: there is no such path; data sets by name do not change.
    """

    def __init__(self, source: str | Path) -> None:
        path = Path(source)
        if not path.exists():
            raise UsageError(
                "A history stands beside data, and there is none.",
                where=source,
                wanted="a folder or a file",
                got="no such path; data sets by name have no history",
            )
        self.home = (path / ".sw2" if path.is_dir() else path.parent / ".sw2" / path.name) / "history"
        self.source = path

    def head(self) -> Commit | None:
        """The last commit; None before the first.

        Raises:
            DataError: the history is damaged.
        """
        try:
            last = (self.home / "HEAD").read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise self._damaged(self.home / "HEAD", "the id of a commit", str(error)) from error
        return self._read(last)

    def log(self) -> Iterator[Commit]:
        """The commits, the last one first.

        Raises:
            DataError: the history is damaged.
        """
        found = self.head()
        while found is not None:
            yield found
            found = self._read(found.parent) if found.parent else None

    def find(self, name: str) -> Commit:
        """The commit whose id begins with `name`, or the last one for "HEAD".

        Raises:
            UsageError: there is none, or more than one.
        """
        commits = list(self.log())
        if name == "HEAD":
            alike = commits[:1]
        else:
            alike = [each for each in commits if each.id.startswith(name.lower())] if len(name) >= _LEAST_PREFIX else []
        if len(alike) != 1:
            raise UsageError(
                "No commit is called that." if not alike else "Several commits are called that.",
                where=self.source,
                wanted=f"HEAD, or at least {_LEAST_PREFIX} letters of an id: "
                + (", ".join(each.id[:12] for each in (alike or commits)[:5]) or "there is no commit yet"),
                got=name,
                do=f"sw2 data log {self.source}",
            )
        return alike[0]

    def entries(self, of: Commit) -> list[Entry]:
        """The rows of a commit.

        Raises:
            DataError: the history is damaged.
        """
        path = self.home / "rows" / f"{of.rows}.jsonl.gz"
        try:
            text = gzip.decompress(path.read_bytes())
            rows = [Entry(*json.loads(line)) for line in text.splitlines()]
        except (OSError, EOFError, ValueError, TypeError) as error:
            raise self._damaged(path, "rows of a commit", str(error)) from error
        if (got := sha256_of_bytes(text)) != of.rows:
            raise self._damaged(path, of.rows, got)
        return rows

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Be the one process that writes; the lock ends with it, also when it is killed.

        Raises:
            ResourceError: another one goes on writing.
        """
        with full_disk_told(self.home):
            self.home.mkdir(parents=True, exist_ok=True)
            with contextlib.ExitStack() as lock:
                try:
                    lock.enter_context(held(self.home / "lock", wait_seconds=_WAIT_SECONDS))
                except Held as error:
                    raise ResourceError(
                        "Another process is writing into this history; nothing was committed.",
                        where=self.home,
                        wanted=f"to be the only one within {_WAIT_SECONDS:g} seconds",
                        got=error,
                        do="Wait until it ends, and commit again.",
                    ) from None
                for folder in (self.home, self.home / "rows", self.home / "commits"):
                    remove_partials(folder)
                yield

    def add(
        self, entries: Sequence[Entry], *, message: str, task: str, settings: Sequence[str], fingerprint: str, date: str
    ) -> Commit:
        """Make a commit after the last one; only inside `writing`.

        Raises:
            DiskFull: the last commit stays as it is.
        """
        head = self.head()
        text = "".join(json.dumps(list(vars(entry).values())) + "\n" for entry in entries).encode()
        said: dict[str, Any] = {
            "parent": "" if head is None else head.id,
            "date": date,
            "message": message,
            "task": task,
            "settings": list(settings),
            "fingerprint": fingerprint,
            "rows": sha256_of_bytes(text),
            "labels": dict(sorted(Counter(entry.label for entry in entries).items())),
        }
        content = (json.dumps(said, indent=2) + "\n").encode()
        made = sha256_of_bytes(content)
        rows = self.home / "rows" / f"{said['rows']}.jsonl.gz"
        if not rows.exists():
            write_bytes(rows, gzip.compress(text, mtime=0))
        write_bytes(self.home / "commits" / f"{made}.json", content)
        write_bytes(self.home / "HEAD", f"{made}\n".encode())
        return Commit(id=made, **said)

    def _read(self, name: str) -> Commit:
        path = self.home / "commits" / f"{name}.json"
        try:
            content = path.read_bytes()
            made = Commit(id=name, **json.loads(content))
        except (OSError, ValueError, TypeError) as error:
            raise self._damaged(path, "a commit", str(error)) from error
        if (got := sha256_of_bytes(content)) != name:
            raise self._damaged(path, f"a file with the hash {name[:12]}", got[:12])
        return made

    def _damaged(self, where: Path, wanted: str, got: str) -> DataError:
        return DataError(
            "This history is damaged; the data itself was not touched.",
            where=where,
            wanted=wanted,
            got=got,
            do=f"Restore {self.home} from a copy, or move it away to begin another history.",
        )


def difference(old: Sequence[Entry], new: Sequence[Entry]) -> list[Change]:
    """How to come from one state to another: each row that is not as it was, in the order of `KINDS`, then of names.

    >>> one, other = Entry("cat/1.png", "train", "cat", "a1"), Entry("dog/1.png", "train", "dog", "a1")
    >>> [change.kind for change in difference([one], [other])]
    ['relabelled']
    """
    pairs: list[tuple[Entry, Entry]] = []
    left, right = list(old), list(new)
    for key in _PAIRED_BY:
        waiting: defaultdict[tuple[str, ...], deque[Entry]] = defaultdict(deque)
        for entry in left:
            waiting[key(entry)].append(entry)
        unpaired = []
        for entry in right:
            if same := waiting.get(key(entry)):
                pairs.append((same.popleft(), entry))
            else:
                unpaired.append(entry)
        left, right = [entry for entries in waiting.values() for entry in entries], unpaired
    changes = [Change(kind=kind, was=was, now=now) for was, now in pairs if (kind := _kind(was, now))]
    changes += [Change(kind="added", now=entry) for entry in right]
    changes += [Change(kind="removed", was=entry) for entry in left]
    return sorted(changes, key=lambda each: (KINDS.index(each.kind), _name_of(each)))


_PAIRED_BY: Final[Sequence[Callable[[Entry], tuple[str, ...]]]] = (
    lambda entry: (entry.name, entry.content),
    lambda entry: (entry.content, entry.label, entry.split),
    lambda entry: (entry.content, entry.label),
    lambda entry: (entry.content,),
    lambda entry: (entry.name,),
)


def _kind(was: Entry, now: Entry) -> str:
    """What happened to a row, the gravest first; "" for nothing."""
    if was.label != now.label:
        return "relabelled"
    if was.content != now.content:
        return "changed"
    if was.split != now.split:
        return "moved"
    return "renamed" if was.name != now.name else ""


def _name_of(change: Change) -> str:
    entry = change.was or change.now
    assert entry is not None
    return entry.name


def commit_trained_from(source: str, fingerprint: str) -> tuple[str, str]:
    """The id of the last commit of the data at `source` if that is what was read, and a remark; both may be ""."""
    if not Path(source).exists():
        return "", ""
    head = History(source).head()
    if head is None:
        return "", ""
    if head.fingerprint == fingerprint:
        return head.id, f"commit {head.id[:12]}"
    return "", f"changed since commit {head.id[:12]}, so the card names no commit (sw2 data diff {source})"
