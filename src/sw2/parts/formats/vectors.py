"""Tables of word vectors, in the files that are passed around: word2vec's two, GloVe's, and gensim's.

    read(path) -> VectorTable                 the format is found by content, through gzip too
    write(table, path, "word2vec")            whole or absent; a name that ends in .gz is compressed

    word2vec            a line `words dimensions`, then a line for each word: the word, a space, numbers with spaces
    word2vec-binary     the same first line, then for each word: the word, a space, float32 (little-endian), a newline
    glove               the lines of word2vec without the first
    gensim              what gensim 4 makes of `KeyedVectors.save`; only read, see `keyed_vectors`

Notable
- A file is read in pieces into the one matrix that is returned: memory is the table's, not twice.
- Nothing is guessed or repaired: a row that lacks a number, NaN, a word that is there twice, bytes that are no UTF-8
  and a file that is cut off are errors that name the line.
- A word of a text file may hold spaces, since the last `dimensions` columns are the numbers: GloVe's largest tables
  have such words. No format can be written with them.
- Text is written with nine digits, which give back every float32 bit for bit.

Sources: word2vec's distance.c and GloVe's main.c define the formats by reading them; arXiv:1301.3781, Pennington 2014.

What it does not do: counts of words (only gensim's file has them), vectors of n-grams (`fasttext`), search.
"""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Final, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from sw2.base.errors import DataError, UsageError
from sw2.base.store import is_file, replacing
from sw2.parts.formats.keyed_vectors import keyed_vectors

__all__ = ["FORMATS", "Format", "VectorTable", "read", "write"]

Format = Literal["word2vec", "word2vec-binary", "glove"]
FORMATS: Final[tuple[Format, ...]] = get_args(Format)
"""What can be written; gensim's own file can only be read."""

_BLOCK: Final = 1 << 20  # bytes, and numbers, that are held beside the matrix
_LONGEST_LINE: Final = 1 << 24
_CONTROLS: Final = bytes(set(range(32)) - set(b"\t\r\n"))
_MOST_PACKED: Final = 1032  # DEFLATE never makes a file shorter than by this factor


@dataclass(frozen=True, eq=False)
class VectorTable:
    """Words and a vector for each.

    Args:
        words: distinct, in rank order (in files of trained vectors: the most frequent first).
        matrix: float32 [words, dimensions], finite.
        counts: how often each word was seen, int64 [words]; None where that is not known.
    """

    words: Sequence[str]
    matrix: NDArray[np.float32]
    counts: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        assert self.matrix.dtype == np.float32
        assert self.matrix.ndim == 2
        assert len(self.words) == len(self.matrix)
        assert self.counts is None or len(self.counts) == len(self.words)


# ------------------------------------------------------------------------------------------------------------- reading


def read(path: Path | str, format: Format | None = None) -> VectorTable:
    """The table in a file.

    Args:
        path: of the file, compressed by gzip or not.
        format: how to read it; None to find out by its content. Only a binary file of some twenty bytes can be
            taken for text.

    Raises:
        DataError: there is no such file, it is in none of these formats, or a row is damaged; with the line or row.
    """
    path = Path(path)
    if not is_file(path):
        got = "a folder" if path.is_dir() else "nothing there"
        raise DataError("There is no such file.", where=path, wanted="a file of word vectors", got=got)
    with _opened(path) as file:
        start = file.read(1 << 16)
        _refuse_others(path, start)
        if start.startswith(b"\x80") and format is None:
            file.seek(0)
            return _checked(*keyed_vectors(path, file), lambda row: f"{path}, word {row + 1}")
        first, _, rest = start.partition(b"\n")
        header = _header(first)
        if format is None:
            if header is None:
                format = "glove"
            else:
                format = "word2vec" if _is_text(rest) else "word2vec-binary"
        file.seek(0)
        if format == "glove":
            return _read_glove(path, file)
        if header is None:
            raise DataError(
                "The first line is no header.",
                where=f"{path}, line 1",
                wanted="the number of words and the number of dimensions",
                got=_shown(first),
                do="Without a header it is a file of GloVe: format='glove'.",
            )
        _refuse_impossible(path, format, *header)
        file.readline()
        return (_read_rows if format == "word2vec" else _read_binary)(path, file, *header)


