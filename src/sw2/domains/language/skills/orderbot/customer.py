"""The simulated customer: what is wanted, what is told unasked, and how a bot's questions are understood.

An act is what an utterance means:

    greet   category(main)   add(line, item, quantity, size?, extras?)   size(line)   extras(line)   ask(section)
    unknown(item)   resize(line)   swap(line)   remove(line)   quantity(line)   done   mode   address   payment

A size or extras of None are not told; the customer tells them when asked, and only then (they stand in the act's
"wish"). A script is a *plan*, the acts of each turn in which the customer leads, and *breaks*: acts that come instead
of an answer when a certain thing is asked for the first time. Corrected, indecisive and interrupted customers are
scripts with such acts.

A customer is a function of the script and of what the bot wrote, so a checker can follow a conversation again and know
at each point what had been told.

In train nearly every address, and half of what is not sold, is a name that is put together anew (`names.py`); and a
customer is quick (a line or two, little else), or busy: what others do once in ten conversations happens in most; or
brief: an order of several lines in one message, cut off after it or after an answer or two, each of which says
something of one of the lines. What is rare is learned slowly, and a message in a long conversation is a dear one to
learn from.

What it does not do: notice a bot's mistakes; a misunderstood customer goes on and gets a wrong order.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, final

from sw2.domains.language.skills.basis import draw
from sw2.domains.language.skills.growing import with_an
from sw2.domains.language.skills.orderbot import names
from sw2.domains.language.skills.orderbot.menus import Menu, dishes, prices, section, short, takes_extras
from sw2.domains.language.skills.orderbot.voices import Act, Voice

__all__ = ["Customer", "Pace", "add", "apply", "asks", "goal", "meant", "script"]

_STREETS: Final = {
    "validation": ("Elm Court", "Bridge Street"),
    "test": ("Rue Lepic", "Birch Crescent", "Lindenstraße", "Quay Side", "Calle Mayor", "Foxglove Way"),
}
_NOT_SOLD: Final = {
    "validation": ("a donut", "porridge"),
    "test": ("fondue", "a schnitzel", "dumplings", "paella"),
}
_WANTED: Final = {"": (3, 4, 3, 1), "quick": (3, 1, 0, 0), "busy": (3, 4, 3, 1), "brief": (0, 4, 4, 2)}
"""How many lines an order has: weights of one to four."""
_CHANGING: Final = ("quantity", "resize", "swap", "remove")
_TEMPERS: Final = {"straight": 0.4, "corrected": 0.24, "indecisive": 0.16, "interrupted": 0.2}


Pace = Literal["", "quick", "busy", "brief"]


def script(menu: Menu, split: str, chance: random.Random, pace: Pace = "") -> dict[str, Any]:
    """A customer's plan for a menu: {"plan", "breaks", "mode", "address", "payment", "temper"}.

    Args:
        menu: what there is to order.
        split: whose addresses and dishes that are not sold.
        chance: what draws.
        pace: of customers of train: "quick" orders a line or two, and little else happens; to "busy" much does;
            "brief" orders two to four lines in the first message.
    """
    temper = "straight" if pace == "brief" else chance.choices(list(_TEMPERS), list(_TEMPERS.values()))[0]
    everything = [item for items in menu["items"].values() for item in items]
    mains = list(menu["items"][menu["main"]])
    wanted = chance.choices((1, 2, 3, 4), _WANTED[pace])[0]
    items = [chance.choice(mains)]
    while len(items) < min(wanted, len(everything)):
        items += [item for item in [chance.choice(everything)] if item not in items]
    adds = [add(menu, line, item, chance) for line, item in enumerate(items)]
    cut = len(adds) if pace == "brief" else chance.randint(1, len(adds))
    plan: list[list[Act]] = [adds[:cut]] + [[each] for each in adds[cut:]]
    style = 1.0 if pace == "brief" else chance.random()
    if style < 0.15:
        plan.insert(0, [{"act": "greet"}])
    elif style < 0.3 or (temper == "indecisive" and style < 0.6):
        plan = [[{"act": "category", "main": menu["main"]}], *([each] for each in adds)]
    breaks: list[dict[str, Any]] = []
    if temper == "corrected":
        change = _change(menu, adds, chance)
        if chance.random() < 0.6:
            plan.append([change])
        else:
            breaks.append({"at": "mode", "acts": [change]})
    elif temper == "indecisive":
        sections = [name for name in (*menu["items"], "extras") if name != menu["main"]]
        plan.insert(chance.randint(1, len(plan)), [{"act": "ask", "section": chance.choice(sections)}])
        if chance.random() < 0.4:
            plan.append([_change(menu, adds, chance)])
    elif temper == "interrupted":
        at = chance.choice(("size", "extras", "mode", "payment"))
        kind = chance.random()
        left = [item for item in everything if item not in items]
        if kind < 0.4 and left and at != "payment":
            acts = [add(menu, len(adds), chance.choice(left), chance)]
        elif kind < 0.7:
            acts = [{"act": "unknown", "item": _not_sold(menu, split, chance)}]
        else:
            acts = [{"act": "ask", "section": chance.choice(("drinks", "sides", "extras"))}]
        breaks.append({"at": at, "acts": acts})
    if pace == "busy":
        _busy(menu, plan, breaks, chance)
    return {
        "plan": plan,
        "breaks": breaks,
        "mode": chance.choice(("pickup", "delivery")),
        "address": _address(split, chance),
        "payment": chance.choice(("cash", "card")),
        "temper": temper,
    }


def _busy(menu: Menu, plan: list[list[Act]], breaks: list[dict[str, Any]], chance: random.Random) -> None:
    """Add to a script of train what customers of another temper would have done too."""
    acts = [act for acts in (*plan, *(each["acts"] for each in breaks)) for act in acts]
    adds = [act for act in acts if act["act"] == "add"]
    planned = [act for acts in plan for act in acts if act["act"] == "add"]
    changed = {act["line"] for act in acts if act["act"] in _CHANGING}
    swapped = [act["item"] for act in acts if act["act"] == "swap"]
    # Of each line at most one change: a change speaks of the item as it was ordered.
    for _ in range(chance.choices((0, 1, 2), (1, 2, 1))[0]):
        free = [act for act in planned if act["line"] not in changed]
        if free:
            change = _change(menu, free, chance, taken=[*(act["item"] for act in adds), *swapped])
            changed.add(change["line"])
            swapped.append(change["item"])
            plan.append([change])
    for at in chance.sample(("size", "extras", "mode", "payment"), chance.choices((0, 1, 2), (1, 2, 1))[0]):
        if chance.random() < 0.6:
            breaks.append({"at": at, "acts": [{"act": "unknown", "item": _not_sold(menu, "train", chance)}]})
        else:
            breaks.append({"at": at, "acts": [{"act": "ask", "section": chance.choice([*menu["items"], "extras"])}]})


def _address(split: str, chance: random.Random) -> str:
    if split == "train":
        return names.made("address", chance)
    return f"{chance.randint(2, 98)} {chance.choice(_STREETS[split])}"


def _not_sold(menu: Menu, split: str, chance: random.Random) -> str:
    """Something that the menu does not have; in train of another kitchen, or a new name for a dish of this one."""
    if split != "train":
        return chance.choice(_NOT_SOLD[split])
    sold = [item for items in menu["items"].values() for item in items]
    while True:
        other = names.made("dish", chance, noun=menu["main"])
        item = chance.choice((other, chance.choice(dishes("train"))))
        if not any(each in item or item in each for each in sold):
            break
    if item.endswith("s") or chance.random() < 0.5:
        return item
    return with_an(f"a {item}")


def add(menu: Menu, line: int, item: str, chance: random.Random) -> Act:
    """The act of ordering an item, its size, number and extras drawn, told or not."""
    sizes = list(prices(menu, item))
    size = chance.choice(sizes)
    extras: list[str] = []
    if takes_extras(menu, item):
        extras = chance.sample(list(menu["extras"]), min(len(menu["extras"]), chance.choices((0, 1, 2), (9, 7, 4))[0]))
    tells_size = len(sizes) == 1 or chance.random() < 0.5
    tells_extras = chance.random() < (0.55 if extras else 0.12)
    return {
        "act": "add",
        "line": line,
        "item": item,
        "quantity": chance.choices((1, 2, 3), (15, 4, 1))[0],
        "size": size if tells_size else None,
        "extras": extras if tells_extras and takes_extras(menu, item) else None,
        "wish": {"size": size, "extras": extras},
    }


def _change(menu: Menu, adds: Sequence[Act], chance: random.Random, taken: Sequence[str] = ()) -> Act:
    """A change of mind about a line that has been ordered, to none of the items that are `taken`."""
    old = chance.choice(adds)
    item, line = old["item"], old["line"]
    others = [size for size in prices(menu, item) if size != old["wish"]["size"]]
    left = [
        each
        for each in menu["items"][section(menu, item)]
        if each not in taken and all(each != act["item"] for act in adds)
    ]
    kinds = ["quantity", *["resize"] * 2 * bool(others), *["swap"] * 2 * bool(left), *["remove"] * (len(adds) > 1)]
    kind = chance.choice(kinds)
    if kind == "resize":
        return {"act": "resize", "line": line, "item": item, "size": chance.choice(others)}
    if kind == "swap":
        return {**add(menu, line, chance.choice(left), chance), "act": "swap", "old": item, "quantity": old["quantity"]}
    if kind == "remove":
        return {"act": "remove", "line": line, "item": item}
    return {"act": "quantity", "line": line, "item": item, "quantity": old["quantity"] + 1}


def meant(menu: Menu, text: str, said: str, chance: random.Random) -> list[Act]:
    """The acts of an order written by hand, from its meaning.

        2 large coke; 1 ? cheese pizza + mushrooms + peppers; 1 greek salad; 1 small cheese pizza + none

    "?" is a size that is not told, "+ none" tells that there are no extras. What is not told is drawn.
    """
    acts: list[Act] = []
    for line, part in enumerate(text.split(";")):
        words, *extras = (each.strip() for each in part.split("+"))
        number, _, rest = words.partition(" ")
        item = max((i for items in menu["items"].values() for i in items if rest.endswith(i)), key=len)
        size = rest.removesuffix(item).strip()
        drawn = add(menu, line, item, chance)
        told = None if size == "?" else size
        extras_told = None if not extras else [extra for extra in extras if extra != "none"]
        wish = {
            "size": drawn["wish"]["size"] if told is None else told,
            "extras": drawn["wish"]["extras"] if extras_told is None else extras_told,
        }
        acts.append({**drawn, "quantity": int(number), "size": told, "extras": extras_told, "wish": wish, "say": said})
    return acts


def goal(script: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The lines of the order when everything in a script has been said."""
    lines: dict[int, dict[str, Any]] = {}
    for acts in (*script["plan"], *(each["acts"] for each in script["breaks"])):
        for act in acts:
            apply(lines, act, act.get("wish", act))
    return list(lines.values())


