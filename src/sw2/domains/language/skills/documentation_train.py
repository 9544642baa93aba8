"""What makes the train split of `documentation.py` rich: frames, wordings and invented names, all drawn at random.

    framed("What does `f` do?", [passage of f], chance)       passage and question, one of some fifty layouts
    worded("what", {"name": "shutil.copy"}, chance)           a question, with small talk, lower case or a typo at times
    Renaming([(name, arguments, prose), ...], chance)         the same things by names nobody has seen before

Why: a small model that meets a handful of wordings and the names of the standard library learns them by heart. Of names
put together here none comes often enough for that, so what stands in the passage has to be read and copied.

A name goes from heads, prose, question and answer alike. Where prose has it as an English word too ("the path"), which
could mean the thing or not, the name stays. Invented names of an example share words at times ("fetch_row",
"fetch_column"), so that a glance is not enough.

What it does not do: know of entries or splits. The words are in documentation_train.toml.
"""

from __future__ import annotations

import functools
import keyword
import random
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sw2.domains.language.skills.growing import careless, filled, grow, mistyped

__all__ = ["Arguments", "Renaming", "framed", "invented_sentence", "worded"]

Arguments = tuple[tuple[str, str | None], ...]

# How often a question comes with words before it or after it, and how often it is written carelessly.
_LEAD, _TAIL, _LOWER, _UNMARKED, _TYPO = 0.18, 0.1, 0.12, 0.08, 0.05
_CANONICAL: Final = 0.75


@functools.cache
def _lists() -> Mapping[str, Any]:
    with open(Path(__file__).with_name("documentation_train.toml"), "rb") as file:
        return tomllib.load(file)


# ------------------------------------------------------------------------------------------------ frames and wordings


def framed(question: str, passages: Sequence[str], chance: random.Random) -> str:
    """A user's message.

    Args:
        question: as it was worded.
        passages: of each entry the head, a line break and its prose.
        chance: draws the layout.
    """
    shapes = _lists()["shapes"]
    shape = shapes[0] if chance.random() < _CANONICAL else chance.choice(shapes)
    parts = []
    for each in passages:
        head, _, prose = each.partition("\n")
        parts.append((shapes[0] if head.startswith("#") else shape).format(head=head, prose=prose))
    passage = "\n\n".join(parts)
    lines = passage.split("\n")
    tag = chance.choice(_lists()["tags"])
    return chance.choice(_lists()["layouts"]).format(
        passage=passage,
        quoted="\n".join(f"> {line}".rstrip() for line in lines),
        indented="\n".join(f"    {line}".rstrip() for line in lines),
        question=question,
        tag=tag,
        Tag=tag.capitalize(),
        TAG=tag.upper(),
        label=chance.choice(_lists()["labels"]),
    )


def worded(kind: str, words: Mapping[str, str], chance: random.Random) -> str:
    """A question of a kind about `words` (name, task, error, argument)."""
    text = chance.choice(_lists()["wordings"][kind])
    if chance.random() < _TYPO:
        text = mistyped(text, chance)
    text = careless(text, chance, _LOWER, _UNMARKED)
    if chance.random() < _LEAD:
        lead = chance.choice(_lists()["leads"])
        runs_on = lead[-1] in ":,-" and not re.match(r"I\b|\{", text)
        text = f"{lead} {text[:1].lower() + text[1:] if runs_on else text}"
    if text[-1] in "?." and chance.random() < _TAIL:
        text = f"{text} {chance.choice(_lists()['tails'])}"
    return filled(text, {each: _marked(each, kind, value, chance) for each, value in words.items()})


def _marked(what: str, kind: str, value: str, chance: random.Random) -> str:
    if what == "task":
        return value
    if kind == "section":
        return str(chance.choice(_lists()["headings"])).format(value)
    marks: Mapping[str, int] = {**_lists()["marks"], **(_lists()["marks_of_calls"] if what == "name" else {})}
    return chance.choices(list(marks), list(marks.values()))[0].format(value)


def invented_sentence(kind: str, argument: str | None, chance: random.Random) -> tuple[str, str]:
    """A sentence of documentation and the error it speaks of.

    Args:
        kind: "raises" or "returns"; of the latter the error is "".
        argument: what it may speak of, None where there is none.
        chance: draws it.
    """
    lists, names = _lists()["sentences"], _lists()["names"]
    noun, other = chance.sample(names["nouns"], 2)
    # An error stands in half of the examples by a name of Python's.
    own = f"{noun.capitalize() if chance.random() < 0.5 else ''}{chance.choice(names['troubles'])}"
    error = chance.choice(names["errors"]) if chance.random() < 0.5 else f"{own}{chance.choice(('Error', 'Exception'))}"
    words = {"noun": noun, "other": other, "done": chance.choice(lists["done"]), "number": chance.randint(2, 900)}
    cases = [each for each in lists["cases"] if argument or "{argument}" not in each]
    case = filled(chance.choice(cases), {"argument": argument, **words})
    sentences = [each for each in lists[kind] if argument or "{argument}" not in each]
    sentence = filled(chance.choice(sentences), {"argument": argument, "error": error, "case": case, **words})
    return sentence[0].upper() + sentence[1:], error if kind == "raises" else ""


# ------------------------------------------------------------------------------------------------------ invented names


