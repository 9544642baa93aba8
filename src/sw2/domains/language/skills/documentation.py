"""Questions about documentation, with the passage that answers them, or does not, in the question.

    user       Passage:
               shutil.copytree(src, dst, symlinks=False, …)
               Recursively copy a directory tree and return the destination directory. …

               Question: What does `shutil.copytree` do?
    assistant  Recursively copy a directory tree and return the destination directory.

A passage holds one to three entries of a module (documentation_passages.py), and one of them is asked about
(documentation_questions.py). In a tenth of the examples it is one that is not in the passage, and the answer is that
the passage does not say. Examples whose own answer the checker (documentation_check.py) would not take are not made.

Train is made richer than the other splits (documentation_train.py): some fifty layouts, four hundred wordings with
small talk and typos, passages in several shapes, and, of Python, half of the examples with invented names throughout,
some with invented sentences about errors and values. What it lacks is at times nearly what the passage holds. Three
examples of train in a row ask about the same passage in the same layout, each something else, so that where the passage
comes before the question it need be read only once.

Held out by module and by content (documentation_passages.py), and by wording (documentation_questions.py).

What it does not do: ask what takes two entries to answer, or anything in several turns.
"""

from __future__ import annotations

import copy
import functools
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from sw2.base.errors import DataError
from sw2.domains.language.skills.basis import TOGETHER, Example, Made, Split, assistant, draw, user
from sw2.domains.language.skills.documentation_check import check
from sw2.domains.language.skills.documentation_passages import PYTHON, Entry, entries, sentences
from sw2.domains.language.skills.documentation_questions import Chosen, Manner, held_out, question, to_learn
from sw2.domains.language.skills.documentation_train import Renaming, invented_sentence

__all__ = ["NOT_THERE", "examples", "examples_from"]

NOT_THERE: Final = "The passage does not say."
SYSTEM: Final = f"Answer from the passage in a sentence. If it holds no answer, say: {NOT_THERE}"

# How often at most a passage is drawn, and a question about it; for how many passages no question may stand twice in a
# block.
_ATTEMPTS: Final = 10_000
_TRIES: Final = 12
_CHOOSY: Final = 12

# How train is varied: how often names are invented, the entry that is asked about is not in the passage, entries are of
# one class or file, and what is lacking is nearly something there.
_RENAMED: Final = 0.48
_LACKING: Final = 0.1
_NEAR: Final = 0.5
_TWIN: Final = 0.35


def examples(split: Split, seed: int, count: int) -> Sequence[Example]:
    """The first `count` examples of a split, from the modules of the running Python."""
    return examples_from(PYTHON, split, seed, count)


