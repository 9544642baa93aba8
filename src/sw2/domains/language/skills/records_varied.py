r"""What makes the train split of `records.py` rich: names of parts, keys in many styles, further kinds of records.

    grown("<first> <surname>", chance)   "Mei Okafor"
    keys({"sender": "text"}, ...)        {"writtenBy": "who signs"}
    request({"writtenBy": "who signs"})  "From this text make JSON with writtenBy (who signs) ..."
    further(chance)                      ("Phone: 030-4417\n...", {"phone": ("text", "030-4417"), ...})

A model that meets eight names and two keys a field learns them by heart and writes them where others are asked for.
Here nearly every name, key and frame is seen once, so copying is the only way to be right. A sixth of the records are
of kinds that no other split has (receipts, log lines, mails, flats, ...), with fields of their own; some keys say
little (`k3`, `walrus`, `my_kind`), and what is wanted stands behind them; a word as a key must be copied, whatever it
is. In another sixth the text is a list of comments, of which the topics are asked: what a sentence speaks of is the
hardest to learn here, and so it is asked ten times in one text instead of once. All words stand in
`records_train.toml`.

What it does not do: sense. Combinations are drawn, so a cast iron umbrella may be sold.
"""

from __future__ import annotations

import functools
import json
import random
import re
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sw2.domains.language.skills.growing import filled, grow, listed

__all__ = ["further", "grown", "keys", "request", "spellings", "told_of_comments", "wordings"]

# Snake case is what programs ask for most.
_STYLES: Final[Mapping[Callable[[Sequence[str]], str], int]] = {
    "_".join: 10,
    "-".join: 2,
    " ".join: 2,
    lambda words: " ".join(words).title(): 2,
    lambda words: "_".join(words).upper(): 2,
    lambda words: words[0] + "".join(map(str.capitalize, words[1:])): 4,
    lambda words: "".join(map(str.capitalize, words)): 2,
}
_JOINED: Final = (*("{} and {}",) * 6, "{}, {}", "{}, and {}", "{} & {}", "{}; {}")
_MARKS: Final = (*("{}",) * 6, '"{}"', "`{}`", "'{}'")
_BULLETS: Final = ("- ", "* ", "", "{}. ", "{}) ")


def grown(text: str, chance: random.Random, avoid: Collection[str] = ()) -> str:
    """`text` with words for its parts (`<town>`), none of `avoid` among them; one without parts draws nothing."""
    return grow(text, wordings()["parts"], chance, avoid)


def keys(kinds: Mapping[str, str], options: str, chance: random.Random) -> dict[str, str]:
    """A key for each field, and what is said of it, "" for nothing.

    Args:
        kinds: by the name of a field its kind ("text", "number", "bool", "list", "summary").
        options: what a list of topics is chosen from.
        chance: draws both.
    """
    told: dict[str, str] = {}
    for field, kind in kinds.items():
        while (key := _key(field, chance))[0] in told:
            pass
        told[key[0]] = _told(field, kind, options, chance, needed=key[1])
    return told


def request(told: Mapping[str, str], text: str, chance: random.Random, matter: random.Random) -> str:
    """A user's message that asks for keys.

    Of messages with the text before the keys, those of equal `matter` are the same up to the end of the text.

    Args:
        told: the keys, and what is said of each, "" for nothing.
        text: the record.
        chance: draws how they are asked for.
        matter: draws what stands before the text, or that the keys do.
    """
    mark = chance.choice(_MARKS)
    # Nobody can tell where a bare key of several words begins.
    marked = [(mark if mark != "{}" or " " not in key else '"{}"').format(key) for key in told]
    if matter.random() < 0.2:
        bullet, form = chance.choice(_BULLETS), chance.choice(("{} ({})", "{}: {}"))
        asked = [form.format(*each) if each[1] else each[0] for each in zip(marked, told.values())]
        listing = "\n".join(bullet.format(number) + each for number, each in enumerate(asked, 1))
        frames = wordings()["listed"]
    else:
        asked = [f"{key} ({hint})" if hint else key for key, hint in zip(marked, told.values())]
        joined = chance.choice(_JOINED)
        listing = joined.format(("; " if ";" in joined else ", ").join(asked[:-1]), asked[-1])
        frames = wordings()["requests"]
    before = _before_text(matter.choice(frames))
    frame = chance.choice([frame for frame in frames if _before_text(frame) == before])
    return grown(frame, chance).format(keys=listing, text=text)


def _before_text(frame: str) -> str | None:
    """What stands before the text; None where the keys do."""
    before, _, _ = frame.partition("{text}")
    return None if "{keys}" in before else before