def apply(lines: dict[int, dict[str, Any]], act: Act, size_and_extras: Mapping[str, Any]) -> None:
    """Change the lines of an order by an act; a line stays where it was first ordered."""
    kind, line = act["act"], act.get("line", -1)
    if kind in ("add", "swap"):
        told = {key: size_and_extras[key] for key in ("size", "extras")}
        lines[line] = {"item": act["item"], "quantity": act["quantity"], **told}
    elif kind == "remove":
        lines.pop(line, None)
    elif kind in ("size", "resize") and line in lines:
        lines[line]["size"] = act["size"]
    elif kind in ("extras", "quantity") and line in lines:
        lines[line][kind] = act[kind]


_QUESTIONS: Final = {
    "address": r"\baddress|\bwhere (?:should|shall|do|can|to)\b",
    "payment": r"\bcash\b|\bcard\b|\bpay(?:ing|ment)?\b",
    "mode": r"\bpick(?:ed|ing)?[ -]?(?:it )?up|\bdeliver|\bcollect|\btake ?away",
    "size": r"\bsizes?\b|\bhow (?:big|large)\b",
    "extras": r"\bextras?\b|\btoppings?\b|\badd-?ons?\b",
    "else": r"\belse\b|\bsomething more\b|\bcan i (?:get|help)|\bwhat would you like|\bchange\b|\bcorrect\b|\bright\?",
}


