"""How customers word what they mean: one file for each family of wordings, in `wordings/`.

A family belongs to one split, which its file says; customers of the family MIXED, of train alone, take another family
of train for each message. `say` turns acts (`customer.py`) into a text.
"""

from __future__ import annotations

import functools
import random
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, final

from sw2.domains.language.skills.basis import Split
from sw2.domains.language.skills.growing import with_an

__all__ = ["HANDWRITTEN", "MIXED", "Act", "Voice", "families", "handwritten_orders"]

Act = Mapping[str, Any]
HANDWRITTEN: Final = "handwritten"
MIXED: Final = "mixed"


@functools.cache
def families(split: Split) -> Sequence[str]:
    """The families of wordings of a split, the handwritten one left out."""
    names = sorted(file.stem for file in Path(__file__).with_name("wordings").glob("*.toml"))
    return [name for name in names if _family(name)["split"] == split and name != HANDWRITTEN]


def handwritten_orders(menu: str) -> Sequence[Sequence[str]]:
    """Pairs of an order written by hand for a menu, and what it means (`customer.meant`)."""
    found: Sequence[Sequence[str]] = _family(HANDWRITTEN)["orders"][menu]
    return found


@functools.cache
def _family(name: str) -> Mapping[str, Any]:
    with open(Path(__file__).with_name("wordings") / f"{name}.toml", "rb") as file:
        return tomllib.load(file)


@final
class Voice:
    """A customer's way to write.

    Args:
        family: its name, or MIXED.
        chance: what picks among its wordings.
    """

    def __init__(self, family: str, chance: random.Random) -> None:
        self._family = _family(chance.choice(families("train")) if family == MIXED else family)
        self._chance = chance
        # Models have been judged on the other splits as they are: two commas in a row stay there.
        self._needless = r",+(?=[,.!?])" if self._family["split"] == "train" else r",+(?=[.!?])"

    def say(self, acts: Sequence[Act], ordering: Literal["open", "pick", "more"]) -> str:
        """A text that means `acts`; an order opens one, picks what was offered, or adds to one."""
        texts = []
        adds = [act for act in acts if act["act"] == "add"]
        if adds:
            said = next((act["say"] for act in adds if "say" in act), None)
            drawn = self._one(ordering).format(items=self._list([self._item(act) for act in adds]))
            texts.append(said or drawn)
        texts += [self._text(act) for act in acts if act["act"] != "add"]
        text = "".join(each + (" " if each[-1:] in ".!?," else ", ") for each in texts[:-1]) + texts[-1]
        if any(act.get("unsure") for act in acts):
            text = self._one("unsure").format(answer=text)
        text = re.sub(self._needless, "", re.sub(r" +", " ", text))
        return with_an(text).strip()

    def _text(self, act: Act) -> str:
        kind = act["act"]
        if kind == "extras":
            extras = act["extras"]
            return self._one("extras").format(extras=self._list(extras)) if extras else self._one("extras_none")
        if kind in ("mode", "payment"):
            return self._one(act[kind])
        if kind == "swap":
            return self._one("swap").format(old=act["old"], items=self._item({**act, "quantity": act["quantity"]}))
        if kind == "quantity":
            number = act["quantity"]
            return self._one("quantity").format(number=self._count(number), item=_plural(act["item"], number))
        if kind == "category":
            main = act["main"]
            return self._one("category").format(main=main if main.endswith("s") else f"a {main}")
        words = {key: value for key, value in act.items() if isinstance(value, str)}
        return self._one(kind).format(**words)

    def _item(self, act: Act) -> str:
        number, item = act["quantity"], act["item"]
        count = self._count(number)
        if item.endswith("s") and count:
            count = f"{'one' if count in ('a', 'one') else count} portion{'s' if number > 1 else ''} of"
        name = _plural(item, number)
        if act["size"]:
            phrase = self._one("item").format(count=count, size=act["size"], item=name)
        else:
            phrase = self._one("item_bare").format(count=count, item=name)
        if act["extras"] is None:
            return phrase.strip()
        extras = act["extras"]
        return (
            phrase + (self._one("with").format(extras=self._list(extras)) if extras else self._one("without"))
        ).strip()

    def _count(self, number: int) -> str:
        if number == 1:
            return self._one("one")
        return dict(each.split("=") for each in self._family["many"])[str(number)]

    def _one(self, kind: str) -> str:
        return str(self._chance.choice(self._family[kind]))

    @staticmethod
    def _list(parts: Sequence[str]) -> str:
        parts = [part.rstrip(",") for part in parts[:-1]] + list(parts[-1:])
        return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _plural(item: str, number: int) -> str:
    if number == 1 or item.endswith("s"):
        return item
    if re.search(r"[^aeiou]y$", item):
        return item[:-1] + "ies"
    return item + ("es" if item.endswith(("ch", "sh", "x")) else "s")
