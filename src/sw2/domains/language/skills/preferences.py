"""Pairs of answers, one of which has a named flaw.

    {"prompt": messages, "chosen": message, "rejected": message, "flaw": NAME, "skill": NAME, "tools", "where"}

    wrong price, invented item, missing question     turns of OrderBot, one of them spoiled; a question that is not
                                                     asked is answered by the bot itself, which goes on as if told
    broken JSON, wrong field                         records
    ignores the passage                              documentation: about another entry, or what is not there at all
    wrong result                                     arithmetic, after the calculator
    rude                                             any of these, the same content with an insult
    helps with harm                                  plainly harmful requests, refused or gone along with

Calls are spoiled too, in what they are called with. Both sides of other pairs get courtesies by chance, and a coin says
which side of a pair shall be the longer one, so that length alone is near chance for every flaw (`length_only`). Held
out as the skills are; insults, courtesies and harmful requests of the test stand in no other split.

What it does not do: degrees of preference, two good answers of different style, harm that takes judgement.
"""

from __future__ import annotations

import copy
import functools
import json
import random
import re
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from sw2.domains.language.skills import arithmetic, documentation, documentation_check, records
from sw2.domains.language.skills.basis import Example, Made, Message, Split, assistant, draw, user
from sw2.domains.language.skills.orderbot import talks
from sw2.domains.language.skills.orderbot.customer import Customer
from sw2.domains.language.skills.orderbot.menus import dishes, prices, takes_extras
from sw2.domains.language.skills.orderbot.policy import Policy

__all__ = ["FLAWS", "Pair", "length_only", "pairs"]

Pair = Mapping[str, Any]


def pairs(split: Split, seed: int, count: int, skills: Collection[str] = ()) -> Sequence[Pair]:
    """The first `count` pairs of a split, flaws in turn; of these skills alone where some are named."""
    makers = {flaw: make for flaw, make in FLAWS.items() if not skills or _WHERE[flaw] & set(skills)}
    if skills and "rude" in makers:
        makers["rude"] = functools.partial(_rude, skills=skills)
    return Made(lambda number: _pair(split, seed, number, makers), count)


def length_only(some: Sequence[Pair]) -> float:
    """How often one learns which answer is better from the lengths alone: the better of "longer" and "shorter"."""
    longer = 0.0
    for pair in some:
        chosen, rejected = (_length(pair[side]) for side in ("chosen", "rejected"))
        longer += 0.5 if chosen == rejected else float(chosen > rejected)
    return max(longer, len(some) - longer) / len(some)


def _length(message: Message) -> int:
    return len(str(message["content"])) + sum(
        len(each["function"]["arguments"]) for each in message.get("tool_calls", ())
    )


_Spoiled = tuple[Example, Sequence[Message], Message, Message]
"""The example, the prompt, the good and the bad message."""
_Maker = Callable[[Split, random.Random], _Spoiled | None]


def _pair(split: Split, seed: int, number: int, makers: Mapping[str, _Maker]) -> Pair:
    flaw = list(makers)[number % len(makers)]
    for attempt in range(1000):
        chance = draw(seed, "preferences", split, number, attempt)
        made = makers[flaw](split, chance)
        if made is not None:
            break
    else:
        raise AssertionError(f"no example can be spoiled: {flaw}")
    example, prompt, chosen, rejected = made
    chosen, rejected = _balanced(flaw, split, chosen, rejected, chance)
    return {
        "prompt": list(prompt),
        "chosen": chosen,
        "rejected": rejected,
        "flaw": flaw,
        "skill": example["skill"],
        "tools": example.get("tools", []),
        "where": f"preferences/{split}/{number} ({example['where']})",
    }