def _key(field: str, chance: random.Random) -> tuple[str, bool]:
    """A key, and whether it says too little by itself ("k3", "walrus", "mark_out")."""
    words, drawn, place = wordings(), chance.random(), 0.0
    if drawn < 0.1:
        return grown(chance.choice(words["arbitrary"]), chance), True
    if drawn < 0.3:
        name = chance.sample(words["parts"]["any_word"], 2 if chance.random() < 0.15 else 1)
    else:
        name, place = chance.choice(words["fields"][field]["keys"]).split("_"), chance.random()
        if place < 0.14:
            name = [chance.choice(words["before"]), *name]
        elif place < 0.2:
            name = [*name, chance.choice(words["after"])]
    return chance.choices(list(_STYLES), list(_STYLES.values()))[0](name), place < 0.2


def spellings(field: str) -> set[str]:
    """Every key that a field may get, in lower case and without what separates its words."""
    words = wordings()
    around = [("", ""), *((each, "") for each in words["before"]), *(("", each) for each in words["after"])]
    return {(a + key.replace("_", "") + b).casefold() for key in words["fields"][field]["keys"] for a, b in around}


def _told(field: str, kind: str, options: str, chance: random.Random, *, needed: bool) -> str:
    """What stands behind a key in parentheses: what is meant (when `needed`, else seldom) and of which type it is."""
    about, hints = wordings()["fields"][field], wordings()["hints"]
    said = [chance.choice(about["means"])] if needed or chance.random() < 0.12 else []
    if "maybe" in about:
        said.append(chance.choice(hints["absent"]))
    elif "hints" in about or kind != "text" or chance.random() < 0.08:
        said.append(chance.choice(about.get("hints", hints[kind])).format(options))
    return ", ".join(said)


def further(chance: random.Random) -> tuple[str, dict[str, tuple[str, Any]]]:
    """A record of a kind that only train has: its text, and by the name of each field its kind and value."""
    kind = chance.choice(list(wordings()["kinds"].values()))
    fields = dict[str, tuple[str, Any]]()
    if chance.random() < 0.5:
        text = grown(chance.choice(kind["texts"]), chance)
        shown = {}
        for name in re.findall(r"{(\w+)}", text):
            shown[name], fields[name] = _value(name, chance)
        return filled(text, shown), fields
    rows = []
    for line in kind["lines"]:
        labels, name = line.removeprefix("?").split("|")
        value, fields[name] = _value(name, chance)
        if line.startswith("?") and chance.random() < 0.35:
            fields[name] = ("text", "unknown")
        else:
            rows.append((chance.choice(labels.split("/")), value))
    if chance.random() < 0.3:
        chance.shuffle(rows)
    if chance.random() < 0.1:
        return "\n".join(";".join(each) for each in zip(*rows)), fields
    row, between = chance.choice(wordings()["rows"]), chance.choice(("\n", "\n", "\n", "; "))
    return between.join(row.format(label=label, value=value) for label, value in rows), fields


def told_of_comments(comments: Sequence[str], options: str, chance: random.Random) -> dict[str, str]:
    """The labels of comments as keys; behind the first stands what is wanted of all."""
    about = wordings()["fields"]["topics"]
    hint = f"{chance.choice(about['means'])}, {chance.choice(about['hints']).format(options)}"
    return {comment: "" if number else hint for number, comment in enumerate(comments)}


def _value(name: str, chance: random.Random) -> tuple[str, tuple[str, Any]]:
    """How a value of a field is written, and its kind and the value itself."""
    about = wordings()["fields"][name]
    if "true" in about:
        truth = chance.random() < 0.5
        return chance.choice(about["true" if truth else "false"]), ("bool", truth)
    if "list" in about:
        several = list(dict.fromkeys(grown(about["list"][0], chance) for _ in range(chance.randint(2, 4))))
        return chance.choice((", ", ", ", " / ", " + ")).join(several), ("list", several)
    if "number" in about:
        shown = grown(about["number"][0], chance)
        return shown, ("number", json.loads(shown))
    shown = grown(about["text"][0], chance)
    return shown, ("text", shown)


@functools.cache
def wordings() -> Mapping[str, Any]:
    """`records_train.toml`: texts as lists of wordings, parts and what a field is called as lists of words."""
    with open(Path(__file__).with_name("records_train.toml"), "rb") as file:
        read = tomllib.load(file)
    parts = {name: listed(text) for name, text in read.pop("parts").items()}
    fields = {
        field: {what: _lines(said) if what == "hints" else listed(str(said)) for what, said in about.items()}
        for field, about in read.pop("fields").items()
    }
    return {**_lines(read), "parts": parts, "fields": fields}


def _lines(value: Any) -> Any:
    """Texts become lists of their lines, wherever they stand."""
    if isinstance(value, str):
        return [line.replace("\\n", "\n") for line in value.strip("\n").splitlines()]
    if isinstance(value, list):
        return [_lines(each) for each in value]
    return {name: _lines(each) for name, each in value.items()}
