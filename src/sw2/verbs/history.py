"""The verbs `data commit` and `data diff`: the data as it is now, held against its history and put into it.

The store, and what a difference is: `core.history`.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field

from sw2.base.errors import Interrupted, ResourceError, UsageError
from sw2.core.history import Change, Commit, Entry, History, difference
from sw2.core.task import Context
from sw2.verbs.labels import gather
from sw2.verbs.show import Names

__all__ = ["Made", "commit", "diff"]


@dataclass(frozen=True, kw_only=True)
class Made:
    """What `commit` did: the last commit, whether it is new, and what changed since the one before."""

    commit: Commit
    new: bool
    changes: Sequence[Change] = field(default_factory=list)


def commit(
    registry: Names,
    source: str,
    message: str,
    context: Context,
    *,
    task: str | None = None,
    settings: Sequence[str] | None = None,
) -> Made:
    """Add the present state of the data at `source` to its history, unless nothing has changed.

    Args:
        message: what changed and why; not empty.
        task, settings: how it is read; as in the last commit when None.

    Raises:
        UsageError: the message is empty, or the data is not of a kind that has labels.
        DataError: it cannot be read.
        ResourceError: another process is writing, or has committed while the data was read.
    """
    if not message.strip():
        raise UsageError("A commit has a message.", where="--message", wanted="what changed and why", got="nothing")
    history = History(source)
    before = history.head()
    now, fingerprint, read_by, read_with = _present(registry, history, context, task, settings)
    date = datetime.datetime.now(datetime.UTC).replace(microsecond=0).isoformat()
    try:
        with history.writing():
            head = history.head()
            if head != before:  # what was read may be older than what that commit holds
                raise ResourceError(
                    "Another commit was made while the data was read; nothing was committed.",
                    where=history.home,
                    wanted="the data as it is after that commit",
                    got=f"commit {head.id[:12] if head else 'none'} in between",
                    do="Commit again.",
                )
            changes = difference(history.entries(head) if head else [], now)
            same = (read_by, list(read_with)) == (head.task, list(head.settings)) if head else False
            if head and same and not changes and head.fingerprint == fingerprint:
                return Made(commit=head, new=False)
            made = history.add(
                now, message=message.strip(), task=read_by, settings=read_with, fingerprint=fingerprint, date=date
            )
    except KeyboardInterrupt:
        raise Interrupted("Stopped; the history is as before, or has the whole commit.", where=history.home) from None
    return Made(commit=made, new=True, changes=changes)


def diff(
    registry: Names,
    source: str,
    old: str,
    new: str | None,
    context: Context,
    *,
    task: str | None = None,
    settings: Sequence[str] | None = None,
) -> list[Change]:
    """What changed from one commit to another.

    Args:
        old: "HEAD", or the beginning of an id.
        new: the same; None for the data as it is now.
        task, settings: how the present data is read; as in the last commit when None.

    Raises:
        UsageError: there is no such commit.
        DataError: the data cannot be read, or the history is damaged.
    """
    history = History(source)
    before = history.entries(history.find(old))
    if new is not None:
        return difference(before, history.entries(history.find(new)))
    return difference(before, _present(registry, history, context, task, settings)[0])


def _present(
    registry: Names, history: History, context: Context, task: str | None, settings: Sequence[str] | None
) -> tuple[list[Entry], str, str, Sequence[str]]:
    """The rows as they are now, their fingerprint, and by which task and with which settings they were read."""
    head = history.head()
    if head is not None:
        task = task or head.task
        settings = head.settings if settings is None else settings
    found = gather(registry, str(history.source), context, task=task, settings=settings or ())
    for row in found.data.rejected[:5]:
        context.say(f"left out {row.where}: {row.why}")
    entries = [
        Entry(row.name, split, row.label, row.content) for split, row in zip(found.splits, found.rows, strict=True)
    ]
    return entries, found.data.fingerprint, found.task.name, settings or ()
