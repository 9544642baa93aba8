"""Settings for reinforcement learning: those of `chat`, with steps of answers and smaller ones.

The rate is a tenth of fine-tuning's, and less for large networks: an answer's worth is one noisy number, and what was
learned before is to stay. Adam moves every weight by about the rate at first, whatever the gradient says; SmolLM2 went
22 nats per answer in one step at 5e-5, and 0.03 in twenty steps at 1e-5. So the rate rises over a tenth of the steps.
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
_AT_ONCE: Final = 8
_TOKENS: Final = {"tiny": 32, "small": 128, "full": 256}
_SHARE: Final = {"small": 0.1, "large": 0.05}
_WARMUP: Final = 0.1


def grpo(request: Request) -> Recipe:
    """Every setting for GRPO."""
    return _recipe(request, GrpoConfig, "grpo", _GROUP[request.preset])


def ppo(request: Request) -> Recipe:
    """Every setting for PPO: one answer to a prompt, for the critic knows what to expect of each."""
    return _recipe(request, PpoConfig, "ppo", 1)


def _recipe(request: Request, config: type[GrpoConfig] | type[PpoConfig], name: str, group: int) -> Recipe:
    base = presets.recipe(request)
    optim = base.learn_config.gradient.optim
    large = presets.is_large(request)
    share = _SHARE["large" if large else "small"]
    schedule = replace(optim.schedule, warmup=_WARMUP)
    optim = replace(optim, learning_rate=optim.learning_rate * share, schedule=schedule)
    answers = _ANSWERS[request.preset]
    # Large networks have a batch of rows that fill the processor by themselves; all of them at once took 16 GB.
    at_once = max(group, _AT_ONCE) if large else 0
    gradient = replace(base.learn_config.gradient, batch_size=answers, micro_batch=at_once, compile="off", optim=optim)
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
            "learn.gradient.optim.learning_rate": f"{optim.learning_rate:g}, {share:g} of fine-tuning's",
            "learn.rollouts.max_tokens": f"{most} tokens of a message, at most half the context",
            "learn.reward.program": "the program of --with reward alone" if judged else "no program of --with reward",
        },
    )
