"""The verb `label serve`, without its page: examples handed out to people, what they say kept, and what comes of it.

    examples, in an order ──→ each labeller's own queue ──→ labels, skips, undos ──→ log (`opinions`)
                                                                                  ├─→ table (`label_table`)
                                                                                  ├─→ disagreements, to be decided
                                                                                  └─→ agreement

With a program the order is that of `label next`, and what it finds likely is the first guess; without one, examples
come as they stand in the data. A share of them, which the hash of each decides, is labelled by everybody, so that
agreement can be measured; of the others nobody is offered what somebody else has labelled, or has before them now.

An example's label is the one that was decided, or the one that all gave who labelled it. Where they differ and nobody
has decided it has none, and is not in the table: a majority of three is no fact.

A person who sees a guess agrees with it more than one who sees none, and two who saw the same guess with each other.

What it does not do: show anything (`faces.studio.label_page`); ask for labels inside an example; learn.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np

from sw2.base.errors import DataError, Sw2Error, UsageError
from sw2.base.names import unknown
from sw2.base.seed import derive
from sw2.core.program import Program
from sw2.core.task import Context, Task
from sw2.parts.metrics.agreement import cohen_kappa, krippendorff_alpha
from sw2.parts.metrics.intervals import wilson
from sw2.verbs.choose import classifier_of, in_order
from sw2.verbs.label_table import LabelTable
from sw2.verbs.labels import Pool, pool, pool_of
from sw2.verbs.opinions import Opinions
from sw2.verbs.show import Names

__all__ = ["Agreement", "Disagreement", "Labelling", "Seen", "check_labels", "open_labelling"]

_LONGEST_NAME: Final = 64
_LONGEST_LABEL: Final = 200
_WRITE_SECONDS: Final = 0.5
"""So long after something was said, at most, the table has it; the log has it at once."""

_AWAY_SECONDS: Final = 600.0
"""So long after an example was put before somebody who says nothing, others are offered it."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """An example as a labeller has it before them.

    Args:
        content: SHA-256 of it, by which it is named.
        name: where it stands in the data.
        raw: what a program would be asked.
        own: what this labeller said of it: a label, "" for a skip, None for nothing yet.
        chances: what the program gives each label, likeliest first; empty without a program.
        done: how many this labeller has labelled.
        left: how many are still to be offered to them.
    """

    content: str
    name: str
    raw: Any
    own: str | None
    chances: Mapping[str, float]
    done: int
    left: int


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """An example that people labelled differently: who said what, and what was decided, by whom (both "" before)."""

    content: str
    name: str
    raw: Any
    said: Mapping[str, str]
    decided: str
    by: str


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far labellers agree on what at least two of them labelled; skips and decisions have no part in it.

    Args:
        labels: by labeller, how many examples they labelled.
        examples: how many at least two labelled.
        same: the share of these that all gave the same label, with the interval that covers it 95 times in 100.
        measure: "Cohen's kappa" of two labellers, "Krippendorff's alpha" of more.
        value: of it; nan where it is not defined.
    """

    labels: Mapping[str, int]
    examples: int
    same: tuple[float, float, float]
    measure: str
    value: float


def check_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """Labels as they are kept: in Unicode's composed form (NFC), without space around them.

    Raises:
        UsageError: fewer than two; one that is empty, too long or cannot be shown; two that differ in their case or
            in nothing.
    """
    kept = [unicodedata.normalize("NFC", label.strip()) for label in labels]
    for label in kept:
        if not label or len(label) > _LONGEST_LABEL or not label.isprintable():
            raise UsageError(
                "This is no label.", wanted=f"1 to {_LONGEST_LABEL} letters that can be shown", got=repr(label[:80])
            )
    same: dict[str, str] = {}
    for label in kept:
        if (other := same.get(label.casefold())) is not None:
            raise UsageError(
                "Two labels differ in their case or in nothing that can be seen; nobody could tell them apart.",
                where="--labels",
                wanted="each label once",
                got=f"'{other}' and '{label}'",
            )
        same[label.casefold()] = label
    if len(kept) < 2:
        raise UsageError(
            "There is nothing to choose between.",
            wanted="at least two labels",
            got=", ".join(kept) or "none",
            do="Name them with --labels cat,dog, or a program that knows them with --program.",
        )
    return tuple(kept)


