"""Reading a corpus from end to end: found, filtered, rid of copies, divided, compared across the division.

Texts are looked at in blocks of about a megabyte, on all cores; the answer does not depend on how many there are. The
division goes by the hash of the content, so it depends neither on names nor on order; groups of near-copies are divided
as one. In a mixture each source is divided by itself.
"""

from __future__ import annotations

import platform
import sysconfig
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import numpy as np

from sw2.base.config import check_ranges, check_shares
from sw2.base.device import usable_cores
from sw2.base.errors import DataError
from sw2.base.names import unknown
from sw2.base.store import canonical_json, sha256_of_bytes
from sw2.core.data import Data, Rejected, refuse_if_too_many
from sw2.domains.language.corpus.contamination import Overlap, overlap
from sw2.domains.language.corpus.documents import Document, Documents, Found, found_in_file, found_in_folder
from sw2.domains.language.corpus.duplicates import Signed, likeness, near_copies, signed
from sw2.domains.language.corpus.filters import Filter, FilterOptions, Text, filters
from sw2.domains.language.corpus.mixture import FILE, Source, read_mixture

__all__ = ["CorpusOptions", "read"]

NAMED: Final = ("python-stdlib",)
_BLOCK: Final = 2**20
_SHOWN: Final = 3

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class CorpusOptions:
    """How the text is read.

    Args:
        text: the key of the text in JSON lines.
        test_share: share of the documents held out for judging.
        validation_share: share held out to watch while learning.
        split_seed: another number, another division.
        near_duplicates: of documents that share most of their runs of five words, "drop" keeps the longest, "together"
            keeps all of them on one side of the division, "off" does not look for them.
        similarity: what share of the runs counts as most.
        contamination: whether documents are looked for that share a run of 13 words with held-out ones; "drop" leaves
            them out of the training documents.
        shortest: documents have at least so many characters.
        longest: and at most so many; 0 for any number.
        languages: codes of the languages to keep, as in "en,fr"; "" for all. Takes the extra `languages`.
        quality: names of rules or sets of rules, as in "gopher,c4"; "" for none. See `corpus.filters`.
    """

    text: str = "text"
    test_share: float = 0.05
    validation_share: float = 0.02
    split_seed: int = 0
    near_duplicates: Literal["drop", "together", "off"] = "drop"
    similarity: float = 0.8
    contamination: Literal["report", "drop", "off"] = "report"
    shortest: int = 1
    longest: int = 0
    languages: str = ""
    quality: str = ""

    def __post_init__(self) -> None:
        check_shares("data", self, "test_share", "validation_share")
        check_ranges("data", self, {"similarity": (0.5 <= self.similarity <= 1, "a number from 0.5 to 1")})
        self.filters()

    def filters(self, source: Source | None = None) -> FilterOptions:
        """The part that says what is kept, with what a source says otherwise."""
        names = ("shortest", "longest", "languages", "quality")
        own = {name: getattr(source, name) for name in names if getattr(source, name, None) is not None}
        return FilterOptions(**{**{name: getattr(self, name) for name in names}, **own})


def read(source: str, options: CorpusOptions) -> Data:
    """The documents at `source`.

    Raises:
        DataError: when there is no text, or too much of it cannot be read.
        UnknownName: when there is neither such a path nor such a named corpus.
    """
    path = Path(source)
    mixture = path / FILE if path.is_dir() else path
    notes: list[str] = []
    if mixture.is_file() and mixture.suffix == ".toml":
        sources, notes = read_mixture(mixture)
        name = path.stem
    else:
        sources, name = {"": Source(path=source)}, path.name or source
    with ThreadPoolExecutor(usable_cores()) as pool:
        return _read(name, source, sources, notes, options, pool)


def _open(name: str, source: Source, key: str) -> Iterator[Found]:
    """What a source holds."""
    path = Path(source.path)
    if path.is_dir():
        return found_in_folder(path, key)
    if path.is_file():
        return found_in_file(path, key)
    if source.path == "python-stdlib":
        return found_in_folder(Path(sysconfig.get_paths()["stdlib"]), key, ending=".py")
    raise unknown("text or folder", source.path, NAMED, where=f"sources.{name}" if name else None)


def _origin(source: str) -> tuple[str, str]:
    """Licence and origin."""
    if source == "python-stdlib" and not Path(source).exists():
        return "PSF-2.0", f"the standard library of Python {platform.python_version()}"
    return "unknown", source


@dataclass
class _Gathered:
    """What was read of all sources."""

    documents: list[Document] = field(default_factory=list)
    signed: list[Signed] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    copies: int = 0
    left_out: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    def leave_out(self, document: Document, why: str, shown: str = "") -> None:
        """Count a document under the reason it is left out for, in its source."""
        counted = self.left_out.setdefault(document.source, {}).setdefault(
            why, {"documents": 0, "bytes": 0, "examples": []}
        )
        counted["documents"] += 1
        counted["bytes"] += document.size
        if len(counted["examples"]) < _SHOWN:
            counted["examples"].append(shown or document.where)


