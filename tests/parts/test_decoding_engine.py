"""The scheduler with a network whose answer is a function of the whole text, so a wrong cache shows at once."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sw2.base.errors import ResourceError, UsageError
from sw2.parts.decoding.cache import KVCache
from sw2.parts.decoding.engine import Engine, Request, Stop
from sw2.parts.decoding.sampling import Sampling

VOCABULARY = 11
GREEDY = Sampling(temperature=0)


def logits_after(text: Sequence[int]) -> Tensor:
    key = sum((place + 1) * (token + 3) for place, token in enumerate(text)) % 9973
    return torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(key))


class Hashing:
    """Remembers tokens by slot like a cache does, and notes what it was asked for."""

    def __init__(self, slots: int, capacity: int) -> None:
        self.slots, self.capacity = slots, capacity
        self.held: list[list[int]] = [[] for _ in range(slots)]
        self.calls: list[list[int]] = []

    def __call__(self, tokens: Sequence[Sequence[int]], slots: Sequence[int], starts: Sequence[int]) -> Tensor:
        self.calls.append([len(row) for row in tokens])
        rows = []
        for new, slot, start in zip(tokens, slots, starts, strict=True):
            assert start <= len(self.held[slot])
            self.held[slot] = [*self.held[slot][:start], *new]
            assert len(self.held[slot]) <= self.capacity
            rows.append(logits_after(self.held[slot]))
        return torch.stack(rows)


def alone(request: Request, capacity: int) -> list[int]:
    """What the request must answer, one token after the other without any cache."""
    from sw2.parts.decoding.sampling import choose

    text, answer = list(request.prompt), []
    while len(text) <= capacity and len(answer) < request.stop.max_tokens:
        token = choose(logits_after(text), request.sampling, len(answer))
        if token in request.stop.tokens:
            break
        answer.append(token)
        text.append(token)
    return answer


requests = st.tuples(
    st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=18),
    st.floats(0, 2),
    st.integers(0, 99),
    st.integers(1, 15),
    st.lists(st.integers(0, VOCABULARY - 1), max_size=2),
    st.integers(0, 6),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(requests, max_size=8), st.integers(1, 4), st.integers(1, 12))
def test_every_request_answers_as_if_it_were_alone(asked: list[tuple], slots: int, prompt_tokens: int) -> None:
    step = Hashing(slots, capacity=20)
    engine = Engine(step, prompt_tokens=prompt_tokens)
    running = []
    for prompt, temperature, seed, most, stop, pause in asked:
        sampling = Sampling(temperature=temperature, seed=seed)
        running.append(engine.submit(prompt, sampling, Stop(max_tokens=most, tokens=tuple(stop))))
        for _ in range(pause):
            engine.step()
    came: dict[int, list[int]] = {}
    for _ in range(2000):
        if not engine.busy():
            break
        for request, token in engine.step():
            came.setdefault(id(request), []).append(token)
    for request in running:
        assert request.tokens == alone(request, 20)
        assert request.finish in ("stop", "length")
    assert not engine.busy()


def test_prompts_are_read_in_pieces_while_others_go_on() -> None:
    step = Hashing(2, capacity=100)
    engine = Engine(step, prompt_tokens=4)
    first = engine.submit([1], GREEDY, Stop(max_tokens=50))
    engine.step()
    engine.submit(list(range(10)), GREEDY, Stop(max_tokens=5))
    before = len(first.tokens)
    for _ in range(3):
        engine.step()
    assert len(first.tokens) == before + 3
    assert max(map(max, step.calls)) == 4


def test_the_next_turn_reads_only_its_new_words() -> None:
    step = Hashing(2, capacity=100)
    engine = Engine(step)
    turn = engine.submit([1, 2, 3, 4], GREEDY, Stop(max_tokens=3))
    list(engine.stream(turn))
    step.calls.clear()
    again = engine.submit([*turn.prompt, *turn.tokens, 5, 6], GREEDY, Stop(max_tokens=1))
    list(engine.stream(again))
    # The last answered token was never put into the cache.
    assert again.reused == 6
    assert step.calls == [[3]]
    assert again.tokens == alone(again, 100)


def test_cancelling_frees_the_slot_for_those_who_wait() -> None:
    engine = Engine(Hashing(1, capacity=50))
    first, second, third = (engine.submit([token], GREEDY, Stop(max_tokens=20)) for token in (1, 2, 3))
    engine.step()
    engine.step()
    assert (len(first.tokens), len(second.tokens)) == (2, 0)
    engine.cancel(first)
    engine.cancel(third)
    while engine.busy():
        engine.step()
    assert (first.finish, second.finish, third.finish) == ("cancelled", "length", "cancelled")
    assert second.tokens == alone(second, 50)
    assert len(first.tokens) == 2


def test_leaving_a_stream_cancels() -> None:
    engine = Engine(Hashing(1, capacity=50))
    request = engine.submit([1], GREEDY, Stop(max_tokens=20))
    stream = engine.stream(request)
    next(stream)
    stream.close()
    assert request.finish == "cancelled"
    assert not engine.busy()


@pytest.mark.parametrize("prompt", [[], [0] * 20])
def test_prompts_that_cannot_be_answered_are_refused(prompt: list[int]) -> None:
    with pytest.raises(UsageError, match="prompt is"):
        Engine(Hashing(1, capacity=20)).submit(prompt, GREEDY, Stop(max_tokens=1))


def test_cache_keeps_rows_apart_and_refuses_to_overflow() -> None:
    cache = KVCache(layers=1, slots=3, kv_heads=1, capacity=4, head_dim=2)
    rows = cache.rows([2, 0], starts=[0, 1], counts=[1, 2])
    new = torch.arange(8.0).view(2, 1, 2, 2)
    keys, values = rows.extend(0, new, -new)
    assert keys.shape == (2, 1, 3, 2)
    assert cache.keys_LNKCE[0, 2, 0].tolist() == [[0, 1], [0, 0], [0, 0], [0, 0]]
    assert cache.keys_LNKCE[0, 0, 0].tolist() == [[0, 0], [4, 5], [6, 7], [0, 0]]
    assert not cache.keys_LNKCE[0, 1].any()
    assert torch.equal(keys, -values)
    assert rows.mask_BTS.tolist() == [[[1, 0, 0], [1, 1, 0]], [[1, 1, 0], [1, 1, 1]]]
    with pytest.raises(ResourceError, match="longer than the memory"):
        cache.rows([0], starts=[3], counts=[2])
