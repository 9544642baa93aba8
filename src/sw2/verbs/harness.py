"""What an evaluation harness asks of a program that can write: likelihoods of texts, and texts.

The three questions are those of EleutherAI's `lm-eval` (https://github.com/EleutherAI/lm-evaluation-harness), and so
are the conventions: a program gets the numbers here that the same weights get there in another toolkit.

- A continuation's tokens are those of context and continuation encoded together, behind as many as the context has by
  itself; spaces at the end of the context count as the continuation's.
- An empty context is the token that begins a text.
- A context that is too long loses its beginning.
- A text for perplexity is cut into windows of the whole context that do not overlap; the last one is filled up with
  tokens of the one before, which are read and not counted. (`Task.judge` reads half a context before each token, which
  is kinder to the program.)

What it does not do: chat templates, which in that harness turn messages into text in which control tokens are spelled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, final

from sw2.base.errors import UsageError
from sw2.core.capabilities import Generate
from sw2.parts.decoding.sampling import Sampling

__all__ = ["Harness"]

_LONGEST: Final = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_CHOOSING: Final = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")


@final
class Harness:
    """Answers for `writer`.

    Attributes:
        cut: how many contexts have lost their beginning so far.
    """

    def __init__(self, writer: Generate) -> None:
        self._writer = writer
        self._start = writer.encode_prompt("")
        self.cut = 0

    def loglikelihoods(self, pairs: Iterable[tuple[str, str]]) -> list[tuple[float, bool]]:
        """How likely each continuation is, as ln p, and whether greedy writing gives it, token by token.

        Raises:
            UsageError: a continuation alone is longer than the program can read.
        """
        return self._scored([self._divided(context, continuation) for context, continuation in pairs])

    def rolling(self, texts: Iterable[str]) -> list[float]:
        """How likely each whole text is, as ln p, for perplexities."""
        windows: list[tuple[list[int], list[int]]] = []
        owners: list[int] = []
        sums: list[float] = []
        for number, text in enumerate(texts):
            sums.append(0.0)
            for window in self._windows(self._encoded(text)):
                windows.append(window)
                owners.append(number)
        for owner, (logprob, _) in zip(owners, self._scored(windows), strict=True):
            sums[owner] += logprob
        return sums

    def texts(self, requests: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
        """The continuation of each prompt, with its settings by the names that the harness has for them.

        Known are `until`, `do_sample`, `temperature`, `top_k`, `top_p`, `min_p`, `repetition_penalty` and the four
        names of the most tokens to write.

        Raises:
            UsageError: a setting is unknown or out of range.
        """
        answers = [""] * len(requests)
        alike: dict[tuple[int, tuple[str, ...]], list[int]] = {}
        samplings = []
        for number, (_, settings) in enumerate(requests):
            sampling, most, stop = _understood(settings)
            samplings.append(sampling)
            alike.setdefault((most, stop), []).append(number)
        for (most, stop), numbers in alike.items():
            prompts = [self._shortened(self._writer.encode_prompt(requests[each][0]), most) for each in numbers]
            pieces = self._writer.generate_many(prompts, [samplings[each] for each in numbers], most, stop)
            for index, piece in pieces:
                answers[numbers[index]] += piece.text
        return answers

    def _encoded(self, text: str) -> list[int]:
        """The tokens of `text` alone; a text cannot become the control token that begins one."""
        tokens = self._writer.encode_prompt(text)
        return tokens[len(self._start) :] if tokens[: len(self._start)] == self._start else tokens

    def _divided(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        kept = context.rstrip()
        whole = self._writer.encode_prompt(context + continuation)
        before = self._writer.encode_prompt(kept) if kept else []
        if not before:
            return self._start, self._encoded(context + continuation)
        return whole[: len(before)], whole[len(before) :]

    def _scored(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[tuple[float, bool]]:
        most = self._writer.context + 1
        fitting = []
        for prompt, tokens in pairs:
            room = max(1, most - len(tokens))  # `score` refuses a continuation that leaves none
            self.cut += len(prompt) > room
            fitting.append((prompt[-room:], tokens))
        return [
            (sum(each.logprob or 0.0 for each in found), all(each.token == each.top[0].token for each in found))
            for found in self._writer.score(fitting, top=1)
        ]

    def _windows(self, tokens: list[int]) -> Iterable[tuple[list[int], list[int]]]:
        most = self._writer.context
        line = [*self._start, *tokens]
        start = len(self._start)
        for first in range(start, len(line), most):
            end = min(first + most, len(line))
            begin = 0 if first == start else end - most - 1
            yield line[begin:first], line[first:end]

    def _shortened(self, prompt: list[int], most: int) -> list[int]:
        room = max(1, self._writer.context - most)
        self.cut += len(prompt) > room
        return prompt[-room:]


def _understood(settings: Mapping[str, Any]) -> tuple[Sampling, int, tuple[str, ...]]:
    known = {"until", "do_sample", *_CHOOSING, *_LONGEST}
    if unknown := sorted(settings.keys() - known):
        raise UsageError(
            "The task asks for settings of writing that are not known.",
            wanted=", ".join(sorted(known)),
            got=", ".join(unknown),
            do="Remove them from its generation_kwargs.",
        )
    until = settings.get("until") or []
    stop = tuple(each for each in ([until] if isinstance(until, str) else until) if each)
    most = next((int(settings[name]) for name in _LONGEST if settings.get(name) is not None), 256)
    greedy = settings.get("do_sample") is False or not settings.get("temperature")
    chosen = {name: settings[name] for name in _CHOOSING if settings.get(name) is not None}
    return Sampling(**({**chosen, "temperature": 0.0} if greedy else chosen)), most, stop
