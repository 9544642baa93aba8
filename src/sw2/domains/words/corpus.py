"""The corpus: text of any size, read as a stream of lines, and its words.

    folder, .txt (or any other text), .jsonl, each of them also as .gz     UTF-8

A line is what is learned from at once: words of two lines are never neighbours. Of a file without line ends about a
megabyte is a line, cut between words. Some lines are held out for judging (by the hash of their content, so that equal
lines go one way), at most so many that they fit in memory.

A word is a run of letters, digits and underscores, with apostrophes and hyphens inside ("don't", "well-known"), in
lower case unless told otherwise; or whatever stands between white space, for text that was cut into words before.

Reading needs memory for the distinct words and for nothing else that grows with the corpus.

What it does not do: languages that are written without spaces; parts of words (`subwords`); near-copies.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import platform
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Literal, cast, final

from sw2.base.config import check_ranges
from sw2.base.errors import DataError
from sw2.base.seed import numpy_generator
from sw2.base.store import sha256_of_bytes
from sw2.core.data import Data, Rejected
from sw2.domains.words.data import NAMED, path_of
from sw2.domains.words.phrases import find_phrases, joined

__all__ = ["Corpus", "CorpusOptions", "Pairs", "Rule", "read_corpus", "splitter"]

Rule = Literal["words", "spaces"]

_WORD: Final = re.compile(r"\w+(?:['’-]\w+)*")
_BLOCK: Final = 1 << 20
_MOST_HELD: Final = 20_000
_MOST_CHARACTERS: Final = 1 << 24
_MOST_BAD: Final = 0.1
_SHOWN: Final = 20


@dataclass(frozen=True, kw_only=True)
class CorpusOptions:
    """How the text is read.

    Args:
        text: the key of the text in JSON lines.
        rule: what a word is: "words" are runs of letters, digits and underscores; "spaces" takes what stands between
            white space as it is.
        case: "lower" makes all letters small, "kept" leaves them.
        phrases: above which score two words are taken as one ("new_york"), see `phrases`; 100 is usual, 0 joins none.
        test_share: share of the lines held out for judging, up to 20,000 of them, or 16 million characters.
    """

    text: str = "text"
    rule: Rule = "words"
    case: Literal["lower", "kept"] = "lower"
    phrases: float = 0.0
    test_share: float = 0.01

    def __post_init__(self) -> None:
        allowed = {
            "phrases": (self.phrases >= 0, "a number of at least 0"),
            "test_share": (0 <= self.test_share <= 0.5, "a share from 0 to 0.5"),
        }
        check_ranges("data", self, allowed)

    def split(self) -> Callable[[str], list[str]]:
        """The function that gives the words of a text."""
        return splitter(self.rule, self.case)


def splitter(rule: Rule, case: Literal["lower", "kept"]) -> Callable[[str], list[str]]:
    """The function that gives the words of a text.

    >>> splitter("words", "lower")("The Well-known cat, isn't it?")
    ['the', 'well-known', 'cat', "isn't", 'it']
    """
    cut: Callable[[str], list[str]] = _WORD.findall if rule == "words" else str.split
    return cut if case == "kept" else lambda text: cut(text.lower())


@final
class Corpus(Sequence[Mapping[str, Any]]):
    """The lines that are learned from; examples are {"text": line}. Asking for one reads up to it.

    Args:
        files: their paths, in order.
        options: how they are read.
        counts: how often each word occurs in these lines.
        lines: how many there are, without those that have no words.
        phrases: which of them are joined.
    """

    def __init__(
        self,
        files: Sequence[Path],
        options: CorpusOptions,
        counts: Counter[str],
        lines: int,
        phrases: frozenset[str] = frozenset(),
    ) -> None:
        self.files, self.options, self.counts, self.lines, self.phrases = files, options, counts, lines, phrases

    def __len__(self) -> int:
        return self.lines

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return ({"text": line} for line, _ in self._lines())

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(self.lines))]
        place = range(self.lines)[index]
        return next(example for number, example in enumerate(self) if number == place)

    def words(self) -> Iterator[list[str]]:
        """The words of each line that is learned from and has some, in order; phrases are joined."""
        if not self.phrases:
            return (words for _, words in self._lines())
        return (joined(words, self.phrases.__contains__) for _, words in self._lines())

    def _lines(self) -> Iterator[tuple[str, list[str]]]:
        split = self.options.split()
        for line, held in _divided(self.files, self.options, lambda rejected: None):
            if not held and (words := split(line)):
                yield line, words


@final
class Pairs(Sequence[Mapping[str, Any]]):
    """Questions from lines that were held out: which of two words stands near a third?

    Examples are {"word", "neighbour", "other"}: `neighbour` stands within five words of `word`, `other` somewhere else,
    drawn from the same text, so that how frequent a word is tells nothing. Common words are drawn less often, by
    sqrt(1e-3 / frequency), and words that occur fewer than five times in the lines that are learned from not at all.

    Args:
        lines: the words of each line.
        counts: how often words occur in the lines that are learned from.
        seed: of the draws.
    """

    def __init__(self, lines: Sequence[Sequence[str]], counts: Counter[str], seed: int) -> None:
        random = numpy_generator(seed, "words", "pairs")
        total = counts.total()

        def stays(word: str) -> bool:
            return counts[word] >= 5 and random.random() < (_COMMON * total / counts[word]) ** 0.5

        kept = [line for line in ([word for word in line if stays(word)] for line in lines) if len(line) > 1]
        flat = [word for line in kept for word in line]
        self.rows: list[tuple[str, str, str]] = []
        for line in kept:
            for place, word in enumerate(line):
                near = [line[i] for i in range(max(0, place - 5), min(len(line), place + 6)) if line[i] != word]
                other = flat[int(random.integers(len(flat)))]
                if near and other != word:
                    self.rows.append((word, near[int(random.integers(len(near)))], other))
        random.shuffle(self.rows)
        self.rows = self.rows[:_MOST_PAIRS]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        return dict(zip(("word", "neighbour", "other"), self.rows[index], strict=True))


_COMMON: Final = 1e-3
_MOST_PAIRS: Final = 20_000


@dataclass
class _Seen:
    """What reading comes across."""

    rejected: list[Rejected] = field(default_factory=list)
    bad: int = 0
    lines: int = 0

    def reject(self, row: Rejected) -> None:
        self.bad += 1
        if len(self.rejected) < _SHOWN:
            self.rejected.append(row)


def read_corpus(source: str, options: CorpusOptions, seed: int) -> Data:
    """The corpus at `source`, read from end to end: words counted, lines held out, phrases found.

    Raises:
        DataError: there is no such path or no word, or more than a tenth of the lines cannot be read.
    """
    path, named = path_of(source), source == NAMED and not Path(source).exists()
    files = _files(path)
    seen, counts, lines, held = _Seen(), Counter[str](), 0, list[list[str]]()
    split = options.split()
    for line, is_held in _divided(files, options, seen.reject):
        seen.lines += 1
        words = split(line)
        if is_held and words:
            held.append(words)
        elif words:
            counts.update(words)
            lines += 1
    bad = "; ".join(f"{row.where}: {row.why}" for row in seen.rejected[:3])
    if seen.bad > _MOST_BAD * (seen.lines + seen.bad):
        raise DataError(
            f"Too many lines cannot be read: {seen.bad} of {seen.lines + seen.bad}.",
            where=path,
            wanted=f"text in UTF-8, with at most {_MOST_BAD:.0%} unusable lines",
            got=bad,
            do="Repair or remove these lines, or the files that are no text.",
        )
    if not counts:
        raise DataError(
            "There are no words here.", where=path, wanted="text in UTF-8", got=bad or "no word in any file"
        )
    corpus = Corpus(files, options, counts, lines)
    if options.phrases:
        phrases = find_phrases(corpus.words(), counts, options.phrases)
        found = Corpus(files, options, counts, lines, phrases)
        counts = Counter(word for words in found.words() for word in words)
        corpus = Corpus(files, options, counts, lines, phrases)
        held = [joined(words, phrases.__contains__) for words in held]
    splits: dict[str, Any] = {"train": corpus}
    if pairs := Pairs(held, counts, seed):
        splits["test"] = pairs
    return Data(
        name=source if named else path.name,
        splits=splits,
        fingerprint=_fingerprint(files, options),
        licence="PSF-2.0" if named else "unknown",
        source=f"the standard library of Python {platform.python_version()}" if named else source,
        rejected=tuple(seen.rejected),
        facts={
            "words": counts.total(),
            "distinct words": len(counts),
            "lines held out": len(held),
            **({"phrases": len(corpus.phrases)} if options.phrases else {}),
        },
    )


def _files(path: Path) -> list[Path]:
    """The files of a corpus, in a fixed order; hidden ones are left alone."""
    if not path.exists():
        raise DataError("There is no such text.", where=path, wanted="a file or a folder", got="no such path")
    if path.is_file():
        return [path]
    found = sorted(each for each in path.rglob("*") if each.is_file())
    files = [each for each in found if not any(part.startswith(".") for part in each.relative_to(path).parts)]
    if not files:
        raise DataError("There is no text here.", where=path, wanted="files with text", got="an empty folder")
    return files


def _fingerprint(files: Sequence[Path], options: CorpusOptions) -> str:
    digest = hashlib.sha256(f"{options}".encode())
    for path in files:
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return sha256_of_bytes(digest.digest())


def _divided(
    files: Sequence[Path], options: CorpusOptions, reject: Callable[[Rejected], None]
) -> Iterator[tuple[str, bool]]:
    """The lines of all files, each with whether it is held out."""
    held, characters, bound = 0, 0, int(options.test_share * (1 << 32))
    for path in files:
        for line in _lines(path, options.text, reject):
            room = held < _MOST_HELD and characters < _MOST_CHARACTERS
            hold = room and zlib.crc32(line.encode(errors="replace")) < bound
            held, characters = held + hold, characters + hold * len(line)
            yield line, hold


def _lines(path: Path, key: str, reject: Callable[[Rejected], None]) -> Iterator[str]:
    """The lines of one file; of JSON lines those of their texts."""
    packed = path.suffix == ".gz"
    json_lines = (Path(path.stem) if packed else path).suffix == ".jsonl"
    try:
        with cast("IO[bytes]", gzip.open(path) if packed else open(path, "rb")) as file:
            yield from _json_lines(file, path.name, key, reject) if json_lines else _plain(file, path.name, reject)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            "This file cannot be read to its end.",
            where=path,
            wanted="a whole file",
            got=str(error),
            do="Bring it back whole, or take it away.",
        ) from error


def _plain(file: IO[bytes], name: str, reject: Callable[[Rejected], None]) -> Iterator[str]:
    number = 0
    for piece in _pieces(file):
        try:
            text = piece.decode("utf-8-sig" if number == 0 else "utf-8")
            if "\x00" not in text:
                number += piece.count(b"\n")
                yield from text.splitlines()
                continue
        except UnicodeDecodeError:
            pass
        for line in piece.splitlines():  # some of them are no text
            number += 1
            try:
                text = line.decode()
                if "\x00" not in text:
                    yield text
                else:
                    reject(Rejected(f"{name}, line {number}", "holds zero bytes"))
            except UnicodeDecodeError as error:
                reject(Rejected(f"{name}, line {number}", f"not UTF-8 at byte {error.start}"))


def _json_lines(file: IO[bytes], name: str, key: str, reject: Callable[[Rejected], None]) -> Iterator[str]:
    for number, line in enumerate(file, start=1):
        try:
            value = json.loads(line) if line.strip() else {key: ""}
            text = value[key]
            text.encode()  # half a surrogate pair is no text
        except (ValueError, RecursionError) as error:
            reject(Rejected(f"{name}, line {number}", f"not JSON in UTF-8 ({error})"))
        except (KeyError, TypeError, AttributeError):
            reject(Rejected(f"{name}, line {number}", f"no text under '{key}'"))
        else:
            yield from text.splitlines()


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    """About a megabyte at a time, whole lines; of longer lines a megabyte, cut between words where there is a space."""
    rest = b""
    while block := file.read(_BLOCK):
        rest += block
        end = rest.rfind(b"\n") + 1
        if not end and len(rest) >= _BLOCK:
            end = rest.rfind(b" ") + 1 or _between_characters(rest)
        if end:
            yield rest[:end]
            rest = rest[end:]
    if rest:
        yield rest


def _between_characters(text: bytes) -> int:
    """Where the last character of UTF-8 begins, which may not be whole."""
    return next(place for place in range(len(text) - 1, -1, -1) if text[place] & 0xC0 != 0x80 or place < len(text) - 4)
