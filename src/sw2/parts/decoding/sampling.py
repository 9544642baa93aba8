"""The choice of the next token: greedy, temperature, the k likeliest, the nucleus.

Notable: the draw for the n-th token of a request is a function of (seed, n) alone, from the counter-based generator
Philox (Salmon et al. 2011, https://doi.org/10.1145/2063384.2063405). So an answer does not depend on what else is in
the batch, and a request can be taken up again at any token without a saved random state.

Sources: the nucleus is Holtzman et al. 2020, https://arxiv.org/abs/1904.09751, section 3.1. The filters are applied in
the order temperature, k likeliest, nucleus.

What it does not do: penalties for repetition, beams, grammars.

Shapes: V vocabulary
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from sw2.base.errors import UsageError

__all__ = ["USUAL", "Sampling", "choose", "probabilities", "uniform"]


@final
@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to choose.

    Args:
        temperature: divides the logits, ≥ 0; 0 takes the likeliest token.
        top_k: keep the k likeliest tokens; 0 keeps all.
        top_p: keep the fewest likeliest tokens whose probabilities reach p, in (0, 1]; 1 keeps all.
        seed: of the draws, in [0, 2⁶⁴).
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, fine, wanted in (
            ("temperature", 0 <= self.temperature < float("inf"), "a number of at least 0"),
            ("top_k", self.top_k >= 0, "a whole number of at least 0"),
            ("top_p", 0 < self.top_p <= 1, "a number above 0 and at most 1"),
            ("seed", 0 <= self.seed < 2**64, "a whole number from 0 to 2⁶⁴ - 1"),
        ):
            if not fine:
                raise UsageError(
                    f"Cannot sample with this {name}.", wanted=wanted, got=getattr(self, name), do=f"Change {name}."
                )


USUAL = Sampling(temperature=0.8, top_p=0.95)
"""What is taken when nobody says otherwise: lively, and the same at every call. The likeliest token, again and again,
makes small models repeat themselves (Holtzman et al., section 1)."""


def uniform(seed: int, index: int) -> float:
    """Return the `index`-th draw of `seed`, uniform in [0, 1)."""
    return float(np.random.Generator(np.random.Philox(key=seed, counter=index)).random())


def probabilities(logits_V: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Return the probabilities that `sampling` leaves, likeliest first, and the tokens they belong to.

    Args:
        logits_V: of the next token.
        sampling: with a temperature above 0.

    Returns:
        float64 probabilities that sum to 1 and int64 tokens, both [number kept].
    """
    kept = min(sampling.top_k or len(logits_V), len(logits_V))
    best, tokens = torch.topk(logits_V.double() / sampling.temperature, kept)
    chances = torch.softmax(best, dim=-1)
    if sampling.top_p < 1:
        before = chances.cumsum(-1) - chances
        inside = int((before < sampling.top_p).sum())
        chances, tokens = chances[:inside] / chances[:inside].sum(), tokens[:inside]
    return chances, tokens


def choose(logits_V: Tensor, sampling: Sampling, index: int) -> int:
    """Return the token that a request takes as its `index`-th.

    Args:
        logits_V: of the next token.
        sampling: how to choose.
        index: how many tokens the request has produced before, ≥ 0.
    """
    if sampling.temperature == 0:
        return int(logits_V.argmax())
    chances, tokens = probabilities(logits_V, sampling)
    place = int(torch.searchsorted(chances.cumsum(-1), uniform(sampling.seed, index), right=True))
    return int(tokens[min(place, len(tokens) - 1)])
