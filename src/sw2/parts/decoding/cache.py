"""Keys and values of earlier tokens, kept so that a new token costs one step and not the whole text again.

Notable
- Memory for every slot is allocated once; a slot holds one sequence; each sequence has its own length. One step takes
  new tokens for any set of slots, any number per slot, so prompts of different lengths run as one batch.
- A `Rows` is the view that one such step needs: made once, handed to every layer. All that does not depend on the
  layer is worked out there, because a decode step has hundreds of operations that each take microseconds.
- With dtype int8 each key and each value of a head is held as whole numbers from -127 to 127 and one float32 scale:
  `x ≈ scale · code`, scale = max |x| / 127. For 64 channels that is 3.76 times smaller than float32.

What it does not do: pages shared between sequences (https://arxiv.org/abs/2309.06180), eviction.

Shapes: L layers · N slots · B rows of this step · K key heads · C capacity · S keys in sight · E channels of a head
        T new tokens of the longest row; shorter rows are padded at the end · M real new tokens of all rows
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, final

import torch
from torch import Tensor

from sw2.base.errors import ResourceError

__all__ = ["CachedStep", "Incremental", "KVCache", "Rows"]


def _pack(new_ME: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """What is held of `new_ME`: the same numbers, or int8 codes [M, E] and their scales [M, 1]."""
    if dtype != torch.int8:
        return (new_ME.to(dtype),)
    new_ME = new_ME.float()
    # Zeros have any scale; this one divides.
    scales_M1 = (new_ME.abs().amax(-1, keepdim=True) / 127).clamp_min_(1e-30)
    return (new_ME / scales_M1).round_().to(torch.int8), scales_M1


def _unpack(held: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """The numbers that `_pack` was given, or nearly so."""
    return held[0].to(dtype) if len(held) == 1 else (held[0] * held[1]).to(dtype)


@final
class Rows:
    """One step's window on a cache: where the new tokens stand, and what they may look at.

    Attributes:
        positions_BT: int64, the place of each new token in its sequence.
        mask_BTS: true where the key at position s is not later than the query at t. Padding after the end of a row
            sees what it likes, and nobody looks at it.
        last_B: the index in T of each row's last real token.
    """

    def __init__(self, cache: KVCache, slots: Sequence[int], starts: Sequence[int], counts: Sequence[int]) -> None:
        B, T, K, C = len(slots), max(counts), cache.kv_heads, cache.capacity
        self._cache = cache
        self._seen = max(start + count for start, count in zip(starts, counts, strict=True))
        device = cache.tokens_NC.device
        slots_B1, starts_B1, counts_B1 = torch.tensor([slots, starts, counts], device=device)[..., None]
        steps_T = torch.arange(T, device=device)
        self.last_B = counts_B1[:, 0] - 1
        self.positions_BT = starts_B1 + steps_T
        self.mask_BTS = torch.arange(self._seen, device=device) <= self.positions_BT[..., None]
        # Only real tokens are stored: padding could stand beyond the capacity.
        self._real_M = (steps_T < counts_B1).flatten().nonzero()[:, 0] if min(counts) < T else None
        self._places_M = self._only_real((slots_B1 * C + self.positions_BT).flatten())
        # The same as (slot, head, position) among the N · K · C places of a layer, head by head: M · K of them.
        heads_K = torch.arange(K, device=device) * C
        before_M = self._places_M + self._places_M // C * ((K - 1) * C)
        self._lines = (before_M[:, None] + heads_K).flatten()
        # Neighbouring slots are read in place; others have to be gathered.
        neighbours = list(slots) == list(range(slots[0], slots[0] + B))
        self._read = slice(slots[0], slots[0] + B) if neighbours else slice(None)
        self._gather_B = None if neighbours else slots_B1[:, 0]
        self._keys, self._values = (
            [held[:, self._read, :, : self._seen].unbind(0) for held in store] for store in (cache.keys, cache.values)
        )

    def history(self, tokens_BT: Tensor) -> Tensor:
        """Store the new tokens and return all tokens in sight, [B, S]."""
        self._cache.tokens_NC.view(-1)[self._places_M] = self._only_real(tokens_BT.flatten())
        return self._gathered(self._cache.tokens_NC[self._read, : self._seen])

    def extend(self, layer: int, keys_BKTE: Tensor, values_BKTE: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new tokens of one layer and return all keys and values in sight, each [B, K, S, E]."""
        self._store(self._cache.key_lines, layer, keys_BKTE)
        self._store(self._cache.value_lines, layer, values_BKTE)
        return self._seen_of(self._keys, layer, keys_BKTE.dtype), self._seen_of(self._values, layer, values_BKTE.dtype)

    def _store(self, lines: Sequence[Sequence[Tensor]], layer: int, new_BKTE: Tensor) -> None:
        new_ME = self._only_real(new_BKTE.transpose(1, 2).flatten(0, 1)).flatten(0, 1)
        for line, packed in zip(lines, _pack(new_ME, self._cache.dtype), strict=True):
            line[layer].index_copy_(0, self._lines, packed)

    def _seen_of(self, views: Sequence[Sequence[Tensor]], layer: int, dtype: torch.dtype) -> Tensor:
        return _unpack([self._gathered(view[layer]) for view in views], dtype)

    def _only_real(self, x_R: Tensor) -> Tensor:
        """Those of the B · T rows of `x_R` that are no padding."""
        return x_R if self._real_M is None else x_R[self._real_M]

    def _gathered(self, x_N: Tensor) -> Tensor:
        return x_N if self._gather_B is None else x_N[self._gather_B]


