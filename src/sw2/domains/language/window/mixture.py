"""Several language models as one: their probabilities of the same tokens, added up with fixed weights.

    p(w) = Σ_k λ_k p_k(w),   λ ≥ 0,  Σ λ = 1

A network over words and an n-gram model err in different places, so that the mixture is better than either; the paper
takes halves. `fitted` finds the weights under which held-out tokens are likeliest, by EM: each step sets λ_k to the
mean share that model k has in the mixture's probability. The log-likelihood is concave in λ, so the steps lead to its
maximum.

Sources: Bengio et al. 2003, JMLR 3:1137-1155, section 4.2 (a weight of 0.5); Jelinek and Mercer 1980, "Interpolated
estimation of Markov source parameters from sparse data" (weights from held-out text).

Shapes: K models, N tokens
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sw2.base.errors import UsageError

__all__ = ["fitted", "mixed", "perplexity"]

_MOST_STEPS: Final = 1000
_STILL: Final = 1e-6


def mixed(chances_KN: NDArray[np.float64], weights_K: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mixture's probability of each token, float64 [N].

    Args:
        chances_KN: each model's probability of each token, above 0.
        weights_K: λ, at least 0, together 1.

    Raises:
        UsageError: the weights are no shares of a whole.
    """
    if min(weights_K) < 0 or not np.isclose(sum(weights_K), 1.0):
        raise UsageError("Weights of a mixture are shares.", wanted="at least 0, together 1", got=list(weights_K))
    return np.asarray(weights_K @ chances_KN)


def fitted(chances_KN: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weights λ under which the tokens are likeliest, float64 [K].

    Args:
        chances_KN: each model's probability of each token of a text that no model learned from, above 0.
    """
    weights_K = np.full(len(chances_KN), 1 / len(chances_KN))
    for _ in range(_MOST_STEPS):
        before = weights_K
        weights_K = weights_K * (chances_KN / mixed(chances_KN, weights_K)).mean(1)
        weights_K /= weights_K.sum()
        if np.abs(weights_K - before).max() < _STILL:
            break
    return weights_K


def perplexity(chances_N: NDArray[np.float64]) -> float:
    """Return exp(-mean ln p): among how many equally likely tokens the model might as well have chosen."""
    return float(np.exp(-np.log(chances_N).mean()))
