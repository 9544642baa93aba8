"""The choice of the next token: biases, penalties for repetition, temperature, three filters, one draw.

The order is fixed:

    logits → + bias → repetition penalty → presence and frequency penalties → only what is allowed
           → temperature → k likeliest → nucleus (top-p) → share of the likeliest (min-p) → draw

It is that of `transformers` and of llama.cpp as far as the two agree. They differ in the temperature, which llama.cpp
applies after the filters; here it comes before them, as in `transformers`. A filter is a lower bound on probabilities,
so tokens that are exactly as likely as the last one kept are kept too.

Notable
- The draw for the n-th token of a request is a function of (seed, n) alone, from the counter-based generator Philox
  (Salmon et al. 2011, https://doi.org/10.1145/2063384.2063405). So an answer does not depend on what else is in the
  batch, and a request can be taken up again at any token without a saved random state.
- A choice must stay small beside the network's step, which takes a tenth of a millisecond in a small one. So it is
  numpy's, whose calls cost less than torch's; the vocabulary is never sorted, only what may belong to the nucleus; and
  a request fetches its uniform numbers many at a time.
- The kept tokens are drawn from in the order of their ids, not of their probabilities: logits that differ in the last
  bit seldom change the draw.

Sources
- nucleus: Holtzman et al. 2020, https://arxiv.org/abs/1904.09751, section 3.1
- min-p: Nguyen et al. 2024, https://arxiv.org/abs/2407.01082, algorithm 1
- repetition penalty: Keskar et al. 2019, https://arxiv.org/abs/1909.05858, section 4.1; as `transformers` has it, which
  multiplies negative logits where the paper would divide them
- presence and frequency penalties, bias: the OpenAI API, https://platform.openai.com/docs/api-reference/completions

What it does not do: beams; what a grammar allows is said from outside (`decoding.constraint`).

Shapes: V vocabulary · N tokens · C tokens to choose from
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sw2.base.errors import ProgramError, UsageError

__all__ = ["USUAL", "Chooser", "Sampling", "draw", "uniforms", "weights"]


COLDEST: Final = 1e-6
"""Temperatures between this and 0 are taken for this: float32 logits divided by less would overflow."""

_LARGEST: Final = 1e30
"""Larger numbers would overflow float32 once they are divided by the coldest temperature."""


@final
@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to choose.

    Args:
        temperature: divides the logits, ≥ 0; 0 takes the likeliest token.
        top_k: keep the k likeliest tokens; 0 keeps all.
        top_p: keep the fewest likeliest tokens whose probabilities reach p, in (0, 1]; 1 keeps all.
        min_p: keep the tokens that are at least this share as likely as the likeliest, in [0, 1]; 0 keeps all.
        repetition_penalty: above 0; divides the positive logits of all tokens of the prompt and the answer, and
            multiplies the negative ones; 1 does nothing.
        presence_penalty: taken off the logits of the answer's tokens.
        frequency_penalty: taken off once for each time that a token stands in the answer.
        logit_bias: pairs (token, number): the number is added to the token's logit.
        seed: of the draws, in [0, 2⁶⁴).
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        biased = [token for token, _ in self.logit_bias]
        for name, fine, wanted in (
            ("temperature", 0 <= self.temperature < math.inf, "a number of at least 0"),
            ("top_k", self.top_k >= 0, "a whole number of at least 0"),
            ("top_p", 0 < self.top_p <= 1, "a number above 0 and at most 1"),
            ("min_p", 0 <= self.min_p <= 1, "a number from 0 to 1"),
            ("repetition_penalty", 1e-6 <= self.repetition_penalty <= 1e6, "a number from 1e-6 to 1e6"),
            ("presence_penalty", abs(self.presence_penalty) <= _LARGEST, "a number from -1e30 to 1e30"),
            ("frequency_penalty", abs(self.frequency_penalty) <= _LARGEST, "a number from -1e30 to 1e30"),
            (
                "logit_bias",
                len(set(biased)) == len(biased)
                and all(token >= 0 and abs(bias) <= _LARGEST for token, bias in self.logit_bias),
                "a number from -1e30 to 1e30 for each token, and each token once",
            ),
            ("seed", 0 <= self.seed < 2**64, "a whole number from 0 to 2⁶⁴ - 1"),
        ):
            if not fine:
                raise UsageError(
                    f"Cannot sample with this {name}.", wanted=wanted, got=getattr(self, name), do=f"Change {name}."
                )


USUAL = Sampling(temperature=0.8, top_p=0.95)
"""What is taken when nobody says otherwise: lively, and the same at every call. The likeliest token, again and again,
makes small models repeat themselves (Holtzman et al., section 1)."""

BLOCK: Final = 256
"""How many weights the lower level of a draw holds."""

AHEAD: Final = 32
"""How many draws a request fetches at once."""


def uniforms(seed: int, first: int, count: int) -> NDArray[np.float64]:
    """Return the draws of `seed` from the `first` on, uniform in [0, 1)."""
    # Each value of the counter gives four numbers, of which a draw is the first.
    return np.random.Generator(np.random.Philox(key=seed, counter=first)).random(4 * count)[::4]


def weights(logits_V: Tensor, sampling: Sampling) -> Tensor:
    """Apply temperature and filters.

    Args:
        logits_V: of the next token, float32 on the CPU; biases and penalties are in them already.
        sampling: with a temperature above 0.

    Returns:
        float32 [V], proportional to the probabilities, 1 for the likeliest token; 0 where a filter dropped one.
    """
    weights_V, least = _weights(logits_V.numpy(), sampling)
    return torch.from_numpy(np.where(weights_V < least, np.float32(0), weights_V))


def _weights(logits_V: NDArray[np.float32], sampling: Sampling) -> tuple[NDArray[np.float32], float]:
    """Numbers proportional to the probabilities, the largest 1, and the least that the filters keep."""
    weights_V = logits_V - logits_V.max()
    with np.errstate(over="ignore"):  # what is divided to -inf has the weight 0
        weights_V /= np.float32(max(sampling.temperature, COLDEST))
    np.exp(weights_V, out=weights_V)
    least = sampling.min_p
    if 0 < sampling.top_k < len(weights_V):
        best = torch.topk(torch.from_numpy(weights_V), sampling.top_k).values.numpy()
        least = max(least, float(best[-1]))
        if sampling.top_p < 1:
            least = max(least, _passing(best, sampling.top_p * best.sum(dtype=np.float64)))
    elif sampling.top_p < 1:
        total = weights_V.sum(dtype=np.float64)
        # All tokens with less than this share together have less than 1 - p.
        rare = (1 - sampling.top_p) * total / len(weights_V)
        best = np.sort(weights_V[weights_V >= rare])[::-1]
        least = max(least, _passing(best, sampling.top_p * total))
    return weights_V, least


def _passing(best: NDArray[np.float32], wanted: float) -> float:
    """That of the falling weights `best` whose running sum is the first to reach `wanted`; otherwise the last."""
    reached = best.cumsum(dtype=np.float64)
    return float(best[min(int(reached.searchsorted(wanted)), len(best) - 1)])


def draw(weights_N: NDArray[np.float32], share: float) -> int:
    """Return the index at which the running sum of `weights_N` passes `share`, in [0, 1), of the whole sum."""
    sums = np.add.reduceat(weights_N, np.arange(0, len(weights_N), BLOCK)).cumsum(dtype=np.float64)
    # The smaller of two: rounding may lift the product to the whole sum, which nothing passes.
    target = min(share * float(sums[-1]), math.nextafter(sums[-1], 0))
    block = int(sums.searchsorted(target, side="right"))
    inside = weights_N[block * BLOCK : (block + 1) * BLOCK].cumsum(dtype=np.float64)
    target = min(target - (float(sums[block - 1]) if block else 0.0), math.nextafter(inside[-1], 0))
    return block * BLOCK + int(inside.searchsorted(target, side="right"))


@final
class Chooser:
    """Chooses the tokens of one request, one after the other.

    Args:
        sampling: how.
        prompt: what the request started from.
        answer: the tokens chosen before, when a request is taken up again.
    """

    def __init__(self, sampling: Sampling, prompt: Sequence[int], answer: Sequence[int] = ()) -> None:
        self._sampling = sampling
        self._index = 0
        self._uniforms: NDArray[np.float64] = np.zeros(0)  # those of the indices below _fetched
        self._fetched = 0
        self._biased = np.array([token for token, _ in sampling.logit_bias], dtype=np.int64)
        self._biases = np.array([bias for _, bias in sampling.logit_bias], dtype=np.float32)
        self._repeats = sampling.repetition_penalty != 1
        self._penalises = self._repeats or bool(sampling.presence_penalty or sampling.frequency_penalty)
        # The different tokens so far and how often each stands in the answer, in arrays that grow by doubling.
        self._place: dict[int, int] = {}
        self._seen_N = np.zeros(64, dtype=np.int64)
        self._times_N = np.zeros(64, dtype=np.float32)
        if self._repeats:
            for token in prompt:
                self._note(token, 0)
        for token in answer:
            self._chosen(token)

    def choose(self, logits_V: Tensor, allowed_C: NDArray[np.int64] | None = None) -> int:
        """Return the next token and remember it.

        Args:
            logits_V: of the next token, float32.
            allowed_C: the tokens to choose from, rising, at least one; None allows all.

        Raises:
            ProgramError: the network gave no numbers.
        """
        logits = self.adjusted(logits_V.cpu()).numpy()
        if allowed_C is not None:
            logits = logits[allowed_C]
        largest = float(logits.max())
        if not abs(largest) <= _LARGEST:  # false for nan too
            raise ProgramError(
                "The network gives no numbers to choose by.",
                wanted="finite logits",
                got=largest,
                do="Check the weights, and the number format that they are computed in.",
            )
        place = self._pick(logits)
        token = place if allowed_C is None else int(allowed_C[place])
        self._chosen(token)
        return token

    def _pick(self, logits_C: NDArray[np.float32]) -> int:
        if self._sampling.temperature == 0:
            # numpy's, because torch does not promise which of several equals it returns.
            return int(logits_C.argmax())
        weights_C, least = _weights(logits_C, self._sampling)
        kept_N = (weights_C >= least).nonzero()[0]
        return int(kept_N[draw(weights_C[kept_N], self._uniform())])

    def adjusted(self, logits_V: Tensor) -> Tensor:
        """Return the logits with biases and penalties; `logits_V` itself when there are none."""
        if not (len(self._biased) or self._penalises):
            return logits_V
        logits = logits_V.numpy().copy()
        logits[self._biased] += self._biases
        if self._penalises:
            sampling, count = self._sampling, len(self._place)
            seen_N, times_N = self._seen_N[:count], self._times_N[:count]
            found_N = logits[seen_N]
            penalty = np.float32(sampling.repetition_penalty)
            found_N = np.where(found_N < 0, found_N * penalty, found_N / penalty)
            found_N -= np.float32(sampling.presence_penalty) * (times_N > 0)
            found_N -= np.float32(sampling.frequency_penalty) * times_N
            logits[seen_N] = found_N
        return torch.from_numpy(logits)

    def _uniform(self) -> float:
        """`uniform` of the next index; a generator costs as much as hundreds of numbers."""
        if not self._fetched - len(self._uniforms) <= self._index < self._fetched:
            self._uniforms = uniforms(self._sampling.seed, self._index, AHEAD)
            self._fetched = self._index + AHEAD
        return float(self._uniforms[self._index - self._fetched])

    def _chosen(self, token: int) -> None:
        self._index += 1
        if self._penalises:
            self._note(token, 1)

    def _note(self, token: int, times: int) -> None:
        place = self._place.setdefault(token, len(self._place))
        if place == len(self._seen_N):
            self._seen_N = np.concatenate([self._seen_N, np.zeros_like(self._seen_N)])
            self._times_N = np.concatenate([self._times_N, np.zeros_like(self._times_N)])
        self._seen_N[place] = token
        self._times_N[place] += times
