"""Settings for preferences: those of `chat`, with steps of rows that hold pairs.

Rates are a fraction of those of fine-tuning: a pair says less than a text, and both losses push until they are stopped.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sw2.core.domain import Recipe, Request
from sw2.core.gradient import GradientConfig
from sw2.domains.language.chat import presets
from sw2.domains.language.preferences.objective import DpoConfig, RewardConfig
from sw2.domains.language.preferences.scorer import Scorer

__all__ = ["dpo", "reward"]

_ROWS = {"tiny": 1, "small": 2, "full": 8}


def reward(request: Request) -> Recipe:
    """Every setting for a reward model."""
    base = presets.recipe(request)
    gradient, reasons = _gradient(base, request, 0.5 if request.parent else 1.0)
    decoder: Any = base.model_config
    return replace(
        base,
        model="scorer",
        model_config=Scorer.Config(decoder=decoder),
        objective="reward",
        learn_config=RewardConfig(gradient=gradient, held=base.learn_config.held),
        reasons={
            **{key: why for key, why in base.reasons.items() if not key.startswith(("model", "learn"))},
            **{key: why for key, why in base.reasons.items() if key == "learn.held"},
            **reasons,
        },
    )


def dpo(request: Request) -> Recipe:
    """Every setting for direct preference optimisation."""
    base = presets.recipe(request)
    gradient, reasons = _gradient(base, request, 0.1)
    return replace(
        base,
        objective="dpo",
        learn_config=DpoConfig(gradient=gradient),
        reasons={**{key: why for key, why in base.reasons.items() if not key.startswith("learn")}, **reasons},
    )


def _gradient(base: Recipe, request: Request, share: float) -> tuple[GradientConfig, dict[str, str]]:
    """The steps: a few rows of pairs, a fraction of fine-tuning's rate."""
    gradient: GradientConfig = base.learn_config.gradient
    optim = replace(gradient.optim, learning_rate=gradient.optim.learning_rate * share)
    rows = _ROWS[request.preset]
    return replace(gradient, batch_size=rows, optim=optim), {
        "learn.gradient.batch_size": f"rows of a thousand tokens or of the longest pair, as many pairs as fit: {rows}",
        "learn.gradient.optim.learning_rate": f"{optim.learning_rate:g}, {share:g} of fine-tuning's",
    }
