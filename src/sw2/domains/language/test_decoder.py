"""The decoder: LLaMA's numbers, the cache's honesty, packed documents, and that it learns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sw2.base.errors import ResourceError, UsageError
from sw2.base.seed import generator
from sw2.core.model import count_parameters
from sw2.core.recompute import recompute_blocks
from sw2.domains.language.decoder import Decoder, parameter_count
from sw2.parts.decoding.engine import Engine, Stop
from sw2.parts.decoding.sampling import Chooser, Sampling
from sw2.parts.layers.transformer import RotaryScaling

SMALL = Decoder.Config(vocab_size=97, context=48, width=32, depth=3, heads=4, kv_heads=2, hidden=40, init_deviation=0.2)

GPT2 = replace(SMALL, kv_heads=4, positions="learned", norm="layer", activation="gelu_tanh", biases="all")
VARIANTS = {
    "plain": SMALL,
    # Few different tokens, so that texts repeat themselves and recall finds something.
    "recall": replace(SMALL, vocab_size=7, recall=3),
    "gpt2": GPT2,
    "bloom": replace(GPT2, positions="alibi", embedding_norm=True),
    "alibi in groups": replace(SMALL, positions="alibi", activation="relu2", heads=4, kv_heads=1),
    "qwen3": replace(SMALL, head_dim=12, head_norm=True),
    "stretched": replace(SMALL, rope_scaling=RotaryScaling(rule="yarn", factor=4.0, trained=16, low=1.0, high=32.0)),
}
RECALLING = VARIANTS["recall"]
EVERY = pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS.keys())


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def tokens(*shape: int, seed: int = 0, of: Decoder.Config = SMALL) -> Tensor:
    return torch.randint(of.vocab_size, shape, generator=generator(seed, "tokens"))


@EVERY
def test_every_token_sees_the_past_only(config: Decoder.Config) -> None:
    model, text = Decoder(config), tokens(1, 20, of=config)
    changed = text.clone()
    changed[0, 12] = (changed[0, 12] + 1) % config.vocab_size
    before, after = model({"tokens": text})["logits"], model({"tokens": changed})["logits"]
    torch.testing.assert_close(before[:, :12], after[:, :12])
    assert (before[:, 12:] - after[:, 12:]).abs().amax(-1).min() > 1e-4


@EVERY
def test_packed_documents_are_strangers(config: Decoder.Config) -> None:
    model, first, second = Decoder(config), tokens(1, 9, seed=1, of=config), tokens(1, 14, seed=2, of=config)
    packed = torch.cat([first, second], dim=1)
    documents = torch.tensor([[5] * 9 + [2] * 14])
    together = model({"tokens": packed, "documents": documents})["logits"]
    torch.testing.assert_close(together[:, :9], model({"tokens": first})["logits"], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(together[:, 9:], model({"tokens": second})["logits"], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(together, model({"tokens": packed})["logits"], atol=1e-2)


@EVERY
def test_nats_are_the_cross_entropy_of_the_logits(config: Decoder.Config) -> None:
    model, text = Decoder(config), tokens(2, 11, of=config)
    targets = text.roll(-1, dims=1)
    targets[:, -1] = -1
    targets[0, 3] = -100
    nats = model({"tokens": text, "targets": targets})["nats"]
    chances = F.log_softmax(model({"tokens": text})["logits"], dim=-1)
    wanted = -chances.gather(-1, targets.clamp(min=0)[..., None])[..., 0] * (targets >= 0)
    torch.testing.assert_close(nats, wanted)
    if config.recall:
        sums = model({"tokens": text})["logits"].exp().sum(-1)
        torch.testing.assert_close(sums, torch.ones_like(sums))


def without_cache(model: Decoder, prompt: Sequence[int], sampling: Sampling, count: int) -> list[int]:
    text, answer = list(prompt), []
    for _ in range(count):
        logits = model({"tokens": torch.tensor([text])})["logits"][0, -1].detach()
        answer.append(Chooser(sampling, prompt, answer).choose(logits))
        text.append(answer[-1])
    return answer


@EVERY
def test_logits_are_the_same_with_and_without_a_cache_alone_and_in_a_batch(config: Decoder.Config) -> None:
    model = Decoder(config)
    texts = [tokens(length, seed=length, of=config).tolist() for length in (5, 17, 30)]
    full = [model({"tokens": torch.tensor([text])})["logits"][0] for text in texts]
    together, alone = model.cached_step(slots=4), model.cached_step(slots=1)
    held = [0, 0, 0]
    # Ragged pieces, in slots that are not neighbours and not in order.
    for sizes in ((2, 9, 1), (1, 1, 20), (2, 7, 9)):
        new = [text[start : start + size] for text, start, size in zip(texts, held, sizes, strict=True)]
        got = together(new, [3, 0, 1], list(held))
        held = [start + size for start, size in zip(held, sizes, strict=True)]
        for row, logits, end in zip(got, full, held, strict=True):
            torch.testing.assert_close(row, logits[end - 1], atol=1e-4, rtol=1e-4)
    for text, logits in zip(texts, full, strict=True):
        for place in range(len(text)):
            got = alone([[text[place]]], [0], [place])
            torch.testing.assert_close(got[0], logits[place], atol=1e-4, rtol=1e-4)


@EVERY
@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_requests_that_join_and_leave_answer_as_if_alone(temperature: float, config: Decoder.Config) -> None:
    model = Decoder(config)
    engine = Engine(model.cached_step(slots=3), prompt_tokens=16)
    asked = []
    for index, (length, count) in enumerate([(4, 9), (25, 3), (1, 20), (12, 6), (20, 12)]):
        sampling = Sampling(temperature=temperature, top_k=20, top_p=0.95, seed=index)
        prompt = tokens(length, seed=index, of=config).tolist()
        asked.append(engine.submit(prompt, sampling, Stop(max_tokens=count)))
        engine.step()
    while engine.busy():
        engine.step()
    for request in asked:
        assert request.tokens == without_cache(model, request.prompt, request.sampling, request.stop.max_tokens)


def test_initial_weights_follow_the_rule() -> None:
    model = Decoder(Decoder.Config(vocab_size=512, width=128, depth=8, heads=4, kv_heads=4, hidden=256))
    weights = model.state_dict()
    assert float(weights["embedding.weight"].std()) == pytest.approx(0.02, rel=0.05)
    assert float(weights["blocks.3.mlp.gate_up.weight"].std()) == pytest.approx(0.02, rel=0.05)
    for name in ("blocks.0.attention.out.weight", "blocks.7.mlp.down.weight"):
        assert float(weights[name].std()) == pytest.approx(0.02 / 4, rel=0.05)
    state = torch.random.get_rng_state()
    again = Decoder(model.config)
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), again.parameters(), strict=True))
    again.initialise(generator(1, "weights"))
    assert not torch.equal(again.embedding.weight, model.embedding.weight)


def test_size_and_stages() -> None:
    model = Decoder(Decoder.Config())
    assert count_parameters(model) == 8192 * 320 + 6 * (4 * 320**2 + 3 * 320 * 864 + 2 * 320) + 320
    names = [name for name, _ in model.layers()]
    assert names == ["embedding", *(f"block {index}" for index in range(6)), "norm"]
    assert set(model.state_dict()) == set(dict(model.named_parameters()))


def test_it_learns_one_batch_by_heart() -> None:
    model = Decoder(Decoder.Config(vocab_size=97, width=32, depth=2, heads=2, kv_heads=2, hidden=64))
    text = tokens(4, 17)
    batch = {"tokens": text[:, :-1], "targets": text[:, 1:]}
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01)
    losses = []
    for _ in range(120):
        loss = model(batch)["nats"].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(math.log(97), abs=0.1)
    assert losses[-1] < 0.1


def test_parameters_are_counted_without_a_network() -> None:
    for config in VARIANTS.values():
        for changed in (config, replace(config, tied=False, hidden=56)):
            assert parameter_count(changed) == count_parameters(Decoder(changed))


def test_a_text_beyond_the_learned_positions_is_refused() -> None:
    step = Decoder(VARIANTS["gpt2"]).cached_step(slots=1)
    with pytest.raises(ResourceError, match="longer than the memory"):
        step([[1] * 49], [0], [0])


def test_wrong_shapes_are_explained() -> None:
    with pytest.raises(UsageError, match="heads do not divide the width"):
        Decoder.Config(width=50, heads=4)
    with pytest.raises(UsageError, match="not the shape of a Decoder"):
        Decoder.Config(depth=0)


@EVERY
def test_recomputed_blocks_learn_the_same(config: Decoder.Config) -> None:
    kept, again = Decoder(config), Decoder(config)
    recompute_blocks(again)
    text = tokens(2, 21, of=config)
    for model in (kept, again):
        batch = {"tokens": text[:, :-1], "targets": text[:, 1:], "documents": torch.tensor([[0] * 8 + [1] * 12] * 2)}
        model(batch)["nats"].sum().backward()
    for (name, wanted), found in zip(kept.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(found.grad, wanted.grad), name
    assert again.state_dict().keys() == kept.state_dict().keys()
