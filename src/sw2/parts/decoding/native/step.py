"""A network described to the kernels, and the step that runs it.

Notable: weights are brought into the kernels' order once, in one stretch of memory that asks the system for huge pages
(fewer page tables to walk: 1.2 to 1.5 times the bandwidth). Matrices of 4 and 8 bits stay so and their inputs are
rounded to 8 bits; bf16 and fp32 matrices are multiplied in fp32.

What it does not do: share packed weights between two steps; look at what the numbers mean.

Shapes: R rows · C columns of a matrix · D width · H heads · K key heads · E channels of a head · F hidden
        V vocabulary · L layers · N slots · P capacity
"""

from __future__ import annotations

import ctypes
import mmap
import threading
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, final

import torch
from torch import Tensor

from sw2.base.device import usable_cores
from sw2.base.errors import ResourceError, UsageError
from sw2.parts.decoding.native.build import best_path, library

__all__ = ["NativeLayer", "NativeMatrix", "NativeStep", "NativeWeights"]


@final
@dataclass(frozen=True, kw_only=True)
class NativeMatrix:
    """A matrix [R, C], packed like `sw2.parts.layers.packed.Packed` or floating point.

    Attributes:
        bits: 4, 8, 16 (bfloat16) or 32 (float32).
        codes: 4 bits: uint8 [R, C / 2], 8 bits: int8 [R, C]; otherwise the matrix itself.
        scales: float16 [R, C / 32] for 4 and 8 bits.
        minima: float16 [R, C / 32] for 4 bits.
    """

    bits: Literal[4, 8, 16, 32]
    codes: Tensor
    scales: Tensor | None = None
    minima: Tensor | None = None

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
class NativeLayer:
    """One block. Vectors are float32.

    Attributes:
        attention_norm: [D].
        qkv: [(H + 2 K) E, D]: all queries, all keys, all values.
        out: [D, H E].
        mlp_norm: [D].
        gate_up: [2 F, D]: all gates, all ups.
        down: [D, F].
        qkv_bias: [(H + 2 K) E].
        query_norm: [E], for RMSNorm of every query head before it is rotated.
        key_norm: [E], the same of key heads.
    """

    attention_norm: Tensor
    qkv: NativeMatrix
    out: NativeMatrix
    mlp_norm: Tensor
    gate_up: NativeMatrix
    down: NativeMatrix
    qkv_bias: Tensor | None = None
    query_norm: Tensor | None = None
    key_norm: Tensor | None = None

    @property
    def matrices(self) -> tuple[NativeMatrix, ...]:
        """The four, in the order of use."""
        return (self.qkv, self.out, self.gate_up, self.down)


@final
@dataclass(frozen=True, kw_only=True)
class NativeWeights:
    """A network of the LLaMA family.

    Attributes:
        heads: H.
        kv_heads: K.
        norm_epsilon: of every RMSNorm.
        cosines: float32 [positions, E / 2], of the rotation; at least as many positions as a slot has capacity.
        sines: the same.
        embedding: [V, D].
        layers: L blocks.
        norm: float32 [D], of the last RMSNorm.
        head: [V, D]; the embedding itself when tied.
    """

    heads: int
    kv_heads: int
    norm_epsilon: float
    cosines: Tensor
    sines: Tensor
    embedding: NativeMatrix
    layers: tuple[NativeLayer, ...]
    norm: Tensor
    head: NativeMatrix

    @property
    def head_dim(self) -> int:
        """E."""
        return 2 * self.cosines.shape[1]

    def obstacle(self) -> str | None:
        """Why the kernels cannot run this network; None when they can."""
        sizes = {"width": self.embedding.columns, "head_dim": self.head_dim}
        for layer in self.layers:
            sizes["hidden"] = layer.down.columns
        for name, size in sizes.items():
            if size % 32:
                return f"The native kernels need sizes that are multiples of 32, and {name} is {size}."
        return None

    def bytes_per_token(self) -> int:
        """How many bytes of weights a step reads for one token, the cache not counted."""
        matrices = [*chain.from_iterable(layer.matrices for layer in self.layers), self.head]
        return sum(int(matrix.rows * matrix.columns * _bits_per_weight(matrix.bits) / 8) for matrix in matrices)


def _bits_per_weight(bits: int) -> float:
    return bits + {4: 1.0, 8: 0.5}.get(bits, 0.0)


