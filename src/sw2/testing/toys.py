"""Small pieces of programs for tests that are about something else.

What it does not do: learn, or stand in for what a test is about.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sw2.core.capabilities import Chat, ChatPiece, Embed, Generate
from sw2.core.model import Model
from sw2.core.program import Answer, Program, Runtime
from sw2.core.task import Prep, PrepState
from sw2.core.tools import Tool
from sw2.parts.decoding.constraint import Constraint
from sw2.parts.decoding.sampling import Sampling
from sw2.parts.decoding.text import TextEngine, TextPiece, TokenScore
from sw2.parts.prep.stop_words import STOP_WORDS

__all__ = ["NoPrep", "Talker", "WordCounter", "talking"]


class NoPrep(Prep):
    """Preprocessing that does nothing and has nothing to keep."""

    def state(self) -> PrepState:
        return PrepState()

    @classmethod
    def restore(cls, state: PrepState) -> NoPrep:
        del state
        return cls()


class WordCounter(Runtime, Embed):
    """Vectors of 256 numbers that count the words that carry meaning: a text is nearest to one with the same."""

    name = "words"
    Prep = NoPrep

    def __init__(self, nets: Mapping[str, Any], prep: Any, uses: Mapping[str, Program]) -> None:
        del nets, prep, uses

    def answer(self, inputs: Sequence[Any]) -> list[Answer]:
        return []

    def embed(self, inputs: Sequence[object]) -> np.ndarray:
        vectors = np.full((len(inputs), 256), 1e-3, np.float32)
        for vector, text in zip(vectors, inputs, strict=True):
            for word in set(re.findall(r"\w+", str(text).lower())) - STOP_WORDS:
                vector[sum(map(ord, word)) % 256] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Talker(Runtime, Chat, Generate):
    """Chats as a function says: messages, and how tokens are to be chosen, to the answer. Its tokens are bytes of JSON.

    An answer that is longer than it may be, in characters, is cut off. Constraints are kept in `constraints` and hold
    nothing.

    Args:
        says: the function.
        context: how many tokens it reads.
    """

    name = "toy-talker"
    Prep = NoPrep

    def __init__(self, says: Callable[[list[dict[str, Any]], Sampling], str], context: int = 100_000) -> None:
        self._says, self._context = says, context
        self.constraints: list[Constraint | None] = []

    @property
    def context(self) -> int:
        return self._context

    def text_engine(self, slots: int) -> TextEngine:
        raise AssertionError("a toy has no engine")

    def encode_prompt(self, prompt: str) -> list[int]:
        return list(prompt.encode())

    def score(
        self, pairs: Sequence[tuple[str | Sequence[int], str | Sequence[int]]], *, top: int = 0
    ) -> list[list[TokenScore]]:
        raise AssertionError("a toy scores nothing")

    def generate_many(
        self,
        prompts: Sequence[str | Sequence[int]],
        samplings: Sequence[Sampling],
        max_tokens: int = 256,
        stop: Sequence[str] = (),
        logprobs: int | None = None,
        constraint: Constraint | None = None,
    ) -> Generator[tuple[int, TextPiece]]:
        del stop, logprobs
        for number, (prompt, sampling) in enumerate(zip(prompts, samplings, strict=True)):
            assert not isinstance(prompt, str)
            self.constraints.append(constraint)
            text = self._says(json.loads(bytes(prompt)), sampling)
            tokens = tuple(TokenScore(0, b"x") for _ in text[:max_tokens])
            yield number, TextPiece(text[:max_tokens], "end" if len(text) <= max_tokens else "length", tokens)

    def encode_conversation(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[int]:
        del tools
        return list(json.dumps(list(messages)).encode())

    def reply(
        self,
        messages: Sequence[Mapping[str, Any]],
        sampling: Sampling,
        max_tokens: int = 512,
        stop: Sequence[str] = (),
        tools: Sequence[Mapping[str, Any]] = (),
        constraint: Constraint | None = None,
    ) -> Iterator[TextPiece]:
        return self.generate(self.encode_conversation(messages, tools), sampling, max_tokens, stop, None, constraint)

    def message_of(self, text: str) -> Mapping[str, Any]:
        return {"role": "assistant", "content": text}

    def beside_calls(self, text: str) -> str:
        return text

    def converse(
        self,
        messages: Sequence[Mapping[str, Any]],
        sampling: Sampling,
        max_tokens: int = 512,
        stop: Sequence[str] = (),
        tools: Sequence[Mapping[str, Any] | Tool] = (),
        constraint: Constraint | None = None,
    ) -> Iterator[ChatPiece]:
        assert not tools, "a toy calls nothing"
        for piece in self.reply(messages, sampling, max_tokens, stop, (), constraint):
            yield ChatPiece(piece.text, self.message_of(piece.text), piece.finished, len(piece.tokens))

    def results_of(self, text: str, tools: Sequence[Mapping[str, Any] | Tool]) -> Sequence[Mapping[str, Any]]:
        return []

    def calling(
        self, tools: Sequence[Mapping[str, Any]], *, in_text: bool = False, most: int | None = None
    ) -> Constraint:
        raise AssertionError("a toy calls nothing")

    def own_tools(self) -> Mapping[str, Tool]:
        return {}

    def answer(self, inputs: Sequence[Any]) -> list[Answer]:
        return [{"text": self._says(list(each), Sampling())} for each in inputs]


def talking(says: Callable[[list[dict[str, Any]], Sampling], str], task: Any, context: int = 100_000) -> Program:
    """A program of `task` that chats as a function says."""

    class Bound(Talker):
        """One whose function is known."""

        name = "toy-talker"
        Prep = NoPrep

        def __init__(self, nets: Mapping[str, Model], prep: Any, uses: Mapping[str, Program]) -> None:
            del nets, prep, uses
            super().__init__(says, context)

    return Program.assemble(task=task, runtime=Bound, nets={}, prep=NoPrep(), provider={"distribution": "toys"})
