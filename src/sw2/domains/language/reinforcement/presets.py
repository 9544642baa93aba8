"""Settings for reinforcement learning: those of `chat`, with steps of answers and smaller ones.

The rate is a tenth of fine-tuning's: an answer's worth is one noisy number, and what was learned before is to stay.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from sw2.core.domain import Recipe, Request
from sw2.domains.language.chat import presets
from sw2.domains.language.reinforcement.objective import GrpoConfig, PpoConfig
from sw2.domains.language.reinforcement.rewards import RewardsConfig
from sw2.domains.language.reinforcement.rollouts import RolloutsConfig

__all__ = ["grpo", "ppo"]

_ANSWERS: Final = {"tiny": 16, "small": 32, "full": 64}
_GROUP: Final = {"tiny": 4, "small": 8, "full": 8}
_TOKENS: Final = {"tiny": 32, "small": 128, "full": 256}
_SHARE: Final = 0.1


def grpo(request: Request) -> Recipe:
    """Every setting for GRPO."""
    return _recipe(request, GrpoConfig, "grpo", _GROUP[request.preset])


def ppo(request: Request) -> Recipe:
    """Every setting for PPO: one answer to a prompt, for the critic knows what to expect of each."""
    return _recipe(request, PpoConfig, "ppo", 1)


def _recipe(request: Request, config: type[GrpoConfig] | type[PpoConfig], name: str, group: int) -> Recipe:
    base = presets.recipe(request)
    optim = base.learn_config.gradient.optim
    optim = replace(optim, learning_rate=optim.learning_rate * _SHARE)
    answers = _ANSWERS[request.preset]
    gradient = replace(base.learn_config.gradient, batch_size=answers, compile="off", optim=optim)
    model: Any = base.model_config
    most = min(_TOKENS[request.preset], max(1, model.context // 2))
    judged = "reward" in request.uses
    reward = RewardsConfig(check=0.0, program=1.0) if judged else RewardsConfig()
    return replace(
        base,
        objective=name,
        learn_config=config(gradient=gradient, rollouts=RolloutsConfig(group=group, max_tokens=most), reward=reward),
        roles=("reward",),
        reasons={
            **{key: why for key, why in base.reasons.items() if not key.startswith("learn")},
            "learn.gradient.batch_size": f"{answers} answers a step",
            "learn.gradient.optim.learning_rate": f"{optim.learning_rate:g}, {_SHARE:g} of fine-tuning's",
            "learn.rollouts.max_tokens": f"{most} tokens of a message, at most half the context",
            "learn.reward.program": "the program of --with reward alone" if judged else "no program of --with reward",
        },
    )
