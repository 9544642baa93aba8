"""A Draft: a program that somebody wrote, as far as its text goes, before there is a program for it to run on.

Whoever edits such texts reads them, shows what they say or what is wrong with them, and tries them on programs of their
own choice, without a file, and without opening what the text names. `Catalog.draft` reads one; the domain that
registers a kind of written programs says how (`core.domain.WrittenEntry`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sw2.core.kinds import Kind

if TYPE_CHECKING:
    from sw2.core.program import Program
    from sw2.core.registry import Registry

__all__ = ["Draft"]


class Draft(ABC):
    """A text that was read and understood."""

    @property
    @abstractmethod
    def program(self) -> str:
        """The program that it says it runs on: a path from its own folder, or a name."""

    @property
    @abstractmethod
    def inputs(self) -> Mapping[str, Kind]:
        """What it takes."""

    @property
    @abstractmethod
    def facts(self) -> Mapping[str, Any]:
        """What it says of itself, for people."""

    @abstractmethod
    def on(self, program: Program, registry: Registry) -> Program:
        """It, running on that program.

        Raises:
            ProgramError: the program lacks what it asks for.
        """