def open_labelling(
    registry: Names,
    source: str,
    context: Context,
    *,
    labels: Sequence[str] = (),
    program: Program | None = None,
    task: str | None = None,
    out: Path | None = None,
    overlap: float = 0.2,
    settings: Sequence[str] = (),
) -> Labelling:
    """Open the labelling of the examples at `source`, or go on with it.

    Args:
        source: a folder or table of examples without labels.
        labels: which there are; when empty those of the session before, else those of the program.
        program: a classifier whose guesses come first.
        task: which task reads the examples; the program's, or found out, when None.
        out: the table to write; beside the source when None.
        overlap: the share of the examples that everybody labels, in [0, 1].
        settings: `data.key=value` texts.

    Raises:
        UsageError: there are no labels to choose from, labels of before are missing, the table cannot be written there,
            or the examples are in no files.
        ProgramError: the program is no classifier.
        DataError: the examples cannot be read.
        ResourceError: another process serves them.
    """
    if not 0 <= overlap <= 1:
        raise UsageError("This is no share of the examples.", where="--overlap", wanted="0 to 1", got=overlap)
    given = check_labels(labels) if labels else ()
    if program is not None:
        classifier = classifier_of(program)
        if task is not None and task != program.task.name:
            raise UsageError(
                "The program is for another task.", where="--task", wanted=program.task.name, got=task,
                do="Leave --task out.",
            )  # fmt: skip
        found = pool_of(program.task, source, context, settings)
    else:
        found = pool(registry, source, context, task=task, settings=settings)
    path = Path(source)
    home = (path / ".sw2" if path.is_dir() else path.parent / ".sw2" / path.name) / "labels"
    if not given and program is None and not home.exists():
        check_labels(given)  # which are too few; nothing is made for nothing
    name = path.resolve().name if path.is_dir() else path.stem
    table_path = path.resolve().with_name(f"{name}-labels.csv") if out is None else out.absolute()
    table = LabelTable(table_path, home / f"last-{table_path.name}", found.column)
    found, places = _with_places(found, table_path.parent)
    for note in found.notes:
        context.say(f"note: {note}")
    order, chances = list(range(len(found.rows))), {}
    if program is not None:
        context.say(f"asking the program about {len(found.rows)} examples")
        said = classifier.classify([found.task.question(example) for example in found.examples])
        order = in_order(said, context.seed)
        chances = {
            row.content: {classifier.labels[k]: float(p_K[k]) for k in np.argsort(-p_K, kind="stable")}
            for row, p_K in zip(found.rows, said.probabilities, strict=True)
        }
    with contextlib.ExitStack() as stack:
        opinions = Opinions(home, lambda note: context.say(f"note: {note}"))
        stack.callback(opinions.close)
        known = () if program is None else tuple(classifier.labels)
        _agree_on_labels(opinions, check_labels(given or opinions.said.labels or known))
        made = Labelling(found, order, places, chances, opinions, table, overlap=overlap, context=context)
        stack.pop_all()
    return made


def _with_places(found: Pool, base: Path) -> tuple[Pool, list[str]]:
    """The examples that a table in `base` can name, and what it calls them: a path from there, or a text."""
    kept, places, notes = [], [], list(found.notes)
    for i, example in enumerate(found.examples):
        raw = found.task.question(example)
        if not isinstance(raw, str | Path):
            raise UsageError(
                "A table of labels could not say which examples these are.",
                where=found.rows[i].name,
                wanted="examples in files of their own, or texts",
                got=type(raw).__name__,
                do="Write each into a file of one folder.",
            )
        place = raw if isinstance(raw, str) else Path(os.path.relpath(raw, base)).as_posix()
        try:
            place.encode()
        except UnicodeEncodeError:
            notes.append(f"left out {found.rows[i].name}: its name is no text")
            continue
        kept.append(i)
        places.append(place)
    if not kept:
        raise DataError("There is nothing to label.", wanted="an example whose name is text", got=notes[-1])
    return Pool(
        task=found.task, examples=[found.examples[i] for i in kept], rows=[found.rows[i] for i in kept], notes=notes
    ), places  # fmt: skip


