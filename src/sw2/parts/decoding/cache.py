"""Keys and values of earlier tokens, kept so that a new token costs one step and not the whole text again.

Notable: memory for every slot is allocated once; a slot holds one sequence; each sequence has its own length. One step
takes new tokens for any set of slots, any number per slot, so prompts of different lengths run as one batch. A `Rows`
is the view that one such step needs: made once, handed to every layer.

What it does not do: pages shared between sequences (https://arxiv.org/abs/2309.06180), eviction, quantised entries.

Shapes: L layers · N slots · B rows of this step · K key heads · C capacity · S keys in sight · E channels of a head
        T new tokens of the longest row; shorter rows are padded at the end
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, final

import torch
from torch import Tensor, nn

from sw2.base.errors import ResourceError

__all__ = ["CachedStep", "Incremental", "KVCache", "Rows"]


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
        B, T = len(slots), max(counts)
        self._keys_LNKCE, self._values_LNKCE = cache.keys_LNKCE, cache.values_LNKCE
        self._tokens_NC = cache.tokens_NC
        device = self._keys_LNKCE.device
        starts_B = torch.tensor(starts, device=device)
        self.last_B = torch.tensor(counts, device=device) - 1
        self.positions_BT = starts_B[:, None] + torch.arange(T, device=device)
        self._seen = max(start + count for start, count in zip(starts, counts, strict=True))
        self.mask_BTS = torch.arange(self._seen, device=device) <= self.positions_BT[:, :, None]
        # Only real tokens are stored: padding could stand beyond the capacity.
        real_BT = torch.arange(T, device=device) <= self.last_B[:, None]
        self._source = real_BT.nonzero(as_tuple=True)
        slots_B = torch.tensor(slots, device=device)
        self._target = (slots_B[self._source[0]], self.positions_BT[real_BT])
        # Neighbouring slots are read in place; others have to be gathered.
        neighbours = list(slots) == list(range(slots[0], slots[0] + B))
        self._read: slice | Tensor = slice(slots[0], slots[0] + B) if neighbours else slots_B

    def history(self, tokens_BT: Tensor) -> Tensor:
        """Store the new tokens and return all tokens in sight, [B, S]."""
        self._tokens_NC[self._target] = tokens_BT[self._source]
        return self._tokens_NC[self._read, : self._seen]

    def extend(self, layer: int, keys_BKTE: Tensor, values_BKTE: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new tokens of one layer and return all keys and values in sight, each [B, K, S, E]."""
        rows, columns = self._source
        slots, positions = self._target
        seen = []
        for store_LNKCE, new_BKTE in ((self._keys_LNKCE, keys_BKTE), (self._values_LNKCE, values_BKTE)):
            store_NKCE = store_LNKCE[layer]
            store_NKCE[slots, :, positions] = new_BKTE[rows, :, columns].to(store_NKCE.dtype)
            seen.append(store_NKCE[self._read, :, : self._seen].to(new_BKTE.dtype))
        return seen[0], seen[1]


@final
class KVCache:
    """Room for the keys and values of `slots` sequences of at most `capacity` tokens.

    It takes `2 · layers · slots · kv_heads · capacity · head_dim` numbers, all of it from the start, and the token ids,
    for networks that look at them again.
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
        shape = (layers, slots, kv_heads, capacity, head_dim)
        self.slots, self.capacity = slots, capacity
        self.keys_LNKCE = torch.zeros(shape, dtype=dtype, device=device)
        self.values_LNKCE = torch.zeros(shape, dtype=dtype, device=device)
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
        rows = self._cache.rows(slots, starts, [len(row) for row in tokens])
        lines = [torch.tensor(row, device=self._cache.keys_LNKCE.device) for row in tokens]
        tokens_BT = nn.utils.rnn.pad_sequence(lines, batch_first=True)
        return self._network.decode(tokens_BT, rows).float()