def _is_packed(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file, uncompressed; what gzip complains about is the user's error."""
    try:
        with gzip.open(path) if _is_packed(path) else open(path, "rb") as file:
            yield cast("IO[bytes]", file)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            "This file is damaged.",
            where=path,
            wanted="a whole gzip file",
            got=error,
            do="Copy or download it again.",
        ) from error


def _refuse_others(path: Path, start: bytes) -> None:
    """Complain about files that people mistake for these."""
    known = {
        b"\xba\x16\x4f\x2f": ("a model of fastText", "Let its name end in .bin or .ftz."),
        b"PK\x03\x04": ("a zip archive", "Unpack it, then name the file inside."),
        b"BZh": ("a file of bzip2", "Unpack it, or pack it with gzip."),
        b"\xfd7zXZ": ("a file of xz", "Unpack it, or pack it with gzip."),
    }
    for magic, (got, do) in known.items():
        if start.startswith(magic):
            raise DataError("This is no table of word vectors.", where=path, wanted="word vectors", got=got, do=do)
    if not start.strip():
        raise DataError("There are no vectors.", where=path, wanted="at least one line", got="an empty file")


def _header(line: bytes) -> tuple[int, int] | None:
    """The two numbers of word2vec's first line; None where it is another line."""
    fields = line.split()
    if len(fields) != 2 or not all(each.isdigit() and len(each) < 19 for each in fields):
        return None
    return int(fields[0]), int(fields[1])


def _is_text(rest: bytes) -> bool:
    """Whether what follows the header is lines of numbers: no control characters, and UTF-8 or a number at an end."""
    if len(rest.translate(None, _CONTROLS)) < len(rest):
        return False
    ends = rest.partition(b"\n")[0].split()
    # The last character may be cut.
    return (bool(ends) and _is_number(ends[-1])) or "\ufffd" not in rest.decode("utf-8", "replace")[:-1]


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return b"_" not in field


def _refuse_impossible(path: Path, format: Format, count: int, dimensions: int) -> None:
    """Complain about a header that no file of this size can keep, before memory is taken for it."""
    if count < 1 or dimensions < 1:
        raise DataError(
            "The header promises nothing.",
            where=f"{path}, line 1",
            wanted="at least one word and one dimension",
            got=f"{count} words, {dimensions} dimensions",
        )
    packed = _is_packed(path)
    size = path.stat().st_size * (_MOST_PACKED if packed else 1)
    least = count * (2 + (2 if format == "word2vec" else 4) * dimensions) - 1
    if least > size:
        raise DataError(
            "The header promises more than the file holds.",
            where=f"{path}, line 1",
            wanted=f"{count} words of {dimensions} dimensions, at least {least} bytes",
            got=f"{path.stat().st_size} bytes" + (", compressed" if packed else ""),
            do="The file is cut off, or its header is wrong: copy it again, or correct the first line.",
        )


