"""The choice of a token: filters by hand, draws by frequency."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sw2.base.errors import UsageError
from sw2.parts.decoding.sampling import Sampling, choose, probabilities, uniform

LOGITS = torch.tensor([0.1, 0.4, 0.2, 0.3]).log()


def kept(**settings: float) -> dict[int, float]:
    chances, tokens = probabilities(LOGITS, Sampling(**settings))  # type: ignore[arg-type]
    return {int(token): round(float(chance), 6) for token, chance in zip(tokens, chances, strict=True)}


def test_filters_by_hand() -> None:
    assert kept() == {1: 0.4, 3: 0.3, 2: 0.2, 0: 0.1}
    assert kept(top_k=2) == {1: round(4 / 7, 6), 3: round(3 / 7, 6)}
    assert kept(top_p=0.65) == kept(top_k=2)
    assert kept(top_p=0.75) == kept(top_k=3)
    assert kept(top_p=1e-9) == {1: 1.0}
    assert kept(top_k=100) == kept()
    squares = [0.16, 0.09, 0.04, 0.01]
    assert list(kept(temperature=0.5).values()) == pytest.approx([square / 0.3 for square in squares], abs=1e-5)


def test_greedy_takes_the_first_likeliest() -> None:
    assert choose(torch.tensor([0.0, 5.0, 5.0]), Sampling(temperature=0), 3) == 1


def test_draws_have_the_right_frequencies() -> None:
    counts = torch.zeros(4)
    for index in range(4000):
        counts[choose(LOGITS, Sampling(seed=5), index)] += 1
    # Four standard deviations of a binomial count at p = 0.4.
    torch.testing.assert_close(counts / 4000, LOGITS.exp(), atol=4 * (0.24 / 4000) ** 0.5, rtol=0)


def test_a_draw_depends_on_seed_and_index_only() -> None:
    draws = [uniform(seed, index) for seed in range(30) for index in range(30)]
    assert draws == [uniform(seed, index) for seed in range(30) for index in range(30)]
    assert len(set(draws)) == 900
    assert all(0 <= draw < 1 for draw in draws)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=20),
    st.floats(0.05, 5),
    st.integers(0, 25),
    st.floats(0.01, 1),
    st.integers(0, 2**64 - 1),
)
def test_every_choice_is_among_the_kept(
    logits: list[float], temperature: float, top_k: int, top_p: float, seed: int
) -> None:
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    chances, tokens = probabilities(torch.tensor(logits), sampling)
    assert float(chances.sum()) == pytest.approx(1)
    assert len(tokens) <= (top_k or len(logits))
    assert choose(torch.tensor(logits), sampling, 0) in tokens.tolist()


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5}, {"seed": -1}])
def test_wrong_settings_are_explained(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Sampling(**wrong)  # type: ignore[arg-type]
