"""Guards against answers that please the reward and nobody else: learning stops, and says what was seen.

A reward stands for what people want only near to the answers that it was made for; pushed far enough, a policy finds
what the reward likes by mistake (Gao, Schulman & Hilton 2022, https://arxiv.org/abs/2210.10760: the true score falls
again as the distance from the start grows). Three signs are watched, each as the mean over the last four steps:

    distance     KL from the start, nats per answer, against a budget
    length       tokens per answer, against those of the first four steps
    repetition   the share of an answer's runs of four tokens that stood in it before, against the same

The stop comes before the step that would go further, with the weights that were seen. What is looked at is what the
policy wrote for learning; no text is judged here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np

from sw2.base.config import check_ranges
from sw2.core.objective import Enough

__all__ = ["Guards", "GuardsConfig", "repetition"]

_WINDOW: Final = 4
_FEW: Final = 16
"""Tokens by which answers may grow however short they were."""
_RUN: Final = 4


@dataclass(frozen=True, kw_only=True)
class GuardsConfig:
    """When learning stops; 0 switches a guard off.

    Args:
        kl: the furthest that answers may be from the start, in nats per answer.
        length: how many times as long answers may become.
        repetition: how much more of an answer may be repeated than at first, as a share.
    """

    kl: float = 20.0
    length: float = 2.0
    repetition: float = 0.2

    def __post_init__(self) -> None:
        allowed = {
            "kl": (self.kl >= 0, "a number of at least 0"),
            "length": (self.length == 0 or self.length >= 1, "0, or a number of at least 1"),
            "repetition": (0 <= self.repetition <= 1, "a share from 0 to 1"),
        }
        check_ranges("learn.guards", self, allowed)


@final
class Guards:
    """What was seen in the first and the last steps."""

    def __init__(self, config: GuardsConfig) -> None:
        self.config = config
        self._first: list[list[float]] = []
        self._last: list[list[float]] = []

    def look(self, kl: float, length: float, repeated: float) -> None:
        """Take up what one step saw.

        Raises:
            Enough: a bound is crossed.
        """
        seen = [kl, length, repeated]
        if len(self._first) < _WINDOW:
            self._first.append(seen)
        self._last = [*self._last[1 - _WINDOW :], seen]
        kl, length, repeated = np.mean(self._last, axis=0)
        _, length_then, repeated_then = np.mean(self._first, axis=0)
        config = self.config
        if config.kl and kl > config.kl:
            raise Enough(
                f"answers are {kl:.3g} nats from those of the start, over the budget of {config.kl:g} "
                "(learn.guards.kl). The program is what it was here."
            )
        if len(self._first) < _WINDOW:
            return
        if config.length and length > max(config.length * length_then, length_then + _FEW):
            raise Enough(
                f"answers grew from {length_then:.0f} to {length:.0f} tokens, more than {config.length:g} times as "
                "long (learn.guards.length). The program is what it was here."
            )
        if config.repetition and repeated > repeated_then + config.repetition:
            raise Enough(
                f"{repeated:.0%} of an answer repeats what stood in it before, {repeated_then:.0%} at first "
                f"(learn.guards.repetition allows {config.repetition:.0%} more). The program is what it was here."
            )

    def state(self) -> dict[str, Any]:
        """As plain values."""
        return {"first": list(self._first), "last": list(self._last)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Put a `state` back."""
        self._first, self._last = list(state["first"]), list(state["last"])


def repetition(tokens: Sequence[int]) -> float:
    """The share of the runs of four tokens that stood before in `tokens`.

    >>> repetition([1, 2, 3, 4, 5]), repetition([1] * 8)
    (0.0, 0.8)
    """
    runs = [tuple(tokens[at : at + _RUN]) for at in range(len(tokens) - _RUN + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0
