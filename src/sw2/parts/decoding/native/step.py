"""A network described to the kernels, and the step that runs it.

Notable
- Weights are brought into the kernels' order once, in one stretch of memory that asks the system for huge pages (fewer
  page tables to walk: 1.2 to 1.5 times the bandwidth); `NativeStep.reload` puts those of a network that has learned on
  in their place. Matrices of 4 and 8 bits stay so and their inputs are rounded to 8 bits; bf16 and fp32 matrices are
  multiplied in fp32.
- The description and the structures that the kernels read have the same names, and `_mirror` turns one into the other:
  a new part of a network is a field here, a field there, and a line where the kernels use it.

What it does not do: share packed weights between two steps; look at what the numbers mean.

Shapes: R rows · C columns of a matrix · D width · H heads · K key heads · E channels of a head · F hidden
        V vocabulary · L layers · S slots · P positions · N orders of recall
"""

from __future__ import annotations

import ctypes
import mmap
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from itertools import chain
from typing import Any, Final, Literal, final

import torch
from torch import Tensor

from sw2.base.device import usable_cores
from sw2.base.errors import ResourceError, UsageError
from sw2.parts.decoding.native.build import best_path, library

__all__ = ["NativeLayer", "NativeMatrix", "NativeNorm", "NativeStep", "NativeWeights"]

Activation = Literal["swiglu", "gelu", "gelu_tanh", "relu2"]
_ACTIVATIONS: Final = ("swiglu", "gelu", "gelu_tanh", "relu2")  # in the order of the kernels


