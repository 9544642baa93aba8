"""A scheduler that runs many requests as one batch; requests join and leave between steps.

Notable
- Continuous batching after Orca (Yu et al. 2022, https://www.usenix.org/conference/osdi22/presentation/yu): no request
  waits for another to end.
- A step is at most two calls of the network: one that reads prompts, limited in tokens so that a long prompt does not
  stall the others, and one that adds a token to every request whose prompt is read.
- A slot that falls free remembers its tokens. A new request takes the slot that shares the longest beginning with it,
  and reads only the rest: the next turn of a conversation costs its new words.
- It does not know the network. It calls a `StepFunction`.

What it does not do: threads (call it from one thread), text (see `decoding.text`), stop strings (look at the text
and cancel), priorities.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, final

from torch import Tensor

from sw2.base.errors import UsageError
from sw2.parts.decoding.sampling import Sampling, choose

__all__ = ["Engine", "Finish", "Request", "StepFunction", "Stop"]

Finish = Literal["stop", "length", "cancelled"]


class StepFunction(Protocol):
    """The network with its cache; `decoding.cache.CachedStep` is one.

    Attributes:
        slots: how many sequences it can hold at once.
        capacity: how many tokens a sequence may have.
    """

    slots: int
    capacity: int

    def __call__(self, tokens: Sequence[Sequence[int]], slots: Sequence[int], starts: Sequence[int]) -> Tensor:
        """Read new tokens and return the logits after the last one of each row.

        Args:
            tokens: the new tokens of each row, at least one.
            slots: the slot of each row.
            starts: how many tokens that slot holds before these; whatever it held beyond is forgotten.

        Returns:
            [rows, vocabulary].
        """
        ...


@final
@dataclass(frozen=True, kw_only=True)
class Stop:
    """When a request ends: after `max_tokens` ≥ 1 new tokens, or before any one of `tokens`."""

    max_tokens: int
    tokens: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise UsageError(
                "A request must ask for a token.", wanted="max_tokens ≥ 1", got=self.max_tokens, do="Raise max_tokens."
            )


@final
class Request:
    """One prompt under way.

    Attributes:
        prompt: the tokens it started from.
        tokens: the answer so far.
        finish: None while it runs; then "stop" (a stop token came), "length" (max_tokens, or no room) or "cancelled".
        reused: how many tokens of the prompt were in the cache already.
    """

    def __init__(self, prompt: Sequence[int], sampling: Sampling, stop: Stop) -> None:
        self.prompt, self.sampling, self.stop = tuple(prompt), sampling, stop
        self.tokens: list[int] = []
        self.finish: Finish | None = None
        self.reused = 0


@final
class _Slot:
    """Who sits in a slot, and which tokens the cache holds there."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.request: Request | None = None
        self.held: list[int] = []

    def pending(self) -> list[int]:
        """The tokens of the request that the cache does not hold yet."""
        assert self.request is not None
        beyond = len(self.held) - len(self.request.prompt)
        return list(self.request.prompt[len(self.held) :]) if beyond < 0 else self.request.tokens[beyond:]

    def shared(self, prompt: Sequence[int]) -> int:
        """How many tokens of `prompt` need not be read. The last one always is: its logits are wanted."""
        same = 0
        for held, token in zip(self.held, prompt[:-1], strict=False):
            if held != token:
                break
            same += 1
        return same


@final
class Engine:
    """Runs requests.

    Args:
        step: the network.
        prompt_tokens: how many prompt tokens, padding included, one step reads at most.
    """

    def __init__(self, step: StepFunction, *, prompt_tokens: int = 512) -> None:
        assert prompt_tokens >= 1
        self._step, self._prompt_tokens = step, prompt_tokens
        self._slots = [_Slot(number) for number in range(step.slots)]
        self._waiting: deque[Request] = deque()

    def submit(self, prompt: Sequence[int], sampling: Sampling, stop: Stop) -> Request:
        """Queue a prompt and return its handle.

        Raises:
            UsageError: the prompt is empty, or leaves no room for a token of answer.
        """
        if not 0 < len(prompt) < self._step.capacity:
            raise UsageError(
                "The prompt is empty." if not prompt else "The prompt is too long.",
                wanted=f"1 to {self._step.capacity - 1} tokens",
                got=f"{len(prompt)} tokens",
                do="Shorten the prompt." if prompt else "Give at least one token, such as the start of a text.",
            )
        request = Request(prompt, sampling, stop)
        self._waiting.append(request)
        return request

    def cancel(self, request: Request) -> None:
        """End `request` now; its slot is free for the next step. A request that has ended stays as it is."""
        if request.finish is None:
            self._end(request, "cancelled")

    def busy(self) -> bool:
        """Whether any request is waiting or running."""
        return bool(self._waiting) or any(slot.request for slot in self._slots)

    def step(self) -> list[tuple[Request, int]]:
        """Advance every running request that can be advanced; return the tokens that came, with their requests."""
        self._admit()
        prompts: list[_Slot] = []
        answers: list[_Slot] = []
        for slot in self._slots:
            if slot.request is not None:
                (answers if slot.request.tokens else prompts).append(slot)
        return self._read(prompts) + self._answer(answers)

    def stream(self, request: Request) -> Iterator[int]:
        """Step until `request` ends, giving its tokens as they come; other requests advance too.

        Leaving the loop early cancels the request.
        """
        given = 0
        try:
            while True:
                yield from request.tokens[given:]
                given = len(request.tokens)
                if request.finish is not None:
                    return
                self.step()
        finally:
            self.cancel(request)

    def _admit(self) -> None:
        free = [slot for slot in self._slots if slot.request is None]
        while free and self._waiting:
            request = self._waiting.popleft()
            # The longest shared beginning; among equals the least to forget, then the lowest number.
            slot = max(free, key=lambda slot: (slot.shared(request.prompt), -len(slot.held), -slot.number))
            free.remove(slot)
            request.reused = slot.shared(request.prompt)
            slot.held = slot.held[: request.reused]
            slot.request = request

    def _read(self, slots: Sequence[_Slot]) -> list[tuple[Request, int]]:
        rows: list[tuple[_Slot, list[int]]] = []
        longest = 0
        for slot in slots:
            piece = slot.pending()[: self._prompt_tokens]
            longest = max(longest, len(piece))
            if rows and longest * (len(rows) + 1) > self._prompt_tokens:
                break
            rows.append((slot, piece))
        return self._run(rows)

    def _answer(self, slots: Sequence[_Slot]) -> list[tuple[Request, int]]:
        return self._run([(slot, slot.pending()) for slot in slots])

    def _run(self, rows: Sequence[tuple[_Slot, list[int]]]) -> list[tuple[Request, int]]:
        if not rows:
            return []
        logits_RV = self._step(
            [new for _, new in rows], [slot.number for slot, _ in rows], [len(slot.held) for slot, _ in rows]
        )
        came = []
        for (slot, new), logits_V in zip(rows, logits_RV, strict=True):
            slot.held += new
            request = slot.request
            assert request is not None
            if slot.pending():
                continue
            token = choose(logits_V, request.sampling, len(request.tokens))
            if token in request.stop.tokens:
                self._end(request, "stop")
                continue
            request.tokens.append(token)
            came.append((request, token))
            # The newest token is not in the cache yet, and the next step would have to put it there.
            if len(request.tokens) == request.stop.max_tokens or len(slot.held) == self._step.capacity:
                self._end(request, "length")
        return came

    def _end(self, request: Request, finish: Finish) -> None:
        request.finish = finish
        if request in self._waiting:
            self._waiting.remove(request)
        for slot in self._slots:
            if slot.request is request:
                slot.request = None
