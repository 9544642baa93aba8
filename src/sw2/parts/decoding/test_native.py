"""The kernels against the same network written in torch, on every instruction set that this processor has."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from sw2.base.errors import ResourceError, UsageError
from sw2.parts.decoding import native
from sw2.parts.decoding.native import NativeLayer, NativeMatrix, NativeNorm, NativeStep, NativeWeights
from sw2.parts.decoding.native import build as native_build

if reason := native.available():
    pytest.skip(reason, allow_module_level=True)

HERE = [path for path in native.PATHS if list(native.PATHS).index(path) >= list(native.PATHS).index(native.best_path())]
EPSILON = 1e-5


def matrix(rows: int, columns: int, bits: int, generator: torch.Generator, bias: bool = False) -> NativeMatrix:
    """Random numbers of deviation about 1 / sqrt(columns)."""
    deviation = columns**-0.5
    if bias:
        plain = matrix(rows, columns, bits, generator)
        return replace(plain, bias=0.3 * torch.randn(rows, generator=generator))
    if bits > 8:
        weight = torch.randn(rows, columns, generator=generator) * deviation
        return NativeMatrix(bits=bits, codes=weight.bfloat16() if bits == 16 else weight)
    groups = (rows, columns // 32)
    spread = 0.5 + torch.rand(groups, generator=generator)
    if bits == 8:
        codes = torch.randint(-127, 128, (rows, columns), generator=generator, dtype=torch.int8)
        return NativeMatrix(bits=8, codes=codes, scales=(spread * deviation / 73).half())
    codes = torch.randint(0, 256, (rows, columns // 2), generator=generator, dtype=torch.uint8)
    scales = (spread * deviation / 4.6).half()
    return NativeMatrix(bits=4, codes=codes, scales=scales, minima=(-7.4 * scales.float()).half())


def numbers(of: NativeMatrix) -> Tensor:
    """The matrix in float32, by the definition of the formats."""
    if of.bits > 8:
        return of.codes.float()
    codes = of.codes.view(of.rows, -1, 32 if of.bits == 8 else 16)
    if of.bits == 4:
        codes = torch.cat([codes & 15, codes >> 4], -1)
    grouped = codes.float() * of.scales.float()[..., None]
    return (grouped if of.minima is None else grouped + of.minima.float()[..., None]).view(of.rows, -1)


PLAIN = {"activation": "swiglu"}
KINDS = {
    "llama": PLAIN,
    "qwen": {**PLAIN, "biases": "qkv", "head_norm": True, "tied": False},
    "gpt2": {"activation": "gelu_tanh", "biases": "all", "layer_norm": True, "learned": True, "turned": False},
    "bloom": {
        "activation": "gelu",
        "biases": "all",
        "layer_norm": True,
        "embedding_norm": True,
        "turned": False,
        "slopes": True,
    },
    "own": {**PLAIN, "orders": 3},
    "everything": {
        "activation": "relu2",
        "biases": "all",
        "layer_norm": True,
        "embedding_norm": True,
        "learned": True,
        "slopes": True,
        "head_norm": True,
        "tied": False,
        "orders": 2,
    },
}


def network(
    bits: int, kind="llama", *, seed=0, width=64, heads=4, kv_heads=2, head_dim=32, hidden=96, layers=2, vocab=50,
    capacity=320,
) -> NativeWeights:  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    of = KINDS[kind]
    biases, orders = of.get("biases", "none"), of.get("orders", 0)

    def vector(size: int, around: float) -> Tensor:
        return around + 0.3 * torch.randn(size, generator=generator)

    layer_norm = bool(of.get("layer_norm"))

    def norm(size: int, layer_norm: bool = layer_norm) -> NativeNorm:
        return NativeNorm(weight=vector(size, 1.0), bias=vector(size, 0.0) if layer_norm else None)

    def linear(rows: int, columns: int, bias=biases == "all") -> NativeMatrix:
        return matrix(rows, columns, bits, generator, bias)

    def some(name: str, make: Any) -> Any:
        return make() if of.get(name) else None

    blocks = tuple(
        NativeLayer(
            attention_norm=norm(width),
            qkv=linear((heads + 2 * kv_heads) * head_dim, width, biases != "none"),
            out=linear(width, heads * head_dim),
            mlp_norm=norm(width),
            up=linear((2 if of["activation"] == "swiglu" else 1) * hidden, width),
            down=linear(width, hidden),
            query_norm=some("head_norm", lambda: norm(head_dim, layer_norm=False)),
            key_norm=some("head_norm", lambda: norm(head_dim, layer_norm=False)),
        )
        for _ in range(layers)
    )
    embedding = matrix(vocab, width, max(bits, 8), generator)
    angles = torch.arange(capacity)[:, None] * 10_000.0 ** -(torch.arange(0, head_dim, 2) / head_dim)
    angles = angles if of.get("turned", True) else torch.zeros_like(angles)
    return NativeWeights(
        heads=heads,
        kv_heads=kv_heads,
        norm_epsilon=EPSILON,
        activation=of["activation"],
        cosines=angles.cos(),
        sines=angles.sin(),
        slopes=2.0 ** -torch.arange(1, heads + 1) if of.get("slopes") else torch.zeros(heads),
        embedding=embedding,
        layers=blocks,
        norm=norm(width),
        head=embedding if of.get("tied", True) else linear(vocab, width, bias=False),
        positions=some("learned", lambda: matrix(capacity, width, max(bits, 8), generator)),
        embedding_norm=some("embedding_norm", lambda: norm(width)),
        recall=some("orders", lambda: linear(width, orders * width, bias=False)),
        share=some("orders", lambda: matrix(1 + orders, width, bits, generator, bias=True)),
    )


def rounded(x: Tensor) -> Tensor:
    """What the kernels make of the inputs of a packed matrix: 8 bits, a scale for every 32."""
    groups = x.view(*x.shape[:-1], -1, 32)
    scale = groups.abs().amax(-1, keepdim=True) / 127
    return ((groups / scale.clamp(min=1e-30)).round() * scale).view_as(x)


ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu2": lambda x: F.relu(x).square(),
}


def looked_up(tokens: list[int], place: int, orders: int) -> list[int | None]:
    """The token that followed the last 1, 2, ... tokens up to `place` when they last stood there before."""
    found: list[int | None] = []
    for order in range(1, orders + 1):
        now = tokens[place + 1 - order : place + 1]
        ends = [end for end in range(order - 1, place) if tokens[end + 1 - order : end + 1] == now]
        found.append(tokens[ends[-1] + 1] if ends and len(now) == order else None)
    return found


def reference(weights: NativeWeights, tokens: list[int]) -> Tensor:
    """Logits [T, V] of one text, in float64 but for the rounded inputs of packed matrices."""
    E, H, K, N = weights.head_dim, weights.heads, weights.kv_heads, weights.orders
    T = len(tokens)
    found = [looked_up(tokens, place, N) for place in range(T)]

    def linear(x: Tensor, of: NativeMatrix) -> Tensor:
        product = (rounded(x) if of.bits <= 8 else x) @ numbers(of).double().T
        return product if of.bias is None else product + of.bias

    def norm(x: Tensor, of: NativeNorm) -> Tensor:
        apart = x if of.bias is None else x - x.mean(-1, keepdim=True)
        normal = apart * torch.rsqrt(apart.square().mean(-1, keepdim=True) + EPSILON) * of.weight
        return normal if of.bias is None else normal + of.bias

    def rotated(x_THE: Tensor) -> Tensor:
        cos, sin = weights.cosines[:T, None].double(), weights.sines[:T, None].double()
        first, second = x_THE.chunk(2, -1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)

    table = numbers(weights.embedding).double()
    x = table[tokens]
    if weights.positions is not None:
        x = x + numbers(weights.positions).double()[:T]
    if weights.embedding_norm is not None:
        x = norm(x, weights.embedding_norm)
    if weights.recall is not None:
        nothing = torch.zeros(weights.width, dtype=torch.float64)
        rows = [torch.cat([nothing if each is None else table[each] for each in place]) for place in found]
        x = x + linear(torch.stack(rows), weights.recall)
    distance = torch.arange(T)[:, None] - torch.arange(T)
    for layer in weights.layers:
        qkv = linear(norm(x, layer.attention_norm), layer.qkv).view(T, H + 2 * K, E)
        q, k, v = qkv.split([H, K, K], 1)
        q = q if layer.query_norm is None else norm(q, layer.query_norm)
        k = k if layer.key_norm is None else norm(k, layer.key_norm)
        q, k, v = rotated(q), rotated(k).repeat_interleave(H // K, 1), v.repeat_interleave(H // K, 1)
        scores = torch.einsum("thd,shd->hts", q, k) / math.sqrt(E) - weights.slopes[:, None, None] * distance
        weight = scores.masked_fill(distance < 0, -math.inf).softmax(-1)
        x = x + linear(torch.einsum("hts,shd->thd", weight, v).reshape(T, H * E), layer.out)
        up = linear(norm(x, layer.mlp_norm), layer.up)
        if weights.activation == "swiglu":
            gate, up = up.chunk(2, -1)
            x = x + linear(F.silu(gate) * up, layer.down)
        else:
            x = x + linear(ACTIVATIONS[weights.activation](up), layer.down)
    x = norm(x, weights.norm)
    logits = linear(x, weights.head)
    if weights.share is None:
        return logits
    mixed = torch.zeros_like(logits)
    for place, raw in enumerate(linear(x, weights.share)):
        there = torch.tensor([True, *(each is not None for each in found[place])])
        shares = raw.masked_fill(~there, -math.inf).softmax(-1)
        mixed[place] = shares[0] * logits[place].softmax(-1)
        for each, share in zip(found[place], shares[1:], strict=True):
            if each is not None:
                mixed[place, each] += share
    return mixed.log()


def some_tokens(count: int, seed: int = 0, vocab: int = 50) -> list[int]:
    return torch.randint(0, vocab, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


@pytest.mark.parametrize("path", HERE)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("bits", "tolerance"), [(4, 0.1), (8, 0.05), (16, 4e-3), (32, 4e-3)])
def test_logits_equal_those_of_torch(path, bits, kind, tolerance):
    # Keys and values are kept in fp16: relative 5e-4. In packed matrices that moves an input across the middle between
    # two of its 8-bit steps now and then, which is where most of the difference comes from.
    weights = network(bits, kind)
    tokens = some_tokens(37, vocab=9 if weights.orders else 50)  # few different ones: texts that repeat themselves
    wanted = reference(weights, tokens)
    step = NativeStep(weights, 2, 320, 2, path=path)
    got = step([tokens], [1], [0])
    assert got.shape == (1, 50)
    assert got.dtype == torch.float32
    assert (got[0] - wanted[-1]).abs().max() < tolerance * wanted[-1].std()


@pytest.mark.parametrize("path", HERE)
@pytest.mark.parametrize(
    ("bits", "kind", "cache"), [(4, "llama", 16), (32, "llama", 8), (32, "everything", 16), (8, "everything", 8)]
)
def test_any_number_of_tokens_at_once_gives_the_same(path, bits, kind, cache):
    # 300 is more than one pass of the kernels; one at a time, in small pieces and in one piece.
    weights = network(bits, kind)
    tokens = some_tokens(300, vocab=20)
    step = NativeStep(weights, 3, 300, 2, path=path, cache_bits=cache)
    whole = step([tokens], [0], [0])
    for place, size in ((0, 7), (1, 64), (2, 1)):
        for start in range(0, 300, size):
            pieces = step([tokens[start : start + size]], [place], [start])
        assert torch.equal(pieces, whole)


@pytest.mark.parametrize("path", HERE)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_batch_is_its_rows(path, data):
    slots = 5
    step = STEPS.setdefault(path, NativeStep(network(4, "everything", seed=1), slots, 64, 2, path=path))
    alone = ALONE.setdefault(path, NativeStep(network(4, "everything", seed=1), 1, 64, 1, path=path))
    held: list[list[int]] = [[] for _ in range(slots)]
    for _ in range(data.draw(st.integers(1, 4))):
        chosen = data.draw(st.permutations(range(slots)))[: data.draw(st.integers(1, slots))]
        rows, starts = [], []
        for slot in chosen:
            start = data.draw(st.integers(0, len(held[slot])))  # what stands beyond is forgotten
            new = data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=15))
            held[slot] = held[slot][:start] + new
            rows.append(new)
            starts.append(start)
        logits = step(rows, chosen, starts)
        for slot, row in zip(chosen, logits, strict=True):
            assert torch.equal(row, alone([held[slot]], [0], [0])[0])


STEPS: dict[str, NativeStep] = {}
ALONE: dict[str, NativeStep] = {}


@pytest.mark.parametrize("path", HERE)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bits=st.sampled_from([4, 8, 16, 32]),
    head_dim=st.sampled_from([32, 64, 96, 128]),
    kv_heads=st.integers(1, 3),
    share=st.integers(1, 5),
    vocab=st.integers(1, 70),
    hidden=st.sampled_from([32, 160]),
    count=st.integers(1, 40),
    threads=st.integers(1, 3),
    kind=st.sampled_from(sorted(KINDS)),
)
def test_sizes(path, bits, kind, head_dim, kv_heads, share, vocab, hidden, count, threads):
    weights = network(
        bits, kind, width=96, heads=kv_heads * share, kv_heads=kv_heads, head_dim=head_dim, hidden=hidden, layers=1,
        vocab=vocab, capacity=count,
    )  # fmt: skip
    tokens = some_tokens(count, vocab=vocab)
    wanted = reference(weights, tokens)[-1]
    got = NativeStep(weights, 1, count, threads, path=path)([tokens], [0], [0])[0]
    size = reference(weights, tokens).square().mean().sqrt()
    # Of a vocabulary of one every logarithm of a probability is 0, up to rounding.
    assert (got - wanted).abs().max() <= (0.1 if bits <= 8 else 5e-3) * size + 1e-6


@pytest.mark.parametrize("cache", [8, 16])
@pytest.mark.parametrize("kind", ["llama", "everything"])
def test_a_copied_beginning_is_as_good_as_read(kind, cache):
    weights = network(8, kind)
    step = NativeStep(weights, 3, 64, 2, cache_bits=cache)
    tokens, other = some_tokens(40, vocab=12), some_tokens(30, seed=2)
    wanted = step([tokens], [0], [0])
    step([other], [2], [0])
    step.copy(0, 2, 21)
    assert torch.equal(step([tokens[21:]], [2], [21]), wanted)
    assert torch.equal(step([tokens[39:]], [0], [39]), wanted)


@pytest.mark.parametrize("path", HERE)
def test_keys_and_values_in_8_bits(path):
    weights = network(32, "everything")
    tokens = some_tokens(60, vocab=12)
    exact, held = (NativeStep(weights, 1, 64, 2, path=path, cache_bits=bits)([tokens], [0], [0]) for bits in (16, 8))
    # Each number is off by at most 1/254 of the largest in its vector; errors of many average out.
    assert 0 < (held - exact).abs().max() < 0.02 * exact.abs().max()


def test_steps_do_not_share_anything():
    weights = network(4)
    first, second = NativeStep(weights, 1, 32, 2), NativeStep(weights, 1, 32, 1)
    tokens = some_tokens(10)
    wanted = first([tokens], [0], [0])
    second([tokens[::-1]], [0], [0])
    assert torch.equal(first([tokens[9:]], [0], [9]), wanted)


@pytest.mark.parametrize("kind", ["llama", "everything"])
@pytest.mark.parametrize("bits", [4, 8, 16, 32])
def test_reloaded_weights_are_as_good_as_new(bits, kind):
    old, new = (NativeStep(network(bits, kind, seed=seed), 1, 64, 2) for seed in (0, 1))
    tokens = some_tokens(40, vocab=12)
    wanted, before = new([tokens], [0], [0]), old([tokens], [0], [0])
    old.refresh()
    assert torch.equal(old([tokens], [0], [0]), before)
    old.reload(network(bits, kind, seed=1))
    assert not torch.equal(wanted, before)
    assert torch.equal(old([tokens], [0], [0]), wanted)
    changing = NativeStep(network(bits, kind), 1, 64, 2, source=lambda: network(bits, kind, seed=1))
    changing.refresh()
    assert torch.equal(changing([tokens], [0], [0]), wanted)


def test_what_does_not_fit_is_said():
    step = NativeStep(network(4), 1, 16, 1)
    with pytest.raises(ResourceError, match="longer than the memory"):
        step([[1, 2]], [0], [15])
    with pytest.raises(UsageError, match="do not know this shape") as caught:
        NativeStep(network(32, head_dim=16), 1, 16, 1)
    assert "head_dim is 16" in str(caught.value)


def test_bytes_per_token_of_a_matrix_of_each_kind():
    # One layer: qkv [256, 64], out [64, 128], gate_up [192, 64], down [64, 96], head [50, 64].
    inner, head = 256 * 64 + 64 * 128 + 192 * 64 + 64 * 96, 50 * 64
    assert network(4, layers=1).bytes_per_token() == inner * 5 // 8 + head * 17 // 16
    assert network(16, layers=1).bytes_per_token() == 2 * (inner + head)
    recall, share = 64 * 3 * 64, 4 * 64
    assert network(32, "own", layers=1).bytes_per_token() == 4 * (inner + head + recall + share)


@pytest.fixture
def compiled_anew():
    native_build.library.cache_clear()
    yield
    native_build.library.cache_clear()


def test_no_compiler_is_a_reason_and_no_fault(monkeypatch, compiled_anew):
    monkeypatch.setenv("CXX", "a-compiler-that-is-not-there")
    assert "C++ compiler" in str(native.available())


def test_a_compiler_that_fails_is_quoted(monkeypatch, tmp_path, compiled_anew):
    broken = tmp_path / "kernels.cpp"
    broken.write_text("this is no program\n")
    monkeypatch.setattr(native_build, "_SOURCE", broken)
    assert "do not compile" in str(native.available())
