"""The decoder behind the engine: many requests, shared beginnings, a cache in 8 bits, scores, text."""

from __future__ import annotations

import contextlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sw2.base.errors import UsageError
from sw2.domains.language.decoder import Decoder
from sw2.domains.language.prep import PrepConfig, TextPrep
from sw2.domains.language.task import TextWriter
from sw2.domains.language.tokenizer import Tokenizer
from sw2.parts.decoding.engine import Engine, Stop
from sw2.parts.decoding.sampling import Sampling

CONFIG = Decoder.Config(
    vocab_size=300, context=96, width=32, depth=2, heads=4, kv_heads=2, hidden=48, init_deviation=0.3
)
GREEDY = Sampling(temperature=0)


@pytest.fixture(scope="module")
def writer() -> TextWriter:
    words = "the quick brown fox jumps over the lazy dog and naïve façades "
    prep = TextPrep(Tokenizer.train([words * 20], 300), PrepConfig(vocab_size=300))
    config = Decoder.Config(**{**vars(CONFIG), "vocab_size": prep.tokenizer.vocab_size})
    return TextWriter({"decoder": Decoder(config).eval()}, prep, {})


common = st.sampled_from([[], list(range(20)), [*range(12), *range(30)]])
asked = st.tuples(
    st.builds(lambda one, two: [*one, *two], common, st.lists(st.integers(0, 299), min_size=1, max_size=30)),
    st.builds(
        Sampling,
        temperature=st.sampled_from([0.0, 0.8]),
        top_p=st.sampled_from([1.0, 0.9]),
        repetition_penalty=st.sampled_from([1.0, 1.2]),
        seed=st.integers(0, 9),
    ),
    st.integers(1, 8),
    st.integers(0, 4),
)


@pytest.mark.parametrize("cache", [torch.float32, torch.int8], ids=str)
@settings(max_examples=30, deadline=None)
@given(st.lists(asked, min_size=1, max_size=5), st.sampled_from([2, 3]), st.sampled_from([8, 64]))
def test_requests_answer_as_if_alone_also_with_8_bits(
    cache: torch.dtype, requests: list[tuple], slots: int, prompt_tokens: int
) -> None:
    model = Decoder(CONFIG).eval()
    engine = Engine(model.cached_step(slots, cache_dtype=cache), prompt_tokens=prompt_tokens, worth_copying=4)
    running = []
    for prompt, sampling, most, pause in requests:
        running.append(engine.submit(prompt, sampling, Stop(max_tokens=most)))
        for _ in range(pause):
            engine.step()
    while engine.busy():
        engine.step()
    for request in running:
        alone = Engine(model.cached_step(1, cache_dtype=cache))
        expected = alone.submit(request.prompt, request.sampling, request.stop)
        assert request.tokens == list(alone.stream(expected))


def test_8_bits_change_the_logits_little() -> None:
    model = Decoder(CONFIG).eval()
    tokens = torch.randint(300, (1, 60), generator=torch.Generator().manual_seed(1)).tolist()
    exact = model.cached_step(1)(tokens, [0], [0])
    held = model.cached_step(1, cache_dtype=torch.int8)(tokens, [0], [0])
    error = float((held - exact).abs().max() / exact.abs().max())
    # Each number is off by at most 1/254 of the largest in its vector; errors of many average out.
    assert 0 < error < 0.02


def test_scores_are_the_decoder_s_log_probabilities(writer: TextWriter) -> None:
    prompts, more = ["the quick", "", "naïve"], [" brown fox", "dog", " façades and the lazy"]
    scored = writer.score(list(zip(prompts, more, strict=True)), top=1)
    for prompt, text, found in zip(prompts, more, scored, strict=True):
        assert b"".join(each.bytes for each in found).decode() == text
        known, new = writer.encode_prompt(prompt), writer.prep.tokenizer.encode(text)
        line = torch.tensor([known + new])
        nats = writer.net({"tokens": line[:, :-1], "targets": line[:, 1:]})["nats"][0, len(known) - 1 :]
        got = torch.tensor([each.logprob for each in found])
        torch.testing.assert_close(got, -nats.detach(), atol=1e-5, rtol=1e-5)
        assert all(each.top[0].logprob >= each.logprob for each in found)


def test_a_chosen_token_has_the_score_that_it_gets_afterwards(writer: TextWriter) -> None:
    sampling = Sampling(temperature=0.7, top_p=0.9, repetition_penalty=1.2, seed=3)
    prompt = writer.encode_prompt("the lazy")
    pieces = list(writer.generate(prompt, sampling, max_tokens=20, logprobs=2))
    written = [each for piece in pieces for each in piece.tokens]
    (scored,) = writer.score([(prompt, [each.token for each in written])], top=2)
    assert [each.logprob for each in written] == pytest.approx([each.logprob for each in scored], abs=1e-4)
    assert [each.top[0].token for each in written] == [each.top[0].token for each in scored]


def test_several_prompts_are_written_as_if_alone(writer: TextWriter) -> None:
    prompts = ["the quick", "dog", "naïve", "fox jumps over", "", "lazy", "and", "the", "brown", "quick fox"]
    samplings = [Sampling(temperature=0.9, seed=seed) for seed in range(len(prompts))]
    texts = [""] * len(prompts)
    for number, piece in writer.generate_many(prompts, samplings, max_tokens=12):
        texts[number] += piece.text
    for prompt, sampling, text in zip(prompts, samplings, texts, strict=True):
        assert "".join(piece.text for piece in writer.generate(prompt, sampling, max_tokens=12)) == text


def test_leaving_early_frees_the_engine(writer: TextWriter) -> None:
    with contextlib.closing(writer.generate("the", GREEDY, max_tokens=40)) as pieces:
        next(pieces)
        assert writer.text_engine(1).busy()
    assert not writer.text_engine(1).busy()
    many = writer.generate_many(["the", "dog"], [GREEDY] * 2, max_tokens=40)
    next(many)
    many.close()
    assert not writer.text_engine(2).busy()


def test_a_prompt_that_fills_the_context_is_refused_and_leaves_nothing_behind(writer: TextWriter) -> None:
    with pytest.raises(UsageError, match="prompt is too long"):
        list(writer.generate_many(["the", "dog " * 200], [GREEDY] * 2))
    assert not writer.text_engine(2).busy()
    # As an answer of a program it is cut at its beginning.
    assert writer.answer(["dog " * 200])[0]["text"]
