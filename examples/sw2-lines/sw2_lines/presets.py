"""Settings, derived from the data. A closed form has nothing to hurry, so all presets are one."""

from __future__ import annotations

from sw2.base.errors import UsageError
from sw2.core.domain import Recipe, Request
from sw2_lines.objective import LearnConfig
from sw2_lines.ridge import Ridge
from sw2_lines.task import PrepConfig

__all__ = ["recipe"]


def recipe(request: Request) -> Recipe:
    """Every setting for `request`."""
    if request.parent is not None:
        raise UsageError("A closed form starts from nothing.", wanted="no --from", got="a program to start from")
    columns = len(request.data.split("train")[0]["record"])
    return Recipe(
        model="ridge",
        model_config=Ridge.Config(features=columns),
        prep_config=PrepConfig(),
        objective="least-squares",
        learn_config=LearnConfig(),
        reasons={"model.features": f"{columns}, the columns beside the target"},
    )