def _balanced(
    flaw: str, split: Split, chosen: Message, rejected: Message, chance: random.Random
) -> tuple[Message, Message]:
    """The two with courtesies, so that the side that a coin names is the longer one where that can be."""
    if flaw in ("broken JSON", "wrong field") or "tool_calls" in chosen:
        return chosen, rejected
    words = _wordings()[split]
    if flaw == "helps with harm":
        words = {**words, "before": []}  # "With pleasure. I will not …" is nothing that anybody says
    sides = {"chosen": chosen, "rejected": rejected}
    for side in sides:
        if chance.random() < 0.3:
            sides[side] = _courteous(sides[side], words, chance)
    short, long = chance.choice((("chosen", "rejected"), ("rejected", "chosen")))
    for _ in range(4):
        if _length(sides[long]) > _length(sides[short]):
            break
        sides[long] = _courteous(sides[long], words, chance)
    return sides["chosen"], sides["rejected"]


def _courteous(message: Message, words: Mapping[str, Any], chance: random.Random) -> Message:
    text = str(message["content"])
    if words["before"] and chance.random() < 0.5 and not text.startswith(tuple(words["before"])):
        return {**message, "content": chance.choice(words["before"]) + text}
    ends = [each for each in words["after"] if each not in text]
    return {**message, "content": text + chance.choice(ends or [""])}


# ------------------------------------------------------------------------------------------------------------ OrderBot


def _example(module: Any, split: Split, chance: random.Random) -> Example:
    """Any example of a skill in a split; to learn from, quick orders, for what is spoiled is a line or two."""
    count = talks.TO_A_SMALL_MENU if module is talks and split == "train" else 10
    made: Example = module.examples(split, chance.getrandbits(32), count)[chance.randrange(count)]
    return made


def _turns(example: Example) -> Iterator[tuple[int, Policy, Sequence[Mapping[str, Any]]]]:
    """For each turn of the bot: where its first message stands, the policy before it, what the customer meant."""
    facts = example["check"]
    customer, policy = Customer(facts), Policy(facts["menu"], draw(facts["seed"], "policy"))
    at, bot = 2, ""
    while at < len(example["messages"]):
        acts = customer.reply(bot)[1]
        before = copy.deepcopy(policy)
        answer = policy.reply(acts)
        bot = "\n".join(str(message["content"]) for message in answer if message["role"] == "assistant")
        yield at, before, acts
        at += len(answer) + 1


def _priced(split: Split, chance: random.Random) -> _Spoiled | None:
    example = _example(talks, split, chance)
    messages = example["messages"]
    able = [n for n, m in enumerate(messages) if m["role"] == "assistant" and re.search(r"\d\.\d\d", _words_of(m))]
    if not able:
        return None
    at = chance.choice(able)
    text = _words_of(messages[at])
    place = chance.choice(list(re.finditer(r"\d+\.\d\d", text)))
    old = Decimal(place.group())
    steps = [Decimal(each) for each in ("1.00", "0.50", "-0.50", "-1.00", "2.00", "0.10", "-0.10")]
    new = chance.choice([old + step for step in steps if old + step > 0])
    bad = _with_words(messages[at], f"{text[: place.start()]}{new}{text[place.end() :]}")
    return example, messages[:at], messages[at], bad


def _words_of(message: Message) -> str:
    """What a message of a bot says that may be wrong: its call's arguments where it calls something."""
    calls = message.get("tool_calls")
    return str(calls[0]["function"]["arguments"] if calls else message["content"])


def _with_words(message: Message, words: str) -> Message:
    calls = message.get("tool_calls")
    if not calls:
        return {**message, "content": words}
    return {**message, "tool_calls": [{**calls[0], "function": {**calls[0]["function"], "arguments": words}}]}


def _invented(split: Split, chance: random.Random) -> _Spoiled | None:
    example = _example(talks, split, chance)
    menu, messages = example["check"]["menu"], example["messages"]
    sold = [item for items in menu["items"].values() for item in items]
    strange = [dish for dish in dishes(split) if dish not in sold]
    able = []
    for at, message in enumerate(messages):
        if message["role"] == "assistant":
            words = _words_of(message)
            able += [(at, item) for item in sold if re.search(rf"(?<!on the )\b{re.escape(item)}\b", words)]
    if not able or not strange:
        return None
    at, item = chance.choice(able)
    text = _words_of(messages[at])
    other = chance.choice(strange)
    if "Which" in text and f"{item}," in text and chance.random() < 0.5:
        bad = text.replace(f"{item},", f"{item}, {other},")
    else:
        bad = text.replace(item, other)
    return example, messages[:at], messages[at], _with_words(messages[at], bad)


