"""How a filter is made: a trial says whether a classifier pays for itself, then the filter is sized and filled.

The trial teaches a classifier of each size that could pay (W weights, from a 32nd to a half of the Bloom filter's
bytes), and finds for each the threshold with the fewest bytes in all:

    W + n / 8 · bits(F_p, F_n)        against the Bloom filter's bytes

F_n is counted on keys, F_p on others that were not learned from, at the upper end of its interval: what is asked later
should keep to the rate, and a threshold that looks good among many looks better than it is. The smallest is taken, and
the Bloom filter where no classifier pays. Nothing is measured in time, so the same data and seed make the same filter.

A classifier is logistic regression, rounded to 8 bits. It learns from at most `examples` keys and as many others; all
keys are scored when the filter is filled.

What it does not do: several thresholds with a filter each (Vaidya et al. 2021, https://arxiv.org/abs/2006.03176),
networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray

from sw2.base.config import check_ranges, from_dict, to_dict
from sw2.base.errors import DataError, ResourceError, UsageError
from sw2.base.seed import numpy_generator
from sw2.core.card import size
from sw2.core.objective import Choices, Clock, Job, Metrics, Objective, Snapshot
from sw2.core.program import Net, Program
from sw2.domains.indexes.filters.data import Learned
from sw2.domains.indexes.filters.keysets import KeySet, why_not
from sw2.domains.indexes.filters.models import MODELS, BloomFilter, Filter, SandwichedFilter
from sw2.domains.indexes.filters.sizes import MOST_BITS, Sandwich, field_for, sandwich
from sw2.domains.indexes.filters.task import Membership, SetPrep
from sw2.parts.metrics.intervals import wilson

__all__ = ["LearnConfig", "OneFilter", "Planned", "classifier", "planned"]

_BATCH: Final = 32
_FIRST_SQUARE: Final = 1.0
_THRESHOLDS: Final = 400
_LEAST_POWER: Final = 6


@dataclass(frozen=True, kw_only=True)
class LearnConfig:
    """The settings.

    Args:
        choose: "smallest" takes the filter with the fewest bytes; "given" the one of `--model`.
        learning_rate: the length of a step of the classifier.
        epochs: how often it sees each example.
        examples: at most so many keys, and so many others, are learned from.
    """

    choose: Literal["smallest", "given"] = "smallest"
    learning_rate: float = 0.1
    epochs: int = 3
    examples: int = 500_000

    def __post_init__(self) -> None:
        allowed = {
            "learning_rate": (0 < self.learning_rate <= 10, "a number above 0, up to 10"),
            "epochs": (1 <= self.epochs <= 100, "a whole number from 1 to 100"),
            "examples": (2 <= self.examples <= 100_000_000, "a whole number from 2 to 100000000"),
        }
        check_ranges("learn", self, allowed)


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A learned filter before it is filled.

    Args:
        power: 2^power weights.
        threshold: of the scores.
        rates: of the filters around the classifier.
        stored: bytes of all, as estimated.
    """

    power: int
    threshold: int
    rates: Sandwich
    stored: float

    def __str__(self) -> str:
        return f"{size(round(self.stored)):>9}  sandwiched-filter, {1 << self.power} weights"


def classifier(learned: Learned, power: int, config: LearnConfig, seed: int) -> NDArray[np.int8]:
    """Weights that tell keys from others, int8 [2^power]."""
    draw = numpy_generator(seed, "examples", power)
    keys, others = (_some(each, config.examples, draw) for each in (learned.keys, learned.others))
    examples = keys.followed_by(others)
    member = np.concatenate([np.ones(len(keys), np.uint8), np.zeros(len(others), np.uint8)])
    weights = np.zeros(1 << power, np.float32)
    squares = np.full(1 << power, _FIRST_SQUARE, np.float32)
    for _ in range(config.epochs):
        examples.learn(draw.permutation(len(examples)), member, _BATCH, config.learning_rate, weights, squares)
    most = float(np.abs(weights).max())
    return np.rint(weights * (127 / most if most > 0 else 0)).astype(np.int8)


