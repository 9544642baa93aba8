"""/v1/chat/completions: the assistant's next message, whole or as it is written.

Calls of tools are in the text that a model writes, in a form that only its program knows (`Chat.message_of`). Where
tools are offered, a stream gives what is certainly beside calls as it comes (`Chat.beside_calls`), and the calls whole,
in the last piece before the end. A text in which a call cannot be understood, or which was cut in one, stays a text.
Without tools a call is only text.

Two kinds of tools: those of a request, whose calls end the answer, for the client to run; and those that the server was
started with, which it runs itself and lets the model go on with the result, a bounded number of times. These are
offered in every chat but one whose answer is held to a form. A message that calls both kinds is the client's: its calls
of the server's tools are left out, and the model can make them again.

    write → a call of the server's? → run it (a thread) → a step for the client to see → write on …

`tool_choice` is "auto", "none", which hides all tools, or "required" or the name of one: then the first message is held
to the form of a call with arguments of its schema (`Chat.calling`); "required" means one of the request's where it has
any, as a client waits for that. Beside free text, calls of tools that are `strict` are held to their schemas, and with
`parallel_tool_calls: false` there is at most one in a message. With `response_format` an answer that came to its
end ("stop") is JSON, of the schema where one is given; a call could not be written inside, so not together with tools.

Where the server has documents, chats are answered from them (`grounded`) unless the request says otherwise, or search
is one of the server's tools.

What it does not do: end a tool that takes too long; the request has its time, and the thread goes on to the tool's end.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, final

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from sw2.base.errors import UsageError
from sw2.base.names import nearest
from sw2.base.seed import derive
from sw2.core.capabilities import Chat, Generate
from sw2.core.documents import Passage
from sw2.core.tools import Tool
from sw2.faces.server import wire
from sw2.faces.server.chat_form import ChatForm, Reason
from sw2.faces.server.errors import api_error_of, bad_request
from sw2.faces.server.gate import held
from sw2.faces.server.grounded import Grounded, grounded
from sw2.faces.server.library import Library
from sw2.faces.server.log import Conversations, Keeper
from sw2.faces.server.orders import check_stream, constraint_of, orders, usage
from sw2.faces.server.programs import Programs, Served
from sw2.faces.server.worker import Job, Order
from sw2.faces.server.writing import (
    STREAMED,
    begin,
    beside_the_loop,
    finite_logprob,
    in_its_own_thread,
    reserve,
    stream_of,
)
from sw2.parts.decoding.constraint import Constraint
from sw2.parts.decoding.text import Finish, TextPiece, TokenScore
from sw2.verbs.tools import document_tool

__all__ = ["ChatTools", "chat_router", "plain_messages"]

_ROUNDS: Final = 8
"""How often results of the server's tools are answered before a message ends."""


@final
@dataclass(frozen=True)
class ChatTools:
    """What the server runs for its models.

    Args:
        by_program: the tools of each program, by the name under which it is served.
        search: whether one more searches the documents.
    """

    by_program: Mapping[str, Sequence[Tool]]
    search: bool

    def of(
        self, model: str, use: bool | wire.DocumentsUse | None, library: Library | None, names: Sequence[str]
    ) -> list[Tool]:
        """Those of a request.

        Args:
            model: its program.
            use: what it says of documents.
            library: the documents.
            names: those by which whoever asks goes.
        """
        tools = list(self.by_program.get(model, ()))
        if self.search and library is not None and use is not False:
            most = use.passages if isinstance(use, wire.DocumentsUse) else None

            def search(question: str, count: int) -> Sequence[Passage]:
                return library.search(question, count if most is None else min(count, most), names)

            tools.append(document_tool(search))
        return tools


def chat_router(
    programs: Programs, conversations: Conversations | None, library: Library | None, tools: ChatTools
) -> APIRouter:
    """The route; answered conversations are kept where there is a place for them."""
    router = APIRouter()

    @router.post("/v1/chat/completions", response_model=wire.ChatAnswer, responses=STREAMED, tags=["chat"])
    async def chat_completions(request: Request, asked: wire.Chat) -> Response:
        """Answer a conversation."""
        served = programs[asked.model]
        holds = held(request.scope)
        holds.facts["model"] = served.name
        _check(asked, library)
        messages = plain_messages(asked.messages)
        form = ChatForm.new(served.name)
        keeper = Keeper(conversations, form.head.id, holds.who, served.program)
        chat: _Answering | Grounded
        if library is not None and not tools.search and asked.documents is not False:
            chat = await grounded(request.scope, asked, served, messages, library, form, keeper)
        else:
            own = tools.of(served.name, asked.documents, library, holds.names)
            chat = await _begun(request.scope, asked, served, messages, own, form, keeper)
        if asked.stream:
            include = asked.stream_options is not None and asked.stream_options.include_usage
            return stream_of(chat.chunks(include_usage=include))
        return JSONResponse((await chat.whole()).model_dump(exclude_unset=True))

    return router


