"""/v1/completions: what follows a text, whole or as it is written, for every program that writes.

Prompts are texts or tokens, one or several. Choice n of prompt p has the index p · n_choices + n, as OpenAI has it. 16
tokens are written when nobody says otherwise, which is OpenAI's number too.
"""

from __future__ import annotations

import codecs
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, final

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from sw2.core.capabilities import Generate
from sw2.faces.server import wire
from sw2.faces.server.errors import bad_request
from sw2.faces.server.gate import held
from sw2.faces.server.orders import check_stream, orders, usage
from sw2.faces.server.programs import Programs
from sw2.faces.server.worker import Job
from sw2.faces.server.writing import STREAMED, Head, begin, beside_the_loop, finite_logprob, reserve, stream_of
from sw2.parts.decoding.text import TextPiece, TokenScore

__all__ = ["completions_router"]

_TOKENS: Final = 16


def completions_router(programs: Programs) -> APIRouter:
    """The route."""
    router = APIRouter()

    @router.post("/v1/completions", response_model=wire.CompletionAnswer, responses=STREAMED, tags=["completions"])
    async def completions(request: Request, asked: wire.Completion) -> Response:
        """Continue texts."""
        served = programs[asked.model]
        held(request.scope).facts["model"] = served.name
        writer = served.capability(Generate)  # type: ignore[type-abstract]
        check_stream(asked)
        if asked.best_of not in (None, asked.n or 1):
            raise bad_request(
                "best_of: only the value of n is supported.", param="best_of", code="unsupported_parameter"
            )
        reserve(request.scope, served, len(asked.prompts) * (asked.n or 1))
        prompts = await beside_the_loop(_tokens, writer, asked.prompts)
        made = orders(
            asked,
            prompts,
            writer,
            max_tokens=asked.max_tokens or _TOKENS,
            logprobs=asked.logprobs,
            param="prompt",
            whose=held(request.scope).who,
        )
        under_way = _Continuing(
            job=await begin(request.scope, served, made),
            facts=held(request.scope).facts,
            with_logprobs=asked.logprobs is not None,
            choices=asked.n or 1,
            head=Head.new("cmpl", served.name),
        )
        if asked.stream:
            include = asked.stream_options is not None and asked.stream_options.include_usage
            return stream_of(under_way.chunks(include_usage=include))
        return JSONResponse((await under_way.whole()).model_dump(exclude_unset=True))

    return router


def _tokens(writer: Generate, prompts: Sequence[str | list[int]]) -> list[list[int]]:
    return [writer.encode_prompt(prompt) if isinstance(prompt, str) else prompt for prompt in prompts]


@dataclass(kw_only=True)
class _Choice:
    """One continuation under way; `offset` counts the characters whose bytes have come."""

    text: str = ""
    logprobs: wire.CompletionLogprobs = field(
        default_factory=lambda: wire.CompletionLogprobs(tokens=[], token_logprobs=[], top_logprobs=[], text_offset=[])
    )
    offset: int = 0
    decoder: Any = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")(errors="replace"))

    def scores(self, tokens: Sequence[TokenScore]) -> wire.CompletionLogprobs:
        """Tokens as OpenAI shows them; where a character is spread over several, all begin where it does."""
        offsets = []
        for token in tokens:
            offsets.append(self.offset)
            self.offset += len(self.decoder.decode(token.bytes))
        return wire.CompletionLogprobs(
            tokens=[_shown(token) for token in tokens],
            token_logprobs=[finite_logprob(token.logprob) for token in tokens],
            top_logprobs=[{_shown(each): finite_logprob(each.logprob) for each in token.top} for token in tokens],
            text_offset=offsets,
        )


@final
@dataclass(kw_only=True)
class _Continuing:
    """Completions under way."""

    job: Job
    facts: dict[str, Any]
    with_logprobs: bool
    choices: int
    head: Head

    async def whole(self) -> wire.CompletionAnswer:
        """The continuations at their ends."""
        going = [_Choice() for _ in self.job.orders]
        found: dict[int, wire.CompletionChoice] = {}
        async for number, piece in self.job:
            choice = going[number]
            choice.text += piece.text
            self.facts["completion_tokens"] += len(piece.tokens)
            if self.with_logprobs:
                new, kept = choice.scores(piece.tokens), choice.logprobs
                kept.tokens += new.tokens
                kept.token_logprobs += new.token_logprobs
                kept.top_logprobs += new.top_logprobs
                kept.text_offset += new.text_offset
            if piece.finished is not None:
                logprobs = choice.logprobs if self.with_logprobs else None
                found[number] = self._choice(number, choice.text, logprobs, piece)
        return self._answer([found[number] for number in sorted(found)], self._usage())

    async def chunks(self, *, include_usage: bool) -> AsyncIterator[wire.CompletionAnswer]:
        """The continuations as they are written."""
        going = [_Choice() for _ in self.job.orders]
        async for number, piece in self.job:
            self.facts["completion_tokens"] += len(piece.tokens)
            logprobs = going[number].scores(piece.tokens) if self.with_logprobs else None
            yield self._answer([self._choice(number, piece.text, logprobs, piece)])
        if include_usage:
            yield self._answer([], self._usage())

    def _choice(
        self, number: int, text: str, logprobs: wire.CompletionLogprobs | None, piece: TextPiece
    ) -> wire.CompletionChoice:
        reason: Literal["stop", "length"] | None = None
        if piece.finished is not None:
            reason = "length" if piece.finished == "length" else "stop"
        return wire.CompletionChoice(index=number, text=text, logprobs=logprobs, finish_reason=reason)

    def _answer(self, choices: list[wire.CompletionChoice], used: wire.Usage | None = None) -> wire.CompletionAnswer:
        head = self.head
        answer = wire.CompletionAnswer(
            id=head.id, object="text_completion", created=head.created, model=head.model, choices=choices
        )
        if used is not None:
            answer.usage = used
        return answer

    def _usage(self) -> wire.Usage:
        return usage(self.job.orders, self.choices, self.job.reused, self.facts["completion_tokens"])


def _shown(token: TokenScore) -> str:
    return token.bytes.decode(errors="replace")
