"""Requests in text: characters as tokens come, stop strings, several streams from one engine.

Notable
- A byte-level token may end in the middle of a UTF-8 sequence. The bytes of an unfinished character are held back until
  the next token completes it. Bytes that cannot become a character turn into U+FFFD, as soon as that is certain.
- Text that may become a stop string is held back until it is certain, and no longer. Of several stop strings the one
  whose end comes first counts, so the result does not depend on how the text is cut into tokens.
- `TextEngine` is the one way from a prompt to pieces of text; the command line, a server and reinforcement learning
  all use it.

What it does not do: threads, templates for conversations.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, final

from sw2.base.errors import UsageError
from sw2.parts.decoding.constraint import Constraint, compiler
from sw2.parts.decoding.engine import Engine, Request, Stop
from sw2.parts.decoding.likelihood import Likelihood
from sw2.parts.decoding.sampling import Sampling
from sw2.parts.decoding.vocabulary import Vocabulary

__all__ = [
    "Finish",
    "StopStrings",
    "TextEngine",
    "TextPiece",
    "TextRequest",
    "TextStream",
    "TokenScore",
    "scores",
]

Finish = Literal["end", "stop", "length", "cancelled"]
"""Why a text ended: the model ended it or its constraint let nothing follow, a stop string came, there were enough
tokens (or a constraint's limits were reached), nobody wanted it any more. Under a constraint only a text that came to
its "end" is complete: JSON that was cut off does not parse."""


@final
class TextStream:
    """Turns tokens into whole characters.

    Args:
        token_bytes: the bytes that a token stands for.
    """

    def __init__(self, token_bytes: Callable[[int], bytes]) -> None:
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """Take one token and return the characters that are now complete, possibly none."""
        return self._decoder.decode(self._token_bytes(token))

    def finish(self) -> str:
        """Return what is left: U+FFFD when the last character never came to its end, otherwise nothing."""
        return self._decoder.decode(b"", final=True)


@final
class StopStrings:
    """Lets text through up to a stop string.

    Args:
        stops: the strings, none of them empty.

    Raises:
        UsageError: one is empty.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        if not all(stops):
            raise UsageError(
                "A stop string is empty.", wanted="at least one character", got=list(stops), do="Leave it out."
            )
        self._stops, self._longest = tuple(stops), max(map(len, stops), default=0)
        self._held = ""
        self.found = False
        """Whether a stop string came; nothing goes through after it."""

    def push(self, text: str) -> str:
        """Take the next characters and return those that are certainly before any stop string."""
        if self.found:
            return ""
        text, self._held = self._held + text, ""
        places = [(text.index(stop) + len(stop), text.index(stop)) for stop in self._stops if stop in text]
        if places:
            self.found = True
            return text[: min(places)[1]]
        # The longest end of the text that is the beginning of a stop string.
        for start in range(max(0, len(text) - self._longest + 1), len(text)):
            if any(stop.startswith(text[start:]) for stop in self._stops):
                text, self._held = text[:start], text[start:]
                break
        return text

    def finish(self) -> str:
        """Return what was held back, now that no more text comes."""
        held, self._held = self._held, ""
        return held


@final
@dataclass(frozen=True)
class TokenScore:
    """A token, the bytes it stands for (none for a control token), and how likely the network found it.

    `logprob` is ln p, and None when it was not asked for; `top` are the likeliest tokens in the same place.
    """

    token: int
    bytes: bytes
    logprob: float | None = None
    top: tuple[TokenScore, ...] = ()


@final
@dataclass(frozen=True)
class TextPiece:
    """A piece of a stream: whole characters only.

    `finished` is why the text ended, on the last piece. `tokens` are those that came since the piece before, also
    those that became no text (a stop string, half a character).
    """

    text: str
    finished: Finish | None = None
    tokens: tuple[TokenScore, ...] = ()


class _Bytes:
    """The bytes of tokens. A network may have more tokens than its tokenizer has: those stand for none."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary, self._size = vocabulary, vocabulary.vocab_size

    def __call__(self, token: int) -> bytes:
        return self._vocabulary.token_bytes(token) if token < self._size else b""


def scores(likelihoods: Sequence[Likelihood], vocabulary: Vocabulary) -> list[TokenScore]:
    """Return `likelihoods` with the bytes of their tokens."""
    spelled = _Bytes(vocabulary)
    return [
        TokenScore(
            each.token,
            spelled(each.token),
            each.logprob,
            tuple(TokenScore(token, spelled(token), logprob) for token, logprob in each.top),
        )
        for each in likelihoods
    ]


@final
class TextRequest:
    """One text under way; `TextEngine.submit` makes it.

    Attributes:
        request: the same in tokens: the prompt, how much of it was known, the answer.
        finished: None while more text may come.
    """

    def __init__(self, request: Request, vocabulary: Vocabulary, stop: Sequence[str]) -> None:
        self.request = request
        self.finished: Finish | None = None
        self._vocabulary, self._bytes = vocabulary, _Bytes(vocabulary)
        self._stream, self._stops = TextStream(self._bytes), StopStrings(stop)
        self._text, self._shown, self._read = "", 0, 0
        self._ended = False

    def fresh(self) -> bool:
        """Whether `take` has something to give."""
        return not self._ended and bool(self._text or self.finished)

    def take(self) -> TextPiece | None:
        """Return what came since the last time; None when there is nothing to show yet, or nothing more."""
        if not self.fresh():
            return None
        new = slice(self._shown, self._read)
        tokens = self.request.tokens[new]
        piece = TextPiece(
            self._text,
            self.finished,
            tuple(scores(self.request.likelihoods[new], self._vocabulary))
            or tuple(TokenScore(token, self._bytes(token)) for token in tokens),
        )
        self._text, self._shown, self._ended = "", self._read, self.finished is not None
        return piece

    def advance(self) -> None:
        """Turn the tokens that came into text; `finished` says whether it came to its end."""
        request = self.request
        while self._read < len(request.tokens) and not self._stops.found:
            self._text += self._stops.push(self._stream.push(request.tokens[self._read]))
            self._read += 1
        if request.finish is not None and not self._stops.found:
            self._text += self._stops.push(self._stream.finish())
        if self._stops.found:
            self.finished = "stop"
        elif request.finish is not None:
            self._text += self._stops.finish()
            self.finished = "end" if request.finish == "stop" else request.finish


@final
class TextEngine:
    """Runs many requests as one batch and gives their text as it comes.

    Args:
        engine: the same in tokens; nobody else steps it.
        vocabulary: the tokenizer.
        end: tokens at which the model ends a text.

    Attributes:
        slots: how many requests run at once; others wait.
    """

    def __init__(self, engine: Engine, vocabulary: Vocabulary, end: Sequence[int]) -> None:
        self.slots = engine.slots
        self._engine, self._vocabulary, self._end = engine, vocabulary, tuple(end)
        self._live: list[TextRequest] = []

    def submit(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        max_tokens: int,
        stop: Sequence[str] = (),
        logprobs: int | None = None,
        constraint: Constraint | None = None,
        whose: str = "",
    ) -> TextRequest:
        """Queue a prompt and return its handle.

        Args:
            prompt: tokens.
            sampling: how the next token is chosen.
            max_tokens: the most tokens to write, ≥ 1.
            stop: the text ends before the first of these strings.
            logprobs: None, or how many of the likeliest tokens to name in each place, ≥ 0; see `decoding.likelihood`.
            constraint: what the text has to be; see `decoding.constraint`. It is compiled here, once, in up to a
                second.
            whose: only what was read for the same is used again.

        Raises:
            UsageError: a setting is out of range, a token does not exist, the prompt leaves no room for an answer, or
                the constraint cannot be followed.
        """
        most = self._vocabulary.vocab_size
        for token in (*prompt, *(biased for biased, _ in sampling.logit_bias)):
            if not 0 <= token < most:
                raise UsageError(
                    "There is no such token.", wanted=f"0 to {most - 1}", got=token, do="Use the model's own tokenizer."
                )
        ends = Stop(max_tokens=max_tokens, tokens=self._end)
        StopStrings(stop)  # complains before anything is queued
        matcher = None if constraint is None else compiler(self._vocabulary).matcher(constraint, self._end)
        request = TextRequest(
            self._engine.submit(prompt, sampling, ends, logprobs, matcher, whose), self._vocabulary, stop
        )
        self._live.append(request)
        return request

    def cancel(self, request: TextRequest) -> None:
        """End `request` now; its slot is free for the next step. A request that has ended stays as it is."""
        if request.finished is None:
            self._engine.cancel(request.request)
            self._advance(request)

    def busy(self) -> bool:
        """Whether any request is waiting or running."""
        return bool(self._live)

    def cache_use(self) -> float:
        """The share of the network's cache that running requests fill, 0 to 1."""
        return self._engine.cache_use()

    def forget(self) -> None:
        """Take up the network's weights of the moment, and forget all that was read with the old ones; nothing may be
        running.
        """
        self._engine.forget()

    def step(self) -> list[TextRequest]:
        """Advance every request that can be advanced; return those from which a piece can be taken."""
        self._engine.step()
        live = list(self._live)
        for request in live:
            self._advance(request)
        return [request for request in live if request.fresh()]

    def stream(self, *requests: TextRequest) -> Iterator[tuple[int, TextPiece]]:
        """Step until all of `requests` have ended, giving their pieces as they come, each with its number among them.

        Other requests advance too. Leaving the loop early cancels these.
        """
        open_ = dict(enumerate(requests))
        try:
            while open_:
                for number, request in list(open_.items()):
                    piece = request.take()
                    if piece is not None:
                        if piece.finished:
                            del open_[number]
                        yield number, piece
                if open_:
                    self.step()
        finally:
            for request in requests:
                self.cancel(request)

    def _advance(self, request: TextRequest) -> None:
        request.advance()
        if request.finished is not None:
            # A stop string ends the text, of which the engine of tokens knows nothing.
            self._engine.cancel(request.request)
            self._live.remove(request)
