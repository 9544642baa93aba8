"""A tool: what a model may call and something here runs.

Domains have their own (`Chat.own_tools`); others are made of what a person has, such as a function (`verbs.tools`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

__all__ = ["Tool"]


@final
@dataclass(frozen=True)
class Tool:
    """A tool that is run where the model runs.

    Args:
        name: as models call it.
        description: for the model.
        parameters: a JSON schema of its arguments, an object.
        run: takes the arguments, whatever a model wrote there, and returns the result; raises ValueError with a
            sentence for the model.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    run: Callable[[Mapping[str, Any]], str]

    @property
    def schema(self) -> Mapping[str, Any]:
        """In the form that everybody uses, OpenAI's."""
        function = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": function}
