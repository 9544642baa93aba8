"""The bot of the reference conversations: rules that ask for whatever is missing, one thing at a time.

It is told what the customer means (acts), not only the words, and so never misunderstands. A network that learns from
it has to understand each message once: what it meant is said again in the words of the menu, where it is read later.
After each change comes the whole order, with the prices of its parts, what was not wanted and what is still to ask:

    Got it: 2 x medium margherita pizza 9.50 + olives 1.00; 1 x funghi pizza, size open, extras open. Which size of …
    Without funghi pizza. So far: 2 x medium margherita pizza 9.50 + olives 1.00. Anything else?
    calls calculator {"expression": "2 * (9.50 + 1.00)"}
    Pickup it is. Cash or card?

The last message thanks and calls `place_order`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, final

from sw2.domains.language.skills.basis import Message, assistant, call, result
from sw2.domains.language.skills.orderbot.customer import apply
from sw2.domains.language.skills.orderbot.menus import Menu, price_of, prices, spelled, takes_extras
from sw2.domains.language.skills.orderbot.voices import Act
from sw2.domains.language.skills.sums import evaluate, written

__all__ = ["PLACE_ORDER", "Policy", "expression", "order"]

PLACE_ORDER: Final[Mapping[str, Any]] = {
    "type": "function",
    "function": {
        "name": "place_order",
        "description": "Send the finished order to the kitchen.",
        "parameters": {
            "type": "object",
            "properties": {
                "items": {"type": "array", "description": "each with quantity, item, size, extras"},
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
    "so far": ("So far: {order}.", "Got it: {order}."),
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
"""What is said of a change of the order, before the order itself."""


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
        self._facts: dict[str, str] = {}
        self._done = False
        self._added = ""

    def reply(self, acts: Sequence[Act]) -> list[Message]:
        """The bot's messages in answer to what the customer meant: perhaps a call and its result, then a text."""
        texts, changed = [], False
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
                changed = True
                texts += [_CHANGES[kind].format(**act)] if kind in _CHANGES else []
        if "mode" in self._facts:
            self._done = True
        if any(act["act"] == "greet" for act in acts):
            return [assistant(self._say("greet", name=self._menu["name"]))]
        if any(act["act"] == "category" for act in acts):
            items = ", ".join(self._menu["items"][self._menu["main"]])
            return [assistant(self._say("which", main=self._menu["main"], items=items))]
        if not self.lines:
            return [assistant(" ".join([*texts, "What would you like?"]))]
        if changed:
            texts.append(self._say("so far", order=self._order()))
        question = self._missing() or ("" if self._done else self._say("else"))
        if question:
            return [assistant(" ".join([*texts, question]))]
        return self._close(texts)

    def _close(self, texts: list[str]) -> list[Message]:
        messages: list[Message] = []
        sum_ = expression(self._menu, list(self.lines.values()))
        if sum_ != self._added:
            value = evaluate(sum_)
            # What has changed is said before it is added up: the sum is read from there.
            adds = {**call("calculator", {"expression": sum_}), "content": " ".join(texts)}
            messages += [adds, result(written(value))]
            self._added = sum_
            texts = [self._say("total", total=f"{value:.2f}")]
        for kind in ("mode", "address", "payment"):
            if kind not in self._facts and not (kind == "address" and self._facts["mode"] == "pickup"):
                return [*messages, assistant(" ".join([*texts, self._say(kind)]))]
        placed = order(self._menu, list(self.lines.values()), self._facts)
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

    def _order(self) -> str:
        return "; ".join(self._line(line) for line in self.lines.values())

    def _line(self, line: Mapping[str, Any]) -> str:
        of = prices(self._menu, line["item"])
        size = line["size"]
        name = f"{size} {line['item']}" if size else line["item"]
        price = ", size open" if size is None else f" {of[size]}"
        extras = "".join(f" + {extra} {self._menu['extras'][extra]}" for extra in line["extras"] or ())
        if not line["extras"] and takes_extras(self._menu, line["item"]):
            extras = ", extras open" if line["extras"] is None else ", no extras"
        return f"{line['quantity']} x {name}{price}{extras}"

    def _offer(self, section: str) -> str:
        if section == "extras":
            items = ", ".join(f"{name} {price}" for name, price in self._menu["extras"].items())
        else:
            items = ", ".join(spelled(of, item) for item, of in self._menu["items"][section].items())
        return self._say("ask", section=section.capitalize(), section_=section, items=items)

    def _say(self, kind: str, **words: str) -> str:
        return self._chance.choice(_TEXTS[kind]).format(**words)


def expression(menu: Menu, lines: Sequence[Mapping[str, Any]]) -> str:
    """What to add up for an order, in its own words: "2 * (9.50 + 1.00) + 2.00"."""
    parts = []
    for line in lines:
        one = [prices(menu, line["item"])[line["size"]], *(menu["extras"][extra] for extra in line["extras"] or ())]
        if line["quantity"] == 1:
            parts += one
        else:
            parts.append(f"{line['quantity']} * " + (one[0] if len(one) == 1 else f"({' + '.join(one)})"))
    return " + ".join(parts)


def order(menu: Menu, lines: Sequence[Mapping[str, Any]], facts: Mapping[str, str]) -> dict[str, Any]:
    """The arguments of `place_order`; a size or extras that an item does not have are left out."""
    items = []
    for line in lines:
        item: dict[str, Any] = {"quantity": line["quantity"], "item": line["item"]}
        if line["size"]:
            item["size"] = line["size"]
        if line["extras"]:
            item["extras"] = list(line["extras"])
        items.append(item)
    total = sum((price_of(menu, {**line, "extras": line["extras"] or ()}) for line in lines), Decimal(0))
    placed = {"items": items, "total": f"{total:.2f}", "mode": facts["mode"]}
    if facts["mode"] == "delivery":
        placed["address"] = facts["address"]
    return {**placed, "payment": facts["payment"]}
