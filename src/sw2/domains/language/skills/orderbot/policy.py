"""The bot of the reference conversations: rules that ask for whatever is missing, one thing at a time.

It is told what the customer means (acts), not only the words, and so never misunderstands. A network that learns from
it has to understand each message once: what it meant is said in the words of the menu, and what has changed is written
on the pad (`pad.py`), whose answer is the whole order:

    calls order_pad {"lines": "1: 2 x medium margherita pizza 9.50 + olives 1.00; 2: 1 x funghi pizza, size open"}
    Which size of funghi pizza: small 8.00, large 11.00?
    Without funghi pizza. calls order_pad {"lines": "2: none"}
    Anything else?
    calls calculator {"expression": "2 * (9.50 + 1.00)"}
    Pickup it is. Cash or card?

The last message thanks and calls `place_order`, which sends what is on the pad.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping, Sequence
from typing import Any, Final, final

from sw2.domains.language.skills.basis import Message, assistant, call, result
from sw2.domains.language.skills.orderbot.customer import apply
from sw2.domains.language.skills.orderbot.menus import Menu, prices, spelled, takes_extras
from sw2.domains.language.skills.orderbot.pad import NO_EXTRAS, OPEN_EXTRAS, OPEN_SIZE, Pad
from sw2.domains.language.skills.orderbot.voices import Act
from sw2.domains.language.skills.sums import evaluate, written

__all__ = ["PLACE_ORDER", "Policy"]

PLACE_ORDER: Final[Mapping[str, Any]] = {
    "type": "function",
    "function": {
        "name": "place_order",
        "description": "Send the order on the pad to the kitchen.",
        "parameters": {
            "type": "object",
            "properties": {
                "total": {"type": "string"},
                "mode": {"enum": ["pickup", "delivery"]},
                "address": {"type": "string"},
                "payment": {"enum": ["cash", "card"]},
            },
        },
    },
}

_TEXTS: Final = {
    "greet": ("Hi, welcome to {name}! What can I get you?", "Hello, this is {name}. What would you like?"),
    "which": ("Sure! Which {main}: {items}?", "Gladly! Which {main} would you like: {items}?"),
    "size": ("Which size of {item}: {sizes}?", "What size should the {item} be: {sizes}?"),
    "extras": ("Any extras on the {item}: {extras}?", "Would you like extras on the {item}: {extras}?"),
    "else": ("Anything else?", "Can I get you anything else?"),
    "ask": ("{section}: {items}.", "We have these {section_}: {items}."),
    "unknown": ("Sorry, we do not have {item}.", "I am sorry, {item} is not on our menu."),
    "total": ("The total is {total}.",),
    "mode": ("Is it pickup or delivery?", "Pickup or delivery?"),
    "address": ("What is the address?", "Which address should it go to?"),
    "payment": ("Cash or card?", "Would you like to pay by cash or card?"),
    "thanks": ("Thank you, your order is placed! {total} by {payment}, {mode}.",),
}
_CHANGES: Final = {
    "quantity": "Now {quantity} x {item}.",
    "resize": "Size {size} for the {item}.",
    "swap": "Instead of {old}: {item}.",
    "remove": "Without {item}.",
}
"""What is said of a change of the order, before it is written."""


@final
class Policy:
    """The bot in one conversation.

    Args:
        menu: what it sells.
        chance: what picks among its wordings.
    """

    def __init__(self, menu: Menu, chance: random.Random) -> None:
        self._menu, self._chance = menu, chance
        self.lines: dict[int, dict[str, Any]] = {}
        """The order so far; a size or extras of None have not been told."""
        self._pad, self._numbers = Pad(), dict[int, int]()
        self._facts: dict[str, str] = {}
        self._done = False
        self._added = ""

    def __deepcopy__(self, memo: dict[int, Any]) -> Policy:
        """Like any deep copy, but for the menu, which nobody changes, and the chance's 625 numbers, which are ints."""
        new = copy.copy(self)
        memo[id(self)] = new
        new._chance = random.Random()
        new._chance.setstate(self._chance.getstate())
        for name in ("lines", "_pad", "_numbers", "_facts"):
            setattr(new, name, copy.deepcopy(getattr(self, name), memo))
        return new

    def reply(self, acts: Sequence[Act]) -> list[Message]:
        """The bot's messages in answer to what the customer meant: perhaps calls and their results, then a text."""
        texts, changes, changed = [], [], set[int]()
        for act in acts:
            kind = act["act"]
            if kind in ("mode", "address", "payment"):
                self._facts[kind] = act[kind]
                if kind == "mode":
                    texts.append(f"{act[kind].capitalize()} it is.")
                elif kind == "address":
                    texts.append(f"Delivery to {act[kind]}.")
            elif kind == "done":
                self._done = True
            elif kind == "ask":
                texts.append(self._offer(act["section"]))
            elif kind == "unknown":
                texts.append(self._say("unknown", item=act["item"]))
            elif kind not in ("greet", "category"):
                apply(self.lines, act, act)
                changed.add(act["line"])
                changes += [_CHANGES[kind].format(**act)] if kind in _CHANGES else []
        if "mode" in self._facts:
            self._done = True
        if any(act["act"] == "greet" for act in acts):
            return [assistant(self._say("greet", name=self._menu["name"]))]
        if any(act["act"] == "category" for act in acts):
            items = ", ".join(self._menu["items"][self._menu["main"]])
            return [assistant(self._say("which", main=self._menu["main"], items=items))]
        written = self._write(sorted(changed), changes) if changed else []
        if not self.lines:
            return [*written, assistant(" ".join([*texts, "What would you like?"]))]
        question = self._missing() or ("" if self._done else self._say("else"))
        if question:
            return [*written, assistant(" ".join([*texts, question]))]
        return [*written, *self._close(texts)]

    def _write(self, changed: Sequence[int], changes: Sequence[str]) -> list[Message]:
        """The call that writes the lines that have changed, and its result."""
        entries = dict[int, str]()
        for line in changed:
            if line in self.lines and line not in self._numbers:
                self._numbers[line] = max([0, *self._pad.lines, *entries]) + 1
            if (number := self._numbers.get(line)) is not None:
                entries[number] = self._line(self.lines[line]) if line in self.lines else "none"
        lines = "; ".join(f"{number}: {text}" for number, text in entries.items())
        return [{**call("order_pad", {"lines": lines}), "content": " ".join(changes)}, result(self._pad.write(lines))]

    def _close(self, texts: list[str]) -> list[Message]:
        messages: list[Message] = []
        if (sum_ := self._pad.sum()) != self._added:
            value = evaluate(sum_)
            adds = {**call("calculator", {"expression": sum_}), "content": " ".join(texts)}
            messages += [adds, result(written(value))]
            self._added, self._total = sum_, f"{value:.2f}"
            texts = [self._say("total", total=self._total)]
        for kind in ("mode", "address", "payment"):
            if kind not in self._facts and not (kind == "address" and self._facts["mode"] == "pickup"):
                return [*messages, assistant(" ".join([*texts, self._say(kind)]))]
        placed = {"total": self._total, "mode": self._facts["mode"]}
        if self._facts["mode"] == "delivery":
            placed["address"] = self._facts["address"]
        placed["payment"] = self._facts["payment"]
        thanks = self._say("thanks", total=placed["total"], payment=placed["payment"], mode=placed["mode"])
        return [*messages, {**call("place_order", placed), "content": " ".join([*texts, thanks])}]

    def open_line(self) -> tuple[int, str] | None:
        """The first line whose size or extras have not been told, and its item."""
        for number, line in self.lines.items():
            item = line["item"]
            sized = line["size"] is None and len(prices(self._menu, item)) > 1
            if sized or (line["extras"] is None and takes_extras(self._menu, item)):
                return number, item
        return None

    def _missing(self) -> str:
        """The question for what has not been told of the first such line, "" when everything has."""
        if (found := self.open_line()) is None:
            return ""
        number, item = found
        questions = []
        if self.lines[number]["size"] is None:
            questions.append(self._say("size", item=item, sizes=spelled(prices(self._menu, item))))
        if self.lines[number]["extras"] is None and takes_extras(self._menu, item):
            questions.append(self._say("extras", item=item, extras=", ".join(self._menu["extras"])))
        return " ".join(questions)

    def _line(self, line: Mapping[str, Any]) -> str:
        of = prices(self._menu, line["item"])
        size = line["size"]
        name = f"{size} {line['item']}" if size else line["item"]
        price = OPEN_SIZE if size is None else f" {of[size]}"
        extras = "".join(f" + {extra} {self._menu['extras'][extra]}" for extra in line["extras"] or ())
        if not line["extras"] and takes_extras(self._menu, line["item"]):
            extras = OPEN_EXTRAS if line["extras"] is None else NO_EXTRAS
        return f"{line['quantity']} x {name}{price}{extras}"

    def _offer(self, section: str) -> str:
        if section == "extras":
            items = ", ".join(f"{name} {price}" for name, price in self._menu["extras"].items())
        else:
            items = ", ".join(spelled(of, item) for item, of in self._menu["items"][section].items())
        return self._say("ask", section=section.capitalize(), section_=section, items=items)

    def _say(self, kind: str, **words: str) -> str:
        return self._chance.choice(_TEXTS[kind]).format(**words)
