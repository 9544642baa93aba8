"""Small pieces of programs for tests that are about something else.

What it does not do: learn, or stand in for what a test is about.
"""

from __future__ import annotations

from sw2.core.task import Prep, PrepState

__all__ = ["NoPrep"]


class NoPrep(Prep):
    """Preprocessing that does nothing and has nothing to keep."""

    def state(self) -> PrepState:
        return PrepState()

    @classmethod
    def restore(cls, state: PrepState) -> NoPrep:
        del state
        return cls()
