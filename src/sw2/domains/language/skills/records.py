"""Read a text and return JSON: package stanzas of Debian, reviews, short news, notes.

    user       Read the text and return a JSON object with these keys: package, installed_size (a number).

               Package: libbzrtp0
               Installed-Size: 115
               …
    assistant  {"package": "libbzrtp0", "installed_size": 115}

400 stanzas of Debian 12 come along (`stanzas.txt`: some fields, no names of people); the other texts are put together
from wordings that were written for this (`records.toml`). Fields are copied, numbers and truth values have their types,
topics are chosen from a list, a summary is the first sentence of the news. Train has many more wordings, names that are
put together, keys in many styles, and further kinds of texts (`records_varied.py`), lists of comments among them. Three
examples of train in a row ask for different things from one text; in half of these threes the text comes first, so that
it need be read only once.

Held out by source (sections of Debian; items, brands, places, people), by template (requests, and what keys are
called) and by wording.

Right is an answer that is one JSON object and nothing else (a fence of three backticks may stand around it), with the
wanted keys and no others, and under each the value of the right type. A summary is right when it has most of the words
that matter, few others, and is short.

What it does not do: nested objects, repairs of broken JSON, summaries that are put quite differently.
"""

from __future__ import annotations

import functools
import json
import random
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from sw2.domains.language.skills import records_varied as varied
from sw2.domains.language.skills.basis import (
    SPLITS,
    TOGETHER,
    Example,
    Made,
    Message,
    Split,
    Verdict,
    answer_of,
    assistant,
    draw,
    split_of,
    user,
)
from sw2.domains.language.skills.growing import filled

__all__ = ["check", "examples", "read_stanzas"]

SYSTEM: Final = "You read texts and answer in JSON."
_ASPECTS: Final = ("price", "delivery", "quality", "service", "size")
_SUBJECTS: Final = ("opening", "closing", "money", "visitors", "weather", "jobs")
_KINDS: Final = ("stanza", "review", "story", "note")
_KINDS_OF_TRAIN: Final = (*_KINDS, "further", "comments")
_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

# What a summary of news cannot say.
_AGAINST: Final = {"opened": r"\bclos|\bshut|\bgives? up|\bburn", "closed": r"\bopen|\bnew\b", "": r"\b\B"}

_Fields = dict[str, tuple[str, Any]]
"""By the general name of a field its kind ("text", "number", "bool", "list", "summary") and its value."""


def examples(split: Split, seed: int, count: int) -> Sequence[Example]:
    """The first `count` examples of a split."""
    return Made(lambda number: _example(split, seed, number), count)


def read_stanzas(path: Path) -> list[dict[str, str]]:
    """The stanzas of a file such as /var/lib/dpkg/status: fields of one line by name."""
    stanzas = []
    for part in re.split(r"\n\s*\n", path.read_text("utf-8", errors="replace").strip()):
        fields = dict(line.split(": ", 1) for line in part.splitlines() if re.match(r"[A-Za-z][\w-]*: ", line))
        if "Package" in fields:
            stanzas.append(fields)
    return stanzas


