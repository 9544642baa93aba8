"""The choice of a token: filters and penalties by hand and against transformers, draws by frequency."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sw2.base.errors import ProgramError, UsageError
from sw2.parts.decoding.sampling import AHEAD, Chooser, Sampling, draw, uniforms, weights

LOGITS = torch.tensor([0.1, 0.4, 0.2, 0.3]).log()


def shares(logits_V: Tensor, sampling: Sampling) -> dict[int, float]:
    left = weights(logits_V, sampling).double()
    return {token: float(left[token] / left.sum()) for token in range(len(left)) if left[token]}


def kept(**settings: float) -> dict[int, float]:
    return {token: round(share, 6) for token, share in shares(LOGITS, Sampling(**settings)).items()}  # type: ignore[arg-type]


def test_filters_by_hand() -> None:
    assert kept() == {0: 0.1, 1: 0.4, 2: 0.2, 3: 0.3}
    assert kept(top_k=2) == {1: round(4 / 7, 6), 3: round(3 / 7, 6)}
    assert kept(top_p=0.65) == kept(top_k=2)
    assert kept(top_p=0.75) == kept(top_k=3)
    assert kept(top_p=1e-9) == {1: 1.0}
    assert kept(top_k=100) == kept()
    assert kept(min_p=0.6) == kept(top_k=2)
    assert kept(min_p=0.2) == kept()
    assert kept(min_p=1.0) == {1: 1.0}
    # The nucleus is that of what the k likeliest leave: 4/7 reaches 0.5, but 0.4 does not.
    assert kept(top_k=2, top_p=0.5) == {1: 1.0}
    assert list(kept(top_p=0.5)) == [1, 3]
    # The temperature comes first: the squares have the shares 16, 9, 4 and 1 of 30.
    squares = [0.01, 0.16, 0.04, 0.09]
    assert list(kept(temperature=0.5).values()) == pytest.approx([square / 0.3 for square in squares], abs=1e-5)
    assert list(kept(temperature=0.5, min_p=0.5)) == [1, 3]
    assert list(kept(temperature=0.5, min_p=0.6)) == [1]


def test_a_share_that_rounding_cannot_reach_keeps_all() -> None:
    logits = torch.linspace(-5, 5, 50_000)
    assert int((weights(logits, Sampling(top_p=1 - 1e-12)) > 0).sum()) == 50_000


def test_equals_stay_together() -> None:
    even = torch.zeros(4)
    assert list(shares(even, Sampling(top_k=1))) == [0, 1, 2, 3]
    assert list(shares(even, Sampling(top_p=0.3))) == [0, 1, 2, 3]


def test_penalties_by_hand() -> None:
    logits = torch.tensor([2.0, -2.0, 3.0, 1.0])

    def adjusted(**settings: object) -> list[float]:
        chooser = Chooser(Sampling(**settings), prompt=[0, 1, 1], answer=[2, 2])  # type: ignore[arg-type]
        return [round(number, 5) for number in chooser.adjusted(logits).tolist()]

    # Prompt and answer; what is negative grows.
    assert adjusted(repetition_penalty=2.0) == [1.0, -4.0, 1.5, 1.0]
    # The answer alone, once and twice.
    assert adjusted(presence_penalty=0.25) == [2.0, -2.0, 2.75, 1.0]
    assert adjusted(frequency_penalty=0.25) == [2.0, -2.0, 2.5, 1.0]
    assert adjusted(logit_bias=((3, 4.0), (0, -1.0))) == [1.0, -2.0, 3.0, 5.0]
    # The bias first, then the repetition penalty, then the others.
    assert adjusted(logit_bias=((2, 1.0),), repetition_penalty=2.0, presence_penalty=1.0) == [1.0, -4.0, 1.0, 1.0]
    assert logits.tolist() == [2, -2, 3, 1]


def test_greedy_takes_the_first_likeliest() -> None:
    assert Chooser(Sampling(temperature=0), [0]).choose(torch.tensor([0.0, 5.0, 5.0])) == 1


def test_penalties_end_a_loop() -> None:
    chooser = Chooser(Sampling(temperature=0, frequency_penalty=0.6), [0])
    logits = torch.tensor([1.0, 3.0, 2.0])
    assert [chooser.choose(logits) for _ in range(6)] == [1, 1, 2, 1, 2, 1]


def test_a_request_is_taken_up_at_any_token() -> None:
    generator = torch.Generator().manual_seed(3)
    assert AHEAD < 50
    logits_NV = 2 * torch.randn(50, 50, generator=generator)
    sampling = Sampling(top_p=0.9, repetition_penalty=1.3, presence_penalty=0.5, frequency_penalty=0.2, seed=4)
    chooser = Chooser(sampling, [1, 2, 3])
    tokens = [chooser.choose(logits_V) for logits_V in logits_NV]
    for start in range(50):
        later = Chooser(sampling, [1, 2, 3], tokens[:start])
        assert [later.choose(logits_V) for logits_V in logits_NV[start:]] == tokens[start:]


def test_draws_have_the_right_frequencies() -> None:
    counts = torch.zeros(4)
    for index in range(4000):
        counts[draw(weights(LOGITS, Sampling()).numpy(), uniforms(5, index, 1)[0])] += 1
    # Four standard deviations of a binomial count at p = 0.4.
    torch.testing.assert_close(counts / 4000, LOGITS.exp(), atol=4 * (0.24 / 4000) ** 0.5, rtol=0)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(0, 1, width=32, allow_subnormal=False), min_size=1, max_size=600).filter(sum),
    st.floats(0, 1, exclude_max=True),
)
def test_a_draw_inverts_the_running_sum(values: list[float], share: float) -> None:
    token = draw(np.array(values, dtype=np.float32), share)
    assert values[token] > 0
    sums = np.concatenate([[0.0], np.cumsum(values)]) / np.sum(values)
    assert sums[token] - 1e-5 <= share <= sums[token + 1] + 1e-5


def test_a_draw_depends_on_seed_and_index_only() -> None:
    draws = [float(uniforms(seed, index, 1)[0]) for seed in range(30) for index in range(30)]
    assert draws == [draw for seed in range(30) for draw in uniforms(seed, 0, 30).tolist()]
    assert len(set(draws)) == 900
    assert all(0 <= draw < 1 for draw in draws)


samplings = st.builds(
    Sampling,
    temperature=st.floats(0.05, 5),
    top_k=st.integers(0, 25),
    top_p=st.floats(0.01, 1),
    min_p=st.floats(0, 1),
    repetition_penalty=st.floats(0.5, 2),
    presence_penalty=st.floats(-2, 2),
    frequency_penalty=st.floats(-2, 2),
    seed=st.integers(0, 2**64 - 1),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=2000), samplings)
def test_every_choice_is_among_the_kept(logits: list[float], sampling: Sampling) -> None:
    chooser = Chooser(sampling, [0, 0])
    left = shares(chooser.adjusted(torch.tensor(logits)), sampling)
    assert sum(left.values()) == pytest.approx(1)
    best = max(left, key=lambda token: left[token])
    assert all(share >= sampling.min_p * left[best] * (1 - 1e-5) for share in left.values())
    assert chooser.choose(torch.tensor(logits)) in left


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.01, 0.999), st.floats(0.1, 6))
def test_the_nucleus_is_the_smallest(seed: int, top_p: float, spread: float) -> None:
    """Also where more than the first 64 tokens belong to it."""
    logits = spread * torch.randn(3000, generator=torch.Generator().manual_seed(seed))
    left = weights(logits, Sampling(top_p=top_p)).double()
    every = torch.softmax(logits.double(), -1)
    inside = every[left > 0]
    assert float(inside.sum()) >= top_p - 1e-5
    assert float(inside.sum() - inside.min()) < top_p + 1e-5
    assert not len(every[left == 0]) or float(every[left == 0].max()) < float(inside.min())


@pytest.mark.parametrize("temperature", [1e-320, 1e-9, 1e-4])
def test_the_coldest_temperatures_take_the_likeliest(temperature: float) -> None:
    logits = torch.tensor([-3e4, 10.0, 10.5, 2.0])
    assert Chooser(Sampling(temperature=temperature), [0]).choose(logits) == 2


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_network_without_numbers_is_said(number: float) -> None:
    for temperature in (0.0, 1.0):
        with pytest.raises(ProgramError, match="gives no numbers"):
            Chooser(Sampling(temperature=temperature), [0]).choose(torch.tensor([0.0, number, 1.0]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1.0},
        {"temperature": math.nan},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"min_p": -0.1},
        {"min_p": 1.1},
        {"repetition_penalty": 0.0},
        {"repetition_penalty": 1e-40},
        {"presence_penalty": 1e39},
        {"presence_penalty": math.inf},
        {"frequency_penalty": math.nan},
        {"logit_bias": ((-1, 1.0),)},
        {"logit_bias": ((1, math.inf),)},
        {"logit_bias": ((1, 1e39),)},
        {"logit_bias": ((1, 1.0), (1, 2.0))},
        {"seed": -1},
    ],
    ids=str,
)
def test_wrong_settings_are_explained(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Sampling(**wrong)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------- parity, by hand

# Sets that transformers' processors and ours must agree on; ranges are kept off exact ties and float32's last bit.
PARITY = [
    {"temperature": 0.7},
    {"top_k": 7},
    {"top_p": 0.8},
    {"min_p": 0.05},
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.7},
    {"logit_bias": ((3, 2.5), (11, -4.0))},
    {"temperature": 1.7, "top_k": 30, "top_p": 0.9, "min_p": 0.02},
    {"temperature": 0.6, "top_p": 0.95, "repetition_penalty": 1.2, "logit_bias": ((5, 3.0),), "top_k": 50},
]


@pytest.mark.parametrize("settings", PARITY, ids=str)
def test_filters_are_those_of_transformers(settings: dict[str, object]) -> None:
    generation = pytest.importorskip("transformers.generation", reason="transformers is not in the test extra")
    sampling = Sampling(**settings)  # type: ignore[arg-type]
    processors = generation.LogitsProcessorList()
    if sampling.logit_bias:
        bias = {(token,): number for token, number in sampling.logit_bias}
        processors.append(generation.SequenceBiasLogitsProcessor(sequence_bias=bias))
    processors.append(generation.RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    processors.append(generation.TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        processors.append(generation.TopKLogitsWarper(sampling.top_k))
    processors.append(generation.TopPLogitsWarper(sampling.top_p))
    processors.append(generation.MinPLogitsWarper(sampling.min_p))
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        logits = 3 * torch.randn(500, generator=generator)
        prompt = torch.randint(500, (60,), generator=generator)
        expected = torch.softmax(processors(prompt[None], logits[None].clone())[0], -1)
        half = prompt.tolist()[:30]
        left = weights(Chooser(sampling, half, prompt.tolist()[30:]).adjusted(logits), sampling)
        assert torch.equal(left > 0, expected > 0)
        torch.testing.assert_close(left / left.sum(), expected, atol=1e-6, rtol=1e-5)