def examples_from(source: str, split: Split, seed: int, count: int) -> Sequence[Example]:
    """The first `count` examples of a split, from any source (`entries`).

    Raises:
        DataError: the source has no module in this split.
    """
    modules = entries(source)[split]
    if not modules:
        raise DataError(
            "No module is held out for this split.", where=source, wanted=split, got="too few modules or files"
        )
    if split != "train":
        manner = held_out(split)
        return Made(lambda number: _example(modules, manner, seed, number, source), count)
    # Who trains on documentation of their own wants its names known, too.
    renamed = _RENAMED if source == PYTHON else 0

    # Examples are mostly asked for in a row, so that each block is made once.
    @functools.lru_cache(maxsize=8)
    def block(number: int) -> Sequence[Example]:
        return _block(modules, renamed, seed, number, source)

    return Made(lambda number: copy.deepcopy(block(number // TOGETHER)[number % TOGETHER]), count)


def _example(modules: Sequence[Sequence[Entry]], manner: Manner, seed: int, number: int, source: str) -> Example:
    """An example with a passage of its own."""
    for attempt in range(_ATTEMPTS):
        chance = draw(seed, "documentation", manner.split, number, attempt)
        module, count = _module(modules, chance)
        shown = chance.sample(module, count)
        lacking = len(module) > len(shown) and chance.random() < 0.125
        asked = chance.choice([entry for entry in module if entry not in shown]) if lacking else shown[0]
        if made := _made(Chosen(asked, shown, lacking), manner, chance, chance):
            return {**made, "where": _where(manner.split, number, source, asked)}
    raise _no_questions(modules, source)


def _block(modules: Sequence[Sequence[Entry]], renamed: float, seed: int, block: int, source: str) -> Sequence[Example]:
    """Examples of train about one passage in one layout, each with a question of its own.

    Args:
        modules: the entries of each module.
        renamed: the share of blocks with invented names.
        seed: of the data set.
        block: the number of the first example, divided by how many there are.
        source: where the modules are from.
    """
    manner = to_learn()
    for attempt in range(_ATTEMPTS):
        matter = draw(seed, "documentation", "train", "block", block, attempt)
        module, count = _module(modules, matter)
        shown, away = _matter(module, count, renamed, matter)
        found = list[Example]()
        known = set[tuple[str, str]]()
        for number in range(block * TOGETHER, (block + 1) * TOGETHER):
            chance = draw(seed, "documentation", "train", number, attempt)
            for _ in range(_TRIES):
                lacking = bool(away) and chance.random() < _LACKING
                asked = chance.choice(away if lacking else shown)
                # All that stands before the question is drawn anew for each, and so the same for all.
                common = draw(seed, "documentation", "train", "layout", block)
                made = _made(Chosen(asked, shown, lacking), manner, chance, common)
                # Modules of one short entry may have nothing else to ask about.
                if made and ((said := (asked.name, made["check"]["answer"])) not in known or attempt >= _CHOOSY):
                    known.add(said)
                    found.append({**made, "where": _where("train", number, source, asked)})
                    break
            else:
                break
        if len(found) == TOGETHER:
            return found
    raise _no_questions(modules, source)


def _module(modules: Sequence[Sequence[Entry]], chance: random.Random) -> tuple[Sequence[Entry], int]:
    """A module, and how many of its entries a passage is to have."""
    # Large modules have more to ask about; by the root, so that none is most of a split.
    module = chance.choices(modules, [len(module) ** 0.5 for module in modules])[0]
    return module, min(len(module), chance.choice((1, 2, 2, 3)))


def _made(chosen: Chosen, manner: Manner, chance: random.Random, common: random.Random) -> dict[str, Any] | None:
    """An example but for where it is from; None when the entry does not give the question that was drawn.

    Args:
        chosen: what it is about.
        manner: how it is put.
        chance: draws the question.
        common: draws the order of the passage and the layout.
    """
    asked, shown, lacking = chosen.asked, list(chosen.shown), chosen.lacking
    made = question(chosen, manner, chance)
    if made is None or any(asked.name.endswith(entry.name) for entry in shown if entry is not asked):
        return None
    kind, text, answer, facts = made
    if kind == "unnamed" and (lacking or len(shown) < 2):
        return None
    common.shuffle(shown)
    passages = [entry.passage for entry in shown]
    example: dict[str, Any] = {
        "messages": [
            {"role": "system", "content": SYSTEM},
            user(manner.framed(text, passages, common)),
            assistant(NOT_THERE if lacking else answer),
        ],
        "check": {
            "skill": "documentation",
            "kind": "lacking" if lacking else kind,
            "answer": answer,
            "name": asked.name,
            "passage": "\n\n".join(passages),
            "others": [[entry.name, entry.key] for entry in shown if entry is not asked],
            **facts,
        },
        "skill": "documentation",
        "family": f"{manner.split}/{kind}",
    }
    # Some prose cannot be judged by its words ("Return x." beside "Return y."): not asked about.
    return example if check(example, example["messages"]).passed else None


def _where(split: Split, number: int, source: str, asked: Entry) -> str:
    return f"documentation/{split}/{number} ({source}: {asked.name})"


def _no_questions(modules: Sequence[Sequence[Entry]], source: str) -> DataError:
    return DataError(
        "These modules give no questions.", where=source, wanted="documented functions", got=f"{len(modules)} modules"
    )


# ---------------------------------------------------------------------------------------------------- passages of train


def _matter(
    module: Sequence[Entry], count: int, renamed: float, chance: random.Random
) -> tuple[list[Entry], list[Entry]]:
    """The entries of a passage, and of those that it lacks as many as may be asked about, at times by other names."""
    shown, away = _together(module, count, chance), list[Entry]()
    left = [entry for entry in module if entry not in shown]
    while left and len(away) < TOGETHER:
        away.append(_beside(chance.choice(shown), left, chance))
        left.remove(away[-1])
    return _renamed(shown, away, chance) if chance.random() < renamed else (shown, away)


def _together(module: Sequence[Entry], count: int, chance: random.Random) -> list[Entry]:
    """Entries of a module, half of the time of one class or file, so that they are easily taken for each other."""
    first = chance.choice(module)
    shown = [first]
    while len(shown) < count:
        shown.append(_beside(first, [entry for entry in module if entry not in shown], chance))
    return shown


def _beside(entry: Entry, others: Sequence[Entry], chance: random.Random) -> Entry:
    """One of `others`, half of the time of the class or file that `entry` is of."""
    home = entry.name.rpartition(".")[0]
    near = [other for other in others if other.name.rpartition(".")[0] == home]
    return chance.choice(near if near and chance.random() < _NEAR else others)


def _renamed(shown: Sequence[Entry], away: Sequence[Entry], chance: random.Random) -> tuple[list[Entry], list[Entry]]:
    """The same entries by invented names, some with a sentence more about an error or a value."""
    old = [*shown, *away]
    renaming = Renaming([(entry.name, entry.arguments or (), entry.text) for entry in old], chance)
    new = []
    for entry in old:
        arguments = renaming.arguments(entry.arguments or (), entry.text)
        text = _longer(renaming.text(entry.text), [name for name, _ in arguments if name[0] != "*"], chance)
        new.append(replace(entry, name=renaming.name(entry.name), arguments=arguments, text=text))
    there, lacking = new[: len(shown)], new[len(shown) :]
    # What is not there has at times a name, and all else, that is nearly the same as of something there.
    for at in range(len(lacking)):
        if chance.random() < _TWIN:
            twin = chance.choice(there)
            lacking[at] = replace(twin, name=renaming.near(twin.name))
    return there, lacking


def _longer(text: str, arguments: Sequence[str], chance: random.Random) -> str:
    """The first sentence, up to three invented ones, and, where these are few, of the others one or two."""
    kinds = ["raises"] * chance.choice((0, 0, 0, 1, 1, 2))
    if not re.search(r"(?i)\breturn", text) and chance.random() < 0.3:
        kinds.insert(0, "returns")
    added, errors = list[str](), {""}
    for kind in kinds:
        sentence, error = invented_sentence(kind, chance.choice(arguments) if arguments else None, chance)
        if kind == "returns" or error not in errors | set(re.findall(r"\w+", text)):
            added.append(sentence)
            errors.add(error)
    first, *others = sentences(text)
    return " ".join([first, *added, *others[: max(0, chance.choice((0, 1, 2)) - len(added))]])
