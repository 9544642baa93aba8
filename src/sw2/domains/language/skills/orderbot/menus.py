"""Menus: drawn from the words of one split, or whole ones for the test, and how a bot is told of them.

Half of the menus of train are of kinds that were written by hand (`menus.toml`, `train_menus.toml`), half are put
together of parts (`names.py`), sizes too, so that nearly each name is new. Prices, the sizes of drinks and which items
have sizes vary more in train than in the other splits, which know `menus.toml` alone.

    menu   {"name", "kind", "main": "pizza", "items": {section: {item: {size: price}}}, "extras": {name: price}}

An item of one price has the size "". Extras go with the first section. Prices are texts with two decimals.
"""

from __future__ import annotations

import functools
import random
import re
import tomllib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from sw2.domains.language.skills.basis import Split
from sw2.domains.language.skills.orderbot import names

__all__ = [
    "Menu",
    "dishes",
    "hand_menu",
    "hand_menus",
    "prices",
    "random_menu",
    "section",
    "short",
    "system",
    "takes_extras",
]

Menu = Mapping[str, Any]


def random_menu(split: Split, chance: random.Random, *, small: bool = False) -> Menu:
    """A menu of a kind of restaurant that belongs to `split`; a small one has half of the dishes or fewer."""
    if split != "train":
        return _menu(chance.choice([kind for kind in _kinds() if kind["split"] == split]), chance)
    while True:
        menu = _menu(_train_kind(chance), chance)
        if _clear(menu):
            return _cut(menu, chance) if small else menu


def _cut(menu: Menu, chance: random.Random) -> Menu:
    def some(of: Mapping[str, Any], most: int) -> dict[str, Any]:
        return dict(list(of.items())[: chance.randint(1, most)])

    items = {section: some(of, 2 + (section == menu["main"])) for section, of in menu["items"].items()}
    return {**menu, "items": items, "extras": some(menu["extras"], 3)}


def _menu(kind: Mapping[str, Any], chance: random.Random) -> Menu:
    """A menu of a kind; `scale`, `steps`, `drink_sizes` and `odd` are what kinds of train have and others leave out."""
    sizes = chance.choice(kind["sizes"])
    low, high = kind["price"]
    scale, odd = kind.get("scale", 1), kind.get("odd", 0)
    step = chance.choice(kind.get("steps", ("0.05", "0.10", "0.25", "0.50")))

    def price(least: float, most: float) -> Decimal:
        drawn = chance.uniform(least * scale, most * scale)
        return (Decimal(str(drawn)) / Decimal(step)).quantize(Decimal(1)) * Decimal(step)

    def sized(least: float, most: float, usual: Sequence[str], otherwise: Sequence[str]) -> dict[str, str]:
        spelled_sizes = otherwise if odd and chance.random() < odd else usual
        first = price(least, most)
        rise = price(0.15 * least + 0.3, 0.3 * most + 0.5)
        return {name: f"{first + rise * number:.2f}" for number, name in enumerate(spelled_sizes)}

    drink_sizes = chance.choice(kind.get("drink_sizes", (("",), ("small", "large"), ("small", "medium", "large"))))
    dishes = chance.sample(kind["dishes"], chance.randint(3, 5))
    sides = chance.sample(kind["sides"], chance.randint(1, 3))
    drinks = chance.sample(kind["drinks"], chance.randint(1, len(kind["drinks"])))
    return {
        "name": chance.choice(kind["names"]),
        "kind": kind["kind"],
        "main": kind["main"],
        "items": {
            kind["main"]: {dish: sized(low, high, sizes, sizes) for dish in dishes},
            "sides": {side: sized(2.5, 5.5, ("",), drink_sizes) for side in sides},
            "drinks": {drink: sized(1.2, 3.0, drink_sizes, ("",)) for drink in drinks},
        },
        "extras": {extra: f"{price(0.5, 2.5):.2f}" for extra in chance.sample(kind["extras"], chance.randint(2, 4))},
    }


def _train_kind(chance: random.Random) -> Mapping[str, Any]:
    """What a menu of train is drawn from: a kind that was written by hand, or one put together of parts."""
    if chance.random() < 0.5:
        kind = dict(chance.choice([kind for kind in _kinds() if kind["split"] == "train"]))
        kind["drinks"] = chance.sample(kind["drinks"], 3)
    else:
        main = names.made("main", chance)
        dish = "dish" if chance.random() < 0.75 else "free_dish"
        low = chance.uniform(2, 10)
        kind = {
            "kind": names.made("kind", chance, noun=main),
            "names": [names.made("name", chance)],
            "main": main,
            "dishes": [names.made(dish, chance, noun=main) for _ in range(5)],
            "price": (low, low * chance.uniform(1.2, 2)),
            "sizes": [names.sizes("main", chance)],
            "extras": [names.made("extra", chance) for _ in range(4)],
            "sides": [names.made("side", chance) for _ in range(3)],
            "drinks": [names.made("drink", chance) for _ in range(3)],
        }
    return {
        **kind,
        "drink_sizes": [("",), names.sizes("drink", chance), names.sizes("drink", chance)],
        "scale": chance.choice((0.7, 1, 1, 1, 1, 1.5, 2.5, 9)),
        "steps": ("0.01", "0.05", "0.10", "0.25", "0.50"),
        "odd": chance.choice((0, 0, 0.2)),
    }