def _check(asked: wire.Chat, library: Library | None) -> None:
    """Refuse what does not go together."""
    check_stream(asked)
    if asked.top_logprobs and not asked.logprobs:
        raise bad_request("top_logprobs: allowed only together with logprobs: true.", param="top_logprobs")
    if asked.max_tokens is not None and asked.max_completion_tokens is not None:
        raise bad_request("max_tokens: max_completion_tokens says the same; give one of them.", param="max_tokens")
    if library is None and asked.documents:
        raise bad_request("documents: this server has none.", param="documents", code="no_documents")


def _held_to_a_call(asked: wire.Chat) -> bool:
    return asked.tool_choice == "required" or isinstance(asked.tool_choice, wire.NamedTool)


async def _begun(
    scope: MutableMapping[str, Any],
    asked: wire.Chat,
    served: Served,
    messages: list[dict[str, Any]],
    own: Sequence[Tool],
    form: ChatForm,
    keeper: Keeper,
) -> _Answering:
    talker = served.capability(Chat)  # type: ignore[type-abstract]
    writer = served.capability(Generate)  # type: ignore[type-abstract]
    constraint = constraint_of(asked.response_format)
    theirs = _of_request(asked)
    if constraint is not None and (theirs or _held_to_a_call(asked)):
        raise bad_request(
            "response_format: an answer held to a form has no room for calls; leave out the tools, or set tool_choice "
            "to 'none'.",
            param="response_format",
            code="unsupported_parameter",
        )
    if asked.tool_choice == "none" or constraint is not None:
        own = []
    taken = {tool.name for tool in own}
    for number, tool in enumerate(theirs):
        if tool["function"]["name"] in taken:
            raise bad_request(
                f"tools: the server has a tool '{tool['function']['name']}' of its own; give yours another name.",
                param=f"tools[{number}].function.name",
                code="tool_of_the_server",
            )
    schemas = [*theirs, *(tool.schema for tool in own)]
    strict = {tool["function"]["name"] for tool in theirs if tool["function"].pop("strict", False)}
    later = None
    if schemas and (strict or asked.parallel_tool_calls is False):
        constraint = later = await beside_the_loop(_in_text, talker, asked, strict, schemas)
    if _held_to_a_call(asked):
        constraint = await beside_the_loop(_calling, talker, asked, theirs, schemas)
    reserve(scope, served, asked.n or 1)
    prompt = await beside_the_loop(talker.encode_conversation, messages, schemas)
    most = asked.max_completion_tokens or asked.max_tokens
    first = orders(
        asked,
        [prompt],
        writer,
        max_tokens=most,
        logprobs=(asked.top_logprobs or 0) if asked.logprobs else None,
        param="messages",
        constraint=constraint,
        whose=held(scope).who,
    )
    return _Answering(
        scope=scope,
        served=served,
        talker=talker,
        context=writer.context,
        first=first,
        later=later,
        most=most,
        job=await begin(scope, served, first),
        messages=messages,
        offered=[*theirs, *own],
        schemas=schemas,
        own=taken | {tool.name for tool in own},
        with_logprobs=bool(asked.logprobs),
        form=form,
        keeper=keeper,
    )


def _of_request(asked: wire.Chat) -> list[dict[str, Any]]:
    """The tools of a request, as far as they are not hidden."""
    hidden = asked.tool_choice == "none"
    tools = [] if hidden else [tool.model_dump(exclude_none=True) for tool in asked.tools or []]
    names: set[str] = set()
    for number, tool in enumerate(tools):
        if tool["function"]["name"] in names:
            raise bad_request("tools: two have one name.", param=f"tools[{number}].function.name")
        names.add(tool["function"]["name"])
    return tools


def _calling(
    talker: Chat, asked: wire.Chat, theirs: Sequence[Mapping[str, Any]], schemas: Sequence[Mapping[str, Any]]
) -> Constraint:
    """What holds the first message to a call: of the tool that is named, of the request's, or of any there is.

    Raises:
        ApiError: 400, there is none, or its schema cannot be followed.
    """
    if isinstance(asked.tool_choice, wire.NamedTool):
        name = asked.tool_choice.function.name
        names = [tool["function"]["name"] for tool in schemas]
        if name not in names:
            close = nearest(name, names)
            raise bad_request(
                f"tool_choice: there is no tool '{name}'." + (f" Did you mean '{close}'?" if close else ""),
                param="tool_choice.function.name",
            )
        theirs = [schemas[names.index(name)]]
    if not schemas:
        raise bad_request("tool_choice: a call is required, and there is no tool.", param="tool_choice")
    return _followed(lambda: talker.calling(theirs or schemas))


