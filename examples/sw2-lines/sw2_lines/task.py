"""Tabular regression: which number belongs to these numbers?

    Data → TablePrep (columns to zero mean and unit deviation over the training rows) → a model's value [N]
         → {"value": number}

Judged by the root of the mean squared error (RMSE, in the unit of the target) and by R², the share of the variance that
is explained. Baseline on the same rows: always the mean of the training targets.

Shapes: N rows, F columns to learn from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sw2.base.errors import DataError
from sw2.core.data import Data, Split
from sw2.core.kinds import Kind
from sw2.core.model import Model
from sw2.core.program import Answer, Program, Runtime
from sw2.core.task import CheckReport, Context, Prep, PrepState, Score, Task
from sw2.parts.metrics.intervals import bootstrap
from sw2_lines.data import TableOptions, read

__all__ = ["Predictor", "PrepConfig", "Regression", "TablePrep"]


@dataclass(frozen=True, kw_only=True)
class PrepConfig:
    """How a record becomes numbers.

    Args:
        columns: those to learn from, in order; all when empty.
    """

    columns: tuple[str, ...] = ()


class TablePrep(Prep):
    """The fitted preprocessing: the names of F columns, and their mean and deviation, float64 [F]."""

    def __init__(self, columns: Sequence[str], mean: np.ndarray, deviation: np.ndarray) -> None:
        self.columns, self.mean, self.deviation = tuple(columns), mean, deviation

    def encode(self, records: Sequence[Any]) -> np.ndarray:
        """Records as float64 [N, F] with zero mean and unit deviation over the training rows.

        Raises:
            DataError: when a record lacks a column, or holds no number there.
        """
        rows = [[_number(record, name) for name in self.columns] for record in records]
        return (np.array(rows).reshape(len(rows), len(self.columns)) - self.mean) / self.deviation

    def state(self) -> PrepState:
        arrays = {"mean": self.mean, "deviation": self.deviation}
        return PrepState(config={"columns": list(self.columns)}, arrays=arrays)

    @classmethod
    def restore(cls, state: PrepState) -> TablePrep:
        return cls(state.config["columns"], state.arrays["mean"], state.arrays["deviation"])


def _number(record: Any, name: str) -> float:
    try:
        return float(record[name])
    except (KeyError, TypeError, ValueError) as error:
        got = str(record)[:200]
        raise DataError("This record cannot be used.", where=name, wanted="a number there", got=got) from error


class Predictor(Runtime):
    """Answers with the number that the model predicts."""

    name = "predictor"
    Prep = TablePrep

    def __init__(self, nets: Mapping[str, Model], prep: TablePrep, uses: Mapping[str, Program]) -> None:
        del uses
        self.net, self.prep = nets["model"], prep

    def answer(self, inputs: Sequence[Any]) -> list[Answer]:
        with torch.inference_mode():
            values_N = self.net({"columns": torch.from_numpy(self.prep.encode(inputs)).float()})["value"]
        return [{"value": value} for value in values_N.tolist()]


class Regression(Task):
    """The task at the top of this file."""

    name = "tabular-regression"
    inputs = {"record": Kind("record", "float32", ("columns",))}
    outputs = {"value": Kind("number", "float32")}
    metric = "RMSE"
    runtime = Predictor.name
    Options = TableOptions

    def read(self, source: str, options: TableOptions, context: Context) -> Data:
        del context
        return read(source, options)

    def check(self, data: Data) -> CheckReport:
        facts: dict[str, Any] = {name: f"{len(split)} rows" for name, split in data.splits.items()}
        facts["columns"] = ", ".join(data.split("train")[0]["record"])
        return CheckReport(facts=facts, notes=[f"skipped {row.where}: {row.why}" for row in data.rejected])

    def prepare(self, train: Split, config: PrepConfig) -> TablePrep:
        columns = config.columns or tuple(train[0]["record"])
        unfitted = TablePrep(columns, np.zeros(len(columns)), np.ones(len(columns)))
        x_NF = unfitted.encode([row["record"] for row in train])
        deviation_F = x_NF.std(0)
        return TablePrep(columns, x_NF.mean(0), np.where(deviation_F > 0, deviation_F, 1.0))

    def baselines(self, data: Data, prep: Prep, context: Context) -> Sequence[Score]:
        mean, test = np.mean([row["value"] for row in data.split("train")]), data.split("test")
        return _scores(np.full(len(test), mean), test, "mean of the training rows", context.seed)

    def judge(self, program: Program, held_out: Split, context: Context) -> Sequence[Score]:
        answers = program.map([row["record"] for row in held_out])
        return _scores(np.array([answer["value"] for answer in answers]), held_out, "program", context.seed)


def _scores(predicted_N: np.ndarray, rows: Split, of: str, seed: int) -> list[Score]:
    """RMSE and R² with the 95 % intervals of a bootstrap over rows."""
    target_N = np.array([row["value"] for row in rows])
    pairs_N2 = np.stack([(target_N - predicted_N) ** 2, target_N], 1)

    def rmse(pairs_N2: np.ndarray) -> float:
        return float(pairs_N2[:, 0].mean() ** 0.5)

    def explained(pairs_N2: np.ndarray) -> float:
        error, variance = pairs_N2[:, 0].mean(), pairs_N2[:, 1].var()
        return float(1 - error / variance) if variance else 0.0  # equal targets leave nothing to explain

    scores = []
    for name, better, statistic in (("RMSE", "lower", rmse), ("R²", "higher", explained)):
        found = bootstrap(pairs_N2, statistic, seed=seed)
        interval = (found.low, found.high)
        scores.append(Score(name=name, value=found.value, better=better, examples=len(rows), interval=interval, of=of))
    return scores
