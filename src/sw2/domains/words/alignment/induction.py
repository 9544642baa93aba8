"""From two vocabularies to a dictionary: the first one, by the shapes of similarities, and better ones, step by step.

The first dictionary (Artetxe et al. 2018b, arXiv 1805.06297, section 3.2): how similar a word is to the other words of
its language, sorted, is a profile that does not depend on the language: "two" has one very near neighbour and many near
ones, and so has "due". Words with the nearest profiles are the first pairs. A few of them are right, and that may do.

The next ones (section 3.3): with a map fitted to the pairs so far, each word takes its nearest one by CSLS, in both
directions. At first each candidate is overlooked with a high probability, so that learning leaves bad dictionaries
again; the probability falls as learning goes on.

`identical` are words written alike in both languages: a dictionary for languages of one script, where a user asks for
it. What it does not do: morphology; names of other scripts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from sw2.base.seed import numpy_generator
from sw2.domains.words.alignment.geometry import densities, nearest, normalised

__all__ = ["Induced", "Pairs", "by_profiles", "identical", "induced", "mutual"]

_AT_ONCE: Final = 16_000_000


@dataclass(frozen=True)
class Pairs:
    """A dictionary: rows [P] of the source beside rows [P] of the target, int64."""

    source: Tensor
    target: Tensor

    def __len__(self) -> int:
        return len(self.source)


@dataclass(frozen=True)
class Induced:
    """A dictionary in both directions, and the mean cosine of every word's nearest one."""

    pairs: Pairs
    nearness: float


def by_profiles(source_ND: Tensor, target_MD: Tensor, most: int, neighbours: int) -> Pairs:
    """The first dictionary: mutual and other nearest profiles, in both directions.

    Args:
        source_ND, target_MD: normalised vectors, the most frequent words first.
        most: how many words of each language have a profile.
        neighbours: K of CSLS.
    """
    size = min(len(source_ND), len(target_MD), most)
    source_SS, target_SS = _profiles(source_ND[:size]), _profiles(target_MD[:size])
    crowded_source = densities(source_SS, target_SS, neighbours)
    crowded_target = densities(target_SS, source_SS, neighbours)
    forward = nearest(source_SS, target_SS, 1, crowded_source, crowded_target)[1][:, 0]
    backward = nearest(target_SS, source_SS, 1, crowded_target, crowded_source)[1][:, 0]
    every = torch.arange(size)
    return Pairs(torch.cat([every, backward]), torch.cat([forward, every]))


def _profiles(vectors_SD: Tensor) -> Tensor:
    """[S, S]: each word's similarities with all, sorted. They are those of (X X')^(1/2), as the paper has it."""
    u_SD, s_D, _ = torch.linalg.svd(vectors_SD, full_matrices=False)
    return normalised(((u_SD * s_D) @ u_SD.T).sort(dim=1).values)


def identical(source: Sequence[str], target: Sequence[str]) -> Pairs:
    """Words that are written alike; those of digits and signs alone count too."""
    places = {word: row for row, word in enumerate(target)}
    found = [(row, places[word]) for row, word in enumerate(source) if word in places]
    return Pairs(torch.tensor([row for row, _ in found]).long(), torch.tensor([row for _, row in found]).long())


def induced(
    mapped_ND: Tensor, target_MD: Tensor, neighbours: int, keep: float = 1.0, draw: tuple[int, str | int] = (0, "")
) -> Induced:
    """Every word with its nearest one by CSLS, in both directions.

    Args:
        mapped_ND, target_MD: unit rows in one space.
        neighbours: K of CSLS.
        keep: the probability with which a candidate is seen at all, in steps of 1/256; 1 sees all.
        draw: the seed and a word or number that decide which are seen.
    """
    crowded_source = densities(mapped_ND, target_MD, neighbours)
    crowded_target = densities(target_MD, mapped_ND, neighbours)
    forward, near = _seen(mapped_ND, target_MD, crowded_target, keep, (*draw, "forward"))
    backward, near_back = _seen(target_MD, mapped_ND, crowded_source, keep, (*draw, "backward"))
    source = torch.cat([torch.arange(len(mapped_ND)), backward])
    target = torch.cat([forward, torch.arange(len(target_MD))])
    return Induced(Pairs(source, target), (near + near_back) / 2)


def _seen(
    queries_ND: Tensor, others_MD: Tensor, crowded_M: Tensor, keep: float, draw: tuple[int, str | int, str]
) -> tuple[Tensor, float]:
    """The nearest other of each query among those that are seen; and the mean cosine of the nearest, seen or not."""
    kept = round(256 * keep)
    random = numpy_generator(draw[0], "candidates", *draw[1:])
    found, nearness = [], 0.0
    for block_BD in queries_ND.split(max(1, _AT_ONCE // len(others_MD))):
        cosines_BM = block_BD @ others_MD.T
        nearness += float(cosines_BM.max(dim=1).values.double().sum())
        cosines_BM -= crowded_M / 2
        if kept < 256:
            drawn = torch.from_numpy(random.integers(0, 256, tuple(cosines_BM.shape), "uint8"))
            cosines_BM.masked_fill_(drawn >= kept, -torch.inf)
        found.append(cosines_BM.argmax(dim=1))
    return torch.cat(found), nearness / len(queries_ND)


def mutual(mapped_ND: Tensor, target_MD: Tensor, neighbours: int) -> Pairs:
    """Words that are each other's nearest by CSLS: fewer pairs, but surer ones, for refinement.

    Args:
        mapped_ND, target_MD: unit rows in one space.
        neighbours: K of CSLS.
    """
    crowded_source = densities(mapped_ND, target_MD, neighbours)
    crowded_target = densities(target_MD, mapped_ND, neighbours)
    forward = nearest(mapped_ND, target_MD, 1, crowded_source, crowded_target)[1][:, 0]
    backward = nearest(target_MD, mapped_ND, 1, crowded_target, crowded_source)[1][:, 0]
    source = torch.nonzero(backward[forward] == torch.arange(len(mapped_ND)))[:, 0]
    return Pairs(source, forward[source])
