"""A scheduler that runs many requests as one batch; requests join and leave between steps.

Notable
- Continuous batching after Orca (Yu et al. 2022, https://www.usenix.org/conference/osdi22/presentation/yu): no request
  waits for another to end.
- A step is at most two calls of the network: one that reads prompts, limited in tokens so that a long prompt does not
  stall the others, and one that adds a token to every request whose prompt is read.
- A beginning that was read once is not read again. A slot that falls free remembers its tokens, and the next turn of a
  conversation goes on in it: it costs its new words. Otherwise the beginning is copied from the slot that holds most of
  it, free or busy, which is far cheaper than reading. Requests that come together with the same beginning wait until
  the first of them has read it.
- It does not know the network. It calls a `StepFunction`.

- What was read for one is not lent to another: whoever could tell by the time, or by a count, that a beginning was
  known could find out what others wrote, word by word. Each request may say whose it is.
- A request may have a matcher, which says after each token what may come next; see `decoding.constraint`. Nobody else's
  tokens depend on it.

What it does not do: threads (call it from one thread), text and stop strings (see `decoding.text`), priorities.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, final

from torch import Tensor

from sw2.base.errors import UsageError
from sw2.parts.decoding.constraint import Matcher
from sw2.parts.decoding.likelihood import Likelihood, likelihoods
from sw2.parts.decoding.sampling import Chooser, Sampling

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

    def copy(self, source: int, target: int, tokens: int) -> None:
        """Let slot `target` hold the first `tokens` tokens of slot `source`, and nothing else."""
        ...

    def refresh(self) -> None:
        """Compute with the network's weights of the moment from now on, where a copy of them was taken."""
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
        likelihoods: of each token of the answer, when they were asked for.
        finish: None while it runs; then "stop" (a stop token came, or the matcher lets nothing follow), "length"
            (max_tokens, no room, or a limit of the matcher) or "cancelled".
        reused: how many tokens of the prompt did not have to be read.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        stop: Stop,
        logprobs: int | None,
        matcher: Matcher | None,
        whose: str,
    ) -> None:
        self.prompt, self.sampling, self.stop, self.logprobs = tuple(prompt), sampling, stop, logprobs
        self.matcher, self.whose = matcher, whose
        self.tokens: list[int] = []
        self.likelihoods: list[Likelihood] = []
        self.finish: Finish | None = None
        self.reused = 0
        self._chooser = Chooser(sampling, prompt)

    def advance(self, logits_V: Tensor) -> int | None:
        """Choose the next token and add it to the answer; None when it is a stop token, which ends the request."""
        token = self._chooser.choose(logits_V, None if self.matcher is None else self.matcher.allowed_C)
        if token in self.stop.tokens:
            return None
        self.tokens.append(token)
        if self.matcher is not None:
            self.matcher.advance(token)
        if self.logprobs is not None:
            self.likelihoods += likelihoods(logits_V[None], [token], self.logprobs)
        return token


