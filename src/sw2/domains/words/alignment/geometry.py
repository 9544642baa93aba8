"""The geometry of two vocabularies: normalising, turning one onto the other, and who is near to whom.

Legend: N words of the source language, M of the target, D dimensions, K neighbours. Words are rows, and a map stands on
their right: `mapped = vectors @ map`.

- `normalised`: rows of unit length, columns without their mean, unit length again (Artetxe et al. 2018a, AAAI).
- `procrustes`: the orthogonal map that brings pairs nearest to each other (Schönemann 1966; Xing et al. 2015; Smith et
  al. 2017, arXiv 1702.03859). Orthogonal, so that no language's own distances change.
- `reweighted`: the symmetric maps of VecMap (Artetxe et al. 2018b, arXiv 1805.06297, section 3.4): both languages are
  whitened, turned, weighted by how well each axis agrees, and the whitening is undone.
- `nearest` and `densities`: exact neighbours, a block of rows at a time. With densities a neighbour's score is CSLS
  (Conneau et al. 2018, arXiv 1710.04087, equations 4 and 5), which takes from a cosine how crowded both words stand, so
  that "hubs", near to everything, are not the answer to everything.

Everything is exact. What it does not do: approximate search; gradients.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

__all__ = ["densities", "nearest", "normalised", "procrustes", "reweighted", "unit"]

_AT_ONCE: Final = 16_000_000
"""Similarities that are held at once: 64 MB."""


def unit(vectors_ND: Tensor) -> Tensor:
    """The rows with length 1; rows of zeros stay."""
    return vectors_ND / vectors_ND.norm(dim=1, keepdim=True).clamp_min(torch.finfo(vectors_ND.dtype).tiny)


def normalised(vectors_ND: Tensor) -> Tensor:
    """Unit rows, columns with mean 0, unit rows again."""
    units_ND = unit(vectors_ND)
    return unit(units_ND - units_ND.mean(dim=0))


def procrustes(source_PD: Tensor, target_PD: Tensor) -> Tensor:
    """The orthogonal W [D, D] that minimises |source W - target|: U V' of source' target = U S V'.

    Args:
        source_PD, target_PD: P pairs, row beside row.
    """
    u_DD, _, v_DD = torch.linalg.svd((source_PD.T @ target_PD).double())
    return (u_DD @ v_DD).to(source_PD.dtype)


def reweighted(source_PD: Tensor, target_PD: Tensor, power: float) -> tuple[Tensor, Tensor]:
    """Maps [D, D] of the source and of the target into a space whose axes weigh as much as the pairs agree on them.

    With whitening A = (X'X)^(-1/2) and B = (Z'Z)^(-1/2) of the pairs' vectors X and Z, and (X A)' (Z B) = U S V', they
    are A U S^power U' A^(-1) U and B V S^power V' B^(-1) V.

    Args:
        source_PD, target_PD: P pairs, row beside row.
        power: how much agreement counts; 0 is `procrustes` of whitened vectors in another basis.
    """
    (white_s, colour_s), (white_t, colour_t) = _whitening(source_PD), _whitening(target_PD)
    u_DD, s_D, v_DD = torch.linalg.svd((source_PD.double() @ white_s).T @ (target_PD.double() @ white_t))
    w_DD = v_DD.T
    weights_D = s_D**power
    source_map = white_s @ (u_DD * weights_D) @ u_DD.T @ colour_s @ u_DD
    target_map = white_t @ (w_DD * weights_D) @ w_DD.T @ colour_t @ w_DD
    return source_map.to(source_PD.dtype), target_map.to(source_PD.dtype)


def _whitening(vectors_PD: Tensor) -> tuple[Tensor, Tensor]:
    """(X'X)^(-1/2) and its inverse; axes on which there is next to nothing are not blown up."""
    doubles_PD = vectors_PD.double()
    values_D, axes_DD = torch.linalg.eigh(doubles_PD.T @ doubles_PD)
    roots_D = values_D.clamp_min(1e-6 * float(values_D[-1])).sqrt()
    return (axes_DD / roots_D) @ axes_DD.T, (axes_DD * roots_D) @ axes_DD.T


def densities(queries_ND: Tensor, others_MD: Tensor, neighbours: int) -> Tensor:
    """Float [N]: the mean cosine of each query with its `neighbours` nearest others, r of CSLS.

    Args:
        queries_ND, others_MD: unit rows.
        neighbours: K; all of the others where there are fewer.
    """
    return nearest(queries_ND, others_MD, neighbours)[0].mean(dim=1)


def nearest(
    queries_ND: Tensor, others_MD: Tensor, count: int, crowded_N: Tensor | None = None, crowded_M: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The `count` nearest others of each query, the nearest first: scores [N, count], and their rows [N, count].

    Args:
        queries_ND, others_MD: unit rows.
        count: how many; all where there are fewer.
        crowded_N, crowded_M: the densities of the queries and of the others. With both, scores are CSLS:
            2 cos(x, y) - r(x) - r(y); without, they are cosines.
    """
    count = min(count, len(others_MD))
    scores, rows = [], []
    for block_BD in queries_ND.split(max(1, _AT_ONCE // len(others_MD))):
        cosines_BM = block_BD @ others_MD.T
        best, found = torch.topk(cosines_BM if crowded_M is None else cosines_BM.sub_(crowded_M / 2), count)
        scores.append(best)
        rows.append(found)
    all_scores, all_rows = torch.cat(scores), torch.cat(rows)
    if crowded_N is not None:
        all_scores = 2 * all_scores - crowded_N[:, None]
    return all_scores, all_rows
