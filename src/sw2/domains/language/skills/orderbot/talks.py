"""Conversations about orders: the examples, and a bot of one's own with the simulated customers.

`simulate_many` lets an engine answer many customers at once: it is given all conversations that wait for the bot and
returns for each the messages that the bot adds. Calls of the calculator and of the pad are answered here, unless the
bot brought the result along; a call of `place_order` ends a conversation, and so does the limit of turns.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sw2.domains.language.skills.basis import (
    CALCULATOR,
    Example,
    Made,
    Message,
    Split,
    calls_of,
    draw,
    result,
    user,
)
from sw2.domains.language.skills.orderbot.customer import Customer, Pace, meant, script
from sw2.domains.language.skills.orderbot.menus import Menu, hand_menu, hand_menus, random_menu, system
from sw2.domains.language.skills.orderbot.pad import ORDER_PAD, Pad
from sw2.domains.language.skills.orderbot.pad import written as on_pad
from sw2.domains.language.skills.orderbot.policy import PLACE_ORDER, Policy
from sw2.domains.language.skills.orderbot.voices import HANDWRITTEN, MIXED, families, handwritten_orders
from sw2.domains.language.skills.sums import evaluate, written

__all__ = ["TO_A_MENU", "TO_A_SMALL_MENU", "Bot", "Bots", "examples", "simulate", "simulate_many"]

Bot = Callable[[Sequence[Message]], Message | Sequence[Message]]
"""From a conversation that ends with the user or a tool's result to the messages that follow it."""
Bots = Callable[[Sequence[Sequence[Message]]], Sequence[Message | Sequence[Message]]]
"""The same for many conversations at once, one answer each."""

_MOST_TURNS = 24
_MOST_CALLS = 4
_MIXED_SHARE = 0.4
"""Of the customers of train, those who write now like one family, now like another."""
TO_A_MENU: Final = 2
"""How many busy conversations of train, one after the other, have the same menu. It is much of their tokens, and
learning reads what they begin with once; three would not fit a row of two thousand tokens."""
TO_A_SMALL_MENU: Final = 6
"""How many quick ones have a small menu together; then as many brief ones have another, then busy ones two and two."""


def examples(split: Split, seed: int, count: int) -> Sequence[Example]:
    """The first `count` examples of a split."""
    return Made(lambda number: _example(split, seed, number), count)


def simulate(bot: Bot, example: Example) -> list[Message]:
    """The conversation of a bot with the customer of an example."""
    return simulate_many(lambda conversations: [bot(each) for each in conversations], [example])[0]


def simulate_many(bots: Bots, examples: Sequence[Example]) -> list[list[Message]]:
    """The conversations of a bot with the customers of many examples, those that wait answered together."""
    customers = [Customer(example["check"]) for example in examples]
    talks: list[list[Message]] = []
    for example, customer in zip(examples, customers):
        talks.append([dict(example["messages"][0]), user(customer.reply("")[0])])
    calls = [0] * len(talks)
    waiting = list(range(len(talks)))
    while waiting:
        answers = bots([talks[number] for number in waiting])
        for number, answer in zip(waiting, answers, strict=True):
            added = [answer] if isinstance(answer, Mapping) else list(answer)
            talks[number] += added
            calls[number] += 1
            _go_on(talks[number], customers[number], calls[number])
        waiting = [number for number in waiting if talks[number][-1]["role"] != "assistant"]
    return talks


def _go_on(talk: list[Message], customer: Customer, calls: int) -> None:
    """Add the result of a call or the customer's reply, unless the conversation is over."""
    last = talk[-1]
    if last["role"] == "tool":
        return
    called = calls_of([last])
    turns = sum(message["role"] == "user" for message in talk)
    if any(name == "place_order" for name, _ in called) or turns >= _MOST_TURNS or calls >= _MOST_CALLS * _MOST_TURNS:
        return
    if turns == customer.turns and not called:
        return
    if called:
        pad = on_pad(talk[:-1])
        talk += [result(_run(name, arguments or {}, pad)) for name, arguments in called]
        return
    since = max(at for at, message in enumerate(talk) if message["role"] == "user")
    bot = "\n".join(str(message["content"]) for message in talk[since + 1 :] if message["role"] == "assistant")
    said = customer.reply(bot)[0]
    if not customer.over:
        talk.append(user(said))


def _run(name: str, arguments: Mapping[str, Any], pad: Pad) -> str:
    try:
        if name == "calculator":
            return written(evaluate(str(arguments.get("expression", ""))))
        if name == "order_pad":
            return pad.write(str(arguments.get("lines", "")))
    except ValueError as error:
        return f"error: {error}"
    return f"error: there is no tool {name!r}, only calculator, order_pad, place_order"


