"""The claim about senses: what is guessed from vectors that are known, and the sentences."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tokenizers
import torch

from sw2.base.errors import UsageError
from sw2.core.task import Context
from sw2.domains.language.embedding import senses
from sw2.domains.language.embedding.encoder import TextEncoder
from sw2.domains.language.embedding.pieces import PieceConfig, PiecePrep
from sw2.domains.language.embedding.senses import left_out, vectors
from sw2.domains.language.embedding.sentences import SENTENCES


def _encoder() -> tuple[TextEncoder, PiecePrep]:
    """A network of any weights that knows every word of the sentences as one piece."""
    found = {word for pair in SENTENCES.values() for some in pair.values() for each in some for word in _words(each)}
    names = ["[UNK]", "[CLS]", "[SEP]", *sorted(found)]
    inner = tokenizers.Tokenizer(tokenizers.models.WordPiece({name: n for n, name in enumerate(names)}))
    inner.normalizer = tokenizers.normalizers.BertNormalizer()
    inner.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    inner.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    torch.manual_seed(0)
    net = TextEncoder(TextEncoder.Config(vocab_size=len(names), context=64, width=16, depth=2, heads=2, hidden=32))
    for weight in net.parameters():
        torch.nn.init.normal_(weight)
    return net, PiecePrep(inner.to_str(), PieceConfig(most_tokens=64))


def _words(sentence: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", sentence.lower())


def test_guesses_from_vectors_that_are_known() -> None:
    first, second = np.eye(4, dtype=np.float32)[[0, 0, 0]], np.eye(4, dtype=np.float32)[[1, 1, 1]]
    assert left_out(first, second).tolist() == [1] * 6
    assert left_out(first, first).tolist() == [0.5] * 6
    # One of the first sense stands with the second: it is taken for one of them, and moves no one else.
    mixed = np.concatenate([first, second[:1]])
    assert left_out(mixed, second).tolist() == [1, 1, 1, 0, 1, 1, 1]
    # Left out means left out: alone in its direction, a vector finds no help from itself.
    apart = np.eye(4, dtype=np.float32)
    assert left_out(apart[:2], apart[2:]).tolist() == [0.5] * 4


def test_every_word_stands_once_in_each_of_its_sentences() -> None:
    assert len(SENTENCES) >= 10
    for word, pair in SENTENCES.items():
        assert len(pair) == 2
        sentences = [each for some in pair.values() for each in some]
        assert len(set(sentences)) == 12
        assert all(_words(each).count(word) == 1 for each in sentences)


def test_vectors_are_those_of_the_word_and_of_the_others() -> None:
    net, prep = _encoder()
    found, others = vectors(net, prep, "bat", ["a bat flew.", "the bat broke in two."])
    assert found.shape == (3, 2, 16)
    assert others.shape == (2, 16)
    ids = prep.encode(["a bat flew."])[0]
    alone = net.embedding.weight.detach()
    assert np.allclose(others[0], alone[[ids[1], ids[3], ids[4]]].mean(0), atol=1e-6)
    with torch.no_grad():
        first = net.embedding_norm(alone[ids[2]] + net.positions.weight[2])
    assert np.allclose(found[0, 0], first.numpy(), atol=1e-6)
    assert not np.allclose(found[0, 0], found[2, 0], atol=1e-2)


@pytest.mark.parametrize("full", [False, True])
def test_the_claim_by_a_network_that_learned_nothing(full: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(senses, "loaded", lambda *_: _encoder())
    monkeypatch.setattr(senses, "SENTENCES", dict(list(SENTENCES.items())[:3]))
    result = senses.run(Context(), full)
    mean = dict(zip(result.head, result.rows[-1], strict=True))
    assert mean["single vector"] == 0.5
    assert result.verdict in ("undecided", "holds", "does not hold")
    assert len(result.rows) == 4
    assert senses.run(Context(), full).rows == result.rows
    (lines,) = [plot.lines for plot in result.plots]
    assert [place for place, _ in lines["in its sentence"]] == [0, 1, 2]


def test_weights_are_not_fetched_without_a_yes() -> None:
    with pytest.raises(UsageError, match="was not fetched") as caught:
        senses.run(Context(), False)
    assert "try another claim" in str(caught.value)
