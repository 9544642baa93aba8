"""Settings for preferences: those of `chat`, with steps of pairs and smaller ones.

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

_PAIRS = {"tiny": 4, "small": 8, "full": 32}


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
        learn_config=RewardConfig(gradient=gradient),
        reasons={
            **{key: why for key, why in base.reasons.items() if not key.startswith(("model", "learn"))},
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
    """The steps: few pairs, a fraction of fine-tuning's rate, never compiled (their lengths vary)."""
    gradient: GradientConfig = base.learn_config.gradient
    optim = replace(gradient.optim, learning_rate=gradient.optim.learning_rate * share)
    pairs = _PAIRS[request.preset]
    return replace(gradient, batch_size=pairs, compile="off", optim=optim), {
        "learn.gradient.batch_size": f"{pairs} pairs, two answers each",
        "learn.gradient.optim.learning_rate": f"{optim.learning_rate:g}, {share:g} of fine-tuning's",
    }
