"""Capabilities: what a program can do beyond answering, as typed protocols.

Faces and other domains ask a program for a capability (`program.capability(Generate)`), never for a class: a server
streams from anything that can `Generate`, an index embeds with anything that can `Embed`. A runtime offers one by
inheriting it.

Each is the smallest set of methods that its users need; a new one is admitted when two users exist.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Self

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    import numpy as np
    from torch import Tensor, nn

    from sw2.core.data import Split
    from sw2.core.model import Model
    from sw2.core.tools import Tool
    from sw2.parts.decoding.constraint import Constraint
    from sw2.parts.decoding.sampling import Sampling
    from sw2.parts.decoding.text import Finish, TextEngine, TextPiece, TextRequest, TokenScore

__all__ = [
    "Amend",
    "Amended",
    "Ask",
    "Chat",
    "ChatPiece",
    "Classified",
    "Classify",
    "Convert",
    "Embed",
    "Export",
    "Generate",
    "Graph",
    "Locate",
    "Outcome",
    "Rate",
    "Shrink",
    "Words",
]

MOST_AT_ONCE: Final = 8
"""How many texts `Generate.generate_many` writes at once; the others wait. Beyond it a processor gains little more from
a larger batch, and every slot takes memory."""


class Generate(ABC):
    """Writes text that goes on from a prompt.

    A prompt is text, or tokens where the caller has made them. Everything is written by one `TextEngine`; a server
    that takes requests while others run asks for it, all others use `generate` and `generate_many`.
    """

    @property
    @abstractmethod
    def context(self) -> int:
        """The most tokens that the network reads at once."""

    @abstractmethod
    def text_engine(self, slots: int) -> TextEngine:
        """Return an engine that writes up to `slots` ≥ 1 texts at once: the one of before, if it has as many."""

    @abstractmethod
    def encode_prompt(self, prompt: str) -> list[int]:
        """Return the tokens that the network reads for `prompt`, with those that begin a text."""

    @abstractmethod
    def score(
        self, pairs: Sequence[tuple[str | Sequence[int], str | Sequence[int]]], *, top: int = 0
    ) -> list[list[TokenScore]]:
        """How likely the network finds the second text of each pair after the first, token by token.

        Args:
            pairs: a prompt, possibly empty, and its continuation.
            top: how many of the likeliest tokens to name in each place, ≥ 0.

        Raises:
            UsageError: a pair is longer than the network can read.
        """

    def generate(
        self,
        prompt: str | Sequence[int],
        sampling: Sampling,
        max_tokens: int = 256,
        stop: Sequence[str] = (),
        logprobs: int | None = None,
        constraint: Constraint | None = None,
    ) -> Iterator[TextPiece]:
        """Stream the continuation of `prompt`; closing the iterator frees what it holds.

        Args:
            prompt: what is there already.
            sampling: how the next token is chosen.
            max_tokens: the most tokens to write.
            stop: the text ends before the first of these strings.
            logprobs: None, or how many of the likeliest tokens to name in each place, ≥ 0.
            constraint: what the continuation has to be: a text that came to its "end" obeys it, one that ended
                otherwise may have been cut off (see `decoding.constraint`).

        Raises:
            UsageError: a setting is out of range, the constraint cannot be followed, or the prompt leaves no room for
                an answer.
        """
        pieces = self.generate_many([prompt], [sampling], max_tokens, stop, logprobs, constraint)
        with contextlib.closing(pieces):
            for _, piece in pieces:
                yield piece

    def generate_many(
        self,
        prompts: Sequence[str | Sequence[int]],
        samplings: Sequence[Sampling],
        max_tokens: int = 256,
        stop: Sequence[str] = (),
        logprobs: int | None = None,
        constraint: Constraint | None = None,
    ) -> Generator[tuple[int, TextPiece]]:
        """Stream the continuations of several prompts as one batch: each piece with the number of its prompt.

        Args:
            prompts: what is there already.
            samplings: how the next token is chosen, for each prompt; the same for two equal prompts gives equal texts.
            max_tokens: the most tokens to write for each.
            stop: each text ends before the first of these strings.
            logprobs: None, or how many of the likeliest tokens to name in each place, ≥ 0.
            constraint: what each continuation has to be: a text that came to its "end" obeys it, one that ended
                otherwise may have been cut off (see `decoding.constraint`).

        Raises:
            UsageError: a setting is out of range, the constraint cannot be followed, or a prompt leaves no room for an
                answer.
        """
        engine = self.text_engine(max(1, min(len(prompts), MOST_AT_ONCE)))
        requests: list[TextRequest] = []
        try:
            for prompt, sampling in zip(prompts, samplings, strict=True):
                tokens = self.encode_prompt(prompt) if isinstance(prompt, str) else prompt
                requests.append(
                    engine.submit(
                        tokens, sampling, max_tokens=max_tokens, stop=stop, logprobs=logprobs, constraint=constraint
                    )
                )
            yield from engine.stream(*requests)
        finally:
            for request in requests:
                engine.cancel(request)


@dataclass(frozen=True)
class ChatPiece:
    """A piece of a conversation as it goes on.

    Args:
        text: what the assistant wrote since the piece before, calls of tools as it wrote them.
        message: on the last piece of each message, the whole of it: the assistant's, or a tool's with what came of it.
        finished: on the last piece of the assistant's message, why it ended.
        tokens: how many the assistant wrote since the piece before.
    """

    text: str = ""
    message: Mapping[str, Any] | None = None
    finished: Finish | None = None
    tokens: int = 0


class Chat(ABC):
    """Answers in a conversation.

    As in OpenAI's API a message is {"role": "system", "user", "assistant" or "tool", "content": text}, an assistant's
    perhaps with "tool_calls", and a tool {"type": "function", "function": {"name", "description", "parameters"}}.
    Whatever they spell, it is text and never a control token.
    """

    @abstractmethod
    def reply(
        self,
        messages: Sequence[Mapping[str, Any]],
        sampling: Sampling,
        max_tokens: int = 512,
        stop: Sequence[str] = (),
        tools: Sequence[Mapping[str, Any]] = (),
        constraint: Constraint | None = None,
    ) -> Iterator[TextPiece]:
        """Stream the assistant's next message as it is written; closing the iterator frees what it holds.

        Args:
            messages: in order, the last one to be answered.
            sampling: how the next token is chosen.
            max_tokens: the most tokens to write.
            stop: the text ends before the first of these strings.
            tools: what the model is told that it can call; nothing is run (see `message_of` and `converse`).
            constraint: what the message has to be: one that came to its "end" obeys it, one that ended otherwise may
                have been cut off (see `decoding.constraint`). It leaves no room for calls, so not together with tools.

        Raises:
            UsageError: the model does not know such a conversation, it is longer than its context, or the constraint
                cannot be followed.
        """

    @abstractmethod
    def encode_conversation(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[int]:
        """Return the tokens that the network reads for a conversation, up to where the assistant's answer begins.

        Raises:
            UsageError: the model does not know such a conversation.
        """

    @abstractmethod
    def message_of(self, text: str) -> Mapping[str, Any]:
        """Return the message that a text written by `reply` stands for, its calls under "tool_calls"."""

    @abstractmethod
    def beside_calls(self, text: str) -> str:
        """Return the beginning of a text under way that is certainly no part of a call, whatever comes after it.

        White space at its end waits for what follows, because none is kept before a call.
        """

    @abstractmethod
    def converse(
        self,
        messages: Sequence[Mapping[str, Any]],
        sampling: Sampling,
        max_tokens: int = 512,
        stop: Sequence[str] = (),
        tools: Sequence[Mapping[str, Any] | Tool] = (),
        constraint: Constraint | None = None,
    ) -> Iterator[ChatPiece]:
        """Stream the conversation up to the assistant's final message: calls are run, and their results answered.

        A `Tool` is run, and so is a tool that is only described and has the name of one of `own_tools`. It ends early
        with a message that calls another, and after as many calls in a row as are seen to lead nowhere. Other arguments
        and errors are those of `reply`.
        """

    @abstractmethod
    def results_of(self, text: str, tools: Sequence[Mapping[str, Any] | Tool]) -> Sequence[Mapping[str, Any]] | None:
        """Run the calls in a text written by `reply`, as `converse` does; it may take as long as the tools take.

        Returns:
            A message for each call, in order; what is wrong with a call is its result. None when it calls a tool that
            is only described and is not one of `own_tools`: then somebody else has to run it.
        """

    @abstractmethod
    def calling(
        self, tools: Sequence[Mapping[str, Any]], *, in_text: bool = False, most: int | None = None
    ) -> Constraint:
        """Return what a text has to be that is one call of one of these tools, with arguments of its schema.

        Args:
            tools: as a conversation offers them.
            in_text: the text may also be any, with calls in it or not, all of which are of these tools.
            most: how many calls may stand in such a text, at least 1; None for any number.

        Raises:
            UsageError: arguments of a tool are not an object, or its schema cannot be followed.
        """

    @abstractmethod
    def own_tools(self) -> Mapping[str, Tool]:
        """Return the tools that the runtime has by itself, by name."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a question.

    Args:
        answer: as the program's task has it; None where the text was cut off and stands for no answer.
        text: as the model wrote it.
        finished: why it ended.
        tokens: how many were written for it, drafts and critiques included.
        agreed: the share of drafts that voted for it; 1 without votes.
        steps: what was written on the way: drafts, critiques.
    """

    answer: Any
    text: str
    finished: Finish
    tokens: int
    agreed: float = 1.0
    steps: tuple[str, ...] = ()


class Ask(ABC):
    """Answers questions through a model that chats, so that they may be put in other ways than usual."""

    @property
    @abstractmethod
    def sampling(self) -> Sampling:
        """How tokens are chosen when nobody says otherwise."""

    @property
    @abstractmethod
    def max_tokens(self) -> int:
        """The most tokens of an answer when nobody says otherwise."""

    @abstractmethod
    def ask(
        self,
        questions: Sequence[Any],
        *,
        sampling: Sampling | None = None,
        max_tokens: int | None = None,
        votes: int = 1,
        reviews: int = 0,
    ) -> list[Outcome]:
        """Answer each question, in order, as one batch.

        Args:
            questions: raw inputs of the program's task.
            sampling, max_tokens: instead of the usual ones.
            votes, reviews: see `core.second_chance`; for votes the answers have to be comparable.

        Raises:
            UsageError: a question does not fit, or leaves no room for an answer; or answers cannot vote.
        """


class Rate(ABC):
    """Says how good answers are."""

    @abstractmethod
    def rate(self, conversations: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Float32 [N], a score of the last answer of each conversation ("messages", perhaps "tools").

        Scores of answers to the same conversation are comparable; their difference is the log-odds that the first is
        preferred.

        Raises:
            UsageError: a conversation does not end with an answer.
        """


