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
from sw2.parts.decoding.sampling import Chooser, Sampling

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
        self.copies: list[int] = []
        self.refreshed = 0

    def __call__(self, tokens: Sequence[Sequence[int]], slots: Sequence[int], starts: Sequence[int]) -> Tensor:
        self.calls.append([len(row) for row in tokens])
        rows = []
        for new, slot, start in zip(tokens, slots, starts, strict=True):
            assert start <= len(self.held[slot])
            self.held[slot] = [*self.held[slot][:start], *new]
            assert len(self.held[slot]) <= self.capacity
            rows.append(logits_after(self.held[slot]))
        return torch.stack(rows)

    def copy(self, source: int, target: int, tokens: int) -> None:
        assert source != target
        assert 0 < tokens <= len(self.held[source])
        self.copies.append(tokens)
        self.held[target] = self.held[source][:tokens]

    def refresh(self) -> None:
        self.refreshed += 1


def alone(request: Request, capacity: int) -> list[int]:
    """What the request must answer, one token after the other without any cache."""
    text, answer = list(request.prompt), []
    while len(text) <= capacity and len(answer) < request.stop.max_tokens:
        token = Chooser(request.sampling, request.prompt, answer).choose(logits_after(text))
        if token in request.stop.tokens:
            break
        answer.append(token)
        text.append(token)
    return answer


# Few different beginnings, so that many requests share one.
BEGINNINGS = [[], [1, 2, 3, 4, 5, 6], [1, 2, 3, 9, 9, 9, 9, 9], [7] * 12]
prompts = st.builds(
    lambda beginning, rest: [*beginning, *rest][:18],
    st.sampled_from(BEGINNINGS),
    st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=18),
)
samplings = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.5, 1.3]),
    top_k=st.sampled_from([0, 4]),
    min_p=st.sampled_from([0.0, 0.1]),
    repetition_penalty=st.sampled_from([1.0, 1.5]),
    presence_penalty=st.sampled_from([0.0, 0.5]),
    frequency_penalty=st.sampled_from([0.0, 0.3]),
    logit_bias=st.sampled_from([(), ((2, 1.5),)]),
    seed=st.integers(0, 99),
)
stops = st.builds(
    lambda most, tokens: Stop(max_tokens=most, tokens=tuple(tokens)),
    st.integers(1, 15),
    st.lists(st.integers(0, VOCABULARY - 1), max_size=2),
)
# Steps to go before the next request comes, and which of those before to cancel then, if there is one.
requests = st.tuples(prompts, samplings, stops, st.integers(0, 6), st.none() | st.integers(0, 7))


@settings(max_examples=150, deadline=None)
@given(st.lists(requests, max_size=9), st.integers(1, 4), st.integers(1, 12), st.integers(1, 6))
def test_every_request_answers_as_if_it_were_alone(
    asked: list[tuple], slots: int, prompt_tokens: int, worth_copying: int
) -> None:
    step = Hashing(slots, capacity=20)
    engine = Engine(step, prompt_tokens=prompt_tokens, worth_copying=worth_copying)
    running: list[Request] = []
    came: dict[int, list[int]] = {}

    def advance() -> None:
        for request, token in engine.step():
            came.setdefault(id(request), []).append(token)

    for prompt, sampling, stop, pause, cancelled in asked:
        running.append(engine.submit(prompt, sampling, stop, logprobs=1))
        for _ in range(pause):
            advance()
        if cancelled is not None and cancelled < len(running):
            engine.cancel(running[cancelled])
    for _ in range(2000):
        if not engine.busy():
            break
        advance()
    assert not engine.busy()
    for request in running:
        expected = alone(request, 20)
        if request.finish == "cancelled":
            assert request.tokens == expected[: len(request.tokens)]
        else:
            assert request.tokens == expected
            assert request.finish in ("stop", "length")
        assert request.tokens == came.get(id(request), [])
        assert [each.token for each in request.likelihoods] == request.tokens
        for place, each in enumerate(request.likelihoods):
            nats = torch.log_softmax(logits_after([*request.prompt, *request.tokens[:place]]), -1)
            assert each.logprob == pytest.approx(float(nats[each.token]), abs=1e-5)


def test_requests_that_come_together_read_their_common_beginning_once() -> None:
    step = Hashing(4, capacity=200)
    engine = Engine(step, prompt_tokens=40)
    common = [token % VOCABULARY for token in range(100)]
    asked = [engine.submit([*common, number, number], GREEDY, Stop(max_tokens=3)) for number in range(4)]
    while engine.busy():
        engine.step()
    assert [request.tokens for request in asked] == [alone(request, 200) for request in asked]
    assert [request.reused for request in asked] == [0, 100, 100, 100]
    assert step.copies == [100] * 3
    # 102 tokens of the first, then 2 of each other; the answers' tokens are read alone.
    assert sum(sum(call) for call in step.calls) == 102 + 3 * 2 + 4 * 2


def test_the_beginning_of_a_conversation_under_way_is_copied() -> None:
    step = Hashing(2, capacity=200)
    engine = Engine(step)
    common = [token % VOCABULARY for token in range(50)]
    first = engine.submit([*common, 1], GREEDY, Stop(max_tokens=40))
    for _ in range(5):
        engine.step()
    second = engine.submit([*common, 2], GREEDY, Stop(max_tokens=2))
    while engine.busy():
        engine.step()
    assert (first.reused, second.reused) == (0, 50)
    assert first.tokens == alone(first, 200)
    assert second.tokens == alone(second, 200)
    # And both are still there for a next turn.
    for turn in (first, second):
        again = engine.submit([*turn.prompt, *turn.tokens, 3], GREEDY, Stop(max_tokens=1))
        list(engine.stream(again))
        assert again.reused == len(turn.prompt) + len(turn.tokens) - 1