def _read(
    name: str,
    origin: str,
    sources: Mapping[str, Source],
    notes: list[str],
    options: CorpusOptions,
    pool: ThreadPoolExecutor,
) -> Data:
    gathered = _Gathered()
    digests: set[str] = set()
    for source_name, source in sources.items():
        _gather(source_name, source, origin, options, pool, gathered, digests)
    units = _units(gathered, list(sources), options)
    splits: dict[str, list[Document]] = {"train": [], "validation": [], "test": []}
    for source_name in sources:
        own = [unit for unit in units if unit[0].source == source_name]
        if not own:
            raise _nothing_left(source_name, origin, gathered)
        for split, documents in _divided(own, options, alone=len(sources) == 1).items():
            splits[split] += documents
    facts: dict[str, Any] = {"equal documents dropped": gathered.copies}
    if options.contamination != "off" and (held_out := splits["validation"] + splits["test"]):
        found = overlap(splits["train"], held_out, lambda documents, function: _in_blocks(pool, documents, function))
        verdict = (
            "stood in documents that were left out"
            if options.contamination == "drop"
            else "stand in the training documents too"
        )
        facts["contamination"] = _told(found) | {"verdict": verdict}
        if options.contamination == "drop":
            splits["train"] = _without(splits["train"], found, gathered)
    for source_name in sources:
        if not any(document.source == source_name for document in splits["train"]):
            raise _nothing_left(source_name, origin, gathered)
    kept = {split: Documents(documents) for split, documents in splits.items() if documents}
    identity = "".join(f"{split}{sorted(d.digest for d in part.documents)}" for split, part in kept.items())
    if "" not in sources:
        facts["sources"] = {
            source_name: {
                "share": source.share,
                "epochs": source.epochs,
                "documents": sum(d.source == source_name for d in splits["train"]),
                "bytes": sum(d.size for d in splits["train"] if d.source == source_name),
            }
            for source_name, source in sources.items()
        }
        placed = sorted(f"{d.digest}{d.source}" for part in kept.values() for d in part.documents)
        shares = {source_name: [source.share, source.epochs] for source_name, source in sources.items()}
        identity += canonical_json([shares, placed])
    if gathered.left_out:
        facts["left out"] = gathered.left_out
    if notes:
        facts["notes"] = notes
    licence, said = _origin(origin)
    return Data(
        name=name,
        splits=kept,
        fingerprint=sha256_of_bytes(identity.encode()),
        licence=licence,
        source=said,
        rejected=tuple(gathered.rejected),
        facts=facts | {f"{split} bytes": part.size for split, part in kept.items()},
    )


def _gather(
    name: str,
    source: Source,
    origin: str,
    options: CorpusOptions,
    pool: ThreadPoolExecutor,
    gathered: _Gathered,
    digests: set[str],
) -> None:
    """Read one source: reject, filter, sign, and drop what stood in this or an earlier source before."""
    kept_filters = filters(options.filters(source))
    near = options.near_duplicates != "off"
    rejected: list[Rejected] = []
    seen = before = 0

    def texts() -> Iterator[tuple[Document, str]]:
        nonlocal seen
        for row in _open(name, source, source.text or options.text):
            seen += 1
            if isinstance(row, Rejected):
                # Empty files (package markers) are not worth a word, and no reason to refuse a folder.
                if row.why != "empty":
                    rejected.append(Rejected(f"{name}: {row.where}" if name else row.where, row.why))
            else:
                yield replace(row[0], source=name), row[1]

    before = len(gathered.documents)
    blocks = _blocks(texts(), lambda row: len(row[1]))
    for block, (looked, sign) in _mapped(pool, blocks, lambda block: _look(block, kept_filters, near)):
        del block
        fresh = []
        for number, (document, why) in enumerate(looked):
            if why is not None:
                gathered.leave_out(document, why)
            elif document.digest in digests:
                gathered.copies += 1
            else:
                digests.add(document.digest)
                gathered.documents.append(document)
                fresh.append(number)
        if near:
            gathered.signed.append(Signed(sign.keys[fresh], sign.sketches[fresh]))
    gathered.rejected += rejected
    where = f"{origin}, sources.{name}" if name else _origin(origin)[1]
    if len(gathered.documents) == before and not digests and not gathered.left_out:
        shown = "; ".join(f"{row.where}: {row.why}" for row in rejected[:_SHOWN])
        raise DataError(
            "There is no text here.",
            where=where,
            wanted="at least one document of UTF-8 text",
            got=shown or "no files with text",
        )
    refuse_if_too_many(rejected, seen, where=where, share=0.5)


def _look(
    block: Sequence[tuple[Document, str]], kept: Sequence[Filter], near: bool
) -> tuple[list[tuple[Document, str | None]], Signed]:
    """The documents with digest and size, and why each is left out, if so; and their signatures."""
    looked, contents = [], []
    for document, text in block:
        content = text.encode()
        document = replace(document, digest=sha256_of_bytes(content), size=len(content))
        whole = Text(text)
        why = next((why for each in kept if (why := each(whole)) is not None), None)
        looked.append((document, why))
        contents.append(content if why is None else b"")
    return looked, signed(contents if near else [])