class Embed(ABC):
    """Maps raw inputs to vectors whose dot products mean similarity."""

    @abstractmethod
    def embed(self, inputs: Sequence[object]) -> np.ndarray:
        """Float32 vectors [N, D] of `inputs`, in order."""


class Segment(ABC):
    """Says which pixels of a picture belong to the thing that clicks or a box point at."""

    @abstractmethod
    def segment(
        self, image: Any, points: Sequence[Sequence[float]] = (), box: Sequence[float] = ()
    ) -> tuple[np.ndarray, np.ndarray]:
        """Masks bool [M, H, W] of the picture's size and the IoU each is thought to have, float32 [M], best first.

        Args:
            image: what opens as a picture.
            points: clicks [x, y, 1 or 0] in pixels; 1 says "this", 0 "not this".
            box: [left, top, right, bottom] in pixels, or nothing.

        Raises:
            UsageError: a prompt lies outside the picture, or none says which thing is meant.
        """


class Words(ABC):
    """Has a vector for each of V words, and perhaps for words beyond them."""

    @abstractmethod
    def table(self) -> tuple[Sequence[str], np.ndarray, np.ndarray | None]:
        """The distinct words, the most frequent first; their vectors, float32 [V, D]; how often each occurred,
        int64 [V], where that is known.
        """

    @abstractmethod
    def fold(self, word: str) -> str:
        """The word as the vocabulary writes it (in small letters, say)."""

    @abstractmethod
    def vectors(self, words: Sequence[str]) -> np.ndarray:
        """Float32 [N, D] of N words, folded or not; zeros for one that has no vector, as it is neither in the
        vocabulary nor made of known parts.
        """


