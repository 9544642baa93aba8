"""The option that several verbs share: tools that a program may call, and how what comes of a call is shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sw2.core.capabilities import ChatPiece
    from sw2.core.documents import Passage
    from sw2.core.tools import Tool

__all__ = ["DOCUMENTS", "ToolOption", "offered", "searches", "shown"]

DOCUMENTS = "documents"

ToolOption = Annotated[
    list[str] | None,
    typer.Option(
        "--tool",
        metavar="TOOL",
        help="Let it call calculator, documents (those of --docs), or MODULE:FUNCTION of yours; may be repeated.",
    ),
]


def searches(names: Sequence[str] | None) -> bool:
    """Whether documents are searched by a tool, and not answered from."""
    return DOCUMENTS in (names or ())


def offered(
    names: Sequence[str] | None,
    own: Mapping[str, Tool],
    search: Callable[[str, int], Sequence[Passage]] | None = None,
) -> list[Tool]:
    """The tools of these names.

    Args:
        names: as they are given.
        own: those of the program that may call them.
        search: finds passages of documents; None where there are none.

    Raises:
        UsageError: there is no such tool, or two have one name.
    """
    from sw2.base.errors import UsageError
    from sw2.base.names import pick
    from sw2.verbs.tools import document_tool, imported

    found: dict[str, Tool] = {}
    for name in names or ():
        if ":" in name:
            tool = imported(name)
        elif name == DOCUMENTS:
            if search is None:
                raise UsageError(
                    "There are no documents to search.", where=f"--tool {name}", wanted="--docs DIR", got="none"
                )
            tool = document_tool(search)
        else:
            tool = pick("tool", name, own)
        if tool.name in found:
            raise UsageError(
                "Two tools have one name.", where=f"--tool {name}", wanted="a name for each", got=tool.name
            )
        found[tool.name] = tool
    return list(found.values())


def shown(piece: ChatPiece) -> str:
    """A piece of a conversation for a terminal: what was written, and what came of a call in brackets."""
    if piece.message is not None and piece.message["role"] == "tool":
        return f"\n[{piece.message['content']}]\n"
    return piece.text
