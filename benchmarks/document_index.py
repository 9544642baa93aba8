"""The index of documents: making one, refreshing it when nothing changed, searching it.

The corpus is made here: words of a made-up vocabulary drawn by Zipf's law, in Markdown files of headings and
paragraphs, with a seed, so that it is the same everywhere. Text is counted in bytes of UTF-8. Questions are eight words
drawn by the same law but without the hundred most frequent ones; what takes long are those that are frequent still.
Each figure stands beside what is wanted of it; the exit code is 1 where one misses. Takes some 60 MB of text, twice
that again on disk, and minutes.

    python benchmarks/document_index.py
"""

from __future__ import annotations

import itertools
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from sw2.domains.documents.index import Index

__all__ = ["main"]

VOCABULARY, FREQUENT = 50_000, 100
PASSAGES, FILES, QUERIES = 100_000, 1_000, 500
WORDS_A_SECTION, SECTIONS_A_FILE = 90, 100
SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "er", "il", "on", "us")]


def vocabulary(draw: random.Random) -> list[str]:
    """Different words of two to four syllables."""
    words: dict[str, None] = {}
    while len(words) < VOCABULARY:
        words["".join(draw.choices(SYLLABLES, k=draw.randint(2, 4)))] = None
    return list(words)


def documents(draw: random.Random, words: list[str]) -> Iterator[str]:
    """Files without end, each with as many sections of one passage each."""
    weights = list(itertools.accumulate(1 / rank for rank in range(1, VOCABULARY + 1)))
    while True:
        sections = []
        for number in range(SECTIONS_A_FILE):
            text = draw.choices(words, cum_weights=weights, k=WORDS_A_SECTION)
            lines = [" ".join(text[start : start + 15]) + "." for start in range(0, WORDS_A_SECTION, 15)]
            sections.append(f"## {text[0]} {text[1]} {number}\n\n" + "\n".join(lines) + "\n")
        yield "\n".join(sections)


def questions(draw: random.Random, words: list[str]) -> list[str]:
    """Eight words each."""
    rest = words[FREQUENT:]
    weights = list(itertools.accumulate(1 / rank for rank in range(FREQUENT + 1, VOCABULARY + 1)))
    return [" ".join(draw.choices(rest, cum_weights=weights, k=8)) for _ in range(QUERIES)]


def main() -> int:
    """Print the table; the exit code."""
    draw = random.Random(0)
    words = vocabulary(draw)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "documents"
        folder.mkdir()
        size = 0
        for number, text in enumerate(itertools.islice(documents(draw, words), FILES)):
            size += (folder / f"{number:04}.md").write_text(text, encoding="utf-8")
        time.sleep(2.1)  # files younger than this are hashed again, as their time may hide a change
        with Index(Path(temporary) / "index") as index:
            made = index.refresh(folder)
            again = [index.refresh(folder).seconds for _ in range(3)]
            seconds = []
            for question in questions(draw, words):
                began = time.perf_counter()
                index.search(question, 10)
                seconds.append(time.perf_counter() - began)
        on_disk = sum(path.stat().st_size for path in (Path(temporary) / "index").iterdir())
    middle, late = statistics.median(seconds) * 1e3, statistics.quantiles(seconds, n=20)[-1] * 1e3
    print(f"{made.files} files, {size / 1e6:.0f} MB, {made.passages} passages; {on_disk / size:.1f} times that on disk")
    rows = [
        ("making the index, MB of text a minute", size / 1e6 / made.seconds * 60, ">= 50"),
        ("refresh of the unchanged folder, s", statistics.median(again), "< 2"),
        (f"a query, ms at the median of {QUERIES}", middle, ""),
        ("a query, ms at the 95th percentile", late, "< 60"),
    ]
    missed = False
    print(f"{'':<42}{'measured':>10}{'wanted':>10}")
    for name, value, wanted in rows:
        print(f"{name:<42}{value:>10.2f}{wanted:>10}")
        sign, _, bound = wanted.partition(" ")
        missed |= (sign == ">=" and value < float(bound)) or (sign == "<" and value >= float(bound))
    if made.passages < PASSAGES:
        print(f"fewer than {PASSAGES} passages", file=sys.stderr)
        return 1
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
