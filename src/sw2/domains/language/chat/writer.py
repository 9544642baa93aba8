"""Answering: a message, a conversation with tools, or many conversations at once.

    write -> is there a call? -> run it -> its result is a message -> write on …

All conversations go through one `TextEngine`; each waits only for itself. What goes on after a call are the tokens as
the model wrote them, and not the template's rendering of them, which may space its JSON otherwise: so the tokens of a
`Reply` are what the model has seen and written, as reinforcement learning needs them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Final, final

from sw2.base.errors import UsageError
from sw2.base.seed import derive
from sw2.core.capabilities import MOST_AT_ONCE, Chat, ChatPiece
from sw2.core.model import Model
from sw2.core.program import Answer, Program
from sw2.core.tools import Tool
from sw2.domains.language.chat.template import ChatTemplate, Message, Schema
from sw2.domains.language.chat.tools import TOOLS, beside_calls, calling, message_of, results
from sw2.domains.language.prep import TextPrep
from sw2.domains.language.task import TextWriter
from sw2.parts.decoding.constraint import Constraint
from sw2.parts.decoding.sampling import USUAL, Sampling
from sw2.parts.decoding.text import Finish, TextEngine, TextPiece, TextRequest

__all__ = ["ChatWriter", "Reply", "as_conversation"]

_ANSWER: Final = 512
_ROUNDS: Final = 8
"""How often a tool's result is answered by another call before the conversation ends."""


@final
@dataclass(frozen=True)
class Reply:
    """A conversation that was answered.

    Args:
        messages: all of them, those that were there included.
        tokens: as the model read and wrote them.
        written: for each token whether the model wrote it; the end of an answer counts as written.
        finished: why the last answer ended; "length" also when the context was full.
    """

    messages: Sequence[Message]
    tokens: Sequence[int]
    written: Sequence[bool]
    finished: Finish


class ChatWriter(TextWriter, Chat):
    """A writer whose model was taught to answer in conversations.

    Attributes:
        template: its chat template.
    """

    name = "chat-writer"

    def __init__(self, nets: Mapping[str, Model], prep: TextPrep, uses: Mapping[str, Program]) -> None:
        super().__init__(nets, prep, uses)
        self.template = ChatTemplate.of(prep)

    def reply(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        max_tokens: int = _ANSWER,
        stop: Sequence[str] = (),
        tools: Sequence[Schema] = (),
        constraint: Constraint | None = None,
    ) -> Iterator[TextPiece]:
        _check_calls(tools, constraint)
        prompt = self.encode_conversation(messages, tools)
        return self.generate(prompt, sampling, max_tokens, stop, constraint=constraint)

    def encode_conversation(self, messages: Sequence[Message], tools: Sequence[Schema] = ()) -> list[int]:
        return self.template.tokens(messages, tools)

    def message_of(self, text: str) -> Message:
        return message_of(text)

    def beside_calls(self, text: str) -> str:
        return beside_calls(text)

    def results_of(self, text: str, tools: Sequence[Schema | Tool]) -> list[Message] | None:
        return results(text, tools)

    def calling(self, tools: Sequence[Schema], *, in_text: bool = False, most: int | None = None) -> Constraint:
        return calling(tools, in_text=in_text, most=most)

    def own_tools(self) -> Mapping[str, Tool]:
        return TOOLS

    def converse(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        max_tokens: int = _ANSWER,
        stop: Sequence[str] = (),
        tools: Sequence[Schema | Tool] = (),
        constraint: Constraint | None = None,
    ) -> Iterator[ChatPiece]:
        talk = _Talk(self.template, messages, tools, sampling, constraint)
        with closing(_answered(self.text_engine(1), [talk], max_tokens, stop)) as pieces:  # type: ignore[type-var]
            for _, piece in pieces:
                yield piece

    def reply_many(
        self,
        conversations: Sequence[Mapping[str, Any]],
        samplings: Sequence[Sampling],
        max_tokens: int = _ANSWER,
        stop: Sequence[str] = (),
        at_once: int = MOST_AT_ONCE,
        constraint: Constraint | None = None,
    ) -> list[Reply]:
        """Answer many conversations as one batch, each up to the assistant's final message; calls are run.

        Args:
            conversations: each with "messages" and perhaps "tools"; see `core.capabilities.Chat`.
            samplings: how tokens are chosen, for each conversation.
            max_tokens: the most tokens of each message.
            stop: each message ends before the first of these strings.
            at_once: how many are under way at the same time; the others wait.
            constraint: what each message has to be; not for conversations with tools.

        Raises:
            UsageError: the model does not know such a conversation, one is longer than its context before anything is
                answered, or the constraint cannot be followed.
        """
        talks = [
            _Talk(self.template, each["messages"], each.get("tools") or (), sampling, constraint)
            for each, sampling in zip(conversations, samplings, strict=True)
        ]
        engine = self.text_engine(max(1, min(len(talks), at_once)))
        for _ in _answered(engine, talks, max_tokens, stop):
            pass
        return [talk.answered() for talk in talks]

    def answer(self, inputs: Sequence[Any]) -> list[Answer]:
        """Answer each conversation (messages, or an object with "messages"); write on from each plain text.

        Raises:
            UsageError: one of them is neither.
        """
        texts = [each for each in inputs if isinstance(each, str)]
        talks = [as_conversation(each) for each in inputs if not isinstance(each, str)]
        written = iter(super().answer(texts) if texts else [])
        answered = iter(self.reply_many(talks, [USUAL] * len(talks)) if talks else [])
        return [
            next(written) if isinstance(each, str) else {"text": str(next(answered).messages[-1]["content"])}
            for each in inputs
        ]


