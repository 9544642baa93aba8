"""Log-probabilities of given tokens against a softmax written out."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sw2.base.errors import UsageError
from sw2.parts.decoding.likelihood import likelihoods, score

VOCABULARY = 13


def logits_of(tokens_BT: Tensor) -> Tensor:
    """A causal network: the logits at each place are a hash of all tokens up to there."""
    weights_T = torch.arange(1, tokens_BT.shape[1] + 1)
    keys_BT = ((tokens_BT + 3) * weights_T).cumsum(-1)
    return torch.sin(keys_BT[..., None].float() * torch.arange(1, VOCABULARY + 1)) * 3


texts = st.lists(st.integers(0, VOCABULARY - 1), max_size=8)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(texts.filter(len), texts), max_size=6), st.integers(1, 40), st.integers(0, 15))
def test_batches_score_as_one_text_after_the_other(pairs: list, batch_tokens: int, top: int) -> None:
    scored = score(logits_of, pairs, context=20, top=top, batch_tokens=batch_tokens)
    assert [len(each) for each in scored] == [len(continuation) for _, continuation in pairs]
    for (prompt, continuation), found in zip(pairs, scored, strict=True):
        for place, likelihood in enumerate(found):
            logits_V = logits_of(torch.tensor([[*prompt, *continuation[:place]]]))[0, -1]
            expected = torch.log_softmax(logits_V.double(), -1)
            assert likelihood.token == continuation[place]
            assert likelihood.logprob == pytest.approx(float(expected[likelihood.token]), abs=1e-5)
            assert len(likelihood.top) == min(top, VOCABULARY)
            ranked = expected.sort(descending=True)
            torch.testing.assert_close(
                torch.tensor([number for _, number in likelihood.top]).double(),
                ranked.values[: len(likelihood.top)],
                atol=1e-5,
                rtol=0,
            )
            if top:
                assert likelihood.top[0][0] == int(ranked.indices[0])


def test_likelihoods_by_hand() -> None:
    found = likelihoods(torch.tensor([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]]).log(), [2, 1], top=2)
    assert [each.token for each in found] == [2, 1]
    assert [each.logprob for each in found] == pytest.approx([-0.356675, -1.203973], abs=1e-5)
    assert [[token for token, _ in each.top] for each in found] == [[2, 1], [0, 1]]


@pytest.mark.parametrize("pair", [([], [1]), ([1] * 10, [1] * 4)])
def test_what_cannot_be_scored_is_said(pair: tuple[list[int], list[int]]) -> None:
    with pytest.raises(UsageError, match="text 1") as caught:
        score(logits_of, [([1], [2]), pair], context=12)
    assert "tokens" in str(caught.value)