@final
class _Slot:
    """Who sits in a slot, and which tokens the cache holds there.

    Attributes:
        whose: for whom they were read.
        lender: the slot that is to copy its beginning to this one as soon as it has read it, and how much of it.
        turn: when a request last came here.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.request: Request | None = None
        self.held: list[int] = []
        self.whose = ""
        self.lender: tuple[_Slot, int] | None = None
        self.turn = -1

    def pending(self) -> list[int]:
        """The tokens of the request that the cache does not hold yet."""
        assert self.request is not None
        beyond = len(self.held) - len(self.request.prompt)
        return list(self.request.prompt[len(self.held) :]) if beyond < 0 else self.request.tokens[beyond:]

    def coming(self) -> Sequence[int]:
        """The tokens that the cache holds here, or will hold when the prompt is read."""
        reads = self.request is not None and len(self.request.prompt) > len(self.held)
        return self.request.prompt if self.request is not None and reads else self.held

    def knows(self, request: Request) -> int:
        """How much of the prompt of `request` it holds and may be used for it."""
        return _shared(self.held, request.prompt) if self.whose == request.whose else 0

    def lends(self, request: Request) -> int:
        """The same of what it holds or will hold when its prompt is read."""
        return _shared(self.coming(), request.prompt) if self.whose == request.whose else 0


def _shared(tokens: Sequence[int], prompt: Sequence[int]) -> int:
    """How many tokens of `prompt` need not be read when `tokens` are known. The last one always is: its logits are
    wanted.
    """
    same = 0
    for known, token in zip(tokens, prompt[:-1], strict=False):
        if known != token:
            break
        same += 1
    return same


@final
class Engine:
    """Runs requests.

    Args:
        step: the network.
        prompt_tokens: how many prompt tokens, padding included, one step reads at most.
        worth_copying: the fewest tokens that are copied from another slot, or waited for, instead of being read.

    Attributes:
        slots: how many requests run at once; others wait.
    """

    def __init__(self, step: StepFunction, *, prompt_tokens: int = 512, worth_copying: int = 16) -> None:
        assert min(prompt_tokens, worth_copying) >= 1
        self.slots = step.slots
        self._step, self._prompt_tokens, self._worth_copying = step, prompt_tokens, worth_copying
        self._slots = [_Slot(number) for number in range(step.slots)]
        self._waiting: deque[Request] = deque()
        self._turn = 0

    def submit(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        stop: Stop,
        logprobs: int | None = None,
        matcher: Matcher | None = None,
        whose: str = "",
    ) -> Request:
        """Queue a prompt and return its handle.

        Args:
            prompt: tokens.
            sampling: how the next token is chosen.
            stop: when to end.
            logprobs: how many of the likeliest tokens to name beside each chosen one, ≥ 0; None computes none.
            matcher: what may come next, this request's own; its ends are those of `stop`. None allows everything.
            whose: only what was read for the same is used again.

        Raises:
            UsageError: the prompt is empty, or leaves no room for a token of answer; `logprobs` is negative.
        """
        if logprobs is not None and logprobs < 0:
            raise UsageError("Fewer than no log-probabilities were asked for.", wanted="logprobs ≥ 0", got=logprobs)
        if not 0 < len(prompt) < self._step.capacity:
            raise UsageError(
                "The prompt is empty." if not prompt else "The prompt is too long.",
                wanted=f"1 to {self._step.capacity - 1} tokens",
                got=f"{len(prompt)} tokens",
                do="Shorten the prompt." if prompt else "Give at least one token, such as the start of a text.",
            )
        request = Request(prompt, sampling, stop, logprobs, matcher, whose)
        self._waiting.append(request)
        return request

    def cancel(self, request: Request) -> None:
        """End `request` now; its slot is free for the next step. A request that has ended stays as it is."""
        if request.finish is None:
            self._end(request, "cancelled")

    def busy(self) -> bool:
        """Whether any request is waiting or running."""
        return bool(self._waiting) or any(slot.request for slot in self._slots)

    def cache_use(self) -> float:
        """The share of the network's cache that running requests fill, 0 to 1."""
        filled = sum(len(slot.held) for slot in self._slots if slot.request)
        return filled / (self.slots * self._step.capacity)

    def forget(self) -> None:
        """Take up the network's weights of the moment, and forget all that was read with the old ones; nothing may be
        running.
        """
        assert not self.busy(), "what is running was begun with the old weights"
        self._step.refresh()
        for slot in self._slots:
            slot.held = []

    def step(self) -> list[tuple[Request, int]]:
        """Advance every running request that can be advanced; return the tokens that came, with their requests."""
        self._admit()
        prompts: list[_Slot] = []
        answers: list[_Slot] = []
        for slot in sorted(self._slots, key=lambda slot: slot.turn):
            if slot.request is not None:
                self._borrow(slot)
                if slot.lender is None:
                    (answers if slot.request.tokens else prompts).append(slot)
        return self._read(prompts) + self._answer(sorted(answers, key=lambda slot: slot.number))

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
            slot = self._seat(free, request)
            free.remove(slot)
            known = slot.knows(request)
            lender, shared = max(
                ((each, each.lends(request)) for each in self._slots if each is not slot),
                key=lambda lent: lent[1],
                default=(slot, 0),
            )
            slot.lender = (lender, shared) if shared >= known + self._worth_copying else None
            slot.held = slot.held[:known]
            slot.request, slot.whose, slot.turn = request, request.whose, self._turn
            request.reused = known
            self._turn += 1
            # At once where it can be: the next request may take the lender's slot.
            self._borrow(slot)

    def _seat(self, free: Sequence[_Slot], request: Request) -> _Slot:
        """The free slot that `request` takes.

        One that it mostly goes on from, for that needs no copy; otherwise the one that was left alone the longest, so
        that the beginnings in the others stay known.
        """

        def fitness(slot: _Slot) -> tuple[int, int]:
            shared = slot.knows(request)
            return (shared if 2 * shared > len(slot.held) else 0, -slot.turn)

        return max(free, key=fitness)

    def _borrow(self, slot: _Slot) -> None:
        """Copy the beginning that another slot shares, once it is there."""
        if slot.lender is None:
            return
        lender, shared = slot.lender
        if len(lender.held) >= shared:
            self._copy(lender, slot, shared)

    def _copy(self, lender: _Slot, slot: _Slot, tokens: int) -> None:
        assert slot.request is not None
        if tokens > len(slot.held):
            self._step.copy(lender.number, slot.number, tokens)
            slot.held = lender.held[:tokens]
            slot.request.reused = tokens
        slot.lender = None

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
            token = request.advance(logits_V)
            if token is None:
                self._end(request, "stop")
                continue
            came.append((request, token))
            if request.matcher is not None and request.matcher.finish is not None:
                self._end(request, request.matcher.finish)
            # The newest token is not in the cache yet, and the next step would have to put it there.
            elif len(request.tokens) == request.stop.max_tokens or len(slot.held) == self._step.capacity:
                self._end(request, "length")
        return came

    def _end(self, request: Request, finish: Finish) -> None:
        request.finish = finish
        if request in self._waiting:
            self._waiting.remove(request)
        for slot in self._slots:
            if slot.request is request:
                slot.request, slot.lender = None, None
                # Whoever waits for this slot to read on gets what it has.
                for other in self._slots:
                    if other.lender is not None and other.lender[0] is slot:
                        self._copy(slot, other, min(len(slot.held), other.lender[1]))
