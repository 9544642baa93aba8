"""Chunking: passages are small, know their headings and their place, and are the document and nothing else."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sw2.base.errors import UsageError
from sw2.domains.documents.blocks import Block
from sw2.domains.documents.chunks import ChunkConfig, split
from sw2.domains.documents.readers import ReadConfig, read


def _split(name: str, text: str, most: int) -> list[tuple[str, tuple[str, ...], int, int]]:
    _, blocks = read(name, text.encode(), ReadConfig())
    return [(p.text, p.headings, p.first, p.last) for p in split(blocks, ChunkConfig(most_characters=most))]


def test_passages_follow_headings_and_know_their_path() -> None:
    text = "# Guide\nIntro.\n\n## Install\n### Linux\n- a\n- b\n\nThen this.\n### Mac\nc\n# End\n"
    assert _split("a.md", text, 200) == [
        ("Guide\nIntro.", ("Guide",), 1, 2),
        ("Install\nLinux\n- a\n- b\n\nThen this.", ("Guide", "Install", "Linux"), 4, 9),
        ("Mac\nc", ("Guide", "Install", "Mac"), 10, 11),
        ("End", ("End",), 12, 12),
    ]


def test_a_heading_without_text_keeps_its_own_path() -> None:
    assert _split("a.md", "## A\n## B\ntext", 200) == [("A", ("A",), 1, 1), ("B\ntext", ("B",), 2, 3)]


def test_prose_is_cut_after_sentences_and_lines_are_counted() -> None:
    text = "First sentence is here. Second one\nfollows it! Third\nis the last one of them all."
    assert _split("a.txt", text, 45) == [
        ("First sentence is here.", (), 1, 1),
        ("Second one\nfollows it!", (), 1, 2),
        ("Third\nis the last one of them all.", (), 2, 3),
    ]


def test_code_is_cut_at_lines_and_keeps_its_indentation() -> None:
    text = "def f():\n    aaaa = 1111111111\n\n    bbbb = 2222222222\n    cccc = 3333333333\n"
    assert _split("a.py", text, 40) == [
        ("def f():\n    aaaa = 1111111111", (), 1, 2),
        ("    bbbb = 2222222222", (), 4, 4),
        ("    cccc = 3333333333", (), 5, 5),
    ]


def test_paragraphs_are_packed_and_not_cut_when_they_fit_alone() -> None:
    text = "a" * 30 + "\n\n" + "b" * 30 + "\n\n" + "c" * 10
    assert _split("a.txt", text, 45) == [("a" * 30, (), 1, 1), ("b" * 30 + "\n\n" + "c" * 10, (), 3, 5)]


_TEXT = st.text(alphabet=st.sampled_from("ab .\n\t!?é。\u2028"), min_size=1, max_size=300).filter(str.strip)
_BLOCK = st.builds(
    lambda text, kind, level, first, lines: Block(text, kind, first, first + lines, level if kind == "heading" else 0),
    _TEXT,
    st.sampled_from(["heading", "paragraph", "code", "row"]),
    st.integers(0, 9),
    st.integers(1, 50),
    st.integers(0, 9),
)


@given(st.lists(_BLOCK, max_size=12), st.integers(40, 200))
def test_no_text_is_lost_and_none_stands_twice(blocks: list[Block], most: int) -> None:
    passages = list(split(blocks, ChunkConfig(most_characters=most)))
    together = "".join(passage.text for passage in passages)
    assert "".join(together.split()) == "".join("".join(block.text for block in blocks).split())
    assert all(0 < len(passage.text) <= most for passage in passages)
    assert all(passage.text.strip() for passage in passages)


@given(st.text(alphabet=st.sampled_from("ab .#=-\n`|:>"), max_size=400), st.sampled_from(["md", "rst", "txt", "py"]))
def test_passages_of_text_files_are_their_lines(text: str, ending: str) -> None:
    """Nothing is lost but marks, and every line of a passage stands where it says."""
    lines = text.split("\n")
    _, blocks = read(f"a.{ending}", text.encode(), ReadConfig())
    for passage in split(blocks, ChunkConfig(most_characters=40)):
        there = "\n".join(lines[passage.first - 1 : passage.last])
        assert all(" ".join(line.split()) in " ".join(there.split()) for line in passage.text.split("\n"))
    # Of Markdown and reStructuredText the marks of headings are left out, which may be any punctuation.
    counted = "ab" if ending in ("md", "rst") else "ab.#=-`|:>"
    kept = "".join(block.text for block in blocks)
    assert [c for c in kept if c in counted] == [c for c in text if c in counted]


@pytest.mark.parametrize(
    "line", ["x", "x ", "word. ", "a" + " " * 3000], ids=["one word", "words", "sentences", "gaps"]
)
@pytest.mark.parametrize("ending", ["txt", "json"])
def test_a_file_of_one_line_takes_linear_time(line: str, ending: str) -> None:
    text = line * (3_000_000 // len(line))
    _, blocks = read(f"a.{ending}", text.encode(), ReadConfig())
    began = time.process_time()
    passages = list(split(blocks, ChunkConfig()))
    assert time.process_time() - began < 2
    assert sum(len("".join(passage.text.split())) for passage in passages) == len("".join(text.split()))


def test_headings_cannot_blow_up_what_is_stored() -> None:
    blocks = [Block("h" * 5000, "heading", n, n, n) for n in range(1, 30)] + [Block("t" * 5000, "paragraph", 40, 40)]
    passages = list(split(blocks, ChunkConfig()))
    assert all(len(passage.headings) <= 8 and max(map(len, passage.headings)) <= 120 for passage in passages)


def test_a_limit_too_small_is_refused() -> None:
    with pytest.raises(UsageError, match=r"chunk\.most_characters is out of range"):
        ChunkConfig(most_characters=39)