def planned(learned: Learned, weights: NDArray[np.int8], rate: float, config: LearnConfig, seed: int) -> Planned | None:
    """The threshold and the rates with the fewest bytes for this classifier; None where it is of no use."""
    keys = np.sort(_some(learned.keys, config.examples, numpy_generator(seed, "scored")).scores(weights))
    others = np.sort(learned.sizing.scores(weights))
    best: Planned | None = None
    for threshold in np.unique(np.quantile(others, np.linspace(0, 1, _THRESHOLDS), method="nearest") + 1).tolist():
        passing = len(others) - int(np.searchsorted(others, threshold))
        missed = int(np.searchsorted(keys, threshold)) / len(keys)
        rates = sandwich(rate, wilson(passing, len(others)).high, missed)
        if rates is None:
            continue
        stored = len(weights) + learned.different * rates.bits / 8
        if best is None or stored < best.stored:
            power = len(weights).bit_length() - 1
            best = Planned(power=power, threshold=int(threshold), rates=rates, stored=stored)
    return best


def _some(keys: KeySet, most: int, draw: np.random.Generator) -> KeySet:
    return keys if len(keys) <= most else keys.take(np.sort(draw.choice(len(keys), most, replace=False)))


@dataclass
class _State:
    job: Job
    learned: Learned
    model: Filter | None = None