def _read_glove(path: Path, file: IO[bytes]) -> VectorTable:
    """Lines without a header: counted first, so that the matrix is made once."""
    lines, size = 1, 0  # the last line may lack its newline
    while block := file.read(_BLOCK):
        lines, size = lines + block.count(b"\n"), size + len(block)
    file.seek(0)
    dimensions = len(file.readline(_LONGEST_LINE).rstrip(b" \r\n").split(b" ")) - 1
    if dimensions < 1:
        raise DataError(
            "The first line is neither a header nor a word with its vector.",
            where=f"{path}, line 1",
            wanted="two numbers (word2vec), or a word and numbers with a space between (GloVe)",
            got="one column",
        )
    file.seek(0)
    # Blank lines at the end were counted too; a row has two bytes for each number at least.
    return _read_rows(path, file, min(lines, size // (2 * dimensions + 1) + 1), dimensions, headed=False)


def _read_rows(path: Path, file: IO[bytes], count: int, dimensions: int, headed: bool = True) -> VectorTable:
    """Lines of a word and its numbers.

    Args:
        path, file: read from where it stands.
        count: of the lines.
        dimensions: numbers of a line.
        headed: whether `count` is a header's promise, which is held, and lines are counted from 2.
    """
    matrix = np.empty((count, dimensions), np.float32)
    words: list[str] = []

    def place(row: int) -> str:
        return f"{path}, line {row + 1 + headed}"

    at_once = max(1, _BLOCK // dimensions)
    while lines := list(islice(_lines(file, place, len(words)), at_once)):
        tails = []
        for row, line in enumerate(lines, start=len(words)):
            head, tail = _columns(line, dimensions, place(row))
            words.append(_decoded(head, place(row)))
            tails.append(tail)
        if len(words) > count:
            raise DataError(
                "There are more rows than the header promises.",
                where=place(count),
                wanted=f"{count} rows",
                got="another one",
                do="Correct the first line, if the rows are right.",
            )
        start = len(words) - len(lines)
        matrix[start : len(words)] = _numbers(tails, dimensions, place, start)
    if headed and len(words) < count:
        raise DataError(
            "There are fewer rows than the header promises.",
            where=place(len(words)),
            wanted=f"{count} rows",
            got=f"the end of the file after {len(words)}",
            do="The file is cut off, or its header is wrong: copy it again, or correct the first line.",
        )
    return _checked(words, matrix[: len(words)], None, place)


def _lines(file: IO[bytes], place: Callable[[int], str], row: int) -> Iterator[bytes]:
    """The lines of a file; blank ones only where nothing follows them."""
    while line := file.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE and not line.endswith(b"\n"):
            raise DataError(
                "This line has no end.",
                where=place(row),
                wanted="a word and its vector",
                got=f"more than {_LONGEST_LINE >> 20} MiB",
            )
        if not line.strip():
            if file.read(_BLOCK).strip():
                raise DataError("This line is blank.", where=place(row), wanted="a word and its vector", got="nothing")
            return
        yield line
        row += 1


def _columns(line: bytes, dimensions: int, where: str) -> tuple[bytes, bytes]:
    """A line cut into its word and its numbers."""
    line = line.rstrip(b" \r\n")
    fields = line.rsplit(b" ", dimensions)
    if len(fields) <= dimensions:
        raise DataError(
            "A row lacks numbers.",
            where=where,
            wanted=f"a word and {dimensions} numbers, one space between",
            got=f"{len(fields)} columns: {_shown(line)}",
            do="Look whether the file was cut off or its columns are parted by something else than one space.",
        )
    head = fields[0]
    if b" " in head and _is_number(head.rpartition(b" ")[2]):
        raise DataError(
            "A row has more numbers than the others.",
            where=where,
            wanted=f"a word and {dimensions} numbers, one space between",
            got=f"{len(line.split(b' '))} columns: {_shown(line)}",
        )
    if not head.strip(b" ") or head != head.strip(b" "):
        raise DataError(
            "A row has no word, or two spaces behind it.",
            where=where,
            wanted=f"a word and {dimensions} numbers, one space between",
            got=_shown(line),
        )
    return head, line[len(head) + 1 :]


def _numbers(tails: Sequence[bytes], dimensions: int, place: Callable[[int], str], start: int) -> NDArray[np.float32]:
    """The numbers of rows from number `start` on, float32 [rows, dimensions]."""
    try:
        numbers = np.fromstring(b" ".join(tails), np.float32, sep=" ")  # type: ignore[call-overload]
        if len(numbers) == len(tails) * dimensions:
            return numbers.reshape(len(tails), dimensions)
    except ValueError:
        pass  # the row that is meant is looked for below
    row, bad = next(
        (row, field) for row, tail in enumerate(tails, start) for field in tail.split(b" ") if not _is_number(field)
    )
    raise DataError("This is no number.", where=place(row), wanted="a number", got=_shown(bad) or "two spaces")


def _read_binary(path: Path, file: IO[bytes], count: int, dimensions: int) -> VectorTable:
    """A word, a space and its bytes, `count` times."""
    matrix = np.empty((count, dimensions), np.float32)
    words: list[str] = []

    def place(row: int) -> str:
        return f"{path}, word {row + 1} of {count}"

    width, block, at = 4 * dimensions, b"", 0
    for row in range(count):
        end = block.find(b" ", at)
        if end < 0 or end + 1 + width > len(block):
            block, at = block[at:] + file.read(_BLOCK + width), 0
            end = block.find(b" ")
        if end < 0 or end + 1 + width > len(block):
            raise DataError(
                "The file ends, or is no longer what its header says.",
                where=place(row),
                wanted=f"a word, a space and {width} bytes",
                got=f"{len(block)} bytes more" if len(block) < _BLOCK else f"no space in {len(block)} bytes",
                do="Copy or download it again.",
            )
        head = block[at:end].lstrip(b"\n")  # word2vec ends a row with it, gensim does not
        if not head:
            raise DataError("A row has no word.", where=place(row), wanted="a word, then a space", got="a space")
        words.append(_decoded(head, place(row)))
        matrix[row] = np.frombuffer(block, "<f4", dimensions, end + 1)
        at = end + 1 + width
    if over := len((block[at:] + file.read(_BLOCK)).strip(b"\r\n")):
        raise DataError(
            "There is more than the header promises.",
            where=f"{path}, after word {count}",
            wanted="the end of the file",
            got=f"{over} bytes or more",
            do="The header is wrong, or the file is no binary one of word2vec.",
        )
    return _checked(words, matrix, None, place)


def _checked(
    words: Sequence[str], matrix: NDArray[np.float32], counts: NDArray[np.int64] | None, place: Callable[[int], str]
) -> VectorTable:
    """The table, if its numbers are finite and its words distinct."""
    at_once = max(1, _BLOCK // matrix.shape[1])
    for start in range(0, len(matrix), at_once):
        fine = np.isfinite(matrix[start : start + at_once]).all(1)
        if not fine.all():
            row = start + int(np.argmin(fine))
            column = int(np.argmin(np.isfinite(matrix[row])))
            raise DataError(
                "A vector is not finite.",
                where=f"{place(row)}, dimension {column + 1}",
                wanted="numbers that float32 holds",
                got=f"{matrix[row, column]} for {words[row]!r}",
                do="Train again, or take the word out.",
            )
    if len(set(words)) < len(words):
        twice = next(word for word, times in Counter(words).items() if times > 1)
        first = words.index(twice)
        raise DataError(
            "A word is there twice.",
            where=place(words.index(twice, first + 1)),
            wanted="each word once",
            got=f"{twice!r}, which is at {place(first).rpartition(', ')[2]} too",
            do="Take one of the two out.",
        )
    return VectorTable(words, matrix, counts)


def _decoded(head: bytes, where: str) -> str:
    try:
        return head.decode()
    except UnicodeDecodeError as error:
        raise DataError(
            "This word is no UTF-8.",
            where=where,
            wanted="words in UTF-8",
            got=_shown(head),
            do="Write the file again in UTF-8 (iconv -f LATIN1 -t UTF8), or take the word out.",
        ) from error


def _shown(some: bytes) -> str:
    """Bytes for a message: one line, and short."""
    return ascii(some[:60].decode("utf-8", "backslashreplace"))[1:-1] + ("…" if len(some) > 60 else "")


# ------------------------------------------------------------------------------------------------------------- writing


def write(table: VectorTable, path: Path | str, format: Format) -> None:
    """Write a table, whole or not at all; `counts` are not kept, since no format has a place for them.

    Args:
        table: its words must be free of spaces and newlines, which part columns and rows.
        path: of the file; compressed with gzip if it ends in .gz.
        format: one of `FORMATS`.

    Raises:
        UsageError: there is no such format.
        DataError: a word cannot be written.
        DiskFull: nothing was written.
    """
    path = Path(path)
    if format not in FORMATS:
        raise UsageError("There is no such format.", wanted=", ".join(FORMATS), got=format)
    for row, word in enumerate(table.words):
        if not word or " " in word or "\n" in word or not _encodes(word):
            raise DataError(
                "This word cannot be written: a space ends a word, and a newline a row.",
                where=f"word {row + 1} of {len(table.words)}",
                wanted="a word without them that UTF-8 can hold",
                got=repr(word),
                do="Put another character in its place, as word2vec's phrases have the underscore.",
            )
    with replacing(path) as unfinished, open(unfinished, "wb") as raw:
        if path.suffix == ".gz":
            # Without name and time: the same table gives the same bytes.
            with gzip.GzipFile("", "wb", 6, raw, mtime=0) as file:
                file.writelines(_written(table, format))
        else:
            raw.writelines(_written(table, format))


def _encodes(word: str) -> bool:
    """Whether UTF-8 has the word: half of a surrogate pair is in strings only."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _written(table: VectorTable, format: Format) -> Iterable[bytes]:
    """The file in pieces."""
    count, dimensions = table.matrix.shape
    if format != "glove":
        yield b"%d %d\n" % (count, dimensions)
    if format == "word2vec-binary":
        for word, vector in zip(table.words, table.matrix, strict=True):
            yield b"%b %b\n" % (word.encode(), vector.astype("<f4").tobytes())
        return
    row = " ".join(["%s", *["%.9g"] * dimensions]) + "\n"
    for word, vector in zip(table.words, table.matrix, strict=True):
        yield (row % (word, *vector.tolist())).encode()
