"""Have two languages anything in common under a map? Two answers that need no dictionary.

The criterion (Conneau et al. 2018, arXiv 1710.04087, section 2.4) is the mean CSLS of the best translations. Here it is
taken on words that had no part in learning: a tenth of each language. On the others a map always finds something, for
it was fitted to the pairs that it made itself. It says which of two maps is better.

Whether a map is any good, it does not say: a map that brings only the coarse shapes of two languages together, frequent
words to frequent ones, is far above chance and translates nothing. That is told by agreement: everything is learned
twice, from beginnings and draws that have nothing in common. What both find is in the languages, what only one finds
was in its draws. It is the share of words without a part in learning that both translate alike.
"""

from __future__ import annotations

from torch import Tensor

from sw2.domains.words.alignment.geometry import densities, nearest

__all__ = ["agreement", "criterion"]


def criterion(mapped_ND: Tensor, target_MD: Tensor, neighbours: int) -> float:
    """The mean CSLS of every word's best translation, in both directions.

    Args:
        mapped_ND, target_MD: unit rows in one space, of words that had no part in learning.
        neighbours: K of CSLS.
    """
    crowded_source = densities(mapped_ND, target_MD, neighbours)
    crowded_target = densities(target_MD, mapped_ND, neighbours)
    forward = nearest(mapped_ND, target_MD, 1, crowded_source, crowded_target)[0].double().mean()
    backward = nearest(target_MD, mapped_ND, 1, crowded_target, crowded_source)[0].double().mean()
    return float(forward + backward) / 2


def agreement(one_ND: Tensor, other_ND: Tensor, target_MD: Tensor, neighbours: int) -> float:
    """The share of words to which two maps give the same first translation by CSLS.

    Args:
        one_ND, other_ND: the same words under both maps, unit rows.
        target_MD: the words that they may be translated to, unit rows.
        neighbours: K of CSLS.
    """
    firsts = []
    for mapped_ND in (one_ND, other_ND):
        crowded_source = densities(mapped_ND, target_MD, neighbours)
        crowded_target = densities(target_MD, mapped_ND, neighbours)
        firsts.append(nearest(mapped_ND, target_MD, 1, crowded_source, crowded_target)[1][:, 0])
    return float((firsts[0] == firsts[1]).double().mean())