class Locate(ABC):
    """Says where keys stand in a sorted column of a file."""

    @abstractmethod
    def position(self, keys: Any) -> np.ndarray:
        """Int64, shaped like `keys`: the place of the first key that is not below each, N where there is none.

        Args:
            keys: what can be compared with the column's keys: numbers, dates or their texts, alone or as an array. An
                array of the column's own type is neither copied nor converted.

        Raises:
            UsageError: one of them cannot be compared with the keys.
            DataError: the file has changed, or is gone.
        """

    @abstractmethod
    def range(self, low: Any, high: Any) -> tuple[int, int]:
        """The places [start, stop) of keys with low <= key < high; None leaves an end open. Errors as `position`."""

    @abstractmethod
    def rows(self, start: int, stop: int) -> np.ndarray:
        """Int64 [stop - start]: the file's rows, from 0, with the keys at these places. Errors as `position`."""

    @abstractmethod
    def table(self, start: int, stop: int) -> Any:
        """Those rows with all their columns: a pyarrow Table. Errors as `position`.

        Raises:
            UsageError: the file is not one of Parquet or Arrow.
        """


class Amended(ABC):
    """What a program answers from, with changes that are kept in a log beside it; a context that gives the log back."""

    @abstractmethod
    def __len__(self) -> int:
        """How many there are now."""

    @abstractmethod
    def insert(self, inputs: Any) -> None:
        """Take in what is given, one or many: all of it or none. What returns survives the process.

        Raises:
            UsageError: one of them is none that the program knows.
            DiskFull: there is no room.
        """

    @abstractmethod
    def delete(self, inputs: Any) -> None:
        """Take away one for each that is given: all of them or none. Errors as `insert`.

        Raises:
            UsageError: one of them is not there.
        """

    @abstractmethod
    def answer(self, inputs: Sequence[Any]) -> list[Mapping[str, Any]]:
        """One answer for each raw input, as the program gives them, from what there is now."""

    @abstractmethod
    def fold(self, path: str | Path) -> Path:
        """Write all that there is now to a file, whole or not at all, that a new program can be made from.

        Raises:
            UsageError: such a file is not written there.
            DiskFull: there is no room; what was there before is unchanged.
        """

    @abstractmethod
    def close(self) -> None:
        """Give the log back."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class Amend(ABC):
    """Takes changes to what it answers from, without being changed itself."""

    @abstractmethod
    def amended(self, path: str | Path, *, sync: Literal["each", "never"] = "each") -> Amended:
        """Open the log at `path`, or begin one there.

        Args:
            path: of a file; one process at a time has it open.
            sync: "each" waits until a change is on the disk; "never" leaves that to the system, which is faster by far.

        Raises:
            SessionError: another process has it open, it is damaged, or it is about something else.
        """


@dataclass(frozen=True, kw_only=True)
class Classified:
    """What a classifier says of N inputs.

    Args:
        probabilities: float32 [N, K], in the order of `Classify.labels`.
        features: float32 [N, D], what the last layer of the network decides by: near ones are alike to the classifier.
    """

    probabilities: np.ndarray
    features: np.ndarray


class Classify(ABC):
    """Gives a probability to each of K labels."""

    @property
    @abstractmethod
    def labels(self) -> Sequence[str]:
        """The K labels."""

    @abstractmethod
    def classify(self, inputs: Sequence[Any]) -> Classified:
        """Probabilities and features of raw inputs, in order."""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A traceable form of a program for exporters.

    Args:
        module: takes the tensors of `inputs` in order and returns those named in `outputs`.
        inputs: an example tensor by name.
        dynamic: for each input, the names of the axes that may vary, by axis number.
        outputs: names of the outputs, in order.
        samples: further inputs (each a tuple in the order of `inputs`) of other sizes that an export is checked on.
        assets: files that belong beside the export, by name (a tokenizer).
        labels: what the numbers along the last axis of the first output stand for, in order; empty without names.
        example: a short Python script, to be run in the folder of the export, that answers raw inputs named in its
            arguments with "model.onnx", ONNX Runtime and no sw2. Its first line is the comment `# pip install …`.
    """

    module: nn.Module
    inputs: Mapping[str, Tensor]
    dynamic: Mapping[str, Mapping[int, str]]
    outputs: Sequence[str]
    samples: Sequence[tuple[Tensor, ...]]
    assets: Mapping[str, bytes]
    labels: Sequence[str] = ()
    example: str


