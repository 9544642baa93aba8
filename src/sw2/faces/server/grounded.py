"""Chats that are answered from the server's documents: what `sw2 chat --docs` answers, for many at once.

    look (a thread) → does it say? → write (the program's worker) → settle → the answer, with its sources
                            ↘ no: "The documents do not say.", and nothing is written

An answer is looked at as a whole before anybody sees it (`verbs.ask`), so a stream of one has a single piece of text,
and the sources with it. Such a conversation is questions and answers alone: a prompt, tools or a form of the answer
would have no effect, and are refused unless the request switches the documents off. Where nothing else is said the
likeliest tokens are taken, at most as many as `sw2 ask` takes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

from sw2.core.capabilities import Chat, Generate
from sw2.faces.server import wire
from sw2.faces.server.chat_form import ChatForm, Reason
from sw2.faces.server.errors import ApiError, bad_request
from sw2.faces.server.gate import held
from sw2.faces.server.library import Library
from sw2.faces.server.log import Keeper
from sw2.faces.server.orders import orders, usage
from sw2.faces.server.programs import Served
from sw2.faces.server.worker import Job
from sw2.faces.server.writing import begin, beside_the_loop, reserve
from sw2.verbs.ask import Answered, AskConfig, Looked, settle

__all__ = ["Grounded", "fitting", "grounded"]


async def grounded(
    scope: MutableMapping[str, Any],
    asked: wire.Chat,
    served: Served,
    messages: Sequence[Mapping[str, Any]],
    library: Library,
    form: ChatForm,
    keeper: Keeper,
) -> Grounded:
    """Begin to answer from documents.

    Args:
        scope: of the request.
        asked: the request.
        served: a program that chats.
        messages: the request's, as `core.capabilities.Chat` takes them.
        library: the documents.
        form: of the answer.
        keeper: keeps the conversation.

    Raises:
        ApiError: 400, the request asks for what such an answer cannot have, or is too long; 429; 503, the documents
            were not read yet.
    """
    talker = served.capability(Chat)  # type: ignore[type-abstract]
    writer = served.capability(Generate)  # type: ignore[type-abstract]
    _check(asked, messages)
    *history, last = messages
    config = AskConfig()
    if isinstance(asked.documents, wire.DocumentsUse):
        config = replace(config, passages=asked.documents.passages)
    choices, holds = asked.n or 1, held(scope)
    reserve(scope, served, choices)
    looked = await beside_the_loop(library.look, last["content"], history, holds.names, config)
    job = None
    if looked.told:
        looked, prompt = await beside_the_loop(fitting, looked, history, talker, writer.context)
        made = orders(
            asked.model_copy(update={"temperature": 0.0}) if asked.temperature is None else asked,
            [prompt],
            writer,
            max_tokens=asked.max_completion_tokens or asked.max_tokens or config.max_tokens,
            logprobs=None,
            param="messages",
            whose=holds.who,
        )
        job = await begin(scope, served, made)
    else:
        holds.facts |= {"prompt_tokens": 0, "completion_tokens": 0}
    return Grounded(
        looked=looked, job=job, messages=messages, choices=choices, facts=holds.facts, form=form, library=library,
        keeper=keeper,
    )  # fmt: skip


def _check(asked: wire.Chat, messages: Sequence[Mapping[str, Any]]) -> None:
    for number, message in enumerate(messages):
        if message["role"] not in ("user", "assistant") or "tool_calls" in message:
            raise _refused(f"messages[{number}]", "has questions and answers alone")
    if messages[-1]["role"] != "user":
        raise _refused(f"messages[{len(messages) - 1}].role", "ends with a question of a user")
    given = {
        "tools": asked.tools and asked.tool_choice != "none",
        "tool_choice": asked.tool_choice not in (None, "auto", "none"),
        "response_format": asked.response_format is not None and asked.response_format.type != "text",
        "logprobs": asked.logprobs,
    }
    for name, said in given.items():
        if said:
            raise _refused(name, f"has no {name}")


def _refused(param: str, why: str) -> ApiError:
    return bad_request(
        f"{param}: a conversation that is answered from documents {why}; change it, or say documents: false.",
        param=param,
        code="not_from_documents",
    )


def fitting(
    looked: Looked, history: Sequence[Mapping[str, Any]], talker: Chat, context: int
) -> tuple[Looked, list[int]]:
    """The fullest prompt that leaves room for an answer, and what it gives the program; else the smallest."""
    fullest = ((given, talker.encode_conversation(messages)) for given, messages in looked.prompts(history))
    best = looked, list[int]()
    for best in fullest:
        if len(best[1]) < context:
            break
    return best


@final
@dataclass(kw_only=True)
class Grounded:
    """A chat under way that is answered from documents; without a job there is nothing to write."""

    looked: Looked
    job: Job | None
    messages: Sequence[Mapping[str, Any]]
    choices: int
    facts: dict[str, Any]
    form: ChatForm
    library: Library
    keeper: Keeper

    async def whole(self) -> wire.ChatAnswer:
        """The answers."""
        found = {number: (message, reason) async for number, message, reason in self._settled()}
        choices = [self.form.choice(number, *found[number]) for number in sorted(found)]
        return self.form.answer("chat.completion", choices, self._usage())

    async def chunks(self, *, include_usage: bool) -> AsyncIterator[wire.ChatAnswer]:
        """The answers, each as one piece."""
        for number in range(self.choices):
            yield self.form.chunk(number, wire.ChatMessage(role="assistant", content=""))
        async for number, message, reason in self._settled():
            yield self.form.chunk(number, wire.ChatMessage(content=message.content, sources=message.sources))
            yield self.form.chunk(number, wire.ChatMessage(), finished=reason)
        if include_usage:
            yield self.form.answer("chat.completion.chunk", [], self._usage())

    async def _settled(self) -> AsyncIterator[tuple[int, wire.ChatMessage, Reason]]:
        if self.job is None:
            for number in range(self.choices):
                yield number, self._message(number, self.looked.refusal()), "stop"
            return
        texts = [""] * self.choices
        async for number, piece in self.job:
            texts[number] += piece.text
            self.facts["completion_tokens"] += len(piece.tokens)
            if piece.finished is not None:
                answered = settle(self.looked, texts[number])
                cut = piece.finished == "length" and not (answered.refused or answered.quoted)
                yield number, self._message(number, answered), "length" if cut else "stop"

    def _message(self, number: int, answered: Answered) -> wire.ChatMessage:
        self.library.settled(
            self.form.head.model, "refused" if answered.refused else "quoted" if answered.quoted else "answered"
        )
        self.keeper(number, [*self.messages, {"role": "assistant", "content": answered.text}])
        sources = [wire.Source(**each.to_json()) for each in answered.citations]
        return wire.ChatMessage(role="assistant", content=answered.text, sources=sources)

    def _usage(self) -> wire.Usage:
        written = self.facts["completion_tokens"]
        if self.job is None:
            return usage([], self.choices, [], written)
        return usage(self.job.orders, self.choices, self.job.reused, written)
