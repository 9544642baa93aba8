"""Optimisers and what goes with them: the bricks of going downhill.

Reading order: `schedule` (the learning rate over a run), `groups` (which parameter learns by which rule), `muon`,
`build` (one `Optim` from one `OptimConfig`), `average` (the exponential average of the weights).

It does not hold the loop, clipping or checkpoints: those belong to `core.gradient` and the trainer.
"""

from __future__ import annotations

from sw2.parts.optim.average import Average
from sw2.parts.optim.build import Optim, OptimConfig, build_optim
from sw2.parts.optim.groups import Group, divide
from sw2.parts.optim.muon import Muon, orthogonalize
from sw2.parts.optim.schedule import ScheduleConfig, multiplier

__all__ = [
    "Average",
    "Group",
    "Muon",
    "Optim",
    "OptimConfig",
    "ScheduleConfig",
    "build_optim",
    "divide",
    "multiplier",
    "orthogonalize",
]