@final
class OneFilter(Objective[_State]):
    """Makes the filter; one step, and no other length.

    Args:
        config: see LearnConfig.
        provider: of the programs, for their folder.
    """

    makes = "membership-filter"

    def __init__(self, config: LearnConfig, provider: Mapping[str, str]) -> None:
        self.config, self.provider = config, provider

    def choose(self, job: Job) -> Choices:
        _refuse_settings(job)
        learned, prep = _learned(job), job.prep
        assert isinstance(prep, SetPrep)
        standard = _standard(prep)
        given = job.model_name if self.config.choose == "given" else None
        if given == "bloom-filter" or (given is None and not len(learned.others)):
            return Choices(values={"model": "bloom-filter", "power": 0, "trial": []})
        if not len(learned.others):
            raise DataError(
                "A learned filter needs others to learn from.",
                wanted="data.absent=FILE",
                got="keys alone",
                do="Name a file of keys that will be asked for and are not in the set, or leave --model out.",
            )
        tried = [
            planned(learned, classifier(learned, power, self.config, job.seed), prep.rate, self.config, job.seed)
            for power in _powers(standard)
        ]
        found = [plan for plan in tried if plan is not None]
        best = min(found, key=lambda each: each.stored, default=None)
        if given is not None and best is None:
            raise DataError(
                "No classifier tells these keys from the others.",
                wanted="keys that look otherwise than the others",
                got=f"none of {len(tried)} sizes that is of use at a rate of {prep.rate:g}",
                do="Leave --model out: a Bloom filter needs no looks.",
            )
        taken = best if best is not None and (given is not None or best.stored < standard) else None
        lines = [f"{each}{'   ← taken' if each is taken else ''}" for each in found]
        lines.append(f"{size(standard):>9}  bloom-filter{'' if taken else '   ← taken'}")
        beside = f"{size(round(best.stored))} learned beside" if best else "no classifier is of use;"
        values = (
            {"model": "sandwiched-filter", "power": taken.power} if taken else {"model": "bloom-filter", "power": 0}
        )
        reason = f"{beside} {size(standard)} as a Bloom filter of the same rate"
        return Choices(values={**values, "trial": lines}, reasons={"model": reason})

    def start(self, job: Job) -> _State:
        return _State(job, _learned(job))

    def own_length(self, state: _State) -> int:
        return 1

    def step(self, state: _State, clock: Clock) -> Metrics:
        del clock
        job, learned = state.job, state.learned
        prep = job.prep
        assert isinstance(prep, SetPrep)
        if job.choices["model"] == "bloom-filter":
            state.model = BloomFilter(BloomFilter.Config(field=field_for(prep.different, prep.rate)))
        else:
            state.model = self._sandwiched(job, learned, prep)
        state.model.add(learned.keys)
        return {"bytes": float(state.model.stored())}

    def _sandwiched(self, job: Job, learned: Learned, prep: SetPrep) -> SandwichedFilter:
        """The filter of the trial's choice, sized for all keys and empty yet."""
        weights = classifier(learned, job.choices["power"], self.config, job.seed)
        plan = planned(learned, weights, prep.rate, self.config, job.seed)
        assert plan is not None, "the trial found the same"
        missed = int((learned.keys.scores(weights) < plan.threshold).sum())
        model = SandwichedFilter(
            SandwichedFilter.Config(
                power=plan.power,
                threshold=plan.threshold,
                front=field_for(prep.different, plan.rates.front),
                back=field_for(max(missed, 1), plan.rates.back),
            )
        )
        model.weights.copy_(torch.from_numpy(weights))
        return model

    def snapshot(self, state: _State) -> Snapshot:
        if state.model is None:
            return Snapshot(tensors={"filled": torch.zeros(1)})
        fields = {f"filter/{name}": tensor.clone() for name, tensor in state.model.state_dict().items()}
        return Snapshot(tensors={"filled": torch.ones(1), **fields}, values={"model": to_dict(state.model.config)})

    def restore(self, state: _State, snapshot: Snapshot) -> None:
        state.model = None
        if bool(snapshot.tensors["filled"].item()):
            kind = MODELS[state.job.choices["model"]]
            state.model = kind(from_dict(kind.Config, snapshot.values["model"], "model"))
            state.model.load_state_dict(
                {name[7:]: tensor for name, tensor in snapshot.tensors.items() if name.startswith("filter/")}
            )

    def finish(self, state: _State) -> Program:
        assert state.model is not None, "the one step was taken"
        return Program.assemble(
            task=state.job.task,
            runtime=Membership,
            nets={"filter": Net(state.job.choices["model"], state.model)},
            prep=state.job.prep,
            provider=self.provider,
        )

    def notes(self, state: _State) -> Sequence[str]:
        notes = []
        if state.job.choices["trial"]:
            notes += ["bytes of the filters that were tried:", *state.job.choices["trial"]]
        if (reason := why_not()) is not None:
            notes.append(f"The kernels do not run here, so this is slow: {reason}")
        return notes

    def facts(self, state: _State) -> Mapping[str, Any]:
        return {"keys": len(state.learned.keys), "others": len(state.learned.others)}


def _refuse_settings(job: Job) -> None:
    plain, given = to_dict(job.model_class.Config()), to_dict(job.model_config)
    if changed := [f"model.{name}" for name in given if given[name] != plain[name]]:
        raise UsageError(
            "This is found while fitting and cannot be set.",
            where=", ".join(changed),
            wanted="no --set model.…",
            got=", ".join(f"{name}={given[name[6:]]}" for name in changed),
        )


def _standard(prep: SetPrep) -> int:
    """Bytes of the Bloom filter.

    Raises:
        ResourceError: it would be too large.
    """
    field = field_for(prep.different, prep.rate)
    if field.bits > MOST_BITS:
        raise ResourceError(
            "These are too many keys for one filter of that rate.",
            wanted=f"at most {MOST_BITS} bits",
            got=f"{field.bits} bits for {prep.different} keys",
            do="Raise the rate, or make several filters.",
        )
    return 8 * field.words


def _powers(standard: int) -> list[int]:
    """The sizes of classifiers that could pay beside so many bytes, at least one."""
    most = max(_LEAST_POWER, (standard // 2).bit_length() - 1)
    return list(range(max(_LEAST_POWER, most - 4), most + 1))


def _learned(job: Job) -> Learned:
    train = job.data.split("train")
    assert isinstance(train, Learned)
    return train
