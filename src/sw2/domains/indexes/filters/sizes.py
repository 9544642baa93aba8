"""How many bits which rate of false answers costs: a Bloom filter, and one with a classifier between two of them.

A Bloom filter of n keys, k bits each, in m bits in all answers wrongly with (1 - e^(-kn/m))^k.

The sandwich: a front filter holds all keys; what passes is scored; what scores enough passes; what does not is asked of
a back filter, which holds the keys that score too little. With F_p the share of others that score enough, F_n that of
keys that do not, α and β the rates of front and back:

    rate = α (F_p + (1 - F_p) β)

and the fewest bits have β = F_p F_n / ((1 - F_p) (1 - F_n)), whatever the rate: from there on more bits belong in
front. Where that leaves nothing to do for the front (α >= 1) there is none, and β = (rate - F_p) / (1 - F_p).

Sources: Bloom 1970, https://doi.org/10.1145/362686.362692; a classifier and a filter behind it: Kraska et al. 2018,
https://arxiv.org/abs/1712.01208, section 5; one before it: Mitzenmacher 2018, https://arxiv.org/abs/1901.00902.

What it does not do: filters that are smaller than Bloom's and cannot be added to (XOR, ribbon).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

__all__ = ["MOST_BITS", "Field", "Sandwich", "field_for", "sandwich"]

MOST_BITS: Final = (1 << 32) - 1
"""Of one filter: bits are named by the high half of a hash."""

_LEAST: Final = 1e-9  # of a rate: where no key is missed, a filter of nothing has any


@dataclass(frozen=True, kw_only=True)
class Field:
    """The size of a Bloom filter.

    Args:
        bits: in all, found while fitting; 0 where there is no filter, which denies nothing.
        hashes: how many of them a key has; found while fitting.
    """

    bits: int = 0
    hashes: int = 0

    @property
    def words(self) -> int:
        """Numbers of 64 bits that hold them."""
        return -(-self.bits // 64)


def field_for(keys: int, rate: float) -> Field:
    """The smallest Bloom filter of so many keys and that rate, in (0, 1]; none where the rate is 1 or there is no key.

    >>> field_for(1000, 0.01)
    Field(bits=9593, hashes=7)
    """
    assert 0 < rate <= 1
    if rate == 1 or keys == 0:
        return Field()
    best = max(1.0, math.log2(1 / rate))
    sizes = [
        Field(bits=max(1, math.ceil(-k * keys / math.log1p(-(rate ** (1 / k))))), hashes=k)
        for k in {math.floor(best), math.ceil(best)}
    ]
    return min(sizes, key=lambda each: each.bits)


@dataclass(frozen=True, kw_only=True)
class Sandwich:
    """Rates of the filters around a classifier, front and back, and the bits that they cost a key."""

    front: float
    back: float
    bits: float


def sandwich(rate: float, others: float, missed: float) -> Sandwich | None:
    """The rates that cost the fewest bits; None where the classifier is of no use.

    Args:
        rate: to reach, in (0, 1).
        others: F_p, in [0, 1].
        missed: F_n, in [0, 1].
    """
    if others >= 1 or missed >= 1:
        return None
    back = max(_LEAST, others * missed / ((1 - others) * (1 - missed)))
    passed = others + (1 - others) * back
    front = rate / passed if passed > rate else 1.0
    if front == 1:
        back = (rate - others) / (1 - others)
    if not 0 < back < 1:
        return None
    return Sandwich(front=front, back=back, bits=_bits(front) + missed * _bits(back))


def _bits(rate: float) -> float:
    """Of a key, by the formula without whole numbers."""
    return math.log(1 / rate) / math.log(2) ** 2