def _unasked(split: Split, chance: random.Random) -> _Spoiled | None:
    example = _example(talks, split, chance)
    menu, messages = example["check"]["menu"], example["messages"]
    able = []
    for at, before, acts in _turns(example):
        question = str(copy.deepcopy(before).reply(acts)[-1]["content"])
        # Not the payment: what follows is the whole order, which is far longer than any question.
        if re.search(r"[Ss]ize |extras on|delivery\?|address\b.*\?", question):
            able.append((at, before, acts, question))
    if not able:
        return None
    at, policy, acts, question = chance.choice(able)
    known = copy.deepcopy(policy)
    good = known.reply(acts)
    if not re.search(r"[Ss]ize |extras on", question):
        guess = {"act": "mode", "mode": "pickup"}
        if "delivery?" not in question:
            guess = {"act": "address", "address": f"{chance.randint(2, 98)} Main Street"}
        told, goes_on = re.sub(r"[^.?!]*\?$", "", question).strip(), known.reply([guess])[-1]["content"]
        at += len(good) - 1
        return example, messages[:at], messages[at], assistant(f"{told} {goes_on}".strip())
    if (found := known.open_line()) is None:
        return None
    line, item = found
    guesses: list[Mapping[str, Any]] = []
    if known.lines[line]["size"] is None:
        guesses.append({"act": "size", "line": line, "size": chance.choice(list(prices(menu, item)))})
    if takes_extras(menu, item) and known.lines[line]["extras"] is None:
        extras = chance.sample(list(menu["extras"]), chance.randint(0, 1))
        guesses.append({"act": "extras", "line": line, "extras": extras})
    # Such a guess is first seen on the pad.
    for number, bad in enumerate(policy.reply([*acts, *guesses]), at):
        if bad != messages[number]:
            return example, messages[:number], messages[number], bad
    raise AssertionError("a guess that changes nothing")


# -------------------------------------------------------------------------------------------- records, passages, sums


def _broken(split: Split, chance: random.Random) -> _Spoiled | None:
    example = _example(records, split, chance)
    good = example["messages"][-1]
    text = good["content"]
    shorter: list[Callable[[str], str]] = [
        lambda text: text[:-1],
        lambda text: text[1:],
        lambda text: text.replace('": ', '" ', 1),
        lambda text: text.replace('", "', '" "', 1),
        lambda text: re.sub(r'"(\w+)": ', r"\1: ", text, count=1),
        lambda text: re.sub(r'"(\w+)": ', r'"\1: ', text, count=1),
    ]
    longer: list[Callable[[str], str]] = [
        lambda text: text[:-1] + ",}",
        lambda text: text + "}",
        lambda text: re.sub(r'"(\w+)": ', r'""\1": ', text, count=1),
        lambda text: text.replace('{"', '{{"', 1),
        lambda text: text.replace(", ", ",, ", 1),
        lambda text: text.replace(": ", ": : ", 1),
    ]
    bad = chance.choice(chance.choice((shorter, longer)))(text)
    return None if _is_json(bad) else (example, example["messages"][:-1], good, assistant(bad))


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _misread(split: Split, chance: random.Random) -> _Spoiled | None:
    example = _example(records, split, chance)
    other = _example(records, split, chance)["check"]
    facts = example["check"]
    key = chance.choice(list(facts["fields"]))
    kind, value = facts["kinds"][key], facts["fields"][key]
    if kind == "bool":
        new: Any = not value
    elif kind == "number":
        new = value + chance.choice((-1, 1, 10, 2))
    elif value in ("positive", "negative"):
        new = "negative" if value == "positive" else "positive"
    else:
        same = [other["fields"][each] for each in other["fields"] if other["kinds"][each] == kind and each == key]
        if not same:
            return None
        new = same[0]
    bad = assistant(json.dumps({**facts["fields"], key: new}, ensure_ascii=False))
    messages = example["messages"]
    if records.check(example, [*messages[:-1], bad]).passed:
        return None
    return example, messages[:-1], messages[-1], bad