class _Matrix(ctypes.Structure):
    _fields_ = [
        ("panels", ctypes.c_void_p),
        ("rows", ctypes.c_int64),
        ("columns", ctypes.c_int64),
        ("format", ctypes.c_int32),
    ]


class _Layer(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("attention_norm", "mlp_norm", "qkv_bias", "query_norm", "key_norm")),
        *((name, _Matrix) for name in ("qkv", "out", "gate_up", "down")),
    ]


class _Network(ctypes.Structure):
    _fields_ = [
        *(
            (name, ctypes.c_int64)
            for name in ("width", "heads", "kv_heads", "channels", "hidden", "layers", "slots", "capacity")
        ),
        ("epsilon", ctypes.c_float),
        ("layer", ctypes.c_void_p),
        ("norm", ctypes.c_void_p),
        ("embedding", _Matrix),
        ("head", _Matrix),
        *((name, ctypes.c_void_p) for name in ("cosines", "sines", "keys", "values")),
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
    ) -> None:
        if obstacle := weights.obstacle():
            raise UsageError("The native kernels do not know this shape.", got=obstacle, do="Set SW2_NATIVE=off.")
        assert min(slots, capacity, threads or 1) >= 1
        assert len(weights.cosines) >= capacity, "a rotation for every position"
        self.slots, self.capacity, self.path = slots, capacity, path or best_path()
        self._native = native = library(self.path)
        self._vocabulary = weights.head.rows
        self._lock = threading.Lock()
        self._kept: list[Any] = []  # memory that the kernels point into
        self._places: dict[int, _Matrix] = {}
        self._pack(weights)
        layers = (_Layer * len(weights.layers))(*(self._layer(layer) for layer in weights.layers))
        self._kept.append(layers)
        line = -(-capacity // 16) * 16 * weights.head_dim
        cache = [
            self._keep_stretch(len(layers) * slots * weights.kv_heads * line * native.sw2_held_bytes())
            for _ in range(2)
        ]
        network = _Network(
            weights.embedding.columns,
            weights.heads,
            weights.kv_heads,
            weights.head_dim,
            weights.layers[0].down.columns,
            len(layers),
            slots,
            capacity,
            weights.norm_epsilon,
            ctypes.addressof(layers),
            self._vector(weights.norm),
            self._places[id(weights.embedding)],
            self._places[id(weights.head)],
            self._vector(weights.cosines),
            self._vector(weights.sines),
            *cache,
        )
        self._stepper = native.sw2_new(ctypes.byref(network), threads or usable_cores())
        weakref.finalize(self, native.sw2_delete, self._stepper)

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

    def _pack(self, weights: NativeWeights) -> None:
        """Bring every matrix into panels, the embedding only once when it is also the head."""
        matrices = {id(matrix): matrix for matrix in _matrices(weights)}
        sizes = {
            key: -(-self._native.sw2_matrix_bytes(each.bits, each.rows, each.columns) // 64) * 64
            for key, each in matrices.items()
        }
        # The kernels ask for weights a little ahead; that never leaves the stretch by more than this.
        address = self._keep_stretch(sum(sizes.values()) + 8192)
        for key, each in matrices.items():
            codes, scales, minima = (
                None if part is None else part.contiguous() for part in (each.codes, each.scales, each.minima)
            )
            pointers = (None if part is None else part.data_ptr() for part in (codes, scales, minima))
            self._native.sw2_pack(each.bits, each.rows, each.columns, *pointers, address)
            self._places[key] = _Matrix(address, each.rows, each.columns, each.bits)
            address += sizes[key]

    def _layer(self, layer: NativeLayer) -> _Layer:
        vectors = (layer.attention_norm, layer.mlp_norm, layer.qkv_bias, layer.query_norm, layer.key_norm)
        return _Layer(*map(self._vector, vectors), *(self._places[id(matrix)] for matrix in layer.matrices))

    def _vector(self, vector: Tensor | None) -> int | None:
        if vector is None:
            return None
        kept = vector.detach().float().contiguous().clone()
        self._kept.append(kept)
        return kept.data_ptr()

    def _keep_stretch(self, size: int) -> int:
        memory, address = _stretch(size)
        self._kept.append(memory)
        return address


def _matrices(weights: NativeWeights) -> Iterator[NativeMatrix]:
    for layer in weights.layers:
        yield from layer.matrices
    yield weights.head
    yield weights.embedding


def _numbers(values: Sequence[int]) -> Any:
    return (ctypes.c_int64 * len(values))(*values)