def _in_text(
    talker: Chat, asked: wire.Chat, strict: Collection[str], schemas: Sequence[Mapping[str, Any]]
) -> Constraint:
    """What holds the calls in a message to their tools, those of strict ones to their schemas, or to a single call.

    Raises:
        ApiError: 400, a schema cannot be followed.
    """
    held_to = [
        tool
        if (function := tool["function"])["name"] in strict
        else {**tool, "function": {**function, "parameters": {"type": "object"}}}
        for tool in schemas
    ]
    return _followed(
        lambda: talker.calling(held_to, in_text=True, most=1 if asked.parallel_tool_calls is False else None)
    )


def _followed(make: Callable[[], Constraint]) -> Constraint:
    try:
        return make()
    except UsageError as error:
        raise api_error_of(error, param="tools") from error


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
    """One answer under way.

    Attributes:
        messages: of the conversation so far, with the server's own calls and their results.
        text: of the message under way, and `shown` how much of it was shown.
        said: whether messages before this one said something.
        steps: how many calls the server has run.
        rounds: how many messages came before this one.
        written: tokens.
    """

    messages: list[Mapping[str, Any]]
    text: str = ""
    shown: str = ""
    said: bool = False
    steps: int = 0
    rounds: int = 0
    written: int = 0


@final
@dataclass(frozen=True)
class _Delta:
    """What came to a choice, and why it ended."""

    number: int
    message: wire.ChatMessage
    logprobs: Sequence[wire.ChatToken] | None = None
    reason: Reason | None = None