def _example(split: Split, seed: int, number: int) -> Example:
    chance = draw(seed, "records", split, number)
    # What the examples of train that stand together have in common.
    matter = draw(seed, "records", split, "block", number // TOGETHER) if split == "train" else chance
    kind = matter.choice(_KINDS_OF_TRAIN if split == "train" else _KINDS)
    text, fields = _MAKERS[kind](split, matter)
    event = fields.pop("event", ("", ""))[1]
    options = ", ".join(fields.pop("options", ("", _ASPECTS if kind == "review" else _SUBJECTS))[1])
    fewest, most = (4, 8) if kind == "comments" else (2, 5)
    chosen = chance.sample(list(fields), chance.randint(fewest, min(most, len(fields))))
    keys: Sequence[str]
    if split == "train":
        if kind == "comments":
            told = varied.told_of_comments(chosen, options, chance)
        else:
            told = varied.keys({field: fields[field][0] for field in chosen}, options, chance)
        keys, request = list(told), varied.request(told, text, chance, matter)
    else:
        keys, request = _request(split, chosen, options, text, chance)
    kinds = {key: fields[field][0] for key, field in zip(keys, chosen)}
    expected = {key: fields[field][1] for key, field in zip(keys, chosen)}
    return {
        "messages": [
            {"role": "system", "content": SYSTEM},
            user(request),
            assistant(json.dumps(expected, ensure_ascii=False)),
        ],
        "check": {"skill": "records", "fields": expected, "kinds": kinds, "text": text, "event": event},
        "skill": "records",
        "family": f"{split}/{kind}",
        "where": f"records/{split}/{number} ({kind})",
    }


def _request(
    split: Split, fields: Sequence[str], options: str, text: str, chance: random.Random
) -> tuple[Sequence[str], str]:
    """A key for each field, and a user's message that asks for them."""
    words = _wordings()
    asked = [chance.choice(words["keys"][split][field]).format(options) for field in fields]
    keys = f"{', '.join(asked[:-1])} and {asked[-1]}"
    request = chance.choice(words[split]["requests"]).format(keys=keys, text=text)
    return [name.split(" (")[0] for name in asked], request


def _pick(wordings: Sequence[str], chance: random.Random, avoid: Sequence[str] = ()) -> str:
    """One of them, with words for its parts; only wordings of train have parts."""
    return varied.grown(chance.choice(wordings), chance, avoid)


def _further(split: Split, chance: random.Random) -> tuple[str, _Fields]:
    assert split == "train"
    return varied.further(chance)


def _stanza(split: Split, chance: random.Random) -> tuple[str, _Fields]:
    stanza = chance.choice(_stanzas()[split])
    shown = list(stanza)
    if chance.random() < 0.5:
        chance.shuffle(shown)
    needs = [re.sub(r"\s*\(.*?\)", "", each).strip() for each in stanza["Depends"].split(",")]
    return "\n".join(f"{name}: {stanza[name]}" for name in shown), {
        "package": ("text", stanza["Package"]),
        "version": ("text", stanza["Version"]),
        "section": ("text", stanza["Section"]),
        "installed_size": ("number", int(stanza["Installed-Size"])),
        "homepage": ("text", stanza["Homepage"]),
        "depends": ("list", list(dict.fromkeys(needs))),
        "description": ("text", stanza["Description"]),
    }


def _review(split: Split, chance: random.Random) -> tuple[str, _Fields]:
    words = _wordings()[split]
    said = words["review"]
    item = _pick(words["items"], chance)
    brand = _pick(words["brands"], chance) if chance.random() < 0.7 else None
    positive = chance.random() < 0.5
    aspects = chance.sample(_ASPECTS, chance.choice((2, 3, 3, 4)))
    # One aspect may speak against the verdict when two or more speak for it.
    against = aspects[0] if len(aspects) > 2 and chance.random() < 0.35 else None
    told = sorted(aspects, key=lambda _: chance.random())
    sentences = [filled(_pick(said["branded" if brand else "unbranded"], chance), {"item": item, "brand": brand})]
    sentences += [_pick(said[aspect][int(positive == (aspect == against))], chance) for aspect in told]
    angry = not positive and chance.random() < 0.5
    if angry:
        sentences.insert(chance.randint(1, len(sentences)), _pick(said["angry"], chance))
    return " ".join(sentences), {
        "item": ("text", item),
        "brand": ("text", brand or "unknown"),
        "sentiment": ("text", "positive" if positive else "negative"),
        "anger": ("bool", angry),
        "topics": ("list", told if split == "train" else [aspect for aspect in _ASPECTS if aspect in aspects]),
    }


def _story(split: Split, chance: random.Random) -> tuple[str, _Fields]:
    words = _wordings()[split]
    said = words["story"]
    organisation, place = _pick(words["organisations"], chance), _pick(words["places"], chance)
    event = chance.choice(("opened", "closed"))
    people = _people(words["people"], chance.choice((1, 1, 2)), chance)
    amount = chance.choice((chance.randrange(20, 900), chance.randrange(1, 90) * 1000))
    measured = chance.choice(("money", "visitors", "jobs"))
    day = chance.choice(_DAYS)
    frame, thing = _pick(said[event], chance), _pick(said["things"], chance)
    org = organisation[0].upper() + organisation[1:]
    first = filled(frame, {"Org": org, "org": organisation, "place": place, "thing": thing, "day": day})
    quotes = chance.sample(said["said"], len(people)) if len(said["said"]) >= len(people) else said["said"]
    people = people[: len(quotes)]
    others = [varied.grown(quote, chance).format(person=person) for quote, person in zip(quotes, people)]
    speaks_of = {"opening" if event == "opened" else "closing": first}
    others.append(_pick(said[measured], chance).format(number=amount))
    speaks_of[measured] = others[-1]
    if chance.random() < 0.5:
        others.append(_pick(said["weather"], chance))
        speaks_of["weather"] = others[-1]
    chance.shuffle(others)
    text = " ".join([first, *others])
    topics = sorted(
        speaks_of, key=lambda topic: text.index(speaks_of[topic]) if split == "train" else _SUBJECTS.index(topic)
    )
    return text, {
        "place": ("text", place),
        "day": ("text", day),
        "people": ("list", sorted(people, key=" ".join(others).index)),
        "number": ("number", amount),
        "topics": ("list", topics),
        "summary": ("summary", first),
        "event": ("", event),
    }


def _note(split: Split, chance: random.Random) -> tuple[str, _Fields]:
    words = _wordings()[split]
    to, sender = _people(words["people"], 2, chance)
    day, room, amount = chance.choice(_DAYS), _pick(words["rooms"], chance), chance.randrange(3, 40)
    time = f"{chance.randrange(8, 20)}:{chance.choice(('00', '15', '30', '45'))}"
    # Days, times and rooms that hold no more are others than those that hold, and who is spoken of is somebody else.
    first = to.split()[0]
    text = _pick(words["note"]["texts"], chance, (day, time, room, first, sender.split()[0])).format(
        first=first, sender=sender, day=day, room=room, time=time, number=amount
    )
    return text, {
        "sender": ("text", sender),
        "day": ("text", day),
        "time": ("text", time),
        "room": ("text", room),
        "number": ("number", amount),
    }


def _comments(split: Split, chance: random.Random) -> tuple[str, _Fields]:
    """Short comments on what was bought, or items of news, with what each speaks of; no other split has them."""
    words = _wordings()[split]
    topics, sentences = chance.choice(((_ASPECTS, _about_a_thing), (_SUBJECTS, _about_a_place)))
    mark = chance.choice(("{}", "{}", "c{}", "comment_{}", "text{}", "{}a"))
    between = chance.choice((": ", ". ", ") ", " - "))
    fields: _Fields = {"options": ("", topics)}
    lines = []
    for number in range(1, chance.randint(6, 9)):
        about = chance.sample(topics, chance.choices((0, 1, 2, 3), (1, 5, 4, 1))[0])
        if {"opening", "closing"} <= set(about):
            about.remove(chance.choice(("opening", "closing")))
        said = sentences(words, about, chance)
        label = mark.format(number)
        fields[label] = ("list", about)
        lines.append(f"{label}{between}{' '.join(said)}")
    return "\n".join(lines), fields


def _about_a_thing(words: Mapping[str, Any], aspects: Sequence[str], chance: random.Random) -> list[str]:
    item, brand = _pick(words["items"], chance), _pick(words["brands"], chance)
    said = [_pick(words["review"][aspect][chance.randrange(2)], chance) for aspect in aspects]
    if chance.random() < 0.3 or not said:
        said.insert(0, filled(_pick(words["review"]["branded"], chance), {"item": item, "brand": brand}))
    return said + [_pick(words["review"]["angry"], chance)] * (chance.random() < 0.15)


def _about_a_place(words: Mapping[str, Any], subjects: Sequence[str], chance: random.Random) -> list[str]:
    said, story = [], words["story"]
    organisation, place = _pick(words["organisations"], chance), _pick(words["places"], chance)
    for subject in subjects:
        if subject in ("opening", "closing"):
            frame = _pick(story["opened" if subject == "opening" else "closed"], chance)
            org = organisation[0].upper() + organisation[1:]
            thing, day = _pick(story["things"], chance), chance.choice(_DAYS)
            shown = {"Org": org, "org": organisation, "place": place, "thing": thing, "day": day}
            said.append(filled(frame, shown))
        else:
            amount = chance.choice((chance.randrange(20, 900), chance.randrange(1, 90) * 1000))
            said.append(_pick(story[subject], chance).replace("{number}", str(amount)))
    if chance.random() < 0.2 or not said:
        person = _people(words["people"], 1, chance)[0]
        said.append(_pick(story["said"], chance).format(person=person))
    return said


def _people(people: Sequence[str], count: int, chance: random.Random) -> list[str]:
    return [varied.grown(each, chance) for each in chance.sample(people, count)]


_MAKERS: Final[Mapping[str, Callable[[Split, random.Random], tuple[str, _Fields]]]] = {
    "stanza": _stanza,
    "review": _review,
    "story": _story,
    "note": _note,
    "further": _further,
    "comments": _comments,
}


@functools.cache
def _stanzas() -> Mapping[str, Sequence[Mapping[str, str]]]:
    """The stanzas that come along, by the split of their section."""
    found: dict[str, list[Mapping[str, str]]] = {split: [] for split in SPLITS}
    for stanza in read_stanzas(Path(__file__).with_name("stanzas.txt")):
        found[split_of(stanza["Section"])].append(stanza)
    return found


@functools.cache
def _wordings() -> Mapping[str, Any]:
    with open(Path(__file__).with_name("records.toml"), "rb") as file:
        return {**tomllib.load(file), "train": varied.wordings()}


# --------------------------------------------------------------------------------------------------------- checking


def check(example: Example, messages: Sequence[Message]) -> Verdict:
    """Judge an answer: is it JSON, has it the keys, are the values right."""
    facts = example["check"]
    wanted = facts["fields"]
    answer = answer_of(messages)
    if not answer:
        return Verdict(False, 0.0, ("no answer",), {"valid": False})
    fenced = re.fullmatch(r"```(?:json)?\s*\n(.*?)\n?```", answer, re.DOTALL)
    try:
        value = json.loads(fenced.group(1) if fenced else answer, object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        return Verdict(False, 0.0, (f"not JSON: {error}",), {"valid": False})
    if not isinstance(value, dict):
        return Verdict(False, 0.0, ("no JSON object",), {"valid": True})
    flaws = [f"missing key: {key}" for key in wanted if key not in value]
    flaws += [f"key that was not asked for: {key}" for key in value if key not in wanted]
    right = 0
    for key in wanted.keys() & value.keys():
        flaw = _wrong(facts["kinds"][key], value[key], wanted[key], facts["text"], facts["event"])
        right += flaw is None
        flaws += [f"{flaw}: {key}"] if flaw else []
    score = right / len(wanted.keys() | value.keys())
    return Verdict(not flaws, score, tuple(sorted(flaws)), {"valid": True, "fields": len(wanted), "right": right})


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a key stands there twice")
    return dict(pairs)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _wrong(kind: str, got: Any, wanted: Any, text: str, event: str) -> str | None:
    """What is wrong with a value, or None."""
    types: dict[str, Any] = {"number": (int, float), "bool": (bool,), "list": (list,)}
    if not isinstance(got, types.get(kind, (str,))) or (kind == "number" and isinstance(got, bool)):
        return "wrong type"
    if kind == "list":
        plain = [_plain(each) for each in got]
        right = len(set(plain)) == len(plain) and set(plain) == {_plain(each) for each in wanted}
    elif kind == "summary":
        right = _sums_up(got, wanted, text) and not re.search(_AGAINST[event], got, re.IGNORECASE)
    elif kind == "text":
        right = _plain(got) == _plain(wanted)
    else:
        right = got == wanted
    return None if right else "wrong value"


def _plain(value: Any) -> str:
    return " ".join(str(value).split()).casefold().rstrip("./").removeprefix("the ")


def _sums_up(got: str, wanted: str, text: str) -> bool:
    """Most of the words that matter, few that stand nowhere, at most some twenty words."""
    said, key, known = _matter(got), _matter(wanted), _matter(text)
    return (
        len(got.split()) <= max(24, len(wanted.split()) + 4)
        and len(got) <= 0.8 * len(text)
        and len(said & key) >= 0.5 * len(key)
        and len(said - known) <= 0.34 * len(said)
        and _names(wanted) - set(_DAYS) <= set(re.findall(r"\w+", got))
        and _names(got) <= set(re.findall(r"\w+", text))
        and not re.search(r"\b(not|no|never)\b|n't\b", got, re.IGNORECASE)
    )


def _matter(text: str) -> set[str]:
    words = re.findall(r"\w+", text.lower())
    return {re.sub(r"(?<=\w{3})(?:ing|ed|es|e|s)$", "", word) for word in words if len(word) > 3 or word.isdigit()}


def _names(text: str) -> set[str]:
    """Words in capitals that do not begin the text."""
    return set(re.findall(r"(?<=\w )[A-ZÀ-Þ]\w+", text))
