"""Which way to begin: from known weights, with the last layer alone or with all of them, or from nothing.

Where the user names neither a model nor a program to start from, and minutes to learn in, a task may offer several ways
to begin (`TaskEntry.starts`). Each learns for a small share of the minutes from at most 2,000 examples; all are judged
on the same others, and the best begins the training that the rest of the minutes is for. What each was worth is
printed. A way that cannot be gone, as its weights are not here and may not be fetched, is left out, and said to be.

Choices: the first way of the list wins a tie, so the task lists them in the order in which they promise more once there
is time. The trials' programs are thrown away: the training begins anew, on all its examples.

It does not search settings (`search`), and takes no part where several processes learn together.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sw2.base.errors import DataError, Interrupted, LearningError, ResourceError, UsageError
from sw2.base.seed import numpy_generator
from sw2.core.data import Data
from sw2.core.distributed import world
from sw2.core.domain import Request, Start
from sw2.core.registry import Registry
from sw2.core.task import Context
from sw2.core.trainer import Budget, Learned, Reporter

if TYPE_CHECKING:
    from sw2.verbs.train import Order, Setup

__all__ = ["begun", "offered"]

_SHARE, _MOST_MINUTES = 0.25, 3.0
"""Of the minutes, for all trials together, and at most so many."""
_LEAST, _MOST, _LEARNED = 10, 300, 2000
"""Held-out examples of a trial: with fewer there is none, more only take time; and how many it learns from at most."""
_QUIET: Final = ("trainer.evaluations=0", "trainer.health=off", "trainer.checkpoint_seconds=1e9")

Learn = Callable[["Registry", "Order", Data, Path, Context], Learned]


def begun(
    registry: Registry, setup: Setup, context: Context, reporter: Reporter, learn: Learn
) -> tuple[Order, dict[str, str]] | None:
    """The order with the best way to begin and what is left of its minutes, and why; None where there is no choice.

    Args:
        setup: of the order as it came.
        learn: `verbs.train.fit`.

    Raises:
        Interrupted: stopped in a trial; there is nothing to go on from.
    """
    began = time.monotonic()
    order, minutes = setup.order, setup.budget.minutes
    ways = offered(registry, setup)
    # Most tasks offer none, and their examples may be more than memory holds: nothing is drawn from them.
    if minutes is None or not ways or (seen := _held_out(setup.data, context.seed)) is None:
        return None
    ways = _open(registry, ways, context, reporter)
    if len(ways) < 2:
        return None
    each = min(_SHARE * minutes, _MOST_MINUTES) / len(ways)
    held = len(seen.split("validation"))
    reporter.headline(f"trying {len(ways)} ways to begin, {60 * each:.0f} s each, judged on {held} held-out examples")
    found: list[tuple[float, str, Start]] = []
    for way in ways:
        trial = replace(_order(order, way), budget=Budget(minutes=each))
        own = [text for text in trial.settings if not text.startswith("trainer.")]
        trial = replace(trial, settings=(*_QUIET, *own))
        try:
            with tempfile.TemporaryDirectory() as folder:
                learned = learn(registry, trial, seen, Path(folder) / "run", context)
            first = setup.task.judge(learned.program, seen.split("validation"), context)[0]
        except (Interrupted, KeyboardInterrupt) as error:
            raise Interrupted(
                "Stopped while ways to begin were tried; nothing was saved.", do="Start again."
            ) from error
        except (DataError, LearningError, ResourceError) as error:
            reporter.note(f"  {way.name}: {error.message}")
            continue
        value = float(first.value)
        reporter.note(f"  {way.name}: {first.name} {value:.4f}")
        worth = value if first.better == "higher" else -value
        found.append((worth if math.isfinite(worth) else -math.inf, f"{first.name} {value:.4f}", way))
    if not found:
        return None
    _, _, best = max(found, key=lambda each: each[0])  # the first of the best
    told = ", ".join(f"{way.name} {figure}" for _, figure, way in found)
    left = max(minutes - (time.monotonic() - began) / 60, 0.1 * minutes)
    reporter.headline(f"begins {best.name}; {left:.1f} of {minutes:g} minutes are left")
    return replace(_order(order, best), budget=Budget(minutes=left)), {"start": f"{best.name}: {told}"}


def offered(registry: Registry, setup: Setup) -> Sequence[Start]:
    """The ways to begin that a trial would choose between; none where the user said how, or nothing is to be chosen."""
    order, of = setup.order, registry.starts(setup.order.task)
    said = (order.parent, order.model, order.objective, order.depth, *order.uses)
    if of is None or setup.budget.minutes is None or any(each is not None for each in said) or world().size > 1:
        return ()
    if any(text.split(".")[0] in ("prep", "model", "learn") for text in order.settings):
        return ()
    return of(Request(data=setup.data, preset=order.preset, minutes=setup.budget.minutes))


def _order(order: Order, way: Start) -> Order:
    return replace(order, parent=way.parent, settings=(*way.settings, *order.settings))


def _open(registry: Registry, ways: Sequence[Start], context: Context, reporter: Reporter) -> list[Start]:
    """Those whose weights are there."""
    there: dict[str | None, bool] = {None: True}
    for name in [way.parent for way in ways if way.parent is not None]:
        if name in there:
            continue
        try:
            registry.program(name, context)
            there[name] = True
        except (UsageError, ResourceError) as error:
            there[name] = False
            reporter.note(f"To begin from {name} is not tried: {error.message}")
    return [way for way in ways if there[way.parent]]


def _held_out(data: Data, seed: int) -> Data | None:
    """The examples of the trials: those for training, and some to judge on; None where there are too few."""
    # The validation split alone may be a handful, and nothing of a trial remains.
    pool = [*data.split("train"), *data.splits.get("validation", ())]
    order = numpy_generator(seed, "starting").permutation(len(pool)).tolist()
    held = min(_MOST, len(pool) // 5)
    if held < _LEAST:
        return None
    # No label is met for the first time where programs are judged.
    first = list({str(pool[i].get("label")): i for i in reversed(order)}.values())
    kept = set(first)
    rest = [i for i in order if i not in kept]
    learned, judged = sorted([*first, *rest[held:]][: max(_LEARNED, len(first))]), rest[:held]
    splits = {"train": [pool[i] for i in learned], "validation": [pool[i] for i in judged]}
    return replace(data, splits=splits, fingerprint=f"{data.fingerprint}-starting")