class Export(ABC):
    """Can be written as a graph that runs without sw2, preprocessing included."""

    @abstractmethod
    def graph(self) -> Graph:
        """The whole program from raw tensors (a decoded picture, token ids) to outputs."""


class Convert(ABC):
    """Can be written in formats of other toolkits, which read the model by its kind and need no graph."""

    @abstractmethod
    def conversions(self) -> Mapping[str, str]:
        """The formats' names, each with one line."""

    @abstractmethod
    def convert(self, format_name: str, into: Path) -> tuple[int, float]:
        """Write the files of a format into the empty folder `into`, read them back, and compare.

        Returns:
            How many examples were answered from the files, and the largest difference from this program's answers, in
            units of the largest answer.

        Raises:
            ProgramError: this program does not fit the format, or the files do not answer as it does.
        """


class Shrink(ABC):
    """Can be kept in fewer bits."""

    @abstractmethod
    def ways_to_shrink(self, bits: int) -> Mapping[str, str]:
        """The methods, each with one line; the first is the one to take when nobody says otherwise.

        Raises:
            UsageError: numbers of so many bits are not known.
            ProgramError: the program has as few bits already.
        """

    @abstractmethod
    def shrink(self, bits: int, method: str, train: Split, seed: int) -> Mapping[str, Model]:
        """Return smaller networks by role, for a program that is otherwise the same; this one stays as it is.

        Args:
            bits: how many a number may take.
            method: one of `ways_to_shrink(bits)`.
            train: examples to calibrate on, which a method may ignore.
            seed: of every random draw.

        Raises:
            DataError: the examples are too few for the method.
        """
