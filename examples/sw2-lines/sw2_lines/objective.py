"""How the model is learned: ridge regression in closed form, one step and done.

Shapes: N rows, F columns. With X of zero mean, and penalty λ:

    bias = mean(y)      weight = (XᵀX + λI)⁻¹ Xᵀ(y - bias)

Source: Hoerl and Kennard 1970, doi:10.1080/00401706.1970.10488634, equation 2.1.

Not here: choosing λ. Columns have unit deviation, so XᵀX has N on its diagonal, and a λ of 1 is little beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sw2.base.config import replace
from sw2.base.errors import LearningError, UsageError
from sw2.core.model import Model, count_parameters
from sw2.core.objective import Choices, Clock, Job, Metrics, Objective, Snapshot
from sw2.core.program import Net, Program
from sw2_lines.task import Predictor, TablePrep

__all__ = ["LearnConfig", "LeastSquares"]


@dataclass(frozen=True, kw_only=True)
class LearnConfig:
    """How the model is learned.

    Args:
        penalty: λ, above 0.
    """

    penalty: float = 1.0

    def __post_init__(self) -> None:
        if self.penalty <= 0:
            raise UsageError("learn.penalty is out of range.", wanted="a number above 0", got=self.penalty)


@dataclass
class Fit:
    """The model, and what it learns from: float64 [N, F] and [N]."""

    job: Job
    net: Model
    x_NF: Tensor
    y_N: Tensor


class LeastSquares(Objective[Fit]):
    """The closed form at the top of this file.

    Args:
        config: its settings.
        provider: the domain and distribution that its programs name.
    """

    makes = "tabular-regression"

    def __init__(self, config: LearnConfig, provider: Mapping[str, str]) -> None:
        self.config, self.provider = config, provider

    def choose(self, job: Job) -> Choices:
        return Choices()  # nothing depends on the machine

    def start(self, job: Job) -> Fit:
        assert isinstance(job.prep, TablePrep)
        train = job.data.split("train")
        x_NF = torch.from_numpy(job.prep.encode([row["record"] for row in train]))
        y_N = torch.tensor([row["value"] for row in train], dtype=torch.float64)
        net = job.model_class(replace(job.model_config, features=x_NF.shape[1]))
        return Fit(job, net, x_NF.to(job.device), y_N.to(job.device))

    def own_length(self, state: Fit) -> int:
        return 1

    def step(self, state: Fit, clock: Clock) -> Metrics:
        x_NF, bias = state.x_NF, state.y_N.mean()
        penalty_FF = self.config.penalty * torch.eye(x_NF.shape[1], dtype=x_NF.dtype, device=x_NF.device)
        weight_F = torch.linalg.solve(x_NF.T @ x_NF + penalty_FF, x_NF.T @ (state.y_N - bias))
        loss = float((state.y_N - bias - x_NF @ weight_F).square().mean())
        if not math.isfinite(loss):
            raise LearningError("The squared error is not finite.", wanted="smaller numbers in the table", got=loss)
        state.net.load_state_dict({"weight": weight_F, "bias": bias})
        return {"loss": loss}

    def snapshot(self, state: Fit) -> Snapshot:
        return Snapshot(tensors=state.net.state_dict())

    def restore(self, state: Fit, snapshot: Snapshot) -> None:
        state.net.load_state_dict(dict(snapshot.tensors))

    def facts(self, state: Fit) -> Mapping[str, int | str]:
        return {"parameters": count_parameters(state.net), "unit": "rows", "rows_per_step": len(state.y_N)}

    def finish(self, state: Fit) -> Program:
        return Program.assemble(
            task=state.job.task,
            runtime=Predictor,
            nets={"model": Net(state.job.model_name, state.net)},
            prep=state.job.prep,
            provider=self.provider,
        )
