"""Asking: a prompt's messages, the program that it runs on, the answer.

    PromptWriter   inputs → {"answer": a text, one of a few, or an object}; one batch for many questions
    PromptTalker   a conversation under the prompt's system message; chats and writes as the program that it runs on

An answer in a form (an object, one of a few) is held to it while it is written. One that was cut off, because it needed
more tokens than it may have, is no answer: None, and whoever asks sees why in the `Outcome`.

What it does not do: pictures, tools; a prompt that converses leaves tools to who talks with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sw2.base.errors import ProgramError, UsageError
from sw2.core.capabilities import Ask, Chat, ChatPiece, Generate, Outcome
from sw2.core.model import Model
from sw2.core.program import Answer, Program, Runtime
from sw2.core.second_chance import WHOLE, WHOLE_FORM, Conversation, Draft, elect_by_field, elect_by_value, second_chance
from sw2.core.task import Prep, PrepState
from sw2.core.tools import Tool
from sw2.domains.prompts.file import Prompt, Shot, read_prompt
from sw2.parts.decoding.constraint import Constraint
from sw2.parts.decoding.sampling import Sampling
from sw2.parts.decoding.text import Finish, TextEngine, TextPiece, TokenScore

__all__ = ["MODEL", "PromptPrep", "PromptTalker", "PromptWriter", "talker_of"]

MODEL = "model"
"""The role of the program that a prompt runs on."""
_ASSET = "prompt.toml"


class PromptPrep(Prep):
    """A prompt, as what travels in a program.

    Args:
        source: the file's text.
        where: what to call it in messages.
    """

    def __init__(self, source: str, where: str = _ASSET) -> None:
        self.prompt: Prompt = read_prompt(source, where)
        self.where = where

    def state(self) -> PrepState:
        return PrepState(assets={_ASSET: self.prompt.source.encode()})

    @classmethod
    def restore(cls, state: PrepState) -> PromptPrep:
        return cls(state.assets[_ASSET].decode())


def talker_of(program: Program, where: str) -> tuple[Chat, Generate]:
    """The program that a prompt runs on as one that chats and writes.

    Raises:
        ProgramError: it cannot.
    """
    runtime = program.runtime
    if not isinstance(runtime, Chat) or not isinstance(runtime, Generate):
        raise ProgramError(
            "The program of this prompt cannot chat.",
            where=where,
            wanted="a program that was taught to answer in conversations",
            got=f"a program for {program.task.name} with: {', '.join(program.capabilities()) or 'none'}",
            do="Name another one behind an @ (PROMPT@PROGRAM), such as smollm2-135m-instruct.",
        )
    return runtime, runtime


class PromptWriter(Runtime, Ask):
    """Answers by asking."""

    name = "prompt"
    Prep = PromptPrep

    def __init__(self, nets: Mapping[str, Model], prep: PromptPrep, uses: Mapping[str, Program]) -> None:
        del nets
        self.prompt, self._where = prep.prompt, prep.where
        self._chat, self._writer = talker_of(uses[MODEL], prep.where)

    @property
    def sampling(self) -> Sampling:
        return self.prompt.writing.sampling

    @property
    def max_tokens(self) -> int:
        return self.prompt.writing.max_tokens

    def answer(self, inputs: Sequence[Any]) -> list[Answer]:
        return [{"answer": outcome.answer} for outcome in self.ask(inputs)]

    def ask(
        self,
        questions: Sequence[Any],
        *,
        sampling: Sampling | None = None,
        max_tokens: int | None = None,
        votes: int = 1,
        reviews: int = 0,
    ) -> list[Outcome]:
        output = self.prompt.output
        if votes > 1 and output.constraint is None:
            raise UsageError(
                "Free texts cannot be compared, so they have no vote.",
                where=f"{self._where}, output",
                wanted="fields, a JSON Schema, or a list of texts",
                got="a text",
                do="Say what answers are, or leave out the votes.",
            )
        conversations = [self.prompt.conversation(each) for each in questions]

        def write(talks: Sequence[Conversation], samplings: Sequence[Sampling], formed: bool) -> list[Draft]:
            return self._write(talks, samplings, max_tokens or self.max_tokens, output.constraint if formed else None)

        drafts = second_chance(
            write,
            conversations,
            sampling or self.sampling,
            votes=votes,
            reviews=reviews,
            elect=elect_by_field if output.fields else elect_by_value,
            whole=WHOLE if output.constraint is None else WHOLE_FORM,
        )
        return [self._outcome(draft) for draft in drafts]

    def fits(self, question: Any, examples: Sequence[Shot] | None = None) -> bool:
        """Whether a question leaves room for an answer; with these examples, those of the file when None."""
        conversation = self.prompt.conversation(question, examples)
        return len(self._chat.encode_conversation(conversation)) < self._writer.context

    def written(self, conversations: Sequence[Conversation], sampling: Sampling, max_tokens: int) -> list[Outcome]:
        """Answer conversations that the prompt has made.

        Raises:
            UsageError: one leaves no room for an answer, or the model cannot be held to what answers are.
        """
        samplings = [sampling] * len(conversations)
        constraint = self.prompt.output.constraint
        return [self._outcome(each) for each in self._write(conversations, samplings, max_tokens, constraint)]

    def _outcome(self, draft: Draft) -> Outcome:
        output = self.prompt.output
        whole = output.constraint is None or draft.finished == "end"
        return Outcome(
            answer=output.value_of(draft.text) if whole else None,
            text=draft.text,
            finished=draft.finished,
            tokens=draft.tokens,
            agreed=draft.agreed,
            steps=draft.steps,
        )

    def _write(
        self,
        conversations: Sequence[Conversation],
        samplings: Sequence[Sampling],
        max_tokens: int,
        constraint: Constraint | None,
    ) -> list[Draft]:
        tokens = [self._chat.encode_conversation(each) for each in conversations]
        for number, each in enumerate(tokens):
            if len(each) >= self._writer.context:
                raise UsageError(
                    "This question fills the context of the model.",
                    where=f"{self._where}, question {number + 1}",
                    wanted=f"fewer than {self._writer.context} tokens, instructions and examples included",
                    got=f"{len(each)} tokens",
                    do="Shorten the input, or run the prompt on a program with a longer context.",
                )
        texts, counts = [""] * len(tokens), [0] * len(tokens)
        ends: list[Finish] = ["length"] * len(tokens)
        stop = self.prompt.writing.stop
        pieces = self._writer.generate_many(tokens, samplings, max_tokens, stop, constraint=constraint)
        try:
            for number, piece in pieces:
                texts[number] += piece.text
                counts[number] += len(piece.tokens)
                ends[number] = piece.finished or ends[number]
        except UsageError as error:
            error.where = f"{self._where}, {error.where}" if error.where else self._where
            raise
        return [
            Draft(text=text, finished=end, tokens=count) for text, count, end in zip(texts, counts, ends, strict=True)
        ]


class PromptTalker(Runtime, Chat, Generate):
    """Talks under a system message; everything else is done by the program that it runs on."""

    name = "prompt-talk"
    Prep = PromptPrep

    def __init__(self, nets: Mapping[str, Model], prep: PromptPrep, uses: Mapping[str, Program]) -> None:
        del nets
        self.prompt = prep.prompt
        self._chat, self._writer = talker_of(uses[MODEL], prep.where)

    def answer(self, inputs: Sequence[Any]) -> list[Answer]:
        answers: list[Answer] = []
        for each in inputs:
            talk = each if isinstance(each, Mapping) else {"messages": each}
            said = self._said(talk["messages"], talk.get("tools") or ())
            answers.append({"answer": said})
        return answers

    def _said(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> str:
        writing = self.prompt.writing
        last = ""
        for piece in self.converse(messages, writing.sampling, writing.max_tokens, writing.stop, tools):
            if piece.message is not None and piece.message["role"] == "assistant":
                last = str(piece.message["content"])
        return last

    def played(self, turns: Sequence[str]) -> list[dict[str, str]]:
        """What is said when a user says these, turn by turn; without the system message."""
        talk: list[dict[str, str]] = []
        for turn in turns:
            talk.append({"role": "user", "content": turn})
            talk.append({"role": "assistant", "content": self._said(talk)})
        return talk

    def reply(
        self,
        messages: Sequence[Mapping[str, Any]],
        sampling: Sampling,
        max_tokens: int = 512,
        stop: Sequence[str] = (),
        tools: Sequence[Mapping[str, Any]] = (),
        constraint: Constraint | None = None,
    ) -> Iterator[TextPiece]:
        return self._chat.reply(self.prompt.talk(messages), sampling, max_tokens, stop, tools, constraint)

    def encode_conversation(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[int]:
        return self._chat.encode_conversation(self.prompt.talk(messages), tools)

    def message_of(self, text: str) -> Mapping[str, Any]:
        return self._chat.message_of(text)

    def beside_calls(self, text: str) -> str:
        return self._chat.beside_calls(text)

    def converse(
        self,
        messages: Sequence[Mapping[str, Any]],
        sampling: Sampling,
        max_tokens: int = 512,
        stop: Sequence[str] = (),
        tools: Sequence[Mapping[str, Any] | Tool] = (),
        constraint: Constraint | None = None,
    ) -> Iterator[ChatPiece]:
        return self._chat.converse(self.prompt.talk(messages), sampling, max_tokens, stop, tools, constraint)

    def results_of(self, text: str, tools: Sequence[Mapping[str, Any] | Tool]) -> Sequence[Mapping[str, Any]] | None:
        return self._chat.results_of(text, tools)

    def calling(
        self, tools: Sequence[Mapping[str, Any]], *, in_text: bool = False, most: int | None = None
    ) -> Constraint:
        return self._chat.calling(tools, in_text=in_text, most=most)

    def own_tools(self) -> Mapping[str, Tool]:
        return self._chat.own_tools()

    @property
    def context(self) -> int:
        return self._writer.context

    def text_engine(self, slots: int) -> TextEngine:
        return self._writer.text_engine(slots)

    def encode_prompt(self, prompt: str) -> list[int]:
        return self._writer.encode_prompt(prompt)

    def score(
        self, pairs: Sequence[tuple[str | Sequence[int], str | Sequence[int]]], *, top: int = 0
    ) -> list[list[TokenScore]]:
        return self._writer.score(pairs, top=top)
