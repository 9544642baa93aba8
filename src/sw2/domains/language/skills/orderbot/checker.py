"""Whether an order is right, and whether the bot asked before it assumed.

The order is what stands on the pad when `place_order` is called, with what that call says; a bot may tell that call the
items too, which count then. Of a bot that calls no such tool it is what its last summary says.
Slots are item, quantity, size and extras of each line that was wanted, each line that was not wanted, total, pickup or
delivery, address, payment. The score is the share of slots that are right; whole orders have no flaw at all.

    missing item, unwanted item, item not on the menu, wrong quantity, wrong size, wrong extras
    wrong total, wrong mode, wrong address, wrong payment, no order placed
    assumed size, assumed extras, assumed mode, assumed address, assumed payment    ordered before the customer told
    wrong price                                a price in the bot's texts, or on its pad, that the menu does not have

Whether a thing had been told is found by following the conversation with the same customer; where that is impossible,
because a person wrote the customer's side, nothing counts as assumed. A right total that no call of the calculator
found is no flaw of the order: `details["calculator"]` says so.

A conversation that was to be cut off after some messages is right when the pad says what had been told by then.

What it does not do: judge tone, or prices that are spelled in words.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from sw2.domains.language.skills.basis import Example, Message, Verdict, calls_of
from sw2.domains.language.skills.orderbot import pad
from sw2.domains.language.skills.orderbot.customer import Customer, goal
from sw2.domains.language.skills.orderbot.menus import Menu, price_of, prices, short, takes_extras
from sw2.domains.language.skills.sums import evaluate

__all__ = ["check"]

_COUNTS: Final = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5}


def check(example: Example, messages: Sequence[Message]) -> Verdict:
    """Judge a whole conversation about an order."""
    facts = example["check"]
    menu, script = facts["menu"], facts["script"]
    wanted = goal(script)
    calls = calls_of(messages)
    placed = next((arguments for name, arguments in reversed(calls) if name == "place_order"), None)
    source = "call" if any(name == "place_order" for name, _ in calls) else "text"
    if source == "text":
        placed = _read(menu, messages)
    elif placed is not None and "items" not in placed:
        placed = {**placed, "items": _on_pad(menu, messages)}
    sums = [_value(arguments) for name, arguments in calls if name == "calculator"]
    total = sum((price_of(menu, line) for line in wanted), Decimal(0))
    flaws = [f"wrong price: {each}" for each in _wrong_prices(menu, wanted, total, sums, messages)]
    details = {"calculator": total in sums, "read from": source, "wanted": wanted, "placed": placed}
    told, followed = _told(example, messages)
    details["followed"] = followed
    if "turns" in facts:
        lines: list[Mapping[str, Any]] = [
            {**line, "size": line["size"] or "", "extras": line["extras"] or []} for line in told[0]
        ]
        slots = _lines(menu, lines, _on_pad(menu, messages)) or [("missing item", False)]
        flaws = [flaw for flaw, right in slots if not right] + flaws
        return Verdict(not flaws, sum(right for _, right in slots) / len(slots), tuple(flaws), details)
    if placed is None:
        return Verdict(False, 0.0, ("no order placed", *flaws), details)
    slots = _lines(menu, wanted, _items(placed))
    slots.append(("wrong total", _decimal(placed.get("total")) == total))
    slots.append(("wrong mode", _word(placed.get("mode"), {"pick": "pickup", "deliver": "delivery"}) == script["mode"]))
    slots.append(("wrong payment", _word(placed.get("payment"), {"cash": "cash", "card": "card"}) == script["payment"]))
    if script["mode"] == "delivery":
        slots.append(("wrong address", _plain(script["address"]) in _plain(placed.get("address"))))
    if followed:
        flaws += _assumed(menu, placed, told, script)
    flaws = [flaw for flaw, right in slots if not right] + flaws
    score = sum(right for _, right in slots) / len(slots)
    return Verdict(not flaws, score, tuple(flaws), details)


def _on_pad(menu: Menu, messages: Sequence[Message]) -> list[Mapping[str, Any]]:
    """The items that a bot has written on its pad; of a line that is open, what it says so far."""
    names = {item: of for items in menu["items"].values() for item, of in items.items()}
    sized = {_plain(f"{size} {item}"): (item, size) for item, of in names.items() for size in ("", *of)}
    items: list[Mapping[str, Any]] = []
    for line in pad.written(messages).lines.values():
        quantity, ((name, _), *extras) = pad.parts(line) or (0, [("", "")])
        item, size = sized.get(_plain(name), (name, ""))
        items.append({"quantity": quantity, "item": item, "size": size, "extras": [extra for extra, _ in extras]})
    return items


def _items(placed: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    items = placed.get("items")
    return [item for item in items if isinstance(item, Mapping)] if isinstance(items, list) else []


def _lines(menu: Menu, wanted: Sequence[Mapping[str, Any]], left: list[Mapping[str, Any]]) -> list[tuple[str, bool]]:
    """The slots of the lines: a flaw and whether it is absent."""
    slots = []
    for line in wanted:
        name = line["item"]
        same = [item for item in left if _item_is(menu, item.get("item"), name)]
        got = max(same, key=lambda item: _same(item.get("size") or "", line["size"]), default=None)
        slots.append((f"missing item: {name}", got is not None))
        if got is not None:
            left = [item for item in left if item is not got]
        got = got or {}
        slots.append((f"wrong quantity: {name}", _decimal(got.get("quantity", 1 if got else None)) == line["quantity"]))
        if len(prices(menu, name)) > 1:
            slots.append((f"wrong size: {name}", _same(got.get("size"), line["size"])))
        if takes_extras(menu, name):
            extras = got.get("extras") or []
            extras = [extras] if isinstance(extras, str) else list(extras) if isinstance(extras, Sequence) else [None]
            right = bool(got) and sorted(map(_plain, extras)) == sorted(map(_plain, line["extras"]))
            slots.append((f"wrong extras: {name}", right))
    on_menu = [name for items_ in menu["items"].values() for name in items_]
    for item in left:
        known = any(_item_is(menu, item.get("item"), name) for name in on_menu)
        slots.append((f"{'unwanted item' if known else 'item not on the menu'}: {item.get('item')}", False))
    return slots


def _assumed(
    menu: Menu, placed: Mapping[str, Any], told: tuple[Sequence[Mapping[str, Any]], set[str]], script: Mapping[str, Any]
) -> list[str]:
    lines, facts = told
    flaws = []
    for line in lines:
        name = line["item"]
        if any(_item_is(menu, item.get("item"), name) for item in _items(placed)):
            flaws += [f"assumed size: {name}"] if line["size"] is None and len(prices(menu, name)) > 1 else []
            flaws += [f"assumed extras: {name}"] if line["extras"] is None and takes_extras(menu, name) else []
    needed = ["mode", "payment", *(["address"] if script["mode"] == "delivery" else [])]
    return flaws + [f"assumed {kind}" for kind in needed if kind not in facts and placed.get(kind)]


def _told(example: Example, messages: Sequence[Message]) -> tuple[tuple[Sequence[Mapping[str, Any]], set[str]], bool]:
    """What the customer had told by the end, and whether the conversation could be followed."""
    customer = Customer(example["check"])
    bot: list[str] = []
    for message in messages:
        if message["role"] == "assistant":
            bot.append(str(message.get("content") or ""))
        elif message["role"] == "user":
            if customer.over or customer.reply("\n".join(bot))[0] != message["content"]:
                return ((), set()), False
            bot = []
    return (list(customer.lines.values()), customer.told), True


def _wrong_prices(
    menu: Menu,
    wanted: Sequence[Mapping[str, Any]],
    total: Decimal,
    sums: Sequence[Decimal | None],
    messages: Sequence[Message],
) -> list[str]:
    """Prices in the bot's texts that are on no menu, or stand right behind another item's name or size."""
    singles = {Decimal(price) for items in menu["items"].values() for of in items.values() for price in of.values()}
    singles |= {Decimal(price) for price in menu["extras"].values()}
    right = {price * count for price in singles for count in range(1, 6)} | {total, *(each for each in sums if each)}
    for line in wanted:
        right |= {price_of(menu, line), price_of(menu, {**line, "quantity": 1})}
    found: list[str] = []
    for message in messages:
        if message["role"] != "assistant":
            continue
        text = str(message.get("content") or "")
        text += "".join(f" {(of or {}).get('lines', '')}" for name, of in calls_of([message]) if name == "order_pad")
        for each in re.findall(r"(?<![\d.])\d+\.\d{1,2}(?![\d%])", text):
            if Decimal(each) not in right:
                found.append(each)
        found += _misplaced(menu, text)
    return list(dict.fromkeys(found))


def _misplaced(menu: Menu, text: str) -> list[str]:
    """Prices behind another size or item, as in "1 x medium margherita pizza 7.00" where 7.00 is the small one."""
    found = []
    for items in menu["items"].values():
        for item, of in items.items():
            sizes = "|".join(re.escape(size) for size in of if size)
            before = rf"(?:\b({sizes})[ -]+)?" if sizes else "()"
            for match in re.finditer(rf"(\d+) x {before}{re.escape(item)} \(?\$?(\d+\.\d\d)", text, re.I):
                size, price = match.group(2), Decimal(match.group(3))
                known = [of[size.lower()]] if size and size.lower() in of else list(of.values())
                if price not in {Decimal(each) * count for each in known for count in (1, int(match.group(1)))}:
                    found.append(f"{item} {match.group(3)}")
    for extra, of_extra in menu["extras"].items():
        for match in re.finditer(rf"\+ {re.escape(extra)} \(?\$?(\d+\.\d\d)", text, re.I):
            if Decimal(match.group(1)) != Decimal(of_extra):
                found.append(f"{extra} {match.group(1)}")
    return found


def _read(menu: Menu, messages: Sequence[Message]) -> dict[str, Any] | None:
    """The order as the bot's last summary in words says it; None when there is no summary."""
    texts = [str(m["content"]) for m in messages if m["role"] == "assistant" and m.get("content")]
    names = {name: name for items in menu["items"].values() for name in items}
    names |= {short(name, menu["main"]): name for name in names}
    pattern = "|".join(rf"\b{re.escape(name)}s?\b" for name in sorted(names, key=len, reverse=True))

    def is_summary(text: str) -> bool:
        return bool(re.search(pattern, text, re.I) and re.search(r"\btotal\b|\byour order\b|\bordered\b", text, re.I))

    summary = next((text for text in reversed(texts) if is_summary(text)), None)
    if summary is None:
        return None
    items: list[dict[str, Any]] = []
    found = list(re.finditer(pattern, summary, re.I))
    for number, match in enumerate(found):
        begin = found[number - 1].end() if number else 0
        end = found[number + 1].start() if number + 1 < len(found) else len(summary)
        name = next(
            names[key] for key in sorted(names, key=len, reverse=True) if match.group().lower().startswith(key.lower())
        )
        before = re.split(r"[;,.:]|\band\b|\n", summary[begin : match.start()])[-1]
        after = re.split(r"[;.](?!\d)|\n|\btotal\b", summary[match.end() : end], flags=re.I)[0]
        amount = functools.reduce(lambda text, size: text.replace(size.lower(), ""), prices(menu, name), before.lower())
        count = re.findall(rf"\b(\d+(?!\.\d)|{'|'.join(_COUNTS)})\b", amount)
        quantity = (_COUNTS.get(count[-1]) or int(count[-1])) if count else 1
        sizes = [size for size in prices(menu, name) if size]
        size = next(
            (size for part in (before, after) for size in sizes if re.search(rf"\b{re.escape(size)}\b", part, re.I)), ""
        )
        extras = [extra for extra in menu["extras"] if takes_extras(menu, name) and extra.lower() in after.lower()]
        items.append({"item": name, "quantity": quantity, "size": size, "extras": extras})
    stated = " ".join(each for text in texts for each in re.split(r"(?<=[.?!;])\s+|\n", text) if not each.endswith("?"))
    modes = re.findall(r"(?i)\b(pick|collect|deliver)", stated)
    payments = re.findall(r"(?i)\b(card|cash)\b", stated)
    totals = re.findall(r"(?i)total[^0-9\n]{0,30}\$?(\d+(?:\.\d+)?)|(\d+(?:\.\d+)?) in total", " ".join(texts))
    addresses = [m.group() for m in re.finditer(r"\d+[a-z]? (?:[\w'ß]+ ){0,2}[\w'ß]+", " ".join(texts))]
    return {
        "items": items,
        "total": "".join(totals[-1]) if totals else None,
        "mode": None if not modes else "delivery" if modes[-1].lower() == "deliver" else "pickup",
        "address": " | ".join(addresses),
        "payment": payments[-1].lower() if payments else None,
    }


def _item_is(menu: Menu, got: Any, name: str) -> bool:
    return _plain(got) in {_plain(name), _plain(short(name, menu["main"]))}


def _plain(value: Any) -> str:
    text = re.sub(r"[^\w']+", " ", str(value).lower()).strip()
    return text.removesuffix("s") if len(text) > 3 else text


def _same(got: Any, wanted: str) -> bool:
    return got is not None and _plain(got) == _plain(wanted)


def _word(value: Any, meanings: Mapping[str, str]) -> str | None:
    """What a value means that has one of these words in it; None when it has none, or several."""
    found = {meaning for word, meaning in meanings.items() if word in str(value).lower()}
    return found.pop() if len(found) == 1 else None


def _decimal(value: Any) -> Decimal | None:
    try:
        return Decimal(re.sub(r"[^\d.-]", "", str(value)))
    except InvalidOperation:
        return None


def _value(arguments: Mapping[str, Any] | None) -> Decimal | None:
    try:
        return evaluate(str((arguments or {}).get("expression", "")))
    except ValueError:
        return None