class Renaming:
    """New names for the things of one example, the same in all of it.

    Args:
        things: of each its dotted name, its arguments with defaults, and its prose.
        chance: draws the names.
    """

    def __init__(self, things: Sequence[tuple[str, Arguments, str]], chance: random.Random) -> None:
        self._chance = chance
        self._prose = " ".join(prose for _, _, prose in things)
        self._taken = set(re.findall(r"\w+", self._prose))
        self._joint = chance.choice(("_", "_", "_", "camel", ""))
        self._used: list[str] = []
        self._new: dict[str, str] = {}
        for name, arguments, prose in things:
            *path, last = name.split(".")
            for part in path:
                self._add(part, "module", prose)
            self._add(last, "function", prose)
            for argument, _ in arguments:
                self._add(argument.lstrip("*"), "argument", prose)
        # Capitals in prose mean the argument as well ("The SOURCE argument"), if they are no acronym.
        self._new |= {old.upper(): new.upper() for old, new in self._new.items() if len(old) > 4 and old.islower()}
        longest_first = sorted(self._new, key=len, reverse=True)
        self._pattern = re.compile("|".join(_mention(each) for each in longest_first))

    def name(self, old: str) -> str:
        """The new dotted name."""
        return ".".join(self._new[part] for part in old.split("."))

    def near(self, new: str) -> str:
        """Another name beside `new`, a new one, that differs from it in a word of its last part."""
        path, _, last = new.rpartition(".")
        kind = "class" if last[:1].isupper() else "function"
        return f"{path}.{self._fresh(kind, '', last)}"

    def text(self, old: str) -> str:
        """Prose with the new names in it."""
        return self._pattern.sub(lambda found: self._new[found.group()], old)

    def arguments(self, old: Arguments, prose: str) -> Arguments:
        """The new arguments, with other defaults where the old prose does not speak of them."""
        return tuple(
            (re.sub(r"\w+", lambda found: self._new[found.group()], name), self._default(name, value, prose))
            for name, value in old
        )

    def _default(self, argument: str, value: str | None, prose: str) -> str | None:
        if value is None or not re.fullmatch(r"None|True|False|-?\d+|'[\w-]*'", value) or self._chance.random() < 0.3:
            return value
        if value.strip("'") in prose or re.search(rf"\b{argument}\b|\bdefault|\bomitted\b", prose):
            return value
        noun = self._chance.choice(_lists()["names"]["nouns"])
        number = self._chance.choice((self._chance.randint(2, 12), self._chance.randint(13, 9999), -1, 0.5, 0.05, 1.5))
        return str(self._chance.choice((None, True, False, number, number, repr(noun), repr(noun))))

    def _add(self, old: str, kind: str, prose: str) -> None:
        if old in self._new:
            return
        if _is_word(old) and re.search(rf"(?<![\w-]){old}(?![\w-])", re.sub(_mention(old), "", self._prose)):
            self._new[old] = old
            return
        self._new[old] = self._fresh("class" if old[:1].isupper() else kind, prose, "")

    def _fresh(self, kind: str, prose: str, beside: str) -> str:
        """A name of a kind that nothing has yet; it shares words with the name `beside` it, if there is one."""
        while True:
            words = self._words(kind, prose)
            kept = [each.lower() for each in re.findall(r"[A-Z]?[a-z]+", beside)]
            if len(kept) > 1 and len(words) > 1:
                words[self._chance.randrange(len(words))] = self._chance.choice(kept)
            if kind == "class":
                new = "".join(word.capitalize() for word in words)
            elif self._joint == "camel" and kind != "module":
                new = words[0] + "".join(word.capitalize() for word in words[1:])
            else:
                new = ("_" if self._joint == "camel" else self._joint).join(words)
            # No name is the beginning or the end of another: a question could mean either.
            others = [each for each in (*self._new.values(), beside) if len(each) > 3]
            clash = any(new.startswith(each) or new.endswith(each) for each in others)
            clash |= any(each.startswith(new) or each.endswith(new) for each in others)
            if new not in self._taken and not keyword.iskeyword(new) and not clash:
                self._taken.add(new)
                self._used += words
                return new

    def _words(self, kind: str, prose: str) -> list[str]:
        """One to three words of a name of a kind."""
        chance, names = self._chance, _lists()["names"]

        def word(of: str) -> str:
            if chance.random() < 0.15:
                return _invented(chance)
            known = [each for each in self._used if each in names[of]]
            return str(chance.choice(known if known and chance.random() < 0.3 else names[of]))

        # Half of the names tell something of what the thing does, as names do.
        told = [each for each in re.findall(r"\b[a-z]{4,10}\b", prose[:120]) if each not in names["unfit"]]
        noun = chance.choice(told) if told and chance.random() < 0.5 else word("nouns")
        if kind == "module":
            two = [word("nouns"), word("nouns")]
            return [_invented(chance)] if chance.random() < 0.5 else two[: chance.randint(1, 2)]
        if kind == "class":
            return [word("nouns"), noun][: chance.randint(1, 2)]
        if kind == "argument":
            return [chance.choice(names["fronts"]), word("nouns")][chance.choice((0, 1, 1)) :]
        return [word("verbs"), noun, word("nouns")][: chance.choice((1, 2, 2, 2, 2, 3))]


def _invented(chance: random.Random) -> str:
    """A word that is none, of two syllables."""
    return grow("<onsets><rimes><onsets><rimes>", _lists()["names"], chance)


def _is_word(name: str) -> bool:
    """Whether a name may be an English word."""
    return name.isalpha() and name.islower()


def _mention(name: str) -> str:
    """The pattern of where prose means the thing of that name."""
    if not _is_word(name):
        return rf"(?<!\w){name}(?!\w)"
    quotes = "`'\"*"
    return rf"(?:(?<=[{quotes}])|(?<=\w\.)){name}(?!\w)|(?<![\w.-]){name}(?=[`\"*(]|'(?!s\b)|\.\w)"
