"""The end of every way to learn: is there a common structure, the last maps, and the program.

    two maps → do they agree on held-out words? → the better one → a dictionary of all frequent words → maps → densities

Where they do not agree there is no program but an error: a map always answers, and answers of a map that has found
nothing cannot be told from others by looking at them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from sw2.base.config import to_dict
from sw2.base.errors import LearningError, UsageError
from sw2.base.seed import numpy_generator
from sw2.core.objective import Job
from sw2.core.program import Net, Program
from sw2.domains.words.alignment.geometry import densities, reweighted, unit
from sw2.domains.words.alignment.induction import Pairs
from sw2.domains.words.alignment.model import BilingualMap
from sw2.domains.words.alignment.structure import agreement, criterion
from sw2.domains.words.alignment.task import AlignmentPrep, WordTranslator

__all__ = ["Sides", "agreed", "prep_of", "program_of", "refuse_model_settings", "sides_of"]

_LEAST_AGREEMENT: Final = 0.2
"""Which share of held-out words two maps have to translate alike. English and Italian vectors of a million words each:
0.3 to 0.5 where a seventh of a dictionary was found, 0.05 where nothing but coarse shapes was."""


@dataclass(frozen=True)
class Sides:
    """The frequent words of each language: those that are learned from, and those that are held out.

    Args:
        source, target: vectors of those that are learned from.
        held_source, held_target: vectors of the others.
        source_rows, target_rows: the places of those that are learned from among all words.
    """

    source: Tensor
    target: Tensor
    held_source: Tensor
    held_target: Tensor
    source_rows: Tensor
    target_rows: Tensor


def prep_of(job: Job) -> AlignmentPrep:
    """The words and vectors of a job."""
    assert isinstance(job.prep, AlignmentPrep)
    return job.prep


def sides_of(job: Job, most: int, held_out: float) -> Sides:
    """The first `most` words of each language, a share of them held out; which, the seed decides."""
    parts = []
    for side, vectors in (("source", prep_of(job).source_ND[:most]), ("target", prep_of(job).target_MD[:most])):
        count = max(20, round(held_out * len(vectors)))
        order = torch.from_numpy(numpy_generator(job.seed, "held out", side).permutation(len(vectors)))
        held, learned = order[:count].sort().values, order[count:].sort().values
        parts.append((vectors[learned], vectors[held], learned))
    return Sides(*(each for pair in zip(*parts, strict=True) for each in pair))


def refuse_model_settings(job: Job) -> None:
    """Raise where a setting of the network was given: all of them follow from the vectors."""
    plain = to_dict(job.model_class.Config())
    if given := {name: value for name, value in to_dict(job.model_config).items() if value != plain[name]}:
        raise UsageError(
            "The sizes of the map follow from the vectors and cannot be set.",
            where=", ".join(f"model.{name}" for name in given),
            wanted="no --set model.…",
            got=", ".join(f"{name}={value}" for name, value in given.items()),
        )


def agreed(sides: Sides, maps: Sequence[Tensor], neighbours: int) -> Tensor:
    """The better of two maps that were learned apart.

    Args:
        sides: the frequent words.
        maps: two maps [D, D] from the source to the target.
        neighbours: K of CSLS.

    Raises:
        LearningError: they do not agree, so nothing was found.
    """
    one, other = (unit(sides.held_source @ each) for each in maps)
    alike = agreement(one, other, torch.cat([sides.target, sides.held_target]), neighbours)
    if not alike >= _LEAST_AGREEMENT:  # false for nan too
        raise LearningError(
            "No common structure of these two languages was found.",
            where="words that had no part in learning",
            wanted=f"at least {_LEAST_AGREEMENT:.0%} of them translated alike by two maps that were learned apart",
            got=f"{alike:.1%}",
            do="Try learn.identical=true where both are written in one script, a small dictionary (data.dictionary), "
            "another --seed, or more --minutes; vectors of more text, or of more similar texts, have more in common.",
        )
    values = [criterion(each, sides.held_target, neighbours) for each in (one, other)]
    return maps[int(values[1] > values[0])]


def program_of(
    job: Job, map_DD: Tensor, pairs: Pairs, power: float, neighbours: int, provider: Mapping[str, str]
) -> Program:
    """The program of an orthogonal map, or of the reweighted maps of a dictionary.

    Args:
        job: what was asked.
        map_DD: from the source to the target, taken as it is where `power` is 0 or pairs are too few to whiten.
        pairs: the last dictionary.
        power: see `reweighted`.
        neighbours: K of CSLS.
        provider: of the program, for its folder.
    """
    prep = prep_of(job)
    source_ND, target_MD = prep.source_ND, prep.target_MD
    source_map, target_map = map_DD, torch.eye(len(map_DD))
    if power > 0 and len(pairs) >= 2 * len(map_DD):
        source_map, target_map = reweighted(source_ND[pairs.source], target_MD[pairs.target], power)
    model = BilingualMap(
        BilingualMap.Config(
            dimensions=len(map_DD), source_words=len(prep.source_words), target_words=len(prep.target_words)
        )
    )
    mapped_ND, mapped_MD = unit(source_ND @ source_map), unit(target_MD @ target_map)
    model.load_state_dict({
        "source_map": source_map,
        "target_map": target_map,
        "source_density": densities(mapped_ND, mapped_MD, neighbours),
        "target_density": densities(mapped_MD, mapped_ND, neighbours),
    })  # fmt: skip
    net = Net(job.model_name, model)
    made: dict[str, Any] = {"task": job.task, "runtime": WordTranslator, "prep": prep, "provider": provider}
    return Program.assemble(nets={"map": net}, **made)
