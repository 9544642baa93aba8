"""A decoder in fewer bits: every shape, every method, and what comes out goes everywhere a decoder goes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sw2.base.config import replace
from sw2.base.errors import DataError, ProgramError, UsageError
from sw2.base.seed import generator
from sw2.core.program import Net, Program
from sw2.domains.language import shrinking
from sw2.domains.language.decoder import Decoder
from sw2.domains.language.formats.writing import FORMATS, convert
from sw2.domains.language.prep import PrepConfig, TextPrep
from sw2.domains.language.task import TextGeneration, TextWriter
from sw2.domains.language.tokenizer import Tokenizer
from sw2.parts.decoding import native
from sw2.parts.decoding.cache import CachedStep
from sw2.parts.decoding.native import NativeStep
from sw2.parts.layers.calibrated import error, gptq
from sw2.parts.layers.packed import PackedLinear, is_packed, pack, unpack

TOKENIZER = Tokenizer.train(["the cat sat on the mat 12345"] * 9, 272)
PREP = TextPrep(TOKENIZER, PrepConfig(vocab_size=272))
LLAMA = Decoder.Config(
    vocab_size=TOKENIZER.vocab_size, context=32, width=64, depth=2, heads=4, kv_heads=2, hidden=96, init_deviation=0.2
)
GPT2 = replace(LLAMA, kv_heads=4, hidden=256, positions="learned", norm="layer", activation="gelu_tanh", biases="all")
SHAPES = {
    "llama": LLAMA,
    "untied": replace(LLAMA, tied=False),
    "recall": replace(LLAMA, recall=2),
    "qwen3": replace(LLAMA, head_norm=True, head_dim=24),
    "gpt2": GPT2,
    "bloom": replace(GPT2, positions="alibi", embedding_norm=True),
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def network(config: Decoder.Config) -> Decoder:
    net = Decoder(config)
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator(1, "noise"))
    return net.eval().requires_grad_(False)


def rows(seed: int = 0) -> list[dict[str, torch.Tensor]]:
    """Texts in which tokens are not equally frequent, two documents a row."""
    numbers = torch.rand(2, 4, 32, generator=torch.Generator().manual_seed(seed))
    tokens = (numbers**3 * TOKENIZER.vocab_size).long()
    documents = (torch.arange(32) >= 20).long().expand(4, 32)
    return [{"tokens": each, "documents": documents} for each in tokens]


def apart(one: Decoder, other: Decoder) -> float:
    """The mean square difference of logits on other texts, in units of their variance."""
    wanted, got = (torch.stack([net(batch)["logits"] for batch in rows(1)]) for net in (one, other))
    return float((got - wanted).square().mean() / wanted.var())


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES.keys())
def test_every_shape_in_every_way(config: Decoder.Config) -> None:
    net = network(config)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    differences = {}
    for bits, method in ((8, "rtn"), (4, "gptq"), (4, "fit"), (4, "rtn")):
        small = shrinking.shrink(net, bits, method, rows)  # type: ignore[arg-type]
        differences[bits, method] = apart(net, small)
        matrices = [module for name, module in small.named_modules() if name.startswith("blocks.")]
        assert {module.bits for module in matrices if is_packed(module)} == {bits}
        assert small.embedding.bits == 8
        assert isinstance(small.head, PackedLinear) if not config.tied else not hasattr(small, "head")
        kept = [module for name, module in small.named_modules() if name in ("positions", "share")]
        assert not any(map(is_packed, kept))
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert differences[8, "rtn"] < 2e-3
    assert differences[4, "gptq"] < differences[4, "fit"] < 0.2
    assert differences[4, "gptq"] < differences[4, "rtn"] < 0.2


def test_plain_rounding_is_that_of_pack() -> None:
    net = network(LLAMA)
    small = shrinking.shrink(net, 4, "rtn", rows)
    linear = net.blocks[1].mlp.down
    wanted = pack(linear.weight, 4)
    assert torch.equal(small.blocks[1].mlp.down.codes, wanted.codes)
    assert torch.equal(small.blocks[1].mlp.down.minima, wanted.minima)


def test_inputs_are_those_behind_what_is_rounded_already() -> None:
    net = network(LLAMA)
    small = shrinking.shrink(net, 4, "gptq", rows)
    inputs: list[torch.Tensor] = []
    small.blocks[1].mlp.down.register_forward_pre_hook(lambda _, given: inputs.append(given[0].flatten(0, -2)))
    for batch in rows():
        small(batch)
    seen = torch.cat(inputs)
    weight, gram = net.blocks[1].mlp.down.weight, seen.T @ seen
    wanted, got = gptq(weight, gram, 4), small.blocks[1].mlp.down.packed
    assert (unpack(wanted) - unpack(got)).abs().mean() < 0.02 * weight.abs().mean()
    assert error(weight, got, gram) < 0.8 * error(weight, pack(weight, 4), gram)


def test_eight_bits_go_on_to_four_and_no_further() -> None:
    eight = shrinking.shrink(network(LLAMA), 8, "rtn", rows)
    shrinking.check(eight, 4)
    four = shrinking.shrink(eight, 4, "fit", rows)
    assert apart(shrinking.shrink(network(LLAMA), 4, "fit", rows), four) < 0.1
    for net, bits in ((four, 4), (four, 8), (eight, 8)):
        with pytest.raises(ProgramError, match="as few bits already") as caught:
            shrinking.check(net, bits)
        assert "loses twice" in str(caught.value)


def test_mistakes() -> None:
    with pytest.raises(UsageError, match="so many bits"):
        shrinking.check(network(LLAMA), 5)
    narrow = network(replace(LLAMA, width=24, heads=2, kv_heads=2, hidden=40))
    with pytest.raises(ProgramError, match="Nothing in this program can be packed"):
        shrinking.shrink(narrow, 4, "rtn", rows)
    with pytest.raises(DataError, match="too little text to calibrate"):
        shrinking.calibration_rows(PREP.documents, [{"text": "cat"}], 32, 0)


def test_calibration_text_is_drawn_by_the_seed() -> None:
    examples = [{"text": f"the cat sat on the mat {number} " * 9} for number in range(40)]
    drawn = [shrinking.calibration_rows(PREP.documents, examples, 32, seed) for seed in (0, 0, 1)]
    assert torch.equal(drawn[0][0]["tokens"], drawn[1][0]["tokens"])
    assert not torch.equal(drawn[0][0]["tokens"], drawn[2][0]["tokens"])
    batch = drawn[0][0]
    assert batch["tokens"].shape == batch["documents"].shape == (8, 32)
    begins = batch["tokens"].flatten() == TOKENIZER.end_of_text
    changes = np.diff(batch["documents"].flatten().numpy(), prepend=-1) != 0
    assert np.array_equal(begins.numpy(), changes)  # a document begins where the token between them stands


@pytest.mark.parametrize("name", ["gguf", "huggingface"])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("shape", ["llama", "untied", "qwen3", "gpt2", "bloom"])
def test_other_toolkits_get_the_same_numbers(name: str, bits: int, shape: str, tmp_path: Path) -> None:
    small = shrinking.shrink(network(SHAPES[shape]), bits, "fit", rows)  # type: ignore[arg-type]
    _, difference = convert(small, PREP, name, tmp_path)
    assert difference < 1e-6
    back = FORMATS[name].read(tmp_path).net
    if name == "gguf" and shape in ("llama", "untied"):
        for key, tensor in small.state_dict().items():
            assert torch.equal(back.state_dict()[key], tensor), key


@pytest.mark.skipif(native.available() is not None, reason="no native kernels here")
@pytest.mark.parametrize("shape", ["llama", "untied"])
def test_the_kernels_run_what_comes_out(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(SHAPES[shape], heads=2, kv_heads=1)  # the kernels want heads of 32 channels
    small = shrinking.shrink(network(config), 4, "gptq", rows)
    wanted = small.cached_step(1)([[1, 2, 3]], [0], [0])
    monkeypatch.delenv("SW2_NATIVE")
    step = small.cached_step(1)
    assert isinstance(step, NativeStep)
    assert (step([[1, 2, 3]], [0], [0]) - wanted).abs().max() < 0.1 * wanted.std()


def test_without_kernels_it_is_unpacked_once() -> None:
    step = shrinking.shrink(network(SHAPES["recall"]), 4, "rtn", rows).cached_step(1)
    assert isinstance(step, CachedStep)
    assert not any(is_packed(module) for module in step._network.modules())


def test_a_thawed_copy_learns() -> None:
    for shape in ("untied", "recall"):
        small = shrinking.shrink(network(SHAPES[shape]), 4, "rtn", rows)
        program = Program.assemble(
            task=TextGeneration(),
            runtime=TextWriter,
            nets={"decoder": Net("decoder", small)},
            prep=PREP,
            provider={"name": "language", "distribution": "sw2", "version": "0.1.0"},
        )
        thawed = program.thaw()["decoder"]
        assert {tensor.dtype for tensor in thawed.state_dict().values()} == {torch.float32}
        loss = thawed({"tokens": torch.tensor([[1, 2, 3]]), "targets": torch.tensor([[2, 3, 4]])})["nats"].sum()
        loss.backward()
        assert all(parameter.grad is not None for parameter in thawed.parameters())
        assert torch.equal(thawed.embedding.weight, small.embedding.weight)
