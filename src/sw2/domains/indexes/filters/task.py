"""The task `membership-filter`: is this key in the set? The field calls it approximate membership.

    https://example.org      {"member": "no"}           it is surely not
    17                       {"member": "probably"}     it is, or it is one of the few that are taken for keys

The program holds neither the keys nor their file. No key is ever denied; a key that is not in the set passes with the
rate that was asked for, `rate`. Of a Bloom filter that holds for whatever is asked. Of a learned one it holds for
questions like the others that it was made with, and for no more than that: whoever may choose the questions can find
those that pass.

Judged by bits a key beside a Bloom filter of the same rate; the rate is measured on others that had no part in making
it.

What it does not do: name which key, count, take keys in later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from sw2.base.config import check_ranges
from sw2.base.errors import DataError, ProgramError
from sw2.core.data import Data, Example, Split
from sw2.core.kinds import Kind
from sw2.core.model import Model
from sw2.core.program import Answer, Program, Runtime
from sw2.core.task import CheckReport, Context, Prep, PrepState, Score, Task
from sw2.domains.indexes.filters.data import Asked, FilterOptions, Learned, read
from sw2.domains.indexes.filters.keysets import of_questions
from sw2.domains.indexes.filters.models import MODELS, BloomFilter, Filter
from sw2.domains.indexes.filters.sizes import field_for
from sw2.domains.indexes.keys import TICKS, KeyKind
from sw2.domains.indexes.task import nanoseconds
from sw2.parts.metrics.intervals import wilson

__all__ = ["Membership", "MembershipFilter", "PrepConfig", "SetPrep"]


@dataclass(frozen=True, kw_only=True)
class PrepConfig:
    """What the filter has to keep to.

    Args:
        rate: the share of others that may be taken for keys, from 1e-9 to 0.5.
    """

    rate: float = 0.01

    def __post_init__(self) -> None:
        check_ranges("prep", self, {"rate": (1e-9 <= self.rate <= 0.5, "a number from 1e-9 to 0.5")})


@final
class SetPrep(Prep):
    """What a filter is about: the type of its keys, how many different ones there are, and the rate."""

    def __init__(self, kind: KeyKind, different: int, rate: float) -> None:
        self.kind, self.different, self.rate = kind, different, rate

    def state(self) -> PrepState:
        kind = {"dtype": self.kind.dtype, "unit": self.kind.unit}
        return PrepState(config={**kind, "different": self.different, "rate": self.rate})

    @classmethod
    def restore(cls, state: PrepState) -> SetPrep:
        found = {name: state.config.get(name) for name in ("dtype", "unit", "different", "rate")}
        match found:
            case {
                "dtype": "text" | "int64" | "uint64" | "float64" as dtype,
                "unit": str(unit),
                "different": int(different),
                "rate": float(rate),
            } if different >= 1 and 0 < rate < 1 and (not unit or (unit in TICKS and dtype == "int64")):
                return cls(KeyKind(dtype, unit), different, rate)
        raise ProgramError("The set of this filter is not told.", wanted="dtype, unit, different, rate", got=found)


@final
class Membership(Runtime):
    """Answers by a filter."""

    name = "membership"
    Prep = SetPrep

    def __init__(self, nets: Mapping[str, Model], prep: SetPrep, uses: Mapping[str, Program]) -> None:
        del uses
        model = nets["filter"]
        if not isinstance(model, Filter):
            raise ProgramError("This is no filter of keys.", wanted=" or ".join(MODELS), got=type(model).__name__)
        self.model, self.prep = model, prep

    def holds(self, keys: Any) -> NDArray[np.bool_]:
        """Of each of `keys` whether it may be in the set; true for all that are.

        Args:
            keys: texts, or numbers or times as `Locate.position` takes them; one, or many in one row.

        Returns:
            [N].

        Raises:
            UsageError: one of them is of a type that the keys of the set are not compared with.
        """
        asked, possible = of_questions(keys, self.prep.kind)
        found = self.model.holds(asked)
        return found & possible

    def answer(self, inputs: Sequence[Any]) -> list[Answer]:
        return [{"member": "probably" if self.holds(key)[0] else "no"} for key in inputs]


@final
class MembershipFilter(Task):
    """Is this key in the set?"""

    name = "membership-filter"
    inputs = {"key": Kind("text", about="A key: a text, or a number or time where the keys are such.")}
    outputs = {"member": Kind("label", options=("no", "probably"), about="Whether the set has it; a no is sure.")}
    metric: ClassVar[str] = "bits a key"
    runtime: ClassVar[str] = Membership.name
    Options = FilterOptions

    def read(self, source: str, options: FilterOptions, context: Context) -> Data:
        return read(source, options, context.seed)

    def check(self, data: Data) -> CheckReport:
        train, notes = data.split("train"), []
        assert isinstance(train, Learned)
        if not len(train.others):
            notes.append("there are no others to learn from, so it is a Bloom filter; data.absent=FILE names some")
            notes.append("its rate is measured on keys that are drawn at random")
        if train.different < len(train.keys):
            notes.append(f"{len(train.keys) - train.different} keys equal others")
        return CheckReport(facts=data.facts, notes=notes)

    def prepare(self, train: Split, config: PrepConfig) -> SetPrep:
        assert isinstance(train, Learned)
        return SetPrep(train.kind, train.different, config.rate)

    def question(self, example: Example) -> Any:
        return example["key"]

    def baselines(self, data: Data, prep: SetPrep, context: Context) -> Sequence[Score]:  # type: ignore[override]
        del context
        asked = data.split("test")
        assert isinstance(asked, Asked)
        model = BloomFilter(BloomFilter.Config(field=field_for(prep.different, prep.rate)))
        model.add(asked.keys)
        return _scores(model, prep, asked, "bloom-filter")

    def judge(self, program: Program, held_out: Split, context: Context) -> Sequence[Score]:
        del context
        runtime, asked = program.capability(Membership), held_out
        assert isinstance(asked, (Asked, Learned))
        if asked.kind != runtime.prep.kind:
            raise DataError(
                "The keys are of another type than those of the filter.",
                where=program.path,
                wanted=str(runtime.prep.kind),
                got=str(asked.kind),
            )
        denied = int((~runtime.model.holds(asked.keys)).sum())
        return [
            *_scores(runtime.model, runtime.prep, asked, "program"),
            Score(name="keys denied", value=float(denied), better="lower", examples=len(asked.keys)),
        ]


def _scores(model: Filter, prep: SetPrep, asked: Asked | Learned, of: str) -> list[Score]:
    size = Score(
        name=MembershipFilter.metric,
        value=8 * model.stored() / prep.different,
        better="lower",
        examples=prep.different,
        of=of,
        details={"bytes": model.stored()},
    )
    if not len(asked.others):
        return [size]
    passed = int(model.holds(asked.others).sum())
    rate = Score.estimated(
        "false-positive rate",
        wilson(passed, len(asked.others)),
        better="lower",
        examples=len(asked.others),
        of=of,
        details={"asked for": prep.rate},
    )
    time = Score(
        name="nanoseconds a key",
        value=nanoseconds(model.holds, asked.others),
        better="lower",
        examples=len(asked.others),
        of=of,
    )
    return [size, rate, time]