def _clear(menu: Menu) -> bool:
    """Whether customers and checkers can tell the names of a menu apart, and other splits do not sell them.

    A customer is asked about the item whose name stands in the question, also without the word that ends it; so none
    may stand in another item's or an extra's name, and no size in any of them.
    """
    items = [item for of in menu["items"].values() for item in of]
    known = [name.lower() for name in (*items, *menu["extras"])]
    shorts = [short(item, menu["main"]).lower() for item in items]
    spelled_sizes = {size for of in menu["items"].values() for sizes in of.values() for size in sizes if size}
    if len({name.removesuffix("s") for name in known}) < len(known) or not _held_out().isdisjoint(known):
        return False
    for at, own in enumerate(shorts):
        if any(_stands_in(own, name) for number, name in enumerate(known) if number != at):
            return False
    return not any(_stands_in(size, name) for size in spelled_sizes for name in known)


def _stands_in(part: str, name: str) -> bool:
    return part in name and bool(re.search(rf"\b{re.escape(part)}s?\b", name))


def dishes(split: Split) -> Sequence[str]:
    """Everything that kinds of restaurants of a split cook."""
    return [dish for kind in _kinds() if kind["split"] == split for dish in kind["dishes"]]


def hand_menus() -> Sequence[str]:
    """The names of the whole menus, all of the test."""
    return [menu["name"] for menu in _words()["menu"]]


def hand_menu(name: str) -> Menu:
    """A whole menu by name."""
    found: Menu = next(menu for menu in _words()["menu"] if menu["name"] == name)
    return found


def system(menu: Menu) -> str:
    """What a bot is told: its work and its menu."""
    lines = [
        f"You are OrderBot of {menu['name']}, a {menu['kind']}. Take the order, on the pad. Ask for every size and "
        "about extras, never guess. Add up with the calculator. Then ask: pickup or delivery, the address if "
        "delivered, cash or card. Last, place the order."
    ]
    for section, items in menu["items"].items():
        lines.append(f"{section.capitalize()}:")
        lines += [f"- {spelled(of, item)}" for item, of in items.items()]
    lines.append(f"Extras for {menu['main']}: {', '.join(f'{name} {price}' for name, price in menu['extras'].items())}")
    return "\n".join(lines)


def spelled(of: Mapping[str, str], item: str = "") -> str:
    """The prices of an item: "small 7.00, large 9.50", or the only one.

    With its name they are as menus have them, "small cola 1.50, large cola 2.00": an order says the same words, and its
    price is what stands behind them.
    """
    return ", ".join(" ".join(filter(None, (size, item, price))) for size, price in of.items())


def section(menu: Menu, item: str) -> str:
    """The section that an item stands in, "" when it is not on the menu."""
    return next((name for name, items in menu["items"].items() if item in items), "")


def short(item: str, main: str) -> str:
    """The name of an item without `main`, the word that ends the names of chief dishes: "margherita" for pizzas."""
    return item.removesuffix(main).strip() or item


def prices(menu: Menu, item: str) -> Mapping[str, str]:
    """The prices of an item by size."""
    found: Mapping[str, str] = menu["items"][section(menu, item)][item]
    return found


def takes_extras(menu: Menu, item: str) -> bool:
    """Whether an item can have extras."""
    return section(menu, item) == menu["main"]


def price_of(menu: Menu, line: Mapping[str, Any]) -> Decimal:
    """The price of a line of an order: {"item", "size", "quantity", "extras"}."""
    one = Decimal(prices(menu, line["item"])[line["size"]])
    return int(line["quantity"]) * (one + sum(Decimal(menu["extras"][extra]) for extra in line["extras"]))


@functools.cache
def _kinds() -> Sequence[Mapping[str, Any]]:
    """The kinds of restaurants of all splits."""
    with open(Path(__file__).with_name("train_menus.toml"), "rb") as file:
        further = tomllib.load(file)["kind"]
    return [*_words()["kind"], *({**kind, "split": "train"} for kind in further)]


@functools.cache
def _held_out() -> frozenset[str]:
    """What the other splits sell, in lower case."""
    fields = ("dishes", "sides", "drinks", "extras")
    sold = [name for kind in _kinds() if kind["split"] != "train" for field in fields for name in kind[field]]
    for menu in _words()["menu"]:
        sold += [*(item for of in menu["items"].values() for item in of), *menu["extras"]]
    return frozenset(name.lower() for name in sold)


@functools.cache
def _words() -> Mapping[str, Any]:
    with open(Path(__file__).with_name("menus.toml"), "rb") as file:
        return tomllib.load(file)
