"""Menus: drawn from the words of one split, or whole ones for the test, and how a bot is told of them.

    menu   {"name", "kind", "main": "pizza", "items": {section: {item: {size: price}}}, "extras": {name: price}}

An item of one price has the size "". Extras go with the first section. Prices are texts with two decimals.
"""

from __future__ import annotations

import functools
import random
import tomllib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from sw2.domains.language.skills.basis import Split

__all__ = ["Menu", "dishes", "hand_menu", "hand_menus", "prices", "random_menu", "section", "system", "takes_extras"]

Menu = Mapping[str, Any]


def random_menu(split: Split, chance: random.Random) -> Menu:
    """A menu of a kind of restaurant that belongs to `split`."""
    kind = chance.choice([kind for kind in _words()["kind"] if kind["split"] == split])
    sizes = chance.choice(kind["sizes"])
    low, high = kind["price"]
    step = chance.choice(("0.05", "0.10", "0.25", "0.50"))

    def price(least: float, most: float) -> Decimal:
        return (Decimal(str(chance.uniform(least, most))) / Decimal(step)).quantize(Decimal(1)) * Decimal(step)

    def sized(least: float, most: float, names: Sequence[str]) -> dict[str, str]:
        first = price(least, most)
        rise = price(0.15 * least + 0.3, 0.3 * most + 0.5)
        return {name: f"{first + rise * number:.2f}" for number, name in enumerate(names)}

    drink_sizes = chance.choice((("",), ("small", "large"), ("small", "medium", "large")))
    dishes = chance.sample(kind["dishes"], chance.randint(3, 5))
    sides = chance.sample(kind["sides"], chance.randint(1, 3))
    drinks = chance.sample(kind["drinks"], chance.randint(1, len(kind["drinks"])))
    return {
        "name": chance.choice(kind["names"]),
        "kind": kind["kind"],
        "main": kind["main"],
        "items": {
            kind["main"]: {dish: sized(low, high, sizes) for dish in dishes},
            "sides": {side: sized(2.5, 5.5, ("",)) for side in sides},
            "drinks": {drink: sized(1.2, 3.0, drink_sizes) for drink in drinks},
        },
        "extras": {extra: f"{price(0.5, 2.5):.2f}" for extra in chance.sample(kind["extras"], chance.randint(2, 4))},
    }


def dishes(split: Split) -> Sequence[str]:
    """Everything that kinds of restaurants of a split cook."""
    return [dish for kind in _words()["kind"] if kind["split"] == split for dish in kind["dishes"]]


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
        f"You are OrderBot of {menu['name']}, a {menu['kind']}. Take the order. Ask for every size and about extras, "
        "never guess. Add up with the calculator. Then ask: pickup or delivery, the address if delivered, "
        "cash or card. Last, place the order."
    ]
    for section, items in menu["items"].items():
        lines.append(f"{section.capitalize()}:")
        lines += [f"- {item}: {spelled(of)}" for item, of in items.items()]
    lines.append(f"Extras for {menu['main']}: {', '.join(f'{name} {price}' for name, price in menu['extras'].items())}")
    return "\n".join(lines)


def spelled(of: Mapping[str, str]) -> str:
    """The prices of an item: "small 7.00, large 9.50", or the only one."""
    return ", ".join(f"{size} {price}".strip() for size, price in of.items())


def section(menu: Menu, item: str) -> str:
    """The section that an item stands in, "" when it is not on the menu."""
    return next((name for name, items in menu["items"].items() if item in items), "")


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
def _words() -> Mapping[str, Any]:
    with open(Path(__file__).with_name("menus.toml"), "rb") as file:
        return tomllib.load(file)
