"""Alignment by an adversary (Conneau et al. 2018, arXiv 1710.04087, sections 2.1 to 2.3).

A discriminator learns to tell mapped words of the source from words of the target; the map learns to deceive it:

    discriminator   two hidden layers of 2048, leaky ReLU (0.2), dropout 0.1 on what goes in; labels 0.1 and 0.9
    map             from a random turn; after every step W ← (1 + β) W − β (W W') W, which keeps it near orthogonal

One step here is five of the discriminator and one of the map. The criterion of held-out words says how good the map is,
without a dictionary, every few steps; the best one is kept, and refined on words that are each other's nearest in the
last steps. Two such contests are held apart, and refused where their maps do not agree on held-out words (`structure`).
Adversaries fail often, also where self-learning does not.

What it does not do: momentum; a schedule by epochs (rates fall linearly with the budget).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import torch
from torch import Tensor
from torch.nn import functional

from sw2.base.config import check_ranges
from sw2.base.errors import LearningError
from sw2.base.seed import generator
from sw2.core.objective import Choices, Clock, Job, Metrics, Objective, Snapshot
from sw2.core.program import Program
from sw2.domains.words.alignment.ending import (
    Sides,
    agreed,
    prep_of,
    program_of,
    refuse_model_settings,
    sides_of,
)
from sw2.domains.words.alignment.geometry import procrustes, unit
from sw2.domains.words.alignment.induction import induced, mutual
from sw2.domains.words.alignment.structure import criterion

__all__ = ["Adversary", "AdversaryConfig", "learn_by_adversary"]

_TURNS: Final = 5
_SLOPE: Final = 0.2


@dataclass(frozen=True, kw_only=True)
class AdversaryConfig:
    """The settings.

    Args:
        frequent: how many words of each language take part, the first of each file.
        hidden: the width of the discriminator's layers.
        batch: words of each language in a step.
        learning_rate: of both, in the beginning; it falls to a tenth.
        smoothing: what labels are away from 0 and 1.
        dropout: of the numbers that the discriminator sees.
        beta: how strongly the map is held orthogonal.
        look_every: steps between looks at the criterion.
        refinements: steps at the end that fit to each other's nearest.
        held_out: the share of frequent words that takes no part.
        neighbours: of CSLS.
        reweight: how much agreement along an axis counts in the last maps; 0 leaves the map orthogonal.
    """

    frequent: int = 10_000
    hidden: int = 2048
    batch: int = 32
    learning_rate: float = 0.1
    smoothing: float = 0.1
    dropout: float = 0.1
    beta: float = 0.01
    look_every: int = 50
    refinements: int = 5
    held_out: float = 0.1
    neighbours: int = 10
    reweight: float = 0.5

    def __post_init__(self) -> None:
        allowed = {
            "frequent": (self.frequent >= 100, "a whole number of at least 100"),
            "hidden": (self.hidden >= 1, "a whole number of at least 1"),
            "batch": (self.batch >= 1, "a whole number of at least 1"),
            "learning_rate": (self.learning_rate > 0, "a number above 0"),
            "smoothing": (0 <= self.smoothing < 0.5, "a number from 0 to below 0.5"),
            "dropout": (0 <= self.dropout < 1, "a share from 0 to below 1"),
            "beta": (0 < self.beta < 0.5, "a number above 0 and below 0.5"),
            "look_every": (self.look_every >= 1, "a whole number of at least 1"),
            "refinements": (0 <= self.refinements <= 40, "a whole number from 0 to 40"),
            "held_out": (0 < self.held_out <= 0.5, "a share above 0, up to 0.5"),
            "neighbours": (self.neighbours >= 1, "a whole number of at least 1"),
            "reweight": (0 <= self.reweight <= 1, "a number from 0 to 1"),
        }
        check_ranges("learn", self, allowed)


@dataclass
class _Contest:
    """A map, the layers of its discriminator, and the best map so far by the criterion."""

    map_DD: Tensor
    layers: list[Tensor]
    best_DD: Tensor
    best: float = -math.inf


@dataclass
class _State:
    job: Job
    sides: Sides
    contests: list[_Contest]
    refined: int = 0


@final
class Adversary(Objective[_State]):
    """A map and a discriminator in turn, then refinements; twice, apart.

    Args:
        config: see AdversaryConfig.
        provider: of the programs, for their folder.
    """

    makes = "word-alignment"

    def __init__(self, config: AdversaryConfig, provider: Mapping[str, str]) -> None:
        self.config, self.provider = config, provider

    def choose(self, job: Job) -> Choices:
        refuse_model_settings(job)
        return Choices()

    def start(self, job: Job) -> _State:
        sides = sides_of(job, self.config.frequent, self.config.held_out)
        return _State(job, sides, [self._contest(job, sides.source.shape[1], number) for number in range(2)])

    def _contest(self, job: Job, dimensions: int, number: int) -> _Contest:
        """One that has not begun: a random map and a random discriminator."""
        hidden, random = self.config.hidden, generator(job.seed, "contest", number)
        map_DD = torch.linalg.qr(torch.randn(dimensions, dimensions, generator=random)).Q
        layers = []
        for fan_in, fan_out in ((dimensions, hidden), (hidden, hidden), (hidden, 1)):
            bound = fan_in**-0.5
            for shape in ((fan_out, fan_in), (fan_out,)):
                layers.append(torch.empty(shape).uniform_(-bound, bound, generator=random))
        return _Contest(map_DD, layers, map_DD)

    def step(self, state: _State, clock: Clock) -> Metrics:
        left = clock.total - clock.step
        if left <= self.config.refinements or state.refined:  # a budget in minutes may grow once more at its end
            return self._refine(state)
        rate = self.config.learning_rate * (1 - 0.9 * clock.step / clock.total)
        loss = 0.0
        for number, contest in enumerate(state.contests):
            random = generator(state.job.seed, "batches", number, clock.step)
            loss += self._round(state.sides, contest, rate, random) / len(state.contests)
        if (clock.step + 1) % self.config.look_every == 0 or left == self.config.refinements + 1:
            for contest in state.contests:
                if (found := self._criterion(state.sides, contest.map_DD)) > contest.best:
                    contest.best, contest.best_DD = found, contest.map_DD
        return {"loss": loss}

    def _round(self, sides: Sides, contest: _Contest, rate: float, random: torch.Generator) -> float:
        """A few steps of the discriminator, one of the map; the discriminator's mean loss."""
        loss = 0.0
        for _ in range(_TURNS):
            layers = [layer.requires_grad_(True) for layer in contest.layers]
            told = self._told(sides, contest.map_DD, layers, random, deceives=False)
            slopes = torch.autograd.grad(told, layers)
            contest.layers = [(layer - rate * slope).detach() for layer, slope in zip(layers, slopes, strict=True)]
            loss += float(told.detach()) / _TURNS
        map_DD = contest.map_DD.clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(self._told(sides, map_DD, contest.layers, random, deceives=True), [map_DD])
        if not math.isfinite(loss) or not bool(slope.isfinite().all()):
            raise LearningError(
                "The adversary's loss is not finite.",
                wanted="finite numbers",
                got=f"{loss}",
                do="Lower learn.learning_rate.",
            )
        moved = (map_DD - rate * slope).detach()
        beta = self.config.beta
        contest.map_DD = (1 + beta) * moved - beta * moved @ moved.T @ moved
        return loss

    def _told(
        self, sides: Sides, map_DD: Tensor, layers: Sequence[Tensor], random: torch.Generator, *, deceives: bool
    ) -> Tensor:
        """The cross-entropy of the discriminator on a batch of each language; with the labels exchanged to deceive."""
        config = self.config
        source_BD, target_BD = (
            vectors_ND[torch.randint(len(vectors_ND), (config.batch,), generator=random)]
            for vectors_ND in (sides.source, sides.target)
        )
        seen = torch.cat([source_BD @ map_DD, target_BD])
        kept = torch.rand(seen.shape, generator=random) >= config.dropout
        w1, b1, w2, b2, w3, b3 = layers
        hidden = functional.leaky_relu(functional.linear(seen * kept / (1 - config.dropout), w1, b1), _SLOPE)
        hidden = functional.leaky_relu(functional.linear(hidden, w2, b2), _SLOPE)
        scores = functional.linear(hidden, w3, b3)[:, 0]
        labels = torch.full((2 * config.batch,), config.smoothing)
        labels[: config.batch] = 1 - config.smoothing
        return functional.binary_cross_entropy_with_logits(scores, 1 - labels if deceives else labels)

    def _criterion(self, sides: Sides, map_DD: Tensor) -> float:
        return criterion(unit(sides.held_source @ map_DD), sides.held_target, self.config.neighbours)

    def _refine(self, state: _State) -> Metrics:
        sides, count = state.sides, 0
        for contest in state.contests:
            before = contest.map_DD if state.refined else contest.best_DD
            pairs = mutual(unit(sides.source @ before), sides.target, self.config.neighbours)
            contest.map_DD = procrustes(sides.source[pairs.source], sides.target[pairs.target])
            count += len(pairs)
        state.refined += 1
        return {"pairs": count / len(state.contests)}

    def evaluate(self, state: _State) -> Metrics:
        """The criterion of held-out words under both maps, as a loss."""
        found = [self._criterion(state.sides, contest.map_DD) for contest in state.contests]
        return {"loss": -sum(found) / len(found), "csls": sum(found) / len(found)}

    def snapshot(self, state: _State) -> Snapshot:
        tensors: dict[str, Tensor] = {}
        best: list[float | None] = []
        for number, contest in enumerate(state.contests):
            tensors |= {f"{number}/map": contest.map_DD, f"{number}/best": contest.best_DD}
            tensors |= {f"{number}/layers/{place}": layer.detach() for place, layer in enumerate(contest.layers)}
            best.append(None if contest.best == -math.inf else contest.best)  # JSON has no infinity
        return Snapshot(tensors=tensors, values={"best": best, "refined": state.refined})

    def restore(self, state: _State, snapshot: Snapshot) -> None:
        tensors, values = {name: tensor.clone() for name, tensor in snapshot.tensors.items()}, snapshot.values
        for number, contest in enumerate(state.contests):
            contest.map_DD, contest.best_DD = tensors[f"{number}/map"], tensors[f"{number}/best"]
            contest.layers = [tensors[f"{number}/layers/{place}"] for place in range(len(contest.layers))]
            contest.best = -math.inf if values["best"][number] is None else values["best"][number]
        state.refined = values["refined"]

    def finish(self, state: _State) -> Program:
        config, prep = self.config, prep_of(state.job)
        # Without refinements a map is the best that was seen, and orthogonal up to what β leaves.
        maps = [each.map_DD if state.refined else _orthogonal(each.best_DD) for each in state.contests]
        map_DD = agreed(state.sides, maps, config.neighbours)
        source_ND, target_MD = prep.source_ND[: config.frequent], prep.target_MD[: config.frequent]
        pairs = induced(source_ND @ map_DD, target_MD, config.neighbours).pairs
        return program_of(state.job, map_DD, pairs, config.reweight, config.neighbours, self.provider)

    def facts(self, state: _State) -> Mapping[str, Any]:
        return {"words that learn": f"{len(state.sides.source):,} and {len(state.sides.target):,}"}

    def notes(self, state: _State) -> Sequence[str]:
        del state
        return ["an adversary often finds nothing; self-learning is surer"]


def _orthogonal(map_DD: Tensor) -> Tensor:
    """The orthogonal map nearest to this one."""
    return procrustes(torch.eye(len(map_DD)), map_DD)


def learn_by_adversary(config: AdversaryConfig, provider: Mapping[str, str]) -> Adversary:
    """The adversary, for programs of this provider."""
    return Adversary(config, provider)