@final
class KVCache:
    """Room for the keys and values of `slots` sequences of at most `capacity` tokens.

    It takes `2 · layers · slots · kv_heads · capacity · head_dim` numbers, all of it from the start, and the token ids,
    for networks that look at them again.

    Args:
        layers: L.
        slots: N.
        kv_heads: K.
        capacity: C.
        head_dim: E.
        dtype: floating point, or int8 for 8 bits and a scale; see the top of this file.
        device: where.

    Attributes:
        keys: [L, N, K, C, E], and for int8 the scales [L, N, K, C, 1].
        values: the same.
        key_lines: of each tensor of `keys` its layers, as lists of N · K · C places.
        value_lines: the same of `values`.
        tokens_NC: the token ids.
    """

    def __init__(
        self,
        *,
        layers: int,
        slots: int,
        kv_heads: int,
        capacity: int,
        head_dim: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.slots, self.capacity, self.kv_heads, self.dtype = slots, capacity, kv_heads, dtype
        shapes = [(head_dim, dtype), (1, torch.float32)] if dtype == torch.int8 else [(head_dim, dtype)]
        self.keys, self.values = (
            [torch.zeros(layers, slots, kv_heads, capacity, last, dtype=kind, device=device) for last, kind in shapes]
            for _ in range(2)
        )
        self.key_lines, self.value_lines = (
            [held.flatten(1, 3).unbind(0) for held in store] for store in (self.keys, self.values)
        )
        self.tokens_NC = torch.zeros(slots, capacity, dtype=torch.int64, device=device)

    def rows(self, slots: Sequence[int], starts: Sequence[int], counts: Sequence[int]) -> Rows:
        """Open a window for one step.

        Args:
            slots: the slot of each row, all different.
            starts: how many tokens of each sequence are in the cache already; what stands beyond is forgotten.
            counts: how many new tokens each row brings, at least 1.

        Raises:
            ResourceError: a sequence would outgrow its slot.
        """
        assert len(set(slots)) == len(slots), "each row needs its own slot"
        assert min(counts) >= 1, "each row needs a token"
        longest = max(start + count for start, count in zip(starts, counts, strict=True))
        if longest > self.capacity:
            raise ResourceError(
                "The text is longer than the memory kept for it.",
                wanted=f"at most {self.capacity} tokens",
                got=f"{longest} tokens",
                do="Shorten the prompt, ask for fewer new tokens, or use a model with a longer context.",
            )
        return Rows(self, slots, starts, counts)

    def copy(self, source: int, target: int, tokens: int) -> None:
        """Let slot `target` hold the first `tokens` tokens of slot `source`."""
        for held in (*self.keys, *self.values):
            held[:, target, :, :tokens] = held[:, source, :, :tokens]
        self.tokens_NC[target, :tokens] = self.tokens_NC[source, :tokens]


class Incremental(Protocol):
    """A network that can go on where the cache ends."""

    def decode(self, tokens_BT: Tensor, rows: Rows) -> Tensor:
        """Return the logits [B, V] after each row's last real token, storing keys and values in `rows`."""
        ...


@final
class CachedStep:
    """A network and its cache, as the one function that `decoding.engine.Engine` calls.

    Args:
        network: what computes; put it in evaluation mode first.
        cache: what it remembers.
    """

    def __init__(self, network: Incremental, cache: KVCache) -> None:
        self.slots, self.capacity = cache.slots, cache.capacity
        self._network, self._cache = network, cache

    @torch.inference_mode()
    def __call__(self, tokens: Sequence[Sequence[int]], slots: Sequence[int], starts: Sequence[int]) -> Tensor:
        """Return float32 logits [B, V] after the last token of each row; see `engine.StepFunction`."""
        counts = [len(row) for row in tokens]
        rows = self._cache.rows(slots, starts, counts)
        padded = [[*row, *[0] * (max(counts) - len(row))] for row in tokens]
        return self._network.decode(torch.tensor(padded, device=self._cache.tokens_NC.device), rows).float()

    @torch.inference_mode()
    def copy(self, source: int, target: int, tokens: int) -> None:
        """Let slot `target` hold the first `tokens` tokens of slot `source`; see `engine.StepFunction`."""
        self._cache.copy(source, target, tokens)

    def refresh(self) -> None:
        """Do nothing: the network itself computes, not a copy of its weights."""
