"""A question about an entry of documentation, with its answer, as train or another split puts it.

    question(Chosen(entry, [entry], False), held_out("test"), chance)
        ("default", "default for `ignore` (`shutil.copytree`)?", "The default of `ignore` is `None`.", {...})

What an entry does, which entry does something (without naming it), what it returns, when it raises an error, its
arguments, a default; of Markdown what a section says, and which section says it. Answers are the documentation's own
sentences, names and values.

A manner is how a split puts them. Those that are held out have a few wordings each (documentation.toml), which nobody
trains on; train is as varied as can be (documentation_train.py).

What it does not do: see whether the passage has other answers, or whether the checker can judge this one
(documentation.py does).
"""

from __future__ import annotations

import functools
import random
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sw2.domains.language.skills.basis import Split
from sw2.domains.language.skills.documentation_passages import Entry, sentences
from sw2.domains.language.skills.documentation_train import framed, worded

__all__ = ["Chosen", "Manner", "Question", "held_out", "question", "to_learn"]

# How often train calls an entry by its last name alone, where that is clear.
_BY_LAST_NAME: Final = 0.12

Question = tuple[str, str, str, dict[str, Any]]
"""A kind, the text, the answer and what the checker needs."""


@dataclass(frozen=True)
class Chosen:
    """What an example is about.

    Args:
        asked: the entry that the question is about.
        shown: the entries of the passage.
        lacking: `asked` is none of these.
    """

    asked: Entry
    shown: list[Entry]
    lacking: bool


@dataclass(frozen=True)
class Manner:
    """In what train and the other splits differ. Each function draws from the generator that is its last argument.

    Args:
        split: whose manner it is.
        called: how the question names the entry.
        kinds: kinds of questions, and how often each is tried; not every entry gives every kind.
        error: which of the errors of an entry, each in its sentence, is asked about.
        worded: a question of a kind about words.
        framed: the question and the passage in one message.
    """

    split: Split
    called: Callable[[Chosen, random.Random], str]
    kinds: Mapping[str, int]
    error: Callable[[Sequence[tuple[str, str]], random.Random], tuple[str, str]]
    worded: Callable[[str, Mapping[str, str], random.Random], str]
    framed: Callable[[str, Sequence[str], random.Random], str]


def held_out(split: Split) -> Manner:
    """Few wordings, which nobody trains on."""
    words = _wordings()[split]

    def laid_out(question: str, passages: Sequence[str], chance: random.Random) -> str:
        layout: str = chance.choice(words["layouts"])
        return layout.format(passage="\n\n".join(passages), question=question)

    return Manner(
        split=split,
        called=lambda chosen, _: chosen.asked.name,
        kinds={"what": 3, "unnamed": 8, "returns": 4, "raises": 6, "default": 2, "arguments": 2},
        error=lambda errors, _: errors[0],
        worded=lambda kind, said, chance: str(chance.choice(words[kind])).format(**said),
        framed=laid_out,
    )


def to_learn() -> Manner:
    """As varied as can be (documentation_train.py)."""
    return Manner(
        split="train",
        called=_called,
        kinds={"what": 15, "unnamed": 62, "returns": 17, "raises": 9, "default": 13, "arguments": 13},
        error=lambda errors, chance: chance.choice(errors),
        worded=worded,
        framed=framed,
    )


def _called(chosen: Chosen, chance: random.Random) -> str:
    """How a question names an entry."""
    asked = chosen.asked
    last = asked.name.rpartition(".")[2]
    clear = all(last.lower() not in other.passage.lower() for other in chosen.shown if other is not asked)
    return last if asked.arguments is not None and clear and chance.random() < _BY_LAST_NAME else asked.name


def question(chosen: Chosen, manner: Manner, chance: random.Random) -> Question | None:
    """A question about an entry; None when it does not give the kind that was drawn.

    Args:
        chosen: what it is about.
        manner: how it is put.
        chance: draws it.
    """
    entry, called = chosen.asked, manner.called(chosen, chance)
    if entry.arguments is None:
        kind = chance.choice(("section", "topic"))
        if kind == "section":
            return "what", manner.worded(kind, {"name": entry.name}, chance), entry.key, {}
        task = _lowered(entry.key.rstrip("."))
        return "unnamed", manner.worded(kind, {"task": task}, chance), f'"{entry.name}"', {}
    kind = chance.choices(list(manner.kinds), list(manner.kinds.values()))[0]
    told = sentences(entry.passage.partition("\n")[2])
    words: dict[str, str] = {"name": called}
    facts: dict[str, Any] = {}
    if kind == "what":
        answer = entry.key
    elif kind == "unnamed":
        task = re.split(r", | which | that | and return|;|:| if | \(", entry.key.rstrip("."))[0]
        if not _is_order(entry.key) or not 3 <= len(task.split()) <= 12:
            return None
        words["task"] = _lowered(task)
        answer = f"Use `{entry.name}`."
    elif kind == "returns":
        found = [each for each in told if re.match(r"Returns? ", each) and len(each.split()) >= 4]
        if not found:
            return None
        answer = found[0]
    elif kind == "raises":
        errors = [
            (each, error)
            for each in told[1:]
            for error in re.findall(r"\b\w+(?:Error|Exception)\b", each)
            if "raise" in each
        ]
        if not errors:
            return None
        answer, words["error"] = manner.error(errors, chance)
    elif kind == "default":
        given = [(name, value) for name, value in entry.arguments if value is not None and len(value) <= 24]
        if not given:
            return None
        words["argument"], value = chance.choice(given)
        answer = f"The default of `{words['argument']}` is `{value}`."
        facts = {"argument": words["argument"], "value": value, "values": [each for _, each in entry.arguments if each]}
    else:
        names = [name.lstrip("*") for name, _ in entry.arguments]
        if not 1 <= len(names) <= 7:
            return None
        answer = f"`{entry.name.rpartition('.')[2]}` takes {_listed([f'`{name}`' for name in names])}."
        facts = {"arguments": names}
    return kind, manner.worded(kind, words, chance), answer, facts


def _is_order(sentence: str) -> bool:
    """Whether a sentence tells to do something ("Copy a file."), as far as its first word shows."""
    first = sentence.split()[0]
    return first.isalpha() and first.lower() in _wordings()["words"]["orders"]


def _lowered(text: str) -> str:
    return text if text[:2].isupper() or text.startswith("`") else text[:1].lower() + text[1:]


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


@functools.cache
def _wordings() -> Mapping[str, Any]:
    with open(Path(__file__).with_name("documentation.toml"), "rb") as file:
        return tomllib.load(file)
