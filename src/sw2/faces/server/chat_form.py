"""OpenAI's form around the messages of a chat, whole and in pieces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

from sw2.faces.server import wire
from sw2.faces.server.writing import Head

__all__ = ["ChatForm", "Reason"]

Reason = Literal["stop", "length", "tool_calls"]
"""Why a message ended."""


@final
@dataclass(frozen=True)
class ChatForm:
    """What stands around the messages of one answer."""

    head: Head

    @classmethod
    def new(cls, model: str) -> ChatForm:
        """That of a new answer of a model."""
        return cls(Head.new("chatcmpl", model))

    def choice(
        self, number: int, message: wire.ChatMessage, reason: Reason, logprobs: wire.ChatLogprobs | None = None
    ) -> wire.ChatChoice:
        """A whole message."""
        return wire.ChatChoice(index=number, message=message, logprobs=logprobs, finish_reason=reason)

    def chunk(
        self,
        number: int,
        delta: wire.ChatMessage,
        logprobs: wire.ChatLogprobs | None = None,
        finished: Reason | None = None,
    ) -> wire.ChatAnswer:
        """A piece of a message."""
        choice = wire.ChatChoice(index=number, delta=delta, logprobs=logprobs, finish_reason=finished)
        return self.answer("chat.completion.chunk", [choice])

    def answer(
        self,
        kind: Literal["chat.completion", "chat.completion.chunk"],
        choices: list[wire.ChatChoice],
        used: wire.Usage | None = None,
    ) -> wire.ChatAnswer:
        """What is sent."""
        answer = wire.ChatAnswer(
            id=self.head.id, object=kind, created=self.head.created, model=self.head.model, choices=choices
        )
        if used is not None:
            answer.usage = used
        return answer