def _agree_on_labels(opinions: Opinions, labels: tuple[str, ...]) -> None:
    """Keep which labels there are, if they are new.

    Raises:
        UsageError: labels that were given to examples would be none any more.
    """
    used = {label for each in opinions.said.of.values() for label in each.values() if label}
    used |= {label for label, _ in opinions.said.decided.values()}
    if missing := sorted(used - set(labels)):
        raise UsageError(
            "Examples have labels that would be none any more.",
            where=opinions.path,
            wanted="--labels with " + ", ".join(missing),
            got=", ".join(labels),
            do="Add them, or leave --labels out to go on with those of before: " + ", ".join(opinions.said.labels),
        )
    if labels != opinions.said.labels:
        opinions.add("labels", labels=labels)


@final
class Labelling:
    """Examples that are being labelled; every method may be called from any thread.

    Made by `open_labelling`. Who is one of the names that `enter` gave, content one that was handed out.

    Attributes:
        task: of the examples.
        labels: which there are, in the order in which they are offered.
        notes: what people at the page should know: files that were changed from outside.
        table_path: of the table.
    """

    def __init__(
        self,
        found: Pool,
        order: Sequence[int],
        places: Sequence[str],
        chances: Mapping[str, Mapping[str, float]],
        opinions: Opinions,
        table: LabelTable,
        *,
        overlap: float,
        context: Context,
    ) -> None:
        self.task: Task = found.task
        self.labels = opinions.said.labels
        self.notes: list[str] = []
        self.table_path = table.path
        self._column, self._chances = found.column, chances
        self._opinions, self._table, self._context = opinions, table, context
        self._order = [found.rows[i].content for i in order]
        self._number = {content: number for number, content in enumerate(self._order)}
        self._examples = {row.content: (row.name, each) for row, each in zip(found.rows, found.examples, strict=True)}
        self._places = {row.content: place for row, place in zip(found.rows, places, strict=True)}
        self._shared = {content for content in self._order if derive(0, "overlap", content) < overlap * 2.0**63}
        self._open: dict[str, tuple[str, float]] = {}  # what each labeller has before them, and since when
        self._lock = threading.RLock()
        self._timer: threading.Timer | None = None
        self._closed = False
        opinions.note = self._noted
        self.write()

    # -- people

    def enter(self, name: str) -> str:
        """The name by which a labeller goes: one that is known with another case is the same person.

        Raises:
            UsageError: it is no name.
        """
        name = unicodedata.normalize("NFC", " ".join(name.split()))
        if not name or len(name) > _LONGEST_NAME or not name.isprintable() or not name[0].isalnum():
            raise UsageError(
                "This is no name to label under.",
                wanted=f"1 to {_LONGEST_NAME} letters that can be shown, the first a letter or a digit",
                got=repr(name[:80]),
            )
        with self._lock:
            known = {each.casefold(): each for each in [*self._opinions.said.by, *self._open]}
            return known.get(name.casefold(), name)

    # -- examples, one at a time

    def has(self, content: str) -> bool:
        """Whether there is such an example here."""
        return content in self._number

    def look(self, who: str, content: str | None = None) -> Seen | None:
        """An example to put before `who`: the one named, or the next that is to be labelled; None when all are."""
        with self._lock:
            content = self._checked(content) if content else self._offered(who)
            if content is None:
                self._open.pop(who, None)
                return None
            self._open[who] = (content, time.monotonic())
            name, example = self._examples[content]
            mine = self._opinions.said.by.get(who, {})
            said = self._opinions.said.of
            return Seen(
                content=content,
                name=name,
                raw=self.task.question(example),
                own=said.get(content, {}).get(who),
                chances=self._chances.get(content, {}),
                done=sum(bool(said[each][who]) for each in mine),
                left=sum(1 for each in self._order if self._offers(who, each)),
            )

    def after(self, who: str, content: str) -> Seen | None:
        """The example that comes after one: of those that `who` has seen to, else the next that is to be labelled."""
        with self._lock:
            trail = self._trail(who)
            here = trail.index(content) if content in trail else len(trail)
            later = trail[here + 1 :]
            return self.look(who, later[0] if later else self._offered(who, self._checked(content)))

    def before(self, who: str, content: str) -> Seen | None:
        """The example that `who` saw to before one, or that one when there is none before."""
        with self._lock:
            trail = self._trail(who)
            here = trail.index(content) if content in trail else len(trail)
            return self.look(who, trail[here - 1] if here else content)

    def label(self, who: str, content: str, label: str) -> None:
        """Keep what `who` says of an example; on return it is on the disk.

        Raises:
            UsageError: there is no such label, or no such example.
            DiskFull: it is not kept.
        """
        if label not in self.labels:
            raise unknown("label", label, self.labels)
        self._say("label", who, content, label)

    def skip(self, who: str, content: str) -> None:
        """Keep that `who` does not label an example, and is not to be offered it again."""
        self._say("skip", who, content, "")

    def undo(self, who: str) -> str | None:
        """Take back what `who` said last; the example that it was said of, None when there is nothing to take back."""
        with self._lock:
            self._opinions.refresh()
            stack = [act for act in self._opinions.said.stack.get(who, ()) if act.content in self._number]
            if not stack:
                return None
            last = stack[-1]
            self._opinions.add("undo", who=who, content=last.content, name=last.name, undoes=last.n)
            self._write_soon()
            return last.content

    def decide(self, who: str, content: str, label: str) -> None:
        """Keep `label` as the one of an example, whatever else is said of it.

        Raises:
            UsageError, DiskFull: as `label`.
        """
        if label not in self.labels:
            raise unknown("label", label, self.labels)
        with self._lock:
            self._add("decide", who, self._checked(content), label)

    # -- what comes of it

    def disagreements(self) -> list[Disagreement]:
        """All examples that got different labels, those that nobody has decided first."""
        with self._lock:
            found = []
            for content in self._order:
                said = self._said(content)
                if len(set(said.values())) > 1:
                    name, example = self._examples[content]
                    label, by = self._opinions.said.decided.get(content, ("", ""))
                    raw = self.task.question(example)
                    found.append(
                        Disagreement(content=content, name=name, raw=raw, said=said, decided=label, by=by)
                    )  # fmt: skip
            return sorted(found, key=lambda each: bool(each.decided))

    def agreement(self) -> Agreement:
        """How far people agree so far."""
        with self._lock:
            said = [self._said(content) for content in self._order]
        counts = {who: sum(who in each for each in said) for who in sorted({who for each in said for who in each})}
        several = [each for each in said if len(each) > 1]
        number = {label: k for k, label in enumerate(self.labels)}
        value, measure = math.nan, "Cohen's kappa" if len(counts) < 3 else "Krippendorff's alpha"
        if several and len(counts) == 2:
            value = cohen_kappa(*([number[each[who]] for each in several] for who in counts))
        elif several:
            counts_NK = np.zeros((len(several), len(self.labels)), np.int64)
            for i, each in enumerate(several):
                for label in each.values():
                    counts_NK[i, number[label]] += 1
            value = krippendorff_alpha(counts_NK)
        share = wilson(sum(len(set(each.values())) == 1 for each in several), len(several)) if several else None
        same = (share.value, share.low, share.high) if share else (math.nan, math.nan, math.nan)
        return Agreement(labels=counts, examples=len(several), same=same, measure=measure, value=value)

    def counts(self) -> dict[str, int]:
        """How many examples have each label."""
        with self._lock:
            given = [self._label_of(content)[0] for content in self._order]
        return {label: given.count(label) for label in self.labels}

    def write(self) -> None:
        """Take over what people changed in the table, and write it anew.

        Raises:
            DiskFull: it is as it was.
        """
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._take_edits()
            rows = []
            for content, place in self._places.items():
                label, decided = self._label_of(content)
                if label:
                    by = ", ".join(sorted(self._said(content)))
                    rows.append({self._column: place, "label": label, "by": by, "decided": decided})
            self._table.write(rows)

    def close(self) -> None:
        """Write the table, and let others open the log."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                self.write()
            finally:
                self._opinions.close()

    # -- inside

    def _say(self, act: str, who: str, content: str, label: str) -> None:
        with self._lock:
            self._opinions.refresh()
            if self._opinions.said.of.get(self._checked(content), {}).get(who) != label:
                self._add(act, who, content, label)

    def _add(self, act: str, who: str, content: str, label: str) -> None:
        self._opinions.add(act, who=who, content=content, name=self._examples[content][0], label=label)
        self._write_soon()

    def _checked(self, content: str) -> str:
        if content not in self._number:
            raise UsageError("There is no such example here.", wanted="one that was handed out", got=content[:80])
        return content

    def _said(self, content: str) -> dict[str, str]:
        """The labels that people gave to an example; skips are none."""
        return {who: label for who, label in self._opinions.said.of.get(content, {}).items() if label in self.labels}

    def _label_of(self, content: str) -> tuple[str, str]:
        """The label of an example, "" where it has none, and who decided it, "" where all agree."""
        label, by = self._opinions.said.decided.get(content, ("", ""))
        if label in self.labels:
            return label, by
        given = set(self._said(content).values())
        return (given.pop(), "") if len(given) == 1 else ("", "")

    def _trail(self, who: str) -> list[str]:
        return [content for content in self._opinions.said.by.get(who, ()) if content in self._number]

    def _offers(self, who: str, content: str) -> bool:
        """Whether an example is still to be offered to `who`."""
        said = self._opinions.said
        if content in said.decided:
            return False
        given = said.of.get(content)
        return not given or (who not in given and (content in self._shared or not any(given.values())))

    def _offered(self, who: str, after: str | None = None) -> str | None:
        """The next example to offer, from where `after` stands in the order, round to it; None when there is none."""
        start = 0 if after is None else self._number[after] + 1
        since = time.monotonic() - _AWAY_SECONDS
        others = {content for other, (content, when) in self._open.items() if other != who and when > since}
        taken = others - self._shared
        for content in [*self._order[start:], *self._order[:start]]:
            if content not in taken and self._offers(who, content):
                return content
        return None

    def _take_edits(self) -> None:
        """Take over what people changed in the table since it was written."""
        content_at = {place: content for content, place in self._places.items()}
        edits = self._table.edits(self._meant)
        taken = 0
        for place, label in edits.labels.items():
            if (content := content_at.get(place)) is None:
                edits.strange.append(f"{place[:80]} is not here any more")
            elif self._label_of(content)[0] != label:
                self._opinions.add(
                    "decide", who=self.table_path.name, content=content, name=self._examples[content][0], label=label
                )  # fmt: skip
                taken += 1
        if taken:
            self._noted(f"{self.table_path.name} was edited: {taken} labels were taken over as decided")
        if edits.strange:
            aside = self._table.keep_aside()
            self._noted(
                f"{self.table_path.name} was edited, and not all of it is understood ({'; '.join(edits.strange[:3])}); "
                f"it is kept as {aside.name}"
            )

    def _meant(self, text: str) -> str | None:
        label = unicodedata.normalize("NFC", text.strip())
        return label if label in self.labels else None

    def _noted(self, note: str) -> None:
        self.notes.append(note)
        self._context.say(f"note: {note}")

    def _write_soon(self) -> None:
        if self._timer is None:
            self._timer = threading.Timer(_WRITE_SECONDS, self._write_now)
            self._timer.daemon = True
            self._timer.start()

    def _write_now(self) -> None:
        try:
            self.write()
        except (Sw2Error, OSError) as error:
            self._noted(f"the table was not written, the log has everything: {str(error).splitlines()[0]}")