@final
@dataclass(kw_only=True)
class _Answering:
    """A chat under way.

    Args:
        first: the orders of the first messages, a choice each, and `most` the most tokens of all of a choice.
        later: what holds the messages after these.
        job: their texts.
        offered: all tools, and `schemas` what the model is told of them.
        own: the names of those that are run here.
    """

    scope: MutableMapping[str, Any]
    served: Served
    talker: Chat
    context: int
    first: Sequence[Order]
    later: Constraint | None
    most: int | None
    job: Job
    messages: Sequence[Mapping[str, Any]]
    offered: Sequence[Mapping[str, Any] | Tool]
    schemas: Sequence[Mapping[str, Any]]
    own: set[str]
    with_logprobs: bool
    form: ChatForm
    keeper: Keeper
    jobs: list[Job] = field(default_factory=list)

    async def whole(self) -> wire.ChatAnswer:
        """The answers at their ends."""
        found = [wire.ChatChoice(index=number) for number in range(len(self.first))]
        for choice in found:
            choice.message = wire.ChatMessage(role="assistant", content="")
            choice.logprobs = wire.ChatLogprobs(content=[]) if self.with_logprobs else None
        async for delta in self._deltas():
            choice, new = found[delta.number], delta.message
            message = choice.message
            assert message is not None, "just made"
            message.content = (message.content or "") + (new.content or "")
            if new.steps:
                message.steps = [*(message.steps or []), *new.steps]
            if new.tool_calls:
                message.tool_calls = [
                    wire.ToolCall(id=call.id, type=call.type, function=call.function) for call in new.tool_calls
                ]
            if choice.logprobs is not None:
                choice.logprobs.content += delta.logprobs or []
            if delta.reason is not None:
                choice.finish_reason = delta.reason
                if message.tool_calls:
                    message.content = message.content or None
        return self.form.answer("chat.completion", found, self._usage())

    async def chunks(self, *, include_usage: bool) -> AsyncIterator[wire.ChatAnswer]:
        """The answers as they are written."""
        for number in range(len(self.first)):
            yield self.form.chunk(number, wire.ChatMessage(role="assistant", content=""))
        async for delta in self._deltas():
            logprobs = None if delta.logprobs is None else wire.ChatLogprobs(content=list(delta.logprobs))
            if delta.message.model_fields_set or logprobs is not None:
                yield self.form.chunk(delta.number, delta.message, logprobs)
            if delta.reason is not None:
                yield self.form.chunk(delta.number, wire.ChatMessage(), finished=delta.reason)
        if include_usage:
            yield self.form.answer("chat.completion.chunk", [], self._usage())

    async def _deltas(self) -> AsyncIterator[_Delta]:
        """Everything that comes, message after message until none of them calls what is run here."""
        choices = [_Choice(messages=list(self.messages)) for _ in self.first]
        numbers = list(range(len(choices)))
        while numbers:
            going = []
            async for place, piece in self.job:
                number = numbers[place]
                choice = choices[number]
                choice.text += piece.text
                self._count(choice, piece)
                logprobs = [*map(_token, piece.tokens)] if self.with_logprobs else None
                if piece.finished is None:
                    certain = self.talker.beside_calls(choice.text) if self.offered else choice.text
                    new, choice.shown = certain[len(choice.shown) :], certain
                    if new or logprobs:
                        yield _Delta(number, self._text(choice, new), logprobs)
                    continue
                delta = await self._ended(number, choice, piece.finished)
                yield replace(delta, logprobs=logprobs)
                if delta.reason is None:
                    going.append(number)
            self.jobs.append(self.job)
            numbers = []
            further = []
            for number in going:
                order = await self._further(number, choices[number])
                if order is None:
                    self.keeper(number, choices[number].messages, self.schemas)
                    yield _Delta(number, wire.ChatMessage(), reason="length")
                else:
                    numbers.append(number)
                    further.append(order)
            if numbers:
                self.job = await begin(self.scope, self.served, further)

    async def _ended(self, number: int, choice: _Choice, finished: Finish) -> _Delta:
        """The rest of a message that was written; without a reason another one follows it."""
        text, shown = choice.text, choice.shown
        reason: Reason = "length" if finished == "length" else "stop"
        said: Mapping[str, Any] = {"role": "assistant", "content": text}
        if self.offered and finished != "length":
            said = self.talker.message_of(text)
        content = str(said["content"])
        calls = said.get("tool_calls", ())
        results = None
        if self.own and finished != "length" and choice.rounds < _ROUNDS:
            results = await in_its_own_thread(self.talker.results_of, text, self.offered)
        if results:
            if not calls:  # one that is not understood: the model is told, and nobody else
                content = self.talker.beside_calls(text)
            steps = [
                wire.Step(
                    index=choice.steps + place,
                    name=result["name"],
                    arguments=_sendable(calls[place]["function"]["arguments"]) if calls else "",
                    result=_sendable(result["content"]),
                )
                for place, result in enumerate(results)
            ]
            choice.messages += [said, *results]
            delta = _Delta(number, self._text(choice, _rest(content, shown)))
            delta.message.steps = steps
            choice.said = choice.said or bool(content.strip())
            choice.steps += len(steps)
            choice.rounds += 1
            choice.text = choice.shown = ""
            return delta
        self.keeper(number, [*choice.messages, said], self.schemas)
        message = self._text(choice, _rest(content, shown))
        if theirs := [call for call in calls if call["function"]["name"] not in self.own]:
            reason = "tool_calls"
            message.tool_calls = [
                wire.ToolCall(
                    index=index,
                    id=f"call_{secrets.token_hex(12)}",
                    type="function",
                    function=wire.FunctionCall(**{key: _sendable(value) for key, value in call["function"].items()}),
                )
                for index, call in enumerate(theirs)
            ]
        return _Delta(number, message, reason=reason)

    async def _further(self, number: int, choice: _Choice) -> Order | None:
        """The order of a choice's next message; None where nothing more fits."""
        prompt = await beside_the_loop(self.talker.encode_conversation, choice.messages, self.schemas)
        room = self.context - len(prompt)
        if self.most is not None:
            room = min(room, self.most - choice.written)
        if room < 1:
            return None
        first = self.first[number]
        sampling = replace(first.sampling, seed=derive(first.sampling.seed, "turn", choice.rounds))
        return replace(first, prompt=prompt, sampling=sampling, max_tokens=room, constraint=self.later)

    def _text(self, choice: _Choice, new: str) -> wire.ChatMessage:
        """A piece of text; what a later message says begins on a line of its own."""
        if not new:
            return wire.ChatMessage()
        if choice.said:
            new, choice.said = "\n" + new, False
        return wire.ChatMessage(content=new)

    def _count(self, choice: _Choice, piece: TextPiece) -> None:
        choice.written += len(piece.tokens)
        held(self.scope).facts["completion_tokens"] += len(piece.tokens)

    def _usage(self) -> wire.Usage:
        """Of the first messages the prompt counts once, as all choices have the same; of later ones each counts."""
        first, *later = self.jobs
        used = usage(first.orders, len(self.first), first.reused, held(self.scope).facts["completion_tokens"])
        for job in later:
            more = usage(job.orders, 1, job.reused, 0)
            used.prompt_tokens += more.prompt_tokens
            used.total_tokens += more.prompt_tokens
            used.prompt_tokens_details.cached_tokens += more.prompt_tokens_details.cached_tokens
        return used


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