@pytest.mark.parametrize("at_once", [True, False])
def test_what_was_read_for_one_is_not_used_for_another(at_once: bool) -> None:
    engine = Engine(Hashing(4, capacity=200))
    common = [token % VOCABULARY for token in range(50)]
    asked = []
    for number, whose in enumerate(["anna", "otto", "anna", "otto"]):
        asked.append(engine.submit([*common, number], GREEDY, Stop(max_tokens=3), whose=whose))
        while engine.busy() and not at_once:
            engine.step()
    while engine.busy():
        engine.step()
    assert [request.reused for request in asked] == [0, 0, 50, 50]
    assert [request.tokens for request in asked] == [alone(request, 200) for request in asked]
    alone_in_one = Engine(Hashing(1, capacity=200))
    for whose, reused in (("anna", 0), ("otto", 0), ("otto", 50)):
        request = alone_in_one.submit([*common, 1], GREEDY, Stop(max_tokens=2), whose=whose)
        list(alone_in_one.stream(request))
        assert (request.reused, request.tokens) == (reused, alone(request, 200))


def test_who_waits_for_a_cancelled_one_reads_on_alone() -> None:
    step = Hashing(2, capacity=200)
    engine = Engine(step, prompt_tokens=20)
    common = [token % VOCABULARY for token in range(90)]
    first = engine.submit([*common, 1], GREEDY, Stop(max_tokens=3))
    second = engine.submit([*common, 2], GREEDY, Stop(max_tokens=3))
    engine.step()
    engine.step()
    engine.cancel(first)
    while engine.busy():
        engine.step()
    assert second.reused == 40
    assert second.tokens == alone(second, 200)


def test_new_weights_forget_what_was_read() -> None:
    step = Hashing(1, capacity=50)
    engine = Engine(step)
    list(engine.stream(engine.submit([1, 2, 3, 4], GREEDY, Stop(max_tokens=1))))
    engine.forget()
    again = engine.submit([1, 2, 3, 4], GREEDY, Stop(max_tokens=1))
    list(engine.stream(again))
    assert again.reused == 0
    assert step.refreshed == 1


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
    (held_LNKCE,) = cache.keys
    assert held_LNKCE[0, 2, 0].tolist() == [[0, 1], [0, 0], [0, 0], [0, 0]]
    assert held_LNKCE[0, 0, 0].tolist() == [[0, 0], [4, 5], [6, 7], [0, 0]]
    assert not held_LNKCE[0, 1].any()
    assert torch.equal(keys, -values)
    assert rows.mask_BTS.tolist() == [[[1, 0, 0], [1, 1, 0]], [[1, 1, 0], [1, 1, 1]]]
    with pytest.raises(ResourceError, match="longer than the memory"):
        cache.rows([0], starts=[3], counts=[2])


steps = st.lists(
    st.tuples(st.permutations(range(3)), st.integers(1, 3), st.lists(st.integers(1, 4), min_size=3, max_size=3)),
    min_size=1,
    max_size=5,
)


@settings(max_examples=60, deadline=None)
@given(steps, st.integers(0, 2**31), st.sampled_from([torch.float32, torch.bfloat16, torch.int8]))
def test_cache_gives_back_what_was_stored(asked: list[tuple], seed: int, dtype: torch.dtype) -> None:
    """Any slots in any order, any lengths, against lists of vectors."""
    cache = KVCache(layers=2, slots=3, kv_heads=2, capacity=20, head_dim=4, dtype=dtype)
    generator = torch.Generator().manual_seed(seed)
    stored: list[list[torch.Tensor]] = [[] for _ in range(3)]  # [2 (keys, values), 2 (layers), K, E] for each token
    for order, number, lengths in asked:
        slots, counts = list(order)[:number], lengths[:number]
        rows = cache.rows(slots, [len(stored[slot]) for slot in slots], counts)
        new = torch.randn(2, 2, number, 2, max(counts), 4, generator=generator)
        for row, (slot, count) in enumerate(zip(slots, counts, strict=True)):
            stored[slot] += [new[:, :, row, :, t] for t in range(count)]
        for layer in range(2):
            for seen, which in zip(rows.extend(layer, new[0, layer], new[1, layer]), range(2), strict=True):
                for row, slot in enumerate(slots):
                    expected = torch.stack([token[which, layer] for token in stored[slot]], dim=1)
                    got = seen[row, :, : expected.shape[1]]
                    # Half a step of 127 to the largest number of each vector; bfloat16 keeps 8 bits of each number.
                    step = expected.abs().amax(-1, keepdim=True) / 254 * 1.01
                    error = {torch.float32: torch.zeros(()), torch.bfloat16: expected.abs() / 256}.get(dtype, step)
                    assert ((got - expected).abs() <= error).all()
    longest = max(range(3), key=lambda slot: len(stored[slot]))
    target = (longest + 1) % 3
    cache.copy(longest, target, len(stored[longest]))
    for held in (*cache.keys, *cache.values):
        assert torch.equal(held[:, target, :, : len(stored[longest])], held[:, longest, :, : len(stored[longest])])
