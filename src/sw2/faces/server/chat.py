"""/v1/chat/completions: the assistant's next message, whole or as it is written.

Calls of tools are in the text that a model writes, in a form that only its program knows (`Chat.message_of`). Where
tools are offered, a stream gives what is certainly beside calls as it comes (`Chat.beside_calls`), and the calls whole,
in the last piece before the end. A text in which a call cannot be understood, or which was cut in one, stays a text.
Without tools a call is only text.

`tool_choice` is "auto" or "none", which hides the tools. With `response_format` an answer that came to its end
("stop") is JSON, of the schema where one is given; a call could not be written inside, so not together with tools.

Where the server has documents, chats are answered from them (`grounded`) unless the request says otherwise.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from sw2.core.capabilities import Chat, Generate
from sw2.faces.server import wire
from sw2.faces.server.chat_form import ChatForm, Reason
from sw2.faces.server.errors import bad_request
from sw2.faces.server.gate import held
from sw2.faces.server.grounded import Grounded, grounded
from sw2.faces.server.library import Library
from sw2.faces.server.log import Conversations
from sw2.faces.server.orders import check_stream, constraint_of, orders, usage
from sw2.faces.server.programs import Programs, Served
from sw2.faces.server.worker import Job
from sw2.faces.server.writing import STREAMED, begin, beside_the_loop, finite_logprob, reserve, stream_of
from sw2.parts.decoding.text import Finish, TextPiece, TokenScore

__all__ = ["chat_router", "plain_messages"]


def chat_router(programs: Programs, conversations: Conversations | None, library: Library | None) -> APIRouter:
    """The route; answered conversations are kept where there is a place for them."""
    router = APIRouter()

    @router.post("/v1/chat/completions", response_model=wire.ChatAnswer, responses=STREAMED, tags=["chat"])
    async def chat_completions(request: Request, asked: wire.Chat) -> Response:
        """Answer a conversation."""
        served = programs[asked.model]
        held(request.scope).facts["model"] = served.name
        chat = await _begun(request, asked, served, conversations, library)
        if asked.stream:
            include = asked.stream_options is not None and asked.stream_options.include_usage
            return stream_of(chat.chunks(include_usage=include))
        return JSONResponse((await chat.whole()).model_dump(exclude_unset=True))

    return router


async def _begun(
    request: Request,
    asked: wire.Chat,
    served: Served,
    conversations: Conversations | None,
    library: Library | None,
) -> _Answering | Grounded:
    talker = served.capability(Chat)  # type: ignore[type-abstract]
    writer = served.capability(Generate)  # type: ignore[type-abstract]
    check_stream(asked)
    constraint = constraint_of(asked.response_format)
    if asked.top_logprobs and not asked.logprobs:
        raise bad_request("top_logprobs: allowed only together with logprobs: true.", param="top_logprobs")
    if asked.tool_choice not in (None, "auto", "none"):
        raise bad_request(
            "tool_choice: only 'auto' and 'none' are supported.", param="tool_choice", code="unsupported_parameter"
        )
    if asked.parallel_tool_calls is False:
        raise bad_request(
            "parallel_tool_calls: false is not supported; the model writes as many calls as it does.",
            param="parallel_tool_calls",
            code="unsupported_parameter",
        )
    if asked.max_tokens is not None and asked.max_completion_tokens is not None:
        raise bad_request("max_tokens: max_completion_tokens says the same; give one of them.", param="max_tokens")
    messages = plain_messages(asked.messages)
    if library is None and asked.documents:
        raise bad_request("documents: this server has none.", param="documents", code="no_documents")

    def keep(tools: Sequence[Mapping[str, Any]], said: Mapping[str, Any]) -> None:
        if conversations is not None:
            conversations.keep([*messages, said], tools, served.program.id)

    if library is not None and asked.documents is not False:
        return await grounded(request.scope, asked, served, messages, library, lambda number, said: keep([], said))
    hidden = asked.tool_choice == "none"
    tools = [] if hidden else [tool.model_dump(exclude_none=True) for tool in asked.tools or []]
    for number, tool in enumerate(tools):
        if tool["function"].pop("strict", False):
            raise bad_request(
                "tools: strict: true is not supported.",
                param=f"tools[{number}].function.strict",
                code="unsupported_parameter",
            )
    if tools and constraint is not None:
        raise bad_request(
            "response_format: an answer held to a form has no room for calls; leave out the tools, or set tool_choice "
            "to 'none'.",
            param="response_format",
            code="unsupported_parameter",
        )
    reserve(request.scope, served, asked.n or 1)
    prompt = await beside_the_loop(talker.encode_conversation, messages, tools)
    made = orders(
        asked,
        [prompt],
        writer,
        max_tokens=asked.max_completion_tokens or asked.max_tokens,
        logprobs=(asked.top_logprobs or 0) if asked.logprobs else None,
        param="messages",
        constraint=constraint,
        whose=held(request.scope).who,
    )
    return _Answering(
        talker=talker,
        job=await begin(request.scope, served, made),
        facts=held(request.scope).facts,
        tools=tools,
        keep=lambda said: keep(tools, said),
        with_logprobs=bool(asked.logprobs),
        choices=asked.n or 1,
        form=ChatForm.new(served.name),
    )


def plain_messages(messages: Sequence[wire.Message]) -> list[dict[str, Any]]:
    """The messages as `core.capabilities.Chat` takes them: texts joined, "developer" as "system".

    Raises:
        ApiError: 400, a message says nothing.
    """
    plain = []
    for number, message in enumerate(messages):
        content = message.content
        if content is None and not message.tool_calls:
            raise bad_request(
                f"messages[{number}].content: a message without calls needs a text.",
                param=f"messages[{number}].content",
            )
        text = content if isinstance(content, str) else "\n".join(part.text for part in content or [])
        role = "system" if message.role == "developer" else message.role
        new: dict[str, Any] = {"role": role, "content": text}
        new |= {key: value for key in ("name", "tool_call_id") if (value := getattr(message, key)) is not None}
        if message.tool_calls:
            new["tool_calls"] = [call.model_dump(exclude={"index"}) for call in message.tool_calls]
        plain.append(new)
    return plain


@dataclass(kw_only=True)
class _Choice:
    """One answer under way: all that was written, and how much of it was shown."""

    text: str = ""
    shown: str = ""


@final
@dataclass(kw_only=True)
class _Answering:
    """A chat under way."""

    talker: Chat
    job: Job
    facts: dict[str, Any]
    tools: Sequence[Mapping[str, Any]]
    keep: Callable[[Mapping[str, Any]], None]
    with_logprobs: bool
    choices: int
    form: ChatForm

    async def whole(self) -> wire.ChatAnswer:
        """The answers at their ends."""
        texts = [""] * self.choices
        scores: list[list[wire.ChatToken]] = [[] for _ in texts]
        found: dict[int, wire.ChatChoice] = {}
        async for number, piece in self.job:
            texts[number] += piece.text
            self._count(piece)
            if self.with_logprobs:
                scores[number] += map(_token, piece.tokens)
            if piece.finished is not None:
                message, reason = self._message(texts[number], piece.finished)
                logprobs = wire.ChatLogprobs(content=scores[number]) if self.with_logprobs else None
                found[number] = self.form.choice(number, message, reason, logprobs)
        return self.form.answer("chat.completion", [found[number] for number in sorted(found)], self._usage())

    async def chunks(self, *, include_usage: bool) -> AsyncIterator[wire.ChatAnswer]:
        """The answers as they are written."""
        going = [_Choice() for _ in range(self.choices)]
        for number in range(self.choices):
            yield self.form.chunk(number, wire.ChatMessage(role="assistant", content=""))
        async for number, piece in self.job:
            choice = going[number]
            choice.text += piece.text
            self._count(piece)
            logprobs = wire.ChatLogprobs(content=[*map(_token, piece.tokens)]) if self.with_logprobs else None
            if piece.finished is None:
                certain = self.talker.beside_calls(choice.text) if self.tools else choice.text
                new, choice.shown = certain[len(choice.shown) :], certain
                if new or logprobs:
                    yield self.form.chunk(number, wire.ChatMessage(content=new), logprobs)
                continue
            message, reason = self._message(choice.text, piece.finished)
            last = wire.ChatMessage(content=_rest(message.content or "", choice.shown))
            if message.tool_calls:
                last.tool_calls = [
                    call.model_copy(update={"index": index}) for index, call in enumerate(message.tool_calls)
                ]
            if last.content or last.tool_calls or logprobs:
                yield self.form.chunk(number, last, logprobs)
            yield self.form.chunk(number, wire.ChatMessage(), finished=reason)
        if include_usage:
            yield self.form.answer("chat.completion.chunk", [], self._usage())

    def _message(self, text: str, finished: Finish) -> tuple[wire.ChatMessage, Reason]:
        """The message that a whole text stands for, and why it ended; keeps the conversation where asked to."""
        calls: list[wire.ToolCall] = []
        said: Mapping[str, Any] = {"role": "assistant", "content": text}
        if self.tools and finished != "length":
            said = self.talker.message_of(text)
            calls = [
                wire.ToolCall(
                    id=f"call_{secrets.token_hex(12)}",
                    type="function",
                    function=wire.FunctionCall(**{key: _sendable(text) for key, text in call["function"].items()}),
                )
                for call in said.get("tool_calls", ())
            ]
        self.keep(said)
        if calls:
            return wire.ChatMessage(role="assistant", content=said["content"] or None, tool_calls=calls), "tool_calls"
        reason: Reason = "length" if finished == "length" else "stop"
        return wire.ChatMessage(role="assistant", content=said["content"]), reason

    def _count(self, piece: TextPiece) -> None:
        self.facts["completion_tokens"] += len(piece.tokens)

    def _usage(self) -> wire.Usage:
        return usage(self.job.orders, self.choices, self.job.reused, self.facts["completion_tokens"])


def _rest(content: str, shown: str) -> str:
    """What of `content` was not shown. White space in front of a text with calls is not part of its content."""
    for given in (shown, shown.lstrip()):
        if content.startswith(given):
            return content[len(given) :]
    return ""


def _sendable(text: str) -> str:
    """A text as UTF-8 has it: a model can spell half a character as an escape in JSON."""
    return text.encode(errors="replace").decode()


def _token(score: TokenScore) -> wire.ChatToken:
    top = [_top(each) for each in score.top]
    return wire.ChatToken(**_top(score).model_dump(), top_logprobs=top)


def _top(score: TokenScore) -> wire.ChatTopToken:
    return wire.ChatTopToken(
        token=score.bytes.decode(errors="replace"),
        logprob=finite_logprob(score.logprob),
        bytes=list(score.bytes),
    )
