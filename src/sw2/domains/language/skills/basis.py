"""What every skill is made of: examples made on demand, messages, verdicts, and reading numbers out of prose.

    example   {"messages": [...], "tools": [...], "check": {...}, "skill": NAME, "family": wording family, "where": str}
    message   {"role": "system" | "user" | "assistant" | "tool", "content": text}, an assistant's with "tool_calls"
              [{"type": "function", "function": {"name": NAME, "arguments": JSON as text}}] where it calls one

An example is a function of (seed, split, number): nothing is stored, so a split is as long as it is asked to be, and
the first hundred of a thousand are the hundred of a hundred. What keeps the splits apart is the matter of each skill.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Literal, final, overload

from sw2.base.errors import UsageError
from sw2.base.seed import derive

__all__ = [
    "CALCULATOR",
    "SPLITS",
    "TOGETHER",
    "Example",
    "Made",
    "Message",
    "Split",
    "Verdict",
    "answer_of",
    "assistant",
    "call",
    "calls_of",
    "draw",
    "ends_well",
    "numbers",
    "result",
    "since_user",
    "split_of",
    "user",
]

Example = Mapping[str, Any]
Message = Mapping[str, Any]
Split = Literal["train", "validation", "test"]
SPLITS: Final[tuple[Split, ...]] = ("train", "validation", "test")

TOGETHER: Final = 3
"""How many examples of train in a row a skill may let begin alike, so that what they share need be read only once."""

CALCULATOR: Final[Mapping[str, Any]] = {
    "type": "function",
    "function": {
        "name": "calculator",
        "description": "The value of an expression.",
        "parameters": {
            "type": "object",
            "properties": {"expression": {"type": "string", "description": "numbers, + - * / and parentheses"}},
            "required": ["expression"],
        },
    },
}
"""The schema of the calculator, as a model is told of it."""


@dataclass(frozen=True)
class Verdict:
    """What a checker finds.

    Args:
        passed: nothing that matters is wrong.
        score: the share of what matters that is right, 0 to 1.
        flaws: each thing that is wrong, in few words; those of a kind begin alike ("wrong price: ...").
        details: what the checker read, for people.
    """

    passed: bool
    score: float
    flaws: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


@final
class Made(Sequence[Example]):
    """Examples 0 to `count` - 1, each made when it is asked for by `make(number)`."""

    def __init__(self, make: Callable[[int], Example], count: int) -> None:
        self._make, self._numbers = make, range(count)

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | Sequence[Example]:
        if isinstance(index, slice):
            return [self._make(number) for number in self._numbers[index]]
        return self._make(self._numbers[index])

    def __iter__(self) -> Iterator[Example]:
        return map(self._make, self._numbers)


def draw(seed: int, *names: str | int) -> random.Random:
    """A generator for the purpose that `names` spell."""
    return random.Random(derive(seed, "skills", *names))


def split_of(text: str) -> Split:
    """The split that a piece of content belongs to, by its hash: 70 % train, 10 % validation, 20 % test."""
    place = derive(0, "split", text) % 10
    return "train" if place < 7 else "validation" if place < 8 else "test"


def known_split(split: str) -> Split:
    """`split`, which must be one of the three.

    Raises:
        UsageError: it is not.
    """
    for known in SPLITS:
        if split == known:
            return known
    raise UsageError("There is no such split.", wanted=", ".join(SPLITS), got=split)


def user(content: str) -> Message:
    """A user's message."""
    return {"role": "user", "content": content}


def assistant(content: str) -> Message:
    """An assistant's message."""
    return {"role": "assistant", "content": content}


def call(name: str, arguments: Mapping[str, Any]) -> Message:
    """An assistant's message that calls a tool."""
    written = json.dumps(arguments, ensure_ascii=False)
    calls = [{"type": "function", "function": {"name": name, "arguments": written}}]
    return {"role": "assistant", "content": "", "tool_calls": calls}


def result(content: str) -> Message:
    """What a tool answered."""
    return {"role": "tool", "content": content}


def since_user(messages: Sequence[Message]) -> Sequence[Message]:
    """What follows the last message of the user."""
    last = max((at for at, message in enumerate(messages) if message["role"] == "user"), default=-1)
    return messages[last + 1 :]


def answer_of(messages: Sequence[Message]) -> str:
    """The text of the last message when it is the assistant's, else nothing."""
    if not messages or messages[-1]["role"] != "assistant":
        return ""
    return str(messages[-1].get("content") or "").strip()


def calls_of(messages: Sequence[Message]) -> list[tuple[str, Mapping[str, Any] | None]]:
    """Every call of a tool: its name and arguments, None where these are no JSON object."""
    found: list[tuple[str, Mapping[str, Any] | None]] = []
    for message in messages:
        for each in message.get("tool_calls") or ():
            function = each.get("function") or {}
            try:
                arguments = json.loads(function.get("arguments") or "")
            except (TypeError, ValueError):
                arguments = None
            found.append((str(function.get("name")), arguments if isinstance(arguments, Mapping) else None))
    return found


def ends_well(messages: Sequence[Message]) -> str | None:
    """What is wrong with the order of the messages, or None.

    A system message only at the start; then user and assistant in turn; between a call and the text that follows it
    stands the tool's result. A conversation ends with a text, which may stand beside a call.
    """
    before = "start"
    may_follow = {
        "start": {"system", "user"},
        "system": {"user"},
        "user": {"assistant", "call"},
        "call": {"tool"},
        "tool": {"assistant", "call"},
        "assistant": {"user"},
    }
    for number, message in enumerate(messages):
        now = "call" if message.get("tool_calls") else str(message["role"])
        if now not in may_follow[before]:
            return f"message {number}: {now} after {before}"
        if now != "call" and not str(message["content"]).strip():
            return f"message {number}: empty"
        before = now
    said = bool(messages) and bool(str(messages[-1]["content"]).strip())
    return None if said and before in ("assistant", "call") else f"ends with {before}"


_NUMBER: Final = re.compile(r"(?<![\w.)])-?\d+(?:,\d{3})*(?:\.\d+)?|(?<![\d.,])\d+(?:,\d{3})*(?:\.\d+)?")


def numbers(text: str) -> list[Decimal]:
    """The numbers in a text, in order; commas between thousands are read over.

    >>> numbers("7-10 makes -3, not 1,250.50.")
    [Decimal('7'), Decimal('10'), Decimal('-3'), Decimal('1250.50')]
    """
    found = []
    for each in _NUMBER.findall(text):
        try:
            found.append(Decimal(each.replace(",", "")))
        except InvalidOperation:
            continue
    return found
