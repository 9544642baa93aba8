"""How an alignment is learned: by itself, a step a dictionary; or from a dictionary, in closed form.

Self-learning (Artetxe et al. 2018b, arXiv 1805.06297) takes turns: the orthogonal map that fits the dictionary best,
and the dictionary that the map makes (`induction`). A candidate is seen with a probability of a tenth at first; where
words have come no nearer for some steps, or a fifth of the steps has gone, it is doubled, up to 1, where learning ends
as soon as nothing comes nearer. A tenth of the frequent words takes no part: the validation loss is their mean CSLS,
with the other sign. Two maps are learned apart, each from one half of the first dictionary and by draws of its own; at
the end the held-out words say whether they agree, so whether anything was found (`structure`). The last maps are fitted
to a dictionary of all frequent words, and reweighted.

Procrustes has a dictionary, and takes one step; with refinements (Conneau et al. 2018, arXiv 1710.04087, section 2.3)
each further step fits to the words that are each other's nearest under the map before.

The adversary is in `adversary`. What this does not do: choose between ways; learn a map that is not linear.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import torch
from torch import Tensor

from sw2.base.config import check_ranges
from sw2.base.errors import DataError, UsageError
from sw2.base.seed import numpy_generator
from sw2.core.objective import Choices, Clock, Enough, Job, Metrics, Objective, Snapshot
from sw2.core.program import Program
from sw2.domains.words.alignment.data import Languages
from sw2.domains.words.alignment.ending import (
    Sides,
    agreed,
    prep_of,
    program_of,
    refuse_model_settings,
    sides_of,
)
from sw2.domains.words.alignment.geometry import procrustes
from sw2.domains.words.alignment.induction import Pairs, by_profiles, identical, induced, mutual
from sw2.domains.words.alignment.structure import criterion
from sw2.domains.words.alignment.task import known

__all__ = [
    "Procrustes",
    "ProcrustesConfig",
    "SelfLearning",
    "SelfLearningConfig",
    "learn_by_itself",
    "learn_from_pairs",
]

_NEARER: Final = 1e-6


@dataclass(frozen=True, kw_only=True)
class SelfLearningConfig:
    """The settings of self-learning.

    Args:
        frequent: how many words of each language make dictionaries, the first of each file.
        profiles: how many of them the first dictionary is made of; it takes memory with the square of it.
        identical: whether the first dictionary is of words that are written alike, instead.
        keep: the probability with which a candidate is seen at first.
        patience: steps without words coming nearer until more is seen.
        held_out: the share of frequent words that takes no part.
        neighbours: of CSLS.
        reweight: how much agreement along an axis counts in the last maps; 0 leaves the map orthogonal.
    """

    frequent: int = 10_000
    profiles: int = 4_000
    identical: bool = False
    keep: float = 0.1
    patience: int = 30
    held_out: float = 0.1
    neighbours: int = 10
    reweight: float = 0.5

    def __post_init__(self) -> None:
        allowed = {
            "frequent": (self.frequent >= 100, "a whole number of at least 100"),
            "profiles": (self.profiles >= 100, "a whole number of at least 100"),
            "keep": (0.01 <= self.keep <= 1, "a probability from 0.01 to 1"),
            "patience": (self.patience >= 1, "a whole number of at least 1"),
            "held_out": (0 < self.held_out <= 0.5, "a share above 0, up to 0.5"),
            "neighbours": (self.neighbours >= 1, "a whole number of at least 1"),
            "reweight": (0 <= self.reweight <= 1, "a number from 0 to 1"),
        }
        check_ranges("learn", self, allowed)


@dataclass
class _Learning:
    job: Job
    sides: Sides
    pairs: list[Pairs]
    maps: list[Tensor]
    stage: int = 0
    best: float = -math.inf
    waited: int = 0
    taken: int = 0


@final
class SelfLearning(Objective[_Learning]):
    """Map and dictionary in turn, for two maps apart.

    Args:
        config: see SelfLearningConfig.
        provider: of the programs, for their folder.
    """

    makes = "word-alignment"

    def __init__(self, config: SelfLearningConfig, provider: Mapping[str, str]) -> None:
        self.config, self.provider = config, provider
        doublings = math.ceil(math.log2(1 / config.keep))
        self.keeps = [min(1.0, config.keep * 2**stage) for stage in range(doublings + 1)]

    def choose(self, job: Job) -> Choices:
        refuse_model_settings(job)
        return Choices()

    def start(self, job: Job) -> _Learning:
        sides = sides_of(job, self.config.frequent, self.config.held_out)
        first = self._first(job, sides)
        order = torch.from_numpy(numpy_generator(job.seed, "halves").permutation(len(first)))
        halves = [Pairs(first.source[rows], first.target[rows]) for rows in (order[::2], order[1::2])]
        return _Learning(job, sides, halves, [torch.eye(sides.source.shape[1])] * 2)

    def _first(self, job: Job, sides: Sides) -> Pairs:
        """The first dictionary, in rows of the words that learn."""
        config = self.config
        if not config.identical:
            return by_profiles(sides.source, sides.target, config.profiles, config.neighbours)
        found = identical(*(
            [words[row] for row in rows.tolist()]
            for words, rows in (
                (prep_of(job).source_words, sides.source_rows),
                (prep_of(job).target_words, sides.target_rows),
            )
        ))  # fmt: skip
        if len(found) < 2:
            raise DataError(
                "Too few words are written alike in both languages.",
                where="learn.identical",
                wanted="at least two frequent words in common",
                got=len(found),
                do="Leave it out: learning begins with the shapes of similarities then.",
            )
        return found

    def step(self, state: _Learning, clock: Clock) -> Metrics:
        last = len(self.keeps) - 1
        if state.waited >= self.config.patience and state.stage == last and clock.step == state.taken:
            # The driver's trial steps have another clock: they are put back, and are no reason to end.
            raise Enough(f"no word has come nearer for {state.waited} steps")
        past = int((clock.step / clock.total) * len(self.keeps))
        if state.stage < last and (state.waited >= self.config.patience or past > state.stage):
            state.stage, state.waited = max(state.stage + 1, min(past, last)), 0
        keep, sides = self.keeps[state.stage], state.sides
        nearness = 0.0
        for number, pairs in enumerate(state.pairs):
            state.maps[number] = procrustes(sides.source[pairs.source], sides.target[pairs.target])
            draw = (state.job.seed, f"map {number} step {clock.step}")
            mapped = sides.source @ state.maps[number]
            found = induced(mapped, sides.target, self.config.neighbours, keep, draw)
            state.pairs[number] = found.pairs
            nearness += found.nearness / len(state.pairs)
        state.taken += 1
        state.waited = 0 if nearness > state.best + _NEARER else state.waited + 1
        state.best = max(state.best, nearness)
        return {"loss": 1 - nearness, "keep": keep}

    def evaluate(self, state: _Learning) -> Metrics:
        """The criterion of held-out words under both maps, as a loss."""
        sides, k = state.sides, self.config.neighbours
        found = [criterion(sides.held_source @ each, sides.held_target, k) for each in state.maps]
        return {"loss": -sum(found) / len(found), "csls": sum(found) / len(found)}

    def snapshot(self, state: _Learning) -> Snapshot:
        tensors = {f"{number}/map": each for number, each in enumerate(state.maps)}
        for number, pairs in enumerate(state.pairs):
            tensors |= {f"{number}/source": pairs.source, f"{number}/target": pairs.target}
        best = None if state.best == -math.inf else state.best  # JSON has no infinity
        values = {"stage": state.stage, "best": best, "waited": state.waited, "taken": state.taken}
        return Snapshot(tensors=tensors, values=values)

    def restore(self, state: _Learning, snapshot: Snapshot) -> None:
        tensors, values = {name: tensor.clone() for name, tensor in snapshot.tensors.items()}, snapshot.values
        state.maps = [tensors[f"{number}/map"] for number in range(2)]
        state.pairs = [Pairs(tensors[f"{number}/source"], tensors[f"{number}/target"]) for number in range(2)]
        state.stage, state.waited, state.taken = values["stage"], values["waited"], values["taken"]
        state.best = -math.inf if values["best"] is None else values["best"]

    def finish(self, state: _Learning) -> Program:
        config, prep = self.config, prep_of(state.job)
        map_DD = agreed(state.sides, state.maps, config.neighbours)
        source_ND, target_MD = prep.source_ND[: config.frequent], prep.target_MD[: config.frequent]
        pairs = induced(source_ND @ map_DD, target_MD, config.neighbours).pairs
        return program_of(state.job, map_DD, pairs, config.reweight, config.neighbours, self.provider)

    def notes(self, state: _Learning) -> Sequence[str]:
        seed = "words written alike" if self.config.identical else "the shapes of similarities"
        count = sum(len(pairs) for pairs in state.pairs)
        return [f"the first dictionary: {count:,} pairs by {seed}, a half for each of two maps"]

    def facts(self, state: _Learning) -> Mapping[str, Any]:
        return {"words that learn": f"{len(state.sides.source):,} and {len(state.sides.target):,}"}


# -------------------------------------------------------------------------------------------------- with a dictionary


@dataclass(frozen=True, kw_only=True)
class ProcrustesConfig:
    """The settings of the closed form.

    Args:
        refinements: further steps, each fitted to words that are each other's nearest.
        frequent: how many words of each language take part in refinements.
        neighbours: of CSLS.
        reweight: how much agreement along an axis counts in the maps; 0 leaves the map orthogonal.
    """

    refinements: int = 0
    frequent: int = 10_000
    neighbours: int = 10
    reweight: float = 0.0

    def __post_init__(self) -> None:
        allowed = {
            "refinements": (0 <= self.refinements <= 1000, "a whole number from 0 to 1000"),
            "frequent": (self.frequent >= 100, "a whole number of at least 100"),
            "neighbours": (self.neighbours >= 1, "a whole number of at least 1"),
            "reweight": (0 <= self.reweight <= 1, "a number from 0 to 1"),
        }
        check_ranges("learn", self, allowed)


@dataclass
class _Fitting:
    job: Job
    pairs: Pairs
    map_DD: Tensor


@final
class Procrustes(Objective[_Fitting]):
    """The closed form, and refinements.

    Args:
        config: see ProcrustesConfig.
        provider: of the programs, for their folder.
    """

    makes = "word-alignment"

    def __init__(self, config: ProcrustesConfig, provider: Mapping[str, str]) -> None:
        self.config, self.provider = config, provider

    def choose(self, job: Job) -> Choices:
        refuse_model_settings(job)
        return Choices()

    def start(self, job: Job) -> _Fitting:
        languages, prep = job.data.split("train"), prep_of(job)
        assert isinstance(languages, Languages)
        if not languages.dictionary:
            raise UsageError(
                "There is no dictionary to learn from.",
                where="data.dictionary",
                wanted="a file, or the name of a dictionary",
                got="none",
                do="Name one, or learn without: leave --objective out.",
            )
        found = Pairs(*known(prep, languages.dictionary).pairs())
        if not len(found):
            raise DataError(
                "No pair of this dictionary is known in both languages.",
                where="data.dictionary",
                wanted="words of the first language, then words of the second",
                got=", ".join(f"{word} → {each[0]}" for word, each in list(languages.dictionary.items())[:3]),
            )
        return _Fitting(job, found, torch.eye(prep.source_ND.shape[1]))

    def own_length(self, state: _Fitting) -> int:
        return 1 + self.config.refinements

    def step(self, state: _Fitting, clock: Clock) -> Metrics:
        prep, most = prep_of(state.job), self.config.frequent
        if clock.step > 0:
            mapped_ND = prep.source_ND[:most] @ state.map_DD
            state.pairs = mutual(mapped_ND, prep.target_MD[:most], self.config.neighbours)
        source_PD, target_PD = prep.source_ND[state.pairs.source], prep.target_MD[state.pairs.target]
        state.map_DD = procrustes(source_PD, target_PD)
        return {"loss": 1 - float((source_PD @ state.map_DD * target_PD).sum(dim=1).mean()), "pairs": len(state.pairs)}

    def snapshot(self, state: _Fitting) -> Snapshot:
        return Snapshot(tensors={"map": state.map_DD, "source": state.pairs.source, "target": state.pairs.target})

    def restore(self, state: _Fitting, snapshot: Snapshot) -> None:
        tensors = snapshot.tensors
        state.map_DD, state.pairs = tensors["map"].clone(), Pairs(tensors["source"].clone(), tensors["target"].clone())

    def finish(self, state: _Fitting) -> Program:
        config = self.config
        return program_of(state.job, state.map_DD, state.pairs, config.reweight, config.neighbours, self.provider)

    def notes(self, state: _Fitting) -> Sequence[str]:
        return [f"the dictionary: {len(state.pairs):,} pairs that both languages know"]


def learn_by_itself(config: SelfLearningConfig, provider: Mapping[str, str]) -> SelfLearning:
    """Self-learning, for programs of this provider."""
    return SelfLearning(config, provider)


def learn_from_pairs(config: ProcrustesConfig, provider: Mapping[str, str]) -> Procrustes:
    """The closed form, for programs of this provider."""
    return Procrustes(config, provider)
