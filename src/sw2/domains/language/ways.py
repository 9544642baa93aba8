"""The ways to learn `chat`, by the name that `--objective` takes: each room's own recipe.

chat    from conversations, by what the assistant wrote          `chat`
dpo     from pairs of answers                                    `preferences`
grpo    from what groups of its own answers are worth            `reinforcement`
ppo     from what its own answers are worth, beside a critic     `reinforcement`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from sw2.core.domain import Recipe, Request
from sw2.domains.language.chat import presets as chat
from sw2.domains.language.preferences import presets as preferences
from sw2.domains.language.reinforcement import presets as reinforcement

__all__ = ["recipe"]

_WAYS: Final[Mapping[str, Callable[[Request], Recipe]]] = {
    "chat": chat.recipe,
    "dpo": preferences.dpo,
    "grpo": reinforcement.grpo,
    "ppo": reinforcement.ppo,
}


def recipe(request: Request) -> Recipe:
    """Every setting for `request`, by its objective."""
    return _WAYS[request.objective or "chat"](request)