@final
@dataclass(frozen=True, kw_only=True)
class NativeMatrix:
    """A matrix [R, C], packed like `sw2.parts.layers.packed.Packed` or floating point, and perhaps a bias.

    Attributes:
        bits: 4, 8, 16 (bfloat16) or 32 (float32).
        codes: 4 bits: uint8 [R, C / 2], 8 bits: int8 [R, C]; otherwise the matrix itself.
        scales: float16 [R, C / 32] for 4 and 8 bits.
        minima: float16 [R, C / 32] for 4 bits.
        bias: [R], added to each product.
    """

    bits: Literal[4, 8, 16, 32]
    codes: Tensor
    scales: Tensor | None = None
    minima: Tensor | None = None
    bias: Tensor | None = None

    def __post_init__(self) -> None:
        dtype = {4: torch.uint8, 8: torch.int8, 16: torch.bfloat16, 32: torch.float32}[self.bits]
        groups = (self.rows, self.columns // 32)
        assert (self.codes.dtype, self.codes.device.type) == (dtype, "cpu"), "codes of another type"
        for grouped, wanted in ((self.scales, self.bits <= 8), (self.minima, self.bits == 4)):
            assert (grouped is not None) == wanted, "scales and minima belong to the packed formats"
            assert grouped is None or (grouped.shape == groups and grouped.dtype == torch.float16)
        assert self.bits > 8 or self.columns % 32 == 0, "groups of 32 columns"

    @property
    def rows(self) -> int:
        """R."""
        return self.codes.shape[0]

    @property
    def columns(self) -> int:
        """C."""
        return self.codes.shape[1] * (2 if self.bits == 4 else 1)


@final
@dataclass(frozen=True, kw_only=True)
class NativeNorm:
    """RMSNorm; with a bias LayerNorm. Both [D], or [E] for the heads."""

    weight: Tensor
    bias: Tensor | None = None


@final
@dataclass(frozen=True, kw_only=True)
class NativeLayer:
    """One block.

    Attributes:
        attention_norm: over D.
        qkv: [(H + 2 K) E, D]: all queries, all keys, all values.
        out: [D, H E].
        mlp_norm: over D.
        up: [F, D]; for SwiGLU [2 F, D]: all gates, all ups.
        down: [D, F].
        query_norm: over E, of every query head before it is rotated.
        key_norm: the same of key heads.
    """

    attention_norm: NativeNorm
    qkv: NativeMatrix
    out: NativeMatrix
    mlp_norm: NativeNorm
    up: NativeMatrix
    down: NativeMatrix
    query_norm: NativeNorm | None = None
    key_norm: NativeNorm | None = None

    @property
    def matrices(self) -> tuple[NativeMatrix, ...]:
        """The four, in the order of use."""
        return (self.qkv, self.out, self.up, self.down)


@final
@dataclass(frozen=True, kw_only=True)
class NativeWeights:
    """A decoder; `sw2.domains.language.decoder` tells what its parts do.

    Attributes:
        heads: H.
        kv_heads: K.
        norm_epsilon: of every norm.
        activation: of the feed-forward layers.
        cosines: float32 [P, E / 2], of the rotation; 1 where nothing is turned. P is at least a slot's capacity.
        sines: the same; 0 where nothing is turned.
        slopes: float32 [H], of ALiBi: what a place further away takes off a score; 0 where nothing is taken off.
        embedding: [V, D].
        layers: L blocks.
        norm: the last one.
        head: [V, D]; the embedding itself when tied.
        positions: [P, D], added to the embedding.
        embedding_norm: behind it.
        recall: [D, N D], of the embeddings of the tokens that recall finds.
        share: [1 + N, D], of the softmax and those tokens in the mixture; with `recall` only.
    """

    heads: int
    kv_heads: int
    norm_epsilon: float
    activation: Activation
    cosines: Tensor
    sines: Tensor
    slopes: Tensor
    embedding: NativeMatrix
    layers: tuple[NativeLayer, ...]
    norm: NativeNorm
    head: NativeMatrix
    positions: NativeMatrix | None = None
    embedding_norm: NativeNorm | None = None
    recall: NativeMatrix | None = None
    share: NativeMatrix | None = None

    @property
    def width(self) -> int:
        """D."""
        return self.embedding.columns

    @property
    def head_dim(self) -> int:
        """E."""
        return 2 * self.cosines.shape[1]

    @property
    def hidden(self) -> int:
        """F."""
        return self.layers[0].down.columns

    @property
    def depth(self) -> int:
        """L."""
        return len(self.layers)

    @property
    def orders(self) -> int:
        """N."""
        return 0 if self.recall is None else self.recall.columns // self.width

    @property
    def longest(self) -> int:
        """P, the most tokens that a text can have."""
        return min(len(self.cosines), len(self.cosines) if self.positions is None else self.positions.rows)

    def obstacle(self) -> str | None:
        """Why the kernels cannot run this network; None when they can."""
        for name, size in (("width", self.width), ("head_dim", self.head_dim), ("hidden", self.hidden)):
            if size % 32:
                return f"The native kernels need sizes that are multiples of 32, and {name} is {size}."
        return None

    def bytes_per_token(self) -> int:
        """How many bytes of weights a step reads for one token, the cache not counted."""
        matrices = [*chain.from_iterable(layer.matrices for layer in self.layers), self.head, self.recall, self.share]
        sizes = ((each.rows * each.columns, each.bits) for each in matrices if each is not None)
        return sum(int(size * _bits_per_weight(bits) / 8) for size, bits in sizes)


def _bits_per_weight(bits: int) -> float:
    return bits + {4: 1.0, 8: 0.5}.get(bits, 0.0)


class _Matrix(ctypes.Structure):
    _fields_ = [
        ("panels", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("rows", ctypes.c_int64),
        ("columns", ctypes.c_int64),
        ("format", ctypes.c_int32),
    ]


class _Norm(ctypes.Structure):
    _fields_ = [("weight", ctypes.c_void_p), ("bias", ctypes.c_void_p)]


class _Layer(ctypes.Structure):
    _fields_ = [
        *((name, _Norm) for name in ("attention_norm", "query_norm", "key_norm", "mlp_norm")),
        *((name, _Matrix) for name in ("qkv", "out", "up", "down")),
    ]


class _Network(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("width", "heads", "kv_heads", "head_dim", "hidden", "depth", "orders")),
        ("activation", ctypes.c_int32),
        ("norm_epsilon", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in ("cosines", "sines", "slopes")),
        *((name, _Matrix) for name in ("embedding", "positions", "recall", "head", "share")),
        *((name, _Norm) for name in ("embedding_norm", "norm")),
        ("layers", ctypes.c_void_p),
        ("slots", ctypes.c_int64),
        ("capacity", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("keys", "values", "key_scales", "value_scales")),
    ]


def _stretch(size: int) -> tuple[mmap.mmap, int]:
    """Zeroed memory that asks for huge pages, and its address."""
    memory = mmap.mmap(-1, max(size, 1))
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory, ctypes.addressof(ctypes.c_char.from_buffer(memory))


@final
class NativeStep:
    """A network and its cache, computed by the kernels; see `engine.StepFunction`.

    Args:
        weights: the network; they are copied.
        slots: how many sequences it holds at once.
        capacity: tokens per sequence.
        threads: how many compute; None for every usable core.
        path: one of `build.PATHS`; None for the best that this processor has.
        cache_bits: of the held keys and values: 16 (32 without AVX2), or 8 and a scale for each place of a head.
        source: gives the weights of the moment, for `refresh`; None when they never change.

    Attributes:
        slots: as above.
        capacity: as above.
        path: the instruction set in use.

    Raises:
        UsageError: the network has a shape that the kernels do not know.
        ResourceError: the kernels cannot be compiled here.
    """

    def __init__(
        self,
        weights: NativeWeights,
        slots: int,
        capacity: int,
        threads: int | None = None,
        *,
        path: str | None = None,
        cache_bits: Literal[8, 16] = 16,
        source: Callable[[], NativeWeights] | None = None,
    ) -> None:
        if obstacle := weights.obstacle():
            raise UsageError("The native kernels do not know this shape.", got=obstacle, do="Set SW2_NATIVE=off.")
        assert min(slots, capacity, threads or 1) >= 1
        assert weights.longest >= capacity, "a place for every token"
        self.slots, self.capacity, self.path = slots, capacity, path or best_path()
        self._native = native = library(self.path)
        self._source = source
        self._vocabulary = weights.head.rows
        self._lock = threading.Lock()
        self._places = self._placed(weights)
        network = self._mirror(_Network, weights)
        layers = (_Layer * weights.depth)(*(self._mirror(_Layer, layer) for layer in weights.layers))
        places = weights.depth * slots * weights.kv_heads * -(-capacity // 16) * 16
        size = places * weights.head_dim * (1 if cache_bits == 8 else native.sw2_held_bytes())
        self._cache, network.keys = _stretch(2 * size + 8 * places)
        network.values = network.keys + size
        if cache_bits == 8:
            network.key_scales = network.values + size
            network.value_scales = network.key_scales + 4 * places
        network.layers, network.slots, network.capacity = ctypes.addressof(layers), slots, capacity
        self._stepper = native.sw2_new(ctypes.byref(network), threads or usable_cores())
        weakref.finalize(self, native.sw2_delete, self._stepper)
        self.reload(weights)

    def __call__(self, tokens: Sequence[Sequence[int]], slots: Sequence[int], starts: Sequence[int]) -> Tensor:
        """Return float32 logits [B, V] after the last token of each row; see `engine.StepFunction`.

        Raises:
            ResourceError: a sequence would outgrow its slot.
        """
        counts = [len(row) for row in tokens]
        assert len({*slots} & {*range(self.slots)}) == len(slots), "each row needs a slot of its own"
        assert min(counts) >= 1, "each row needs a token"
        assert min(starts) >= 0
        longest = max(start + count for start, count in zip(starts, counts, strict=True))
        if longest > self.capacity:
            raise ResourceError(
                "The text is longer than the memory kept for it.",
                wanted=f"at most {self.capacity} tokens",
                got=f"{longest} tokens",
                do="Shorten the prompt, ask for fewer new tokens, or use a model with a longer context.",
            )
        flat = list(chain.from_iterable(tokens))
        assert min(flat) >= 0, "a token below the vocabulary"
        assert max(flat) < self._vocabulary, "a token beyond the vocabulary"
        logits = torch.empty(len(counts), -(-self._vocabulary // 16) * 16)
        with self._lock:
            self._native.sw2_step(
                self._stepper, len(counts), *map(_numbers, (counts, flat, slots, starts)), logits.data_ptr()
            )
        return logits[:, : self._vocabulary]

    def copy(self, source: int, target: int, tokens: int) -> None:
        """Let slot `target` hold the first `tokens` tokens of slot `source`."""
        assert {source, target} <= {*range(self.slots)}, "slots that are there"
        assert 0 <= tokens <= self.capacity
        if source != target:
            with self._lock:
                self._native.sw2_copy(self._stepper, source, target, tokens)

    def refresh(self) -> None:
        """Compute with the weights of the moment; see `engine.StepFunction`."""
        if self._source is not None:
            self.reload(self._source())

    def reload(self, weights: NativeWeights) -> None:
        """Compute with other weights of the same shapes and formats; they are copied. What the slots hold was made
        by the old ones, and should be read again.
        """
        parts = _parts(weights)
        assert len(parts) == len(self._places), "a network of the same parts"
        with self._lock:
            for part, (old, address) in zip(parts, self._places.values(), strict=True):
                assert _shape(part) == old, "weights of the same shape"
                if isinstance(part, Tensor):
                    vector = part.detach().float().contiguous()
                    ctypes.memmove(address, vector.data_ptr(), 4 * vector.numel())
                else:
                    kept = [
                        None if each is None else each.contiguous() for each in (part.codes, part.scales, part.minima)
                    ]
                    pointers = (None if each is None else each.data_ptr() for each in kept)
                    matrix = _Matrix(address, None, part.rows, part.columns, part.bits)
                    self._native.sw2_pack(self._stepper, ctypes.byref(matrix), *pointers)

    def _placed(self, weights: NativeWeights) -> dict[int, tuple[tuple[int, ...], int]]:
        """Find room for every part: its shape and address by its identity, in the order of `_parts`."""
        parts = _parts(weights)
        sizes = [
            4 * part.numel()
            if isinstance(part, Tensor)
            else self._native.sw2_matrix_bytes(part.bits, part.rows, part.columns)
            for part in parts
        ]
        # Registers are 64 bytes, and read whole. The kernels ask for weights a little ahead; that never leaves the
        # stretch by more than this.
        rounded = [-(-size // 64) * 64 for size in sizes]
        self._weights, address = _stretch(sum(rounded) + 8192)
        places = {}
        for part, size in zip(parts, rounded, strict=True):
            places[id(part)] = (_shape(part), address)
            address += size
        return places

    def _mirror(self, kind: type[ctypes.Structure], described: object) -> Any:
        """The structure of a part of a network: numbers as they are, weights by their addresses, nothing as zeros."""
        mirrored = kind()
        if isinstance(described, NativeMatrix):
            mirrored.panels, mirrored.format = self._places[id(described)][1], described.bits
        for name, *_ in kind._fields_:
            value = getattr(described, name, None)
            if isinstance(value, Tensor):
                setattr(mirrored, name, self._places[id(value)][1])
            elif isinstance(value, NativeMatrix | NativeNorm):
                setattr(mirrored, name, self._mirror(_Matrix if isinstance(value, NativeMatrix) else _Norm, value))
            elif isinstance(value, str):
                setattr(mirrored, name, _ACTIVATIONS.index(value))
            elif isinstance(value, int | float):
                setattr(mirrored, name, value)
        return mirrored


def _parts(weights: NativeWeights) -> list[NativeMatrix | Tensor]:
    """Every matrix and vector, each once, also the embedding that is the head as well."""

    def inside(described: object) -> Iterator[NativeMatrix | Tensor]:
        if isinstance(described, Tensor):
            yield described
        elif isinstance(described, NativeMatrix):
            yield described
            yield from inside(described.bias)
        elif isinstance(described, tuple):
            for each in described:
                yield from inside(each)
        elif is_dataclass(described):
            for field in fields(described):
                yield from inside(getattr(described, field.name))

    return list({id(part): part for part in inside(weights)}.values())


def _shape(part: NativeMatrix | Tensor) -> tuple[int, ...]:
    return tuple(part.shape) if isinstance(part, Tensor) else (part.rows, part.columns, part.bits)


def _numbers(values: Sequence[int]) -> Any:
    return (ctypes.c_int64 * len(values))(*values)
