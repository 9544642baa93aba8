"""The order pad: a tool that keeps an order while a bot talks, so that no line has to be said twice.

    call     order_pad {"lines": "1: 2 x large funghi pizza 9.50 + olives 1.00; 2: 1 x tiramisu, size open"}
    result   1: 2 x large funghi pizza 9.50 + olives 1.00; 2: 1 x tiramisu, size open
    call     order_pad {"lines": "2: none"}
    result   1: 2 x large funghi pizza 9.50 + olives 1.00. Sum: 2 * (9.50 + 1.00)

A call writes the lines that change, under their numbers; the result is the whole order, and what to add up once nothing
is open. It knows no menu: names and prices are the bot's to find, and may be wrong. Lines are text and not objects, for
in text a name follows a space as it does in the menu, and a small network copies it token by token.

A line that is new and tells the item of one open line is that line, whatever its number: "3: 1 x small filter coffee
2.40" fills in "2: 1 x filter coffee, size open". A network that has found the item and mistaken the number would
otherwise ask for the size of line 2 again and again.

What is on a pad is a function of the calls so far (`written`), so conversations need keep nothing else.

What it does not do: two lines under one number, prices without two decimals.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, final

from sw2.domains.language.skills.basis import Message, calls_of

__all__ = ["NO_EXTRAS", "OPEN_EXTRAS", "OPEN_SIZE", "ORDER_PAD", "Pad", "parts", "written"]

ORDER_PAD: Final[Mapping[str, Any]] = {
    "type": "function",
    "function": {
        "name": "order_pad",
        "description": "Write lines of the order, or none to cross one out. Shows the order.",
        "parameters": {
            "type": "object",
            "properties": {"lines": {"type": "string", "description": "number: quantity x item price + extra price"}},
            "required": ["lines"],
        },
    },
}
"""Its schema, as a model is told of it."""

OPEN_SIZE: Final = ", size open"
OPEN_EXTRAS: Final = ", extras open"
NO_EXTRAS: Final = ", no extras"
_NOTES: Final = re.compile("|".join(map(re.escape, (OPEN_SIZE, OPEN_EXTRAS, NO_EXTRAS))))
_WANTED: Final = 'wanted lines such as "1: 2 x small tea 1.50; 2: none"'


@final
class Pad:
    """The lines of one order, by their numbers."""

    def __init__(self) -> None:
        self.lines: dict[int, str] = {}

    def write(self, lines: str) -> str:
        """Write, replace and cross out lines; returns the whole order, as at the top of this file.

        Raises:
            ValueError: something there is no line; nothing is written then.
        """
        new: dict[int, str] = {}
        for each in re.split(r";\s*", lines.strip().rstrip(".;")):
            found = re.fullmatch(r"(\d{1,3}):\s*(.*\S)\s*", each, re.DOTALL)
            if found is None or not (found[2] == "none" or parts(found[2])):
                raise ValueError(f"{_WANTED} instead of {each[:60]!r}")
            new[int(found[1])] = found[2]
        for number in [number for number in new if number not in self.lines]:
            if (meant := self._open_line(new[number])) is not None and meant not in new:
                new[meant] = new.pop(number)
        self.lines |= new
        self.lines = {number: self.lines[number] for number in sorted(self.lines) if self.lines[number] != "none"}
        return self.shown()

    def _open_line(self, line: str) -> int | None:
        """The number of the open line whose item this line tells, with its size or as it stands; None: there is none.

        Of several the one with the longest name, for "large green tea" tells of a green tea and of no tea; None when
        two have the same.
        """
        named = _item(line)
        told = [
            (len(_item(old)), number)
            for number, old in self.lines.items()
            if (OPEN_SIZE in old or OPEN_EXTRAS in old) and f" {named}".endswith(f" {_item(old)}")
        ]
        found = [number for length, number in told if length == max(told)[0]]
        return found[0] if len(found) == 1 else None

    def shown(self) -> str:
        """All lines, and behind them what to add up when nothing is open."""
        text = "; ".join(f"{number}: {line}" for number, line in self.lines.items()) or "empty"
        return f"{text}. Sum: {self.sum()}" if self.sum() else text

    def sum(self) -> str:
        """What to add up: "2 * (9.50 + 1.00) + 2.00"; "" while a size or extras are open, or a price is missing."""
        terms: list[str] = []
        for line in self.lines.values():
            quantity, named = parts(line) or (0, [])
            one = [price for _, price in named]
            if OPEN_SIZE in line or OPEN_EXTRAS in line or "" in one:
                return ""
            if quantity == 1:
                terms += one
            else:
                terms.append(f"{quantity} * " + (one[0] if len(one) == 1 else f"({' + '.join(one)})"))
        return " + ".join(terms)


def parts(line: str) -> tuple[int, list[tuple[str, str]]] | None:
    """The quantity of a line, and the names and prices of the item and its extras; None when it is no line.

    >>> parts("2 x large funghi pizza 9.50 + olives 1.00"), parts("1 x tea, size open"), parts("tea")
    ((2, [('large funghi pizza', '9.50'), ('olives', '1.00')]), (1, [('tea', '')]), None)
    """
    found = re.fullmatch(r"(\d{1,4}) x (\S.*)", _NOTES.sub("", line), re.DOTALL)
    if found is None:
        return None
    named = [re.fullmatch(r"(.*?)(?: (\d+\.\d\d))?", each.strip(), re.DOTALL) for each in found[2].split(" + ")]
    return int(found[1]), [(each[1], each[2] or "") for each in named if each]


def _item(line: str) -> str:
    """The name of a line's item; "" when it is no line."""
    return (parts(line) or (0, [("", "")]))[1][0][0]


def written(messages: Sequence[Message]) -> Pad:
    """The pad after the calls of a conversation; what was no line is not on it."""
    pad = Pad()
    for name, arguments in calls_of(messages):
        if name == "order_pad":
            try:
                pad.write(str((arguments or {}).get("lines", "")))
            except ValueError:
                continue
    return pad