def _blocks(rows: Iterable[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """The rows in lists of about `_BLOCK` in size."""
    block: list[T] = []
    total = 0
    for row in rows:
        block.append(row)
        total += size(row)
        if total >= _BLOCK:
            yield block
            block, total = [], 0
    if block:
        yield block


def _mapped(pool: ThreadPoolExecutor, items: Iterable[T], function: Callable[[T], R]) -> Iterator[tuple[T, R]]:
    """Each item with the function of it, in order; only a few are held at a time."""
    waiting: deque[tuple[T, Future[R]]] = deque()
    for item in items:
        waiting.append((item, pool.submit(function, item)))
        if len(waiting) > 2 * usable_cores():
            first, future = waiting.popleft()
            yield first, future.result()
    for item, future in waiting:
        yield item, future.result()


def _in_blocks(
    pool: ThreadPoolExecutor, documents: Sequence[Document], function: Callable[[list[bytes]], Any]
) -> Iterator[tuple[Sequence[Document], Any]]:
    """A function of the texts of some documents at a time, read again."""
    blocks = _blocks(documents, lambda document: document.size)
    return _mapped(pool, blocks, lambda block: function([document.text().encode() for document in block]))


def _units(gathered: _Gathered, sources: Sequence[str], options: CorpusOptions) -> list[list[Document]]:
    """What is divided as one: single documents, or groups of near-copies, the one that stays first."""
    documents = gathered.documents
    if options.near_duplicates == "off" or not documents:
        return [[document] for document in documents]
    known = Signed(
        np.concatenate([each.keys for each in gathered.signed]),
        np.concatenate([each.sketches for each in gathered.signed]),
    )
    units = []
    for group in near_copies(documents, known, options.similarity):
        members = [documents[number] for number in group]
        members.sort(key=lambda document: (sources.index(document.source), -document.size, document.digest))
        if options.near_duplicates == "drop":
            for copy in members[1:]:
                shown = gathered.left_out.get(copy.source, {}).get("near-copy", {}).get("examples", [])
                same = f" ({likeness(copy, members[0]):.2f})" if len(shown) < _SHOWN else ""
                gathered.leave_out(copy, "near-copy", f"{copy.where} of {members[0].where}{same}")
            members = members[:1]
        units.append(members)
    return units


def _divided(units: list[list[Document]], options: CorpusOptions, alone: bool) -> dict[str, list[Document]]:
    """The documents of one source by split; a single one is divided by position when it is all there is."""
    units = sorted(units, key=lambda unit: sha256_of_bytes(f"{options.split_seed}:{unit[0].digest}".encode()))
    if len(units) == 1:
        if len(units[0]) > 1 or not alone:
            return {"train": units[0]}
        return {split: [part] for split, part in _halved(units[0][0], options).items()}
    test = max(1, round(options.test_share * len(units))) if options.test_share else 0
    validation = max(1, round(options.validation_share * len(units))) if options.validation_share else 0
    if test + validation >= len(units):
        test, validation = 1, 0
    parts = {"test": units[:test], "validation": units[test : test + validation], "train": units[test + validation :]}
    return {split: [document for unit in part for document in unit] for split, part in parts.items()}


def _halved(only: Document, options: CorpusOptions) -> dict[str, Document]:
    """One document divided by position: its end is held out."""
    text = only.text()
    test = int(len(text) * (1 - options.test_share))
    validation = int(test * (1 - options.validation_share))
    return only.halves(text, {"train": (0, validation), "validation": (validation, test), "test": (test, len(text))})


def _told(found: Overlap) -> dict[str, Any]:
    return {
        "share": found.share,
        "held-out documents": len(found.pairs),
        "training documents": len(found.holders),
        "examples": [
            f"{document.where} ({share:.0%} of its runs, most in {holder.where})"
            for document, share, holder in found.pairs[:_SHOWN]
        ],
    }


def _without(train: list[Document], found: Overlap, gathered: _Gathered) -> list[Document]:
    """The training documents that share no passage with held-out ones."""
    holders = {document.digest for document in found.holders}
    for document in train:
        if document.digest in holders:
            gathered.leave_out(document, "passage of a held-out document")
    return [document for document in train if document.digest not in holders]


def _nothing_left(source: str, origin: str, gathered: _Gathered) -> DataError:
    reasons = {why: counted["documents"] for why, counted in gathered.left_out.get(source, {}).items()}
    if gathered.copies and not reasons:
        reasons = {"copies of documents in other sources": gathered.copies}
    shown = ", ".join(f"{why} {number}" for why, number in sorted(reasons.items(), key=lambda item: -item[1]))
    return DataError(
        "Nothing is left of this text to learn from.",
        where=f"{origin}, sources.{source}" if source else origin,
        wanted="at least one document after the filters",
        got=f"left out: {shown}" if shown else "no files with text",
        do="Loosen data.quality, data.languages, data.shortest or data.near_duplicates, or take another text.",
    )
