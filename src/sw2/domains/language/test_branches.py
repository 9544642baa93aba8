"""Answers that share the reading of their prompt: the same numbers and gradients as rows of their own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sw2.domains.language.branches import Text, answer_nats, as_batch, at_places, read
from sw2.domains.language.decoder import Decoder
from sw2.domains.language.preferences.scorer import Scorer
from sw2.parts.layers import attention

SHAPE = Decoder.Config(vocab_size=50, context=64, width=16, depth=2, heads=4, kv_heads=2, hidden=24)
SHAPES = {
    "rotary": SHAPE,
    "learned": replace(SHAPE, positions="learned"),
    "alibi": replace(SHAPE, positions="alibi", kv_heads=4),
}


def group(draw: np.random.Generator, common: int, sizes: tuple[int, ...]) -> list[Text]:
    """Texts that begin alike; of each the last two thirds are learned, so of some a part of what is common."""
    prompt = draw.integers(50, size=common)
    texts = []
    for size in sizes:
        tokens = np.concatenate([prompt, draw.integers(50, size=size)])
        targets = draw.integers(50, size=len(tokens))
        targets[: len(tokens) // 3] = -1
        texts.append(Text(tokens, targets))
    return texts


def groups() -> list[list[Text]]:
    draw = np.random.default_rng(0)
    twins = group(draw, 9, (4,)) * 3
    return [group(draw, 20, (7, 1, 12)), group(draw, 3, (30, 2, 5)), twins]


def learner(config: Decoder.Config, seed: int = 1) -> Decoder:
    net = Decoder(config)
    net.initialise(torch.Generator().manual_seed(seed))
    return net


@pytest.fixture(params=["by a mask", "by pieces"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short rows go by a mask, long ones by pieces; these rows by both."""
    if request.param == "by pieces":
        monkeypatch.setattr(attention, "LONGEST_WRITTEN_OUT", 8)
        monkeypatch.setattr(attention, "_PIECE", 8)


@pytest.mark.parametrize("positions", SHAPES)
def test_shared_prompts_give_what_rows_of_their_own_give(positions: str, way: None) -> None:
    found: list[list[Any]] = []
    for share in (True, False):
        net = learner(SHAPES[positions])
        nats = answer_nats(net, as_batch(groups(), share=share))
        weights = torch.randn(nats.shape, generator=torch.Generator().manual_seed(2))
        (nats * weights).sum().backward()
        found.append([nats.detach(), *(p.grad for p in net.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


def test_scores_at_the_end_are_the_same_too(way: None) -> None:
    scorer = Scorer.begin(learner(SHAPE))
    with torch.no_grad():
        scorer.head.weight.normal_(0, 0.3, generator=torch.Generator().manual_seed(0))
    shared, apart = (as_batch(groups(), share=share) for share in (True, False))
    for key in ("last", "places"):
        one, other = (at_places(scorer(read(batch))["scores"], batch[key]) for batch in (shared, apart))
        known = torch.ones_like(one, dtype=torch.bool) if key == "last" else shared["targets"] >= 0
        torch.testing.assert_close(one[known], other[known], atol=1e-5, rtol=1e-4)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 70), st.lists(st.integers(1, 9), min_size=2, max_size=4))
def test_every_text_can_be_read_out_of_its_row(seed: int, common: int, sizes: list[int]) -> None:
    texts = group(np.random.default_rng(seed), common, tuple(sizes))
    batch = as_batch([texts], share=True)
    tokens, branches, positions = (batch[name][0].numpy() for name in ("tokens", "branches", "positions"))
    assert len(tokens) % 64 == 0
    for number, text in enumerate(texts):
        mine = (branches == 0) | (branches == number + 1)
        assert tokens[mine].tolist() == text.tokens.tolist()
        assert positions[mine].tolist() == list(range(len(text.tokens)))
        known = batch["targets"][0, number].numpy() >= 0
        places = batch["places"][0, number].numpy()[known]
        assert positions[places].tolist() == np.flatnonzero(text.targets >= 0).tolist()
        assert batch["targets"][0, number].numpy()[known].tolist() == text.targets[text.targets >= 0].tolist()
        assert positions[batch["last"][0, number]] == len(text.tokens) - 1


def test_one_answer_needs_no_branches() -> None:
    batch = as_batch([[text] for text in groups()[0]], share=True)
    assert "branches" not in batch
    assert batch["tokens"].shape == (3, 1, 64)


def test_recall_refuses_branches() -> None:
    net = learner(replace(SHAPE, recall=2))
    with pytest.raises(AssertionError, match="repetition"):
        answer_nats(net, as_batch(groups(), share=True))