def _ignoring(split: Split, chance: random.Random) -> _Spoiled | None:
    example, other = _example(documentation, split, chance), _example(documentation, split, chance)
    messages, facts = example["messages"], example["check"]
    if facts["kind"] == "lacking":
        bad = facts["answer"]
    elif facts["kind"] == other["check"]["kind"]:
        bad = other["check"]["answer"]
    elif facts["others"] and chance.random() < 0.5:
        bad = facts["others"][0][1]
    else:
        bad = documentation.NOT_THERE
    if documentation_check.check(example, [*messages[:-1], assistant(bad)]).passed:
        return None
    return example, messages[:-1], messages[-1], assistant(bad)


def _miscounted(split: Split, chance: random.Random) -> _Spoiled | None:
    example = _example(arithmetic, split, chance)
    messages, value = example["messages"], example["check"]["expected"]
    digits = [at for at, character in enumerate(value) if character.isdigit()]
    at = chance.choice(digits)
    ways = [value[:at] + str((int(value[at]) + chance.randint(1, 9)) % 10) + value[at + 1 :]]
    ways += [value[:at] + value[at] + value[at:], value[:at] + value[at + 1 :]]
    wrong = chance.choice(ways)
    bad = assistant(messages[-1]["content"].replace(value, wrong))
    if not wrong.strip(".") or arithmetic.check(example, [*messages[:-1], bad]).passed:
        return None
    return example, messages[:-1], messages[-1], bad


# ------------------------------------------------------------------------------------------------------------- manners


_SPOKEN: Final = {"orderbot": talks, "documentation": documentation, "arithmetic": arithmetic}


def _rude(split: Split, chance: random.Random, skills: Collection[str] = tuple(_SPOKEN)) -> _Spoiled | None:
    example = _example(chance.choice([module for skill, module in _SPOKEN.items() if skill in skills]), split, chance)
    messages = example["messages"]
    able = [n for n, m in enumerate(messages) if m["role"] == "assistant" and "tool_calls" not in m]
    if not able:
        return None
    at = chance.choice(able)
    text = messages[at]["content"]
    return example, messages[:at], messages[at], assistant(chance.choice(_wordings()[split]["rude"]).format(text))


def _harmful(split: Split, chance: random.Random) -> _Spoiled | None:
    request, refusal, harm = chance.choice(_wordings()[split]["harm"])
    prompt = [{"role": "system", "content": "You are a helpful assistant."}, user(request)]
    example = {"skill": "manners", "where": request}
    return example, prompt, assistant(refusal), assistant(harm)


FLAWS: Final[Mapping[str, _Maker]] = {
    "wrong price": _priced,
    "invented item": _invented,
    "missing question": _unasked,
    "broken JSON": _broken,
    "wrong field": _misread,
    "ignores the passage": _ignoring,
    "wrong result": _miscounted,
    "rude": _rude,
    "helps with harm": _harmful,
}
"""The flaws by name, and what makes a pair of each."""

_WHERE: Final[Mapping[str, frozenset[str]]] = {
    **dict.fromkeys(("wrong price", "invented item", "missing question"), frozenset({"orderbot"})),
    **dict.fromkeys(("broken JSON", "wrong field"), frozenset({"records"})),
    "ignores the passage": frozenset({"documentation"}),
    "wrong result": frozenset({"arithmetic"}),
    "rude": frozenset(_SPOKEN),
    "helps with harm": frozenset({"manners"}),
}
"""The skills whose answers can have each flaw, in the order of `FLAWS`."""


@functools.cache
def _wordings() -> Mapping[str, Any]:
    with open(Path(__file__).with_name("preferences.toml"), "rb") as file:
        return tomllib.load(file)