def as_conversation(raw: Any) -> Mapping[str, Any]:
    """Messages, or an object with "messages", as such an object.

    Raises:
        UsageError: it is neither.
    """
    talk = raw if isinstance(raw, Mapping) else {"messages": raw}
    messages = talk.get("messages")
    if isinstance(messages, (list, tuple)) and messages and all(isinstance(each, Mapping) for each in messages):
        return talk
    keys = ", ".join(map(str, raw)) or "an empty object" if isinstance(raw, Mapping) else repr(raw)
    raise UsageError(
        "This is no conversation.",
        wanted='messages such as [{"role": "user", "content": "Hello"}], or an object with them as "messages"',
        got=keys if len(keys) <= 60 else f"{keys[:60]}…",
    )


def _check_calls(tools: Sequence[Schema | Tool], constraint: Constraint | None) -> None:
    if tools and constraint is not None:
        raise UsageError(
            "An answer under a constraint cannot call tools.",
            wanted="tools or a constraint",
            got="both",
            do="Leave out one of them; or describe the calls in the constraint, and take them from the answer.",
        )


class _Talk:
    """A conversation under way."""

    def __init__(
        self,
        template: ChatTemplate,
        messages: Sequence[Message],
        tools: Sequence[Schema | Tool],
        sampling: Sampling,
        constraint: Constraint | None,
    ) -> None:
        _check_calls(tools, constraint)
        self.template, self.tools, self.sampling, self.constraint = template, tools, sampling, constraint
        self.offered = [each.schema if isinstance(each, Tool) else each for each in tools]
        self.messages: list[Message] = list(messages)
        self.tokens = template.tokens(messages, self.offered)
        self.written = [False] * len(self.tokens)
        self.rounds = 0
        self.finished: Finish | None = None
        self.text = ""

    def submit(self, engine: TextEngine, max_tokens: int, stop: Sequence[str]) -> TextRequest:
        sampling = self.sampling
        if self.rounds:
            sampling = replace(sampling, seed=derive(sampling.seed, "turn", self.rounds))
        return engine.submit(self.tokens, sampling, max_tokens=max_tokens, stop=stop, constraint=self.constraint)

    def take(self, request: TextRequest, finished: Finish) -> list[Message]:
        """Add what was written, and what its calls gave; return the new messages. `finished` stays None to go on."""
        self._append(request.request.tokens, written=True)
        if finished == "end":
            self._append([self.template.end_of_answer], written=True)
        said = message_of(self.text)
        found = results(self.text, self.tools) if self.tools and finished != "length" else []
        self.text = ""
        self.messages.append(said)
        if not found or self.rounds == _ROUNDS:
            self.finished = finished
            return [said]
        self.rounds += 1
        self.messages += found
        more = self.template.sequel(self.messages, self.offered) if finished == "end" else None
        if more is None:
            # The turns before are written otherwise from now on, or the end was cut off: all of it is read anew.
            self.tokens = self.template.tokens(self.messages, self.offered)
            self.written = [False] * len(self.tokens)
        else:
            self._append(more, written=False)
        return [said, *found]

    def _append(self, tokens: Sequence[int], *, written: bool) -> None:
        self.tokens += tokens
        self.written += [written] * len(tokens)

    def answered(self) -> Reply:
        assert self.finished is not None, "taken to its end"
        return Reply(self.messages, self.tokens, self.written, self.finished)


def _answered(
    engine: TextEngine, talks: Sequence[_Talk], max_tokens: int, stop: Sequence[str]
) -> Iterator[tuple[int, ChatPiece]]:
    """Take every conversation to its end, giving the pieces as they come, each with the number of its conversation."""
    live: dict[TextRequest, int] = {}
    try:
        for number, talk in enumerate(talks):
            live[talk.submit(engine, max_tokens, stop)] = number
        while live:
            for request in engine.step():
                number = live.get(request, -1)
                piece = request.take() if number >= 0 else None
                if piece is None:
                    continue
                talk = talks[number]
                talk.text += piece.text
                if piece.finished is None:
                    yield number, ChatPiece(piece.text, tokens=len(piece.tokens))
                    continue
                del live[request]
                said, *found = talk.take(request, piece.finished)
                yield number, ChatPiece(piece.text, said, piece.finished, len(piece.tokens))
                for message in found:
                    yield number, ChatPiece(message=message)
                if talk.finished is None:
                    try:
                        live[talk.submit(engine, max_tokens, stop)] = number
                    except UsageError:  # the results fill the context
                        talk.finished = "length"
    finally:
        for request in live:
            engine.cancel(request)