def asks(text: str, menu: Menu) -> tuple[frozenset[str], str]:
    """What a bot's text asks for, and the sentences in which it does."""
    sentences = re.split(r"(?<=[.?!])\s+|\n", text)
    asking = [each for each in sentences if "?" in each or re.match(r"\W*(?:please|let me know|tell me)", each, re.I)]
    asked = " ".join(asking or sentences)
    found = {what for what, pattern in _QUESTIONS.items() if re.search(pattern, asked, re.I)}
    sizes = {size for items in menu["items"].values() for of in items.values() for size in of if size}
    if asking and sum(bool(re.search(rf"\b{re.escape(size)}\b", asked, re.I)) for size in sizes) >= 2:
        found.add("size")
    return frozenset(found), asked


@final
class Customer:
    """One customer in one conversation.

    Args:
        facts: {"menu", "script", "family", "seed", "turns"?}: the check of an example.
    """

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self._menu, self._script, self._seed = facts["menu"], facts["script"], facts["seed"]
        self._family = facts["family"]
        self.turns: int | None = facts.get("turns")
        """After how many messages of the customer's the conversation is cut off."""
        self._plan = list(self._script["plan"])
        self._breaks = list(self._script["breaks"])
        self._wishes: dict[int, Mapping[str, Any]] = {}
        self._turn = 0
        self._done = self._offered = False
        self.lines: dict[int, dict[str, Any]] = {}
        """What has been told of the order so far; a size or extras of None were not."""
        self.told: set[str] = set()
        """Which of mode, address and payment have been told."""
        self.over = False

    def reply(self, bot: str) -> tuple[str, Sequence[Act]]:
        """What the customer writes next, and what it means; the first reply, to nothing, opens the conversation."""
        ordering: Literal["open", "pick", "more"] = "more" if self._wishes else "pick" if self._offered else "open"
        acts = self._plan.pop(0) if self._turn == 0 else self._next(bot)
        self._offered = any(act["act"] == "category" for act in acts)
        for act in acts:
            apply(self.lines, act, act)
            if "wish" in act:
                self._wishes[act["line"]] = act["wish"]
            elif act["act"] == "resize":
                self._wishes[act["line"]] = {**self._wishes[act["line"]], "size": act["size"]}
            if act["act"] in ("mode", "address", "payment"):
                self.told.add(act["act"])
        voice = Voice(self._family, draw(self._seed, "voice", self._turn))
        text = voice.say(acts, ordering) if acts else "Thank you, goodbye."
        self._turn += 1
        return text, acts

    def _next(self, bot: str) -> Sequence[Act]:
        asked, question = asks(bot, self._menu)
        for number, each in enumerate(self._breaks):
            late = "mode" in asked and not self._plan and each["at"] != "payment"
            if late or (each["at"] in asked and each["at"] != "mode"):
                acts: Sequence[Act] = self._breaks.pop(number)["acts"]
                return acts
        answers: list[Act] = []
        for kind in ("size", "extras"):
            line = self._asked_about(kind, question) if kind in asked else None
            if line is not None:
                unsure = {"unsure": True} if self._script["temper"] == "indecisive" and not answers else {}
                answers.append({"act": kind, "line": line, kind: self._wishes[line][kind], **unsure})
        if "mode" in asked and not self._plan:
            answers.append(self._tell("mode"))
        if "address" in asked and "mode" not in asked:
            answers.append(self._tell("address" if self._script["mode"] == "delivery" else "mode"))
        if "payment" in asked and not self._plan:
            answers.append(self._tell("payment"))
        if answers:
            return answers
        if self._plan:
            return self._plan.pop(0)
        if not self._done or "else" in asked:
            self._done = True
            return [{"act": "done"}]
        left = ["mode", *(["address"] if self._script["mode"] == "delivery" else []), "payment"]
        for kind in left:
            if kind not in self.told:
                return [self._tell(kind)]
        self.over = True
        return []

    def _tell(self, kind: str) -> Act:
        return {"act": kind, kind: self._script[kind]}

    def _asked_about(self, kind: str, question: str) -> int | None:
        """The line that a question about sizes or extras means: one that is named, else the first not told."""
        able = {
            line: told
            for line, told in self.lines.items()
            if (
                takes_extras(self._menu, told["item"])
                if kind == "extras"
                else len(prices(self._menu, told["item"])) > 1
            )
        }
        open_ = [line for line, told in able.items() if told[kind] is None]
        named = [line for line, told in able.items() if _named(told["item"], question, self._menu["main"])]
        for lines in ([line for line in named if line in open_], open_, named):
            if lines:
                return lines[0]
        return None


def _named(item: str, text: str, main: str) -> bool:
    return bool(re.search(rf"\b{re.escape(short(item, main))}\b", text, re.I))
