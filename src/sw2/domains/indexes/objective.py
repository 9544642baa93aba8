"""How an index is learned: a model is chosen by a measured trial, and fitted in one pass.

The trial fits every candidate to the keys, asks each the same questions in random order, and keeps what no other beats
in both bytes and time (the Pareto curve). Of those it takes

    no wish, or at most so many bytes      the fastest, or a smaller one within a twentieth of its time
    at most so many nanoseconds            the smallest

The choice is frozen in the run's journal: a repeat makes the same index without measuring again. Peers stand among the
candidates; where one of them wins, it is taken, and the table says so.

Models are small beside their keys, and fitted one after the other, so a trial takes little more memory than the keys.
Eytzinger's order is a copy of them: of many keys it is left out of the trial, and the table says so.

What it does not do: a model for each part of the keys.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, final

import numpy as np
import torch

from sw2.base.config import check_ranges, from_dict, to_dict
from sw2.base.errors import UsageError
from sw2.core.card import size
from sw2.core.objective import Choices, Clock, Job, Metrics, Objective, Snapshot
from sw2.core.program import Net, Program
from sw2.domains.indexes import native
from sw2.domains.indexes.columns import Column
from sw2.domains.indexes.data import Keys
from sw2.domains.indexes.key_model import KeyModel
from sw2.domains.indexes.models import MODELS
from sw2.domains.indexes.task import KeyLocator, lower_bounds, nanoseconds

__all__ = ["CANDIDATES", "LearnConfig", "OnePass", "Tried", "chosen", "learn", "trial"]

CANDIDATES: Final[Sequence[tuple[str, Mapping[str, Any]]]] = (
    *(("pgm", {"epsilon": epsilon}) for epsilon in (7, 15, 31, 63, 127, 511)),
    *(("radix-spline", {"epsilon": epsilon}) for epsilon in (8, 16, 32, 64, 256)),
    *(("rmi", {"leaves": 1 << power}) for power in (10, 13, 16, 19)),
    *(("rmi", {"leaves": 1 << power, "stages": 3}) for power in (13, 16, 19)),
    *(("quantised-spline", {"block": block}) for block in (16, 32, 48, 64, 128)),
    *((name, {}) for name in ("b-plus-tree", "binary-search", "interpolation-search", "eytzinger")),
)
"""The models of the trial, with what is set."""

_COPY: Final = "eytzinger"
_MOST_COPIED: Final = 1 << 26
"""Bytes of keys of which a trial makes a copy."""

_CLOSE: Final = 1.05
_FOUND: Final = {
    "keys",
    "segments",
    "knots",
    "shift",
    "error",
    "fitted",
    "units",
    "levels",
    "nodes",
    "groups",
    "scale",
    "since",
    "entries",
}


@dataclass(frozen=True, kw_only=True)
class LearnConfig:
    """The settings.

    Args:
        choose: "measured" takes the model by a trial; "given" takes the one of `--model` with its settings.
        most_bytes: a wish for the trial: at most so many bytes beyond the keys; 0 for no wish.
        most_nanoseconds: a wish for the trial: at most so many nanoseconds a key, in a batch; 0 for no wish.
        trial: how many questions each candidate is asked, in one batch; of few each has its share of what a call costs.
    """

    choose: Literal["measured", "given"] = "measured"
    most_bytes: int = 0
    most_nanoseconds: float = 0.0
    trial: int = 200_000

    def __post_init__(self) -> None:
        allowed = {
            "most_bytes": (self.most_bytes >= 0, "a whole number of at least 0"),
            "most_nanoseconds": (self.most_nanoseconds >= 0, "a number of at least 0"),
            "trial": (1000 <= self.trial <= 100_000_000, "a whole number from 1000 to 100000000"),
        }
        check_ranges("learn", self, allowed)
        if self.choose == "given" and (self.most_bytes or self.most_nanoseconds):
            raise UsageError(
                "A wish has no effect where the model is given.",
                wanted="learn.most_bytes and learn.most_nanoseconds together with learn.choose=measured",
                got="learn.choose=given",
                do="Leave --model out.",
            )


@dataclass(frozen=True)
class Tried:
    """A candidate as it was measured."""

    model: str
    settings: Mapping[str, Any]
    beyond: int
    nanoseconds: float

    def __str__(self) -> str:
        set_to = "".join(f" {name}={value}" for name, value in self.settings.items())
        return f"{self.nanoseconds:8.1f} ns  {size(self.beyond):>9}  {self.model}{set_to}"


def trial(column: Column, questions: int, seed: int) -> list[Tried]:
    """Every candidate on these keys, but for a copy of many; the smallest first.

    Of texts whole look-ups are measured, and heads are counted.

    Args:
        column: the keys.
        questions: how many each is asked: keys that are there, in random order.
        seed: of their draw.
    """
    keys = column.searched
    places = np.random.Generator(np.random.PCG64(seed)).integers(0, len(keys), questions)
    drawn = keys[places] if column.texts is None else column.texts.texts.take(places)
    candidates = [each for each in CANDIDATES if each[0] != _COPY or keys.nbytes <= _MOST_COPIED]
    found = [_tried(column, drawn, name, settings) for name, settings in candidates]
    return sorted(found, key=lambda each: (each.beyond, each.nanoseconds))


def _tried(column: Column, questions: Any, name: str, settings: Mapping[str, Any]) -> Tried:
    """One candidate; its memory is free again before the next is fitted."""
    model = MODELS[name].fit(column.searched, dataclasses.replace(MODELS[name].Config(), **settings))
    measured = nanoseconds(lambda some: lower_bounds(model, column, some), questions)
    settled = {each: getattr(model.config, each) for each in model.settled}
    return Tried(name, {**settings, **settled}, model.beyond() + column.beside, measured)


def chosen(tried: Sequence[Tried], config: LearnConfig) -> tuple[Tried, list[Tried]]:
    """The candidate to take, and those that no other beats in both bytes and time.

    Raises:
        UsageError: none fulfils the wishes.
    """
    curve = [
        each
        for each in tried
        if not any(
            other.beyond <= each.beyond
            and other.nanoseconds <= each.nanoseconds
            and (other.beyond, other.nanoseconds) != (each.beyond, each.nanoseconds)
            for other in tried
        )
    ]
    bytes_, time_ = config.most_bytes or float("inf"), config.most_nanoseconds or float("inf")
    fitting = [each for each in curve if each.beyond <= bytes_ and each.nanoseconds <= time_]
    if not fitting:
        raise UsageError(
            "No model fulfils these wishes.",
            where="learn.most_bytes, learn.most_nanoseconds",
            wanted=f"at most {bytes_:g} bytes and {time_:g} ns a key",
            got="; ".join(" ".join(str(each).split()) for each in curve),
            do="Raise one of them.",
        )
    if config.most_nanoseconds and not config.most_bytes:
        return fitting[0], curve
    fastest = min(each.nanoseconds for each in fitting)
    return next(each for each in fitting if each.nanoseconds <= _CLOSE * fastest), curve


@dataclass
class _State:
    job: Job
    column: Column
    model: KeyModel | None = None


@final
class OnePass(Objective[_State]):
    """Fits the chosen model; one step, and no other length.

    Args:
        config: see LearnConfig.
        provider: of the programs, for their folder.
    """

    makes = "learned-index"

    def __init__(self, config: LearnConfig, provider: Mapping[str, str]) -> None:
        self.config, self.provider = config, provider

    def choose(self, job: Job) -> Choices:
        plain = to_dict(job.model_class.Config())
        given = {name: value for name, value in to_dict(job.model_config).items() if value != plain[name]}
        if found := [name for name in given if name in _FOUND]:
            raise UsageError(
                "This is found while fitting and cannot be set.",
                where=f"model.{found[0]}",
                wanted=", ".join(f"model.{name}" for name in plain if name not in _FOUND) or "no --set model.…",
                got=given[found[0]],
            )
        if self.config.choose == "given":
            return Choices(values={"model": job.model_name, "settings": given, "trial": []}, reasons={})
        if given:
            raise UsageError(
                "Settings of a model have no effect while the model is chosen by a trial.",
                where=", ".join(f"model.{name}" for name in given),
                wanted="no --set model.…, or --model",
                got=", ".join(f"model.{name}={value}" for name, value in given.items()),
                do=f"--model {job.model_name}",
            )
        tried = trial(_column(job), self.config.trial, job.seed)
        taken, curve = chosen(tried, self.config)
        lines = [f"{each}{'   ← taken' if each is taken else ''}" for each in curve]
        lines += [f"{each}   beaten" for each in tried if each not in curve]
        if not any(each.model == _COPY for each in tried):
            most = size(_MOST_COPIED)
            lines.append(
                f"{_COPY} was left out: it is a copy of the keys, which are more than {most}; --model takes it"
            )
        reason = f"{taken.nanoseconds:.1f} ns a key and {size(taken.beyond)}, by a trial of {len(tried)}"
        values = {"model": taken.model, "settings": dict(taken.settings), "trial": lines}
        return Choices(values=values, reasons={"model": reason})

    def start(self, job: Job) -> _State:
        return _State(job, _column(job))

    def own_length(self, state: _State) -> int:
        return 1

    def step(self, state: _State, clock: Clock) -> Metrics:
        del clock
        taken = state.job.choices
        kind = MODELS[taken["model"]]
        state.model = kind.fit(state.column.searched, from_dict(kind.Config, taken["settings"], "settings"))
        return {"bytes": float(state.model.beyond() + state.column.beside)}

    def snapshot(self, state: _State) -> Snapshot:
        if state.model is None:
            return Snapshot(tensors={"fitted": torch.zeros(1)})
        tables = {f"tables/{name}": tensor for name, tensor in state.model.state_dict().items()}
        return Snapshot(tensors={"fitted": torch.ones(1), **tables}, values={"model": to_dict(state.model.config)})

    def restore(self, state: _State, snapshot: Snapshot) -> None:
        state.model = None
        if bool(snapshot.tensors["fitted"].item()):
            kind = MODELS[state.job.choices["model"]]
            state.model = kind(from_dict(kind.Config, snapshot.values["model"], "model"))
            tables = {name[7:]: tensor for name, tensor in snapshot.tensors.items() if name.startswith("tables/")}
            state.model.load_state_dict(tables)

    def finish(self, state: _State) -> Program:
        assert state.model is not None, "the one step was taken"
        job = state.job
        program = Program.assemble(
            task=job.task,
            runtime=KeyLocator,
            nets={"index": Net(job.choices["model"], state.model)},
            prep=job.prep,
            provider=self.provider,
        )
        facts = job.prep.state().config
        return dataclasses.replace(program, binds={"keys": {"sha256": facts["sha256"], "bytes": facts["bytes"]}})

    def notes(self, state: _State) -> Sequence[str]:
        taken, notes = state.job.choices, []
        if taken["trial"]:
            notes.append("bytes and time of the models that were tried, the smallest first:")
            notes += taken["trial"]
        if (reason := native.why_not()) is not None:
            notes.append(f"The kernels do not run here, so look-ups are slow: {reason}")
        return notes

    def facts(self, state: _State) -> Mapping[str, Any]:
        column = state.column
        facts = {"keys": column.numbers, "bytes of the keys": column.nbytes}
        return facts if column.texts is None else facts | {"bytes of their heads": column.beside}


def _column(job: Job) -> Column:
    train = job.data.split("train")
    assert isinstance(train, Keys)
    return train.column


def learn(config: LearnConfig, provider: Mapping[str, str]) -> OnePass:
    """The way to learn an index, for programs of this provider."""
    return OnePass(config, provider)
