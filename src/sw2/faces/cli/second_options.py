"""The options of one group that `sw2 run` and `sw2 chat` share: a second chance for answers, off unless asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sw2.core.capabilities import Chat
    from sw2.core.second_chance import Draft
    from sw2.core.tools import Tool
    from sw2.parts.decoding.constraint import Constraint
    from sw2.parts.decoding.sampling import Sampling

__all__ = ["ReviewOption", "VotesOption", "answered"]

VotesOption = Annotated[
    int, typer.Option("--votes", min=1, max=64, metavar="N", help="Write N drafts; the answer of most is taken.")
]
ReviewOption = Annotated[
    int, typer.Option("--review", min=0, max=8, metavar="N", help="Review the answer and write it again, N times.")
]


def answered(
    talker: Chat,
    messages: Sequence[Mapping[str, Any]],
    sampling: Sampling,
    max_tokens: int,
    *,
    stop: Sequence[str] = (),
    tools: Sequence[Mapping[str, Any] | Tool] = (),
    constraint: Constraint | None = None,
    votes: int = 1,
    reviews: int = 0,
) -> Draft:
    """The last message of an answer with votes and reviews; calls of tools are run on the way, but not in a critique.

    Raises:
        UsageError: as `Chat.converse`.
    """
    from sw2.core.second_chance import WHOLE, WHOLE_FORM, Draft, elect, elect_by_value, second_chance

    def write(talks: Sequence[Any], samplings: Sequence[Sampling], formed: bool) -> list[Draft]:
        drafts = []
        for talk, one in zip(talks, samplings, strict=True):
            text, finished, tokens = "", None, 0
            offered, held = (tools, constraint) if formed else ((), None)
            with closing(talker.converse(talk, one, max_tokens, stop, offered, held)) as stream:  # type: ignore[type-var]
                for piece in stream:
                    tokens += piece.tokens
                    if piece.finished is not None and piece.message is not None:
                        text, finished = str(piece.message["content"]), piece.finished
            drafts.append(Draft(text=text, finished=finished or "length", tokens=tokens))
        return drafts

    return second_chance(
        write,
        [messages],
        sampling,
        votes=votes,
        reviews=reviews,
        elect=elect if constraint is None else elect_by_value,
        whole=WHOLE if constraint is None else WHOLE_FORM,
    )[0]
