"""The kernels beside Python and numpy: the same rows, the same weights within rounding, and threads that learn."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sw2.domains.texts import descent, native
from sw2.domains.texts.bags import Bags
from sw2.domains.texts.descent import Lesson, ways_of
from sw2.domains.texts.prep import PrepConfig, TextPrep, fit
from sw2.parts.formats.fasttext import LABEL, read

GOLDEN = Path(__file__).resolve().parents[4] / "tests" / "golden" / "fasttext"


@pytest.fixture(autouse=True)
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels, unless a test says otherwise; compiled once, when the tests are collected."""
    monkeypatch.setenv("SW2_NATIVE", "on")


needs_kernels = pytest.mark.skipif(native.why_not() is not None, reason=str(native.why_not()))

# Everything that a rule speaks of: separators, what stands alone, signed bytes, ends of lines, labels, letters whose
# lower case is longer, and halves of pairs.
words = st.one_of(
    st.sampled_from(["</s>", LABEL, LABEL + "x", "a", "b", "I'm", "ß", "İ", "Σ", "日本", "\ud800", "\x1c", "\0", "É"]),
    st.text(max_size=6),
)
lines = st.lists(st.lists(words, max_size=8).map(" ".join), min_size=1, max_size=6)


@needs_kernels
@given(
    lines,
    st.booleans(),
    st.integers(1, 4),
    st.integers(0, 2),
    st.integers(0, 3),
    st.sampled_from([1, 7, 2_000_000, 2**31 - 1]),
    st.integers(1, 2),
)
def test_rows_are_those_of_the_rules(
    texts: list[str], plain: bool, longest: int, min_n: int, max_n: int, buckets: int, least: int
) -> None:
    """Fitted, counted and cut natively and in Python: the same words, counts, buckets and rows, in the same order."""
    config = PrepConfig(
        plain=plain, word_ngrams=longest, min_n=min(min_n, max_n), max_n=max_n, buckets=buckets, min_count=least
    )
    texts = [*texts, "a a", "a"]
    labels = ["x"] * len(texts)
    compiled = fit(texts, labels, config)
    asked = [*texts, "quite unseen", f"{LABEL}y </s> a"]
    bags = compiled.bags(asked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SW2_NATIVE", "off")
        reference = fit(texts, labels, config)
        wanted = reference.bags(asked)
    assert compiled.dictionary.words == reference.dictionary.words
    assert np.array_equal(compiled.dictionary.counts, reference.dictionary.counts)
    assert compiled.dictionary.pruned == reference.dictionary.pruned
    assert compiled.dictionary.tokens == reference.dictionary.tokens
    assert np.array_equal(bags.starts, wanted.starts)
    assert np.array_equal(bags.rows, wanted.rows)
    assert np.array_equal(compiled.rows(asked[0]), bags[0])


@given(st.text())
def test_punctuation_stands_apart(text: str) -> None:
    """As the rule says it in one line."""
    plain = fit(["a"], ["x"], PrepConfig())
    whole = text.encode("utf-8", "replace").decode()
    assert plain.tokens(text) == re.sub(r"([^\w\s])", r" \1 ", whole.lower()).replace("\n", " ")


@needs_kernels
@pytest.mark.parametrize("name", ["softmax.bin", "hierarchical.bin", "one-for-each.bin", "pruned.ftz", "quantised.ftz"])
def test_rows_are_those_of_models_that_fasttext_made(name: str) -> None:
    model = read(GOLDEN / name)
    prep = TextPrep(False, model)
    texts = [" ".join(model.words[place : place + 9]) + " Überzug unseen" for place in range(0, len(model.words), 9)]
    assert texts
    for text, rows in zip(texts, map(prep.bags(texts).__getitem__, range(len(texts))), strict=True):
        assert rows.tolist() == model.text_rows(text)


@needs_kernels
def test_texts_that_are_cut_in_several_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"word{number} and word{number % 7}" for number in range(100)]
    prep = fit(texts, ["x"] * 100, PrepConfig())
    whole = prep.bags(texts)
    monkeypatch.setattr(native, "_AT_ONCE", 50)
    assert len(list(native._groups(prep._pieces(texts), native.Plain(bytes(128), bytes(128))))) > 20
    again = prep.bags(texts)
    assert np.array_equal(whole.rows, again.rows)
    assert np.array_equal(whole.starts, again.starts)
    assert np.array_equal(fit(texts, ["x"] * 100, PrepConfig()).dictionary.counts, prep.dictionary.counts)
    assert len(prep.bags([])) == 0


def lesson(dimensions: int, labels: int, tree: bool, threads: int = 1, texts: int = 60) -> Lesson:
    """Texts of all lengths, none among them, in which rows come twice."""
    random = np.random.default_rng(3)
    lengths = random.integers(0, 40, texts)
    lengths[0] = 0
    counts = np.sort(random.integers(1, 50, labels))[::-1]
    prep = fit(["a"] * int(counts.sum()), np.repeat([str(label) for label in range(labels)], counts), PrepConfig())
    return Lesson(
        bags=Bags(
            random.integers(0, 50, lengths.sum()).astype(np.uint32), np.cumsum([0, *lengths.tolist()], dtype=np.int64)
        ),
        targets=random.integers(0, labels, texts),
        input=random.normal(0, 0.5, (50, dimensions)).astype(np.float32),
        output=random.normal(0, 0.5, (labels, dimensions)).astype(np.float32),
        ways=ways_of(prep.dictionary.tree) if tree else None,
        threads=threads,
    )


@needs_kernels
@pytest.mark.parametrize("path", native.fitting_paths())
@pytest.mark.parametrize("tree", [False, True])
@pytest.mark.parametrize(("dimensions", "labels"), [(1, 2), (16, 2), (37, 5), (100, 30)])
def test_kernels_and_numpy_learn_the_same(path: str, tree: bool, dimensions: int, labels: int) -> None:
    chosen = np.random.default_rng(5).permutation(60)
    theirs, ours = lesson(dimensions, labels, tree), lesson(dimensions, labels, tree)
    before = theirs.input.copy()
    wanted = descent.learn(theirs, chosen, (0.3, 0.1))
    assert native.learn(ours, chosen, (0.3, 0.1), path) == pytest.approx(wanted, rel=1e-4)
    assert np.abs(theirs.input - before).max() > 1e-3
    assert np.allclose(ours.input, theirs.input, atol=1e-4)
    assert np.allclose(ours.output, theirs.output, atol=1e-4)
    again = lesson(dimensions, labels, tree)
    native.learn(again, chosen, (0.3, 0.1), path)
    assert np.array_equal(again.input, ours.input)


@needs_kernels
@pytest.mark.parametrize("tree", [False, True])
def test_threads_learn_all_texts(tree: bool) -> None:
    """Without locks some changes may be lost, but the loss comes down as it does on one thread."""
    chosen = np.tile(np.arange(60), 5)
    one, four = lesson(20, 4, tree), lesson(20, 4, tree, threads=4)
    began = native.learn(lesson(20, 4, tree), chosen[:60], (0.0, 0.0)) * 5
    for _ in range(6):
        losses = [native.learn(each, chosen, (0.5, 0.5)) for each in (one, four)]
    assert losses[0] < 0.4 * began
    assert losses[1] == pytest.approx(losses[0], rel=0.3)
