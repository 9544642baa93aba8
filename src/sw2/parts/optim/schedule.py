"""Learning-rate schedules: pure functions from a step to the factor that multiplies the learning rate.

    warm-up            (step + 1) / warmup        for step < warmup, then one of
    constant           1
    cosine             floor + (1 - floor) (1 + cos(pi t)) / 2,  t = share of the steps after warm-up that is done
    stable             1, and over the last `decay` steps down to floor along 1 - sqrt(t), t = share of the decay done

The first step after warm-up has factor 1 in each. `floor` would be reached at `step == steps`, so no step is
taken at rate zero.

Sources: Loshchilov & Hutter, "SGDR" (2017), https://arxiv.org/abs/1608.03983, eq. 5 for the cosine; Hägele et al.,
"Scaling laws and compute-optimal training beyond fixed training durations" (2024), https://arxiv.org/abs/2405.18392,
for the stable phase with a 1 - sqrt decay.

Nothing here knows an optimiser: a run that resumes computes the same factors from the step alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from sw2.base.errors import UsageError

__all__ = ["ScheduleConfig", "constant", "cosine", "multiplier", "stable"]


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """How the learning rate moves over a run; lengths are shares of the run, so that one config fits every length.

    Args:
        shape: "stable" (hold, then decay), "cosine" or "constant".
        warmup: share of the steps over which the rate rises from near zero, in [0, 1].
        decay: share of the steps over which "stable" falls at the end, in [0, 1]; the other shapes do not use it.
        floor: the factor that is fallen to, in [0, 1]; "constant" does not use it.
    """

    shape: Literal["stable", "cosine", "constant"] = "stable"
    warmup: float = 0.02
    decay: float = 0.3
    floor: float = 0.0

    def __post_init__(self) -> None:
        for name in ("warmup", "decay", "floor"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UsageError(
                    f"The schedule's {name} is a share.", wanted="a number from 0 to 1", got=getattr(self, name)
                )
        if self.shape == "stable" and self.warmup + self.decay > 1.0:
            raise UsageError(
                "Warm-up and decay take more steps than there are.",
                wanted="warmup + decay of at most 1",
                got=f"{self.warmup} + {self.decay}",
            )


def multiplier(config: ScheduleConfig, step: int, steps: int) -> float:
    """The factor of the learning rate at `step` of a run of `steps`.

    Args:
        config: the shape and its shares.
        step: the step about to be taken, from 0; at `steps` and beyond the factor stays at its end.
        steps: how many steps the run takes.

    >>> [round(multiplier(ScheduleConfig(warmup=0.2, decay=0.4), step, 10), 2) for step in (0, 1, 5, 6, 9)]
    [0.5, 1.0, 1.0, 1.0, 0.13]
    """
    warmup = round(config.warmup * steps)
    if config.shape == "constant":
        return constant(step, warmup=warmup)
    if config.shape == "cosine":
        return cosine(step, steps=steps, warmup=warmup, floor=config.floor)
    # Rounding both lengths up may overlap them by one step in very short runs.
    decay = min(round(config.decay * steps), steps - warmup)
    return stable(step, steps=steps, warmup=warmup, decay=decay, floor=config.floor)


def constant(step: int, *, warmup: int = 0) -> float:
    """Rise over `warmup` steps, then stay at 1."""
    return min(1.0, (step + 1) / warmup) if warmup else 1.0


def cosine(step: int, *, steps: int, warmup: int = 0, floor: float = 0.0) -> float:
    """Rise over `warmup` steps, then fall along half a cosine to `floor` at `steps`."""
    if step < warmup:
        return constant(step, warmup=warmup)
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2


def stable(step: int, *, steps: int, warmup: int = 0, decay: int = 0, floor: float = 0.0) -> float:
    """Rise over `warmup` steps, stay at 1, and fall along 1 - sqrt(t) to `floor` over the last `decay` steps."""
    if step < warmup or step < steps - decay or not decay:
        return constant(step, warmup=warmup)
    done = min(1.0, (step - (steps - decay)) / decay)
    return floor + (1 - floor) * (1 - math.sqrt(done))