def _example(split: Split, seed: int, number: int) -> Example:
    chance = draw(seed, "orderbot", split, number)
    family = chance.choice(families(split))
    if split == "test" and number % 5 == 0:
        family, (menu, plan) = HANDWRITTEN, _lecture(seed, number)
    elif split == "test" and number % 5 == 1:
        family, (menu, plan) = HANDWRITTEN, _by_hand(seed, number)
    else:
        if split == "train" and chance.random() < _MIXED_SHARE:
            family = MIXED
        menu, plan = _train(seed, number, chance) if split == "train" else _held_out(split, chance)
    facts = {"skill": "orderbot", "menu": menu, "script": plan, "family": family, "seed": chance.getrandbits(32)}
    if split == "train" and _pace(number) == "brief":
        facts["turns"] = chance.choices((1, 2, 3), (2, 2, 1))[0]
    return {
        "messages": _reference(facts),
        "tools": [ORDER_PAD, CALCULATOR, PLACE_ORDER],
        "check": facts,
        "skill": "orderbot",
        "family": family,
        "where": f"orderbot/{split}/{number}",
    }


def _pace(number: int) -> Pace:
    paces: Sequence[Pace] = ("quick", "brief", "busy")
    return paces[number // TO_A_SMALL_MENU % 3]


def _train(seed: int, number: int, chance: random.Random) -> tuple[Menu, dict[str, Any]]:
    pace = _pace(number)
    of = number // (TO_A_MENU if pace == "busy" else TO_A_SMALL_MENU)
    menu = random_menu("train", draw(seed, "orderbot", "train", "menu", pace, of), small=pace != "busy")
    return menu, script(menu, "train", chance, pace)


def _held_out(split: Split, chance: random.Random) -> tuple[Menu, dict[str, Any]]:
    menu = random_menu(split, chance)
    return menu, script(menu, split, chance)


def _lecture(seed: int, number: int) -> tuple[Menu, dict[str, Any]]:
    """The lecture's menu and the course of its conversation: a pizza, which, its size, the drinks, one of them."""
    chance = draw(seed, "lecture", number)
    menu = hand_menu(hand_menus()[0])
    plan = script(menu, "test", chance)
    pizza = chance.choice(list(menu["items"]["pizza"]))
    drink = chance.choice(("coke", "sprite"))
    size, drink_size = chance.choice(("small", "medium", "large")), chance.choice(("small", "medium", "large"))
    chosen = meant(menu, f"1 ? {pizza}; 1 {drink_size} {drink}", "", chance)
    if number % 10 == 0:
        chosen[0] = {**chosen[0], "wish": {"size": size, "extras": []}}
    acts = [{key: value for key, value in act.items() if key != "say"} for act in chosen]
    asked = {"act": "ask", "section": "drinks"}
    steps = [[{"act": "category", "main": "pizza"}], [acts[0]], [asked], [acts[1]]]
    return menu, {**plan, "plan": steps, "breaks": [], "temper": "indecisive"}


def _by_hand(seed: int, number: int) -> tuple[Menu, dict[str, Any]]:
    """An order that was written by hand, and a further one sometimes."""
    chance = draw(seed, "by hand", number)
    orders = [(name, *order) for name in hand_menus() for order in handwritten_orders(name)]
    # A step that shares no factor with their number goes through all of them, and soon through every menu.
    name, said, meaning = orders[number // 5 * 37 % len(orders)]
    menu = hand_menu(name)
    plan = script(menu, "test", chance)
    return menu, {**plan, "plan": [meant(menu, meaning, said, chance)], "breaks": [], "temper": "straight"}


def _reference(facts: Mapping[str, Any]) -> list[Message]:
    """The conversation of the customer with the bot that follows the rules."""
    customer, policy = Customer(facts), Policy(facts["menu"], draw(facts["seed"], "policy"))
    messages: list[Message] = [{"role": "system", "content": system(facts["menu"])}]
    said, acts = customer.reply("")
    while True:
        answer = policy.reply(acts)
        messages += [user(said), *answer]
        if any(name == "place_order" for name, _ in calls_of(answer)) or len(messages) > 4 * _MOST_TURNS:
            return messages
        if sum(message["role"] == "user" for message in messages) == facts.get("turns"):
            return messages
        said, acts = customer.reply(
            "\n".join(str(message["content"]) for message in answer if message["role"] == "assistant")
        )
