"""How likely a network finds given tokens: ln p of each, and of the likeliest in its place.

These are the network's own probabilities: before biases, penalties, temperature and filters. So they do not depend on
how tokens are chosen, and a chosen token has the same number as the same token scored afterwards.

What it does not do: perplexities and bits per byte (the tasks', who know the bytes).

Shapes: B texts of a batch · T tokens · N tokens to score · K likeliest · V vocabulary
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from sw2.base.errors import UsageError

__all__ = ["Likelihood", "likelihoods", "score"]


@final
@dataclass(frozen=True)
class Likelihood:
    """ln p of `token`, and the likeliest tokens in its place with theirs, the likeliest first."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


def likelihoods(logits_NV: Tensor, tokens: Sequence[int], top: int) -> list[Likelihood]:
    """Compare each token with all others in its place.

    Args:
        logits_NV: what the network gave there.
        tokens: N of them.
        top: how many of the likeliest to name, ≥ 0.
    """
    tokens_N = torch.tensor(tokens, dtype=torch.int64, device=logits_NV.device)
    logits_NV = logits_NV.float()
    sums_N1 = logits_NV.logsumexp(-1, keepdim=True)
    logprobs = (logits_NV.gather(-1, tokens_N[:, None]) - sums_N1)[:, 0].tolist()
    best = torch.topk(logits_NV, min(top, logits_NV.shape[-1]))
    named = zip(best.indices.tolist(), (best.values - sums_N1).tolist(), strict=True)
    return [
        Likelihood(token, logprob, tuple(zip(*names, strict=True)))
        for token, logprob, names in zip(tokens, logprobs, named, strict=True)
    ]


def score(
    logits_of: Callable[[Tensor], Tensor],
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    context: int,
    top: int = 0,
    batch_tokens: int = 1024,
) -> list[list[Likelihood]]:
    """Score the second text of each pair as the continuation of the first (teacher forcing).

    Args:
        logits_of: tokens int64 [B, T] to logits [B, T, V] of a network in which no token sees a later one.
        pairs: tokens of a prompt, at least one, and of its continuation.
        context: the most tokens that the network reads at once.
        top: how many of the likeliest tokens to name in each place.
        batch_tokens: how many tokens to read at once, padding included; one text may have more.

    Returns:
        For each pair, in order, a `Likelihood` for each token of the continuation.

    Raises:
        UsageError: a prompt is empty, or a pair has more tokens than the network can read.
    """
    for index, (prompt, continuation) in enumerate(pairs):
        if not prompt or len(prompt) + len(continuation) > context + 1:
            raise UsageError(
                "A text is too long to score." if prompt else "A prompt is empty.",
                where=f"text {index}",
                wanted=f"a prompt of 1 token or more, at most {context + 1} with the continuation",
                got=f"{len(prompt)} and {len(continuation)} tokens",
                do="Cut the prompt at its beginning." if prompt else "Begin with the token that starts a text.",
            )
    scored: list[list[Likelihood]] = [[] for _ in pairs]
    # Longest first: neighbours are then alike in length, and too little memory shows at once.
    order = sorted(
        (index for index, pair in enumerate(pairs) if pair[1]),
        key=lambda index: -sum(map(len, pairs[index])),
    )
    while order:
        # The last token is predicted, never read.
        longest = sum(map(len, pairs[order[0]])) - 1
        rows = max(1, batch_tokens // longest)
        part, order = order[:rows], order[rows:]
        lines = [torch.tensor([*pairs[index][0], *pairs[index][1]][:-1]) for index in part]
        with torch.inference_mode():
            logits_BTV = logits_of(nn.utils.rnn.pad_sequence(lines, batch_first=True))
            for row, index in enumerate(part):
                prompt, continuation = pairs[index]
                there_NV = logits_BTV[row, len(prompt) - 1 : len(prompt) - 1 + len(continuation)]
                scored[index] = likelihoods(there_NV, continuation, top)
    return scored
