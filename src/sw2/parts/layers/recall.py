"""Recall: which token followed the last time that the text looked as it does now? Attention with nothing to learn.

For every place and every order n, the most recent earlier place whose last n tokens are the same is found by comparing
ids, and the token that followed there is returned. Transformers learn such heads by themselves ("induction heads",
Olsson et al. 2022, https://arxiv.org/abs/2209.11895) but need hundreds of millions of tokens for it; given from the
start, a model of few tokens learns at once to copy names (Akyürek et al. 2024, https://arxiv.org/abs/2401.12973, who
call them n-gram heads).

It compares ids only, so it costs no products and has no gradient; what the network makes of the found tokens is its own
business.

Shapes: B rows · T queries · S tokens of the text so far · N orders
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["recall"]


def recall(
    tokens_BS: Tensor, positions_BT: Tensor, orders: int, documents_BS: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """For each query the tokens that followed its last n tokens before, n = 1 … `orders`.

    Args:
        tokens_BS: the texts, int64; what stands after a row's last query is never looked at.
        positions_BT: where in S each query stands.
        orders: N ≥ 1, the longest repetition that is looked for.
        documents_BS: an integer per token; repetitions are looked for inside one document. None: each row is one.

    Returns:
        found int64 [B, T, N], 0 where there is none, and whether there is one, bool [B, T, N].
    """
    S = tokens_BS.shape[1]
    place_S = torch.arange(S, device=tokens_BS.device)
    # The earlier place s must lie before the query, so that the token after it is known.
    same_BTS = place_S < positions_BT[:, :, None]
    if documents_BS is not None:
        same_BTS = same_BTS & (documents_BS.gather(1, positions_BT)[:, :, None] == documents_BS[:, None, :])
    found, known = [], []
    for back in range(orders):
        query_BT = tokens_BS.gather(1, (positions_BT - back).clamp(min=0))
        shifted_BS = tokens_BS[:, (place_S - back).clamp(min=0)]
        same_BTS = same_BTS & (query_BT[:, :, None] == shifted_BS[:, None, :]) & (place_S >= back)
        if documents_BS is not None and back:
            # A repetition that would begin in the document before is none.
            earlier_BS = documents_BS[:, (place_S - back).clamp(min=0)]
            same_BTS = same_BTS & (earlier_BS == documents_BS)[:, None, :]
            same_BTS = same_BTS & (earlier_BS == documents_BS).gather(1, positions_BT)[:, :, None]
        next_BT = (same_BTS * (place_S + 1)).amax(2)  # one after the latest place, 0 where there is none
        known.append(next_BT > 0)
        found.append(tokens_BS.gather(1, next_BT) * (next_BT > 0))
    return torch.stack(found, -1), torch.stack(known, -1)
