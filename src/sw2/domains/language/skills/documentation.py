"""Questions about documentation, with the passage that answers them, or does not, in the question.

    user       Passage:
               shutil.copytree(src, dst, symlinks=False, …)
               Recursively copy a directory tree and return the destination directory. …

               Question: What does `shutil.copytree` do?
    assistant  Recursively copy a directory tree and return the destination directory.

Sources: the modules of the running Python, any installed package by name, any folder of Markdown. Python files are
parsed, never imported. A passage holds one to three entries of a module; questions ask what an entry does, which entry
does something (without naming it), what it returns, when it raises an error, its arguments, a default. In an eighth of
the examples the entry that is asked about is not in the passage, and the answer is that the passage does not say.

Train is made richer than the other splits (documentation_train.py): some fifty layouts, four hundred wordings with
small talk and typos, passages in several shapes, and, of Python, half of the examples with invented names throughout,
some with invented sentences about errors and values. What it lacks is at times nearly what the passage holds. Three
examples of train in a row ask about the same passage in the same layout, each something else, so that where the passage
comes before the question it need be read only once.

Held out by module (of the standard library: by its first name; of Markdown: by file), by wording, and by content: an
entry whose first sentence stands in several modules belongs to none of them.

Right is, of sentences: most of the key sentence's words, little else, no word or number from nowhere, no lost "not", no
opposite, nearer to the key sentence than to one about another entry. Of names, arguments and defaults: exactly those.

What it does not do: understand. A paraphrase with other words than the passage's counts as wrong, and a false sentence
made of the passage's own words can pass; README.md says how often people disagree.
"""

from __future__ import annotations

import ast
import copy
import functools
import importlib.util
import random
import re
import sys
import sysconfig
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from sw2.base.errors import DataError, UsageError
from sw2.domains.language.skills.basis import (
    TOGETHER,
    Example,
    Made,
    Message,
    Split,
    Verdict,
    answer_of,
    assistant,
    draw,
    numbers,
    split_of,
    user,
)
from sw2.domains.language.skills.documentation_train import Renaming, framed, invented_sentence, worded

__all__ = ["NOT_THERE", "PYTHON", "Entry", "check", "entries", "examples", "examples_from"]

PYTHON: Final = "python"
NOT_THERE: Final = "The passage does not say."
SYSTEM: Final = f"Answer from the passage in a sentence. If it holds no answer, say: {NOT_THERE}"

_LEFT_OUT: Final = frozenset(
    {"test", "tests", "idle_test", "idlelib", "lib2to3", "turtledemo", "__pycache__", "site-packages"}
)
# Modules that are one in two files, or have each other's words.
_TWINS: Final = {"posixpath": "os", "ntpath": "os", "genericpath": "os", "dummy_threading": "threading"}
_MOST_WORDS: Final = 70


@dataclass(frozen=True)
class Entry:
    """A documented thing.

    Args:
        module: what it is held out by.
        name: as one writes it, "shutil.copytree"; of Markdown the heading.
        arguments: each argument and its default, None where it has none.
        text: its documentation, paragraphs cleaned.
    """

    module: str
    name: str
    arguments: tuple[tuple[str, str | None], ...] | None
    text: str

    @property
    def key(self) -> str:
        """The first sentence."""
        return _sentences(self.text)[0]

    @property
    def passage(self) -> str:
        """The entry as it stands in a passage: head and whole sentences up to some seventy words."""
        kept, words = list[str](), 0
        for sentence in _sentences(self.text):
            words += len(sentence.split())
            if kept and words > _MOST_WORDS:
                break
            kept.append(sentence)
        return f"{self.head}\n{' '.join(kept)}"

    @property
    def head(self) -> str:
        """The name with its arguments, or the heading."""
        if self.arguments is None:
            return f"# {self.name}"
        return (
            f"{self.name}({', '.join(each if value is None else f'{each}={value}' for each, value in self.arguments)})"
        )


# -------------------------------------------------------------------------------------------------------- sources


@functools.cache
def entries(source: str) -> Mapping[Split, Sequence[Sequence[Entry]]]:
    """The documented things of a source by split, those of a module together.

    Args:
        source: "python", an installed package's name, or a folder of Markdown.

    Raises:
        UsageError: there is no such package or folder.
        DataError: nothing there is documented.
    """
    found = list(_read(source))
    times = Counter(entry.key for entry in found)
    modules: dict[str, list[Entry]] = {}
    for entry in found:
        if times[entry.key] == 1:
            modules.setdefault(entry.module, []).append(entry)
    if not modules:
        raise DataError(
            "Nothing here is documented.", where=source, wanted="docstrings, or headings with text", got="none"
        )
    splits: dict[Split, list[Sequence[Entry]]] = {"train": [], "validation": [], "test": []}
    for module, held in modules.items():
        splits[split_of(module)].append(held)
    return splits


def _read(source: str) -> Iterator[Entry]:
    if source == PYTHON:
        root = Path(sysconfig.get_paths()["stdlib"])
        for name in sorted(sys.stdlib_module_names):
            if not name.startswith("_") and name not in _LEFT_OUT:
                for module, file in _python_files(root, name):
                    yield from _python(_TWINS.get(name, name), module, file)
    elif (folder := Path(source)).is_dir():
        for file in sorted(folder.rglob("*.md")):
            yield from _markdown(file.relative_to(folder).as_posix(), file)
    else:
        try:
            spec = importlib.util.find_spec(source) if source.isidentifier() else None
        except (ImportError, ValueError):
            spec = None
        if spec is None or spec.origin is None:
            raise UsageError(
                "There is no such documentation.",
                wanted=f"'{PYTHON}', an installed package's name, or a folder of Markdown",
                got=source,
            )
        root = Path(spec.origin).parent
        for module, file in _python_files(root.parent if spec.submodule_search_locations else root, source):
            yield from _python(module, module, file)


def _python_files(root: Path, name: str) -> Iterator[tuple[str, Path]]:
    """The modules of a name below `root`, private ones and tests left out."""
    if (single := root / f"{name}.py").is_file():
        yield name, single
    folder = root / name
    for file in sorted(folder.rglob("*.py")) if (folder / "__init__.py").is_file() else ():
        parts = [name, *file.relative_to(folder).with_suffix("").parts]
        if not any(part in _LEFT_OUT or (part.startswith("_") and part != "__init__") for part in parts):
            yield ".".join(part for part in parts if part != "__init__"), file


def _python(held_by: str, module: str, file: Path) -> Iterator[Entry]:
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    for node in tree.body:
        yield from _documented(held_by, module, node)
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for inner in node.body:
                yield from _documented(held_by, f"{module}.{node.name}", inner)


def _documented(held_by: str, prefix: str, node: ast.stmt) -> Iterator[Entry]:
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) or node.name.startswith("_"):
        return
    text = _cleaned(ast.get_docstring(node) or "")
    if not text:
        return
    arguments = () if isinstance(node, ast.ClassDef) else _arguments(node.args)
    if isinstance(node, ast.ClassDef):
        makers = [each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
        arguments = _arguments(makers[0].args) if makers else ()
    if sum(len(each) + len(value or "") for each, value in arguments) <= 100:
        yield Entry(held_by, f"{prefix}.{node.name}", arguments, text)


def _arguments(args: ast.arguments) -> tuple[tuple[str, str | None], ...]:
    plain = [*args.posonlyargs, *args.args]
    defaults: list[ast.expr | None] = [None] * (len(plain) - len(args.defaults)) + list(args.defaults)
    named: list[tuple[str, ast.expr | None]] = [(each.arg, value) for each, value in zip(plain, defaults)]
    named += [(f"*{args.vararg.arg}", None)] if args.vararg else []
    named += [(each.arg, value) for each, value in zip(args.kwonlyargs, args.kw_defaults)]
    named += [(f"**{args.kwarg.arg}", None)] if args.kwarg else []
    left = [(name, None if value is None else ast.unparse(value)) for name, value in named]
    return tuple((name, value) for name, value in left if name not in ("self", "cls"))


def _markdown(held_by: str, file: Path) -> Iterator[Entry]:
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return
    text = re.sub(r"(?ms)^(```|~~~).*?^\1\s*$", "", text)
    for heading, body in re.findall(r"(?ms)^#{1,6} +(.+?)\s*#*\s*$(.*?)(?=^#{1,6} |\Z)", text):
        prose = [part for part in re.split(r"\n\s*\n", body) if not re.match(r"\s*([|>*+<-]|\d+\.|    )", part)]
        prose = [re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", part) for part in prose]
        if cleaned := _cleaned("\n\n".join(prose)):
            yield Entry(held_by, heading.strip("`* "), None, cleaned)


def _cleaned(docstring: str) -> str:
    """Prose of a docstring in one line, "" when its first sentence is none."""
    parts = []
    for part in re.split(r"\n\s*\n", docstring.strip()):
        if re.search(r"^\s*(>>>|[-*=~+|]{2,})|::\s*$|^\s*[\w*]+ *(--|:) |^\s*[-*:.]", part, re.M) or "\n  " in part:
            break
        parts.append(" ".join(part.split()))
    parts = [part for part in parts if part and not part.endswith(":")]
    text = " ".join(part if part.endswith((".", "!", "?")) else f"{part}." for part in parts).replace("..", ".")
    first = _sentences(text)[0] if text else ""
    words = first.split()
    proper = re.match(r"[A-Z`][\w`'-]* ", first) and not re.search(r"[<>{}|\\]|->", text) and text.isascii()
    return text if proper and 4 <= len(words) <= 32 else ""


def _sentences(text: str) -> list[str]:
    """The sentences of a text; "e.g." and the like end none."""
    return re.split(r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)(?<!etc\.)(?<!vs\.) +(?=[A-Z`(])", text)


# ------------------------------------------------------------------------------------------------------- questions


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
        manner = _held_out(split)
        return Made(lambda number: _example(modules, manner, seed, number, source), count)
    # Who trains on documentation of their own wants its names known, too.
    renamed = _RENAMED if source == PYTHON else 0

    # Examples are mostly asked for in a row, so that each block is made once.
    @functools.lru_cache(maxsize=8)
    def block(number: int) -> Sequence[Example]:
        return _block(modules, renamed, seed, number, source)

    return Made(lambda number: copy.deepcopy(block(number // TOGETHER)[number % TOGETHER]), count)


_Question = tuple[str, str, str, dict[str, Any]]
"""A kind, the text, the answer and what the checker needs."""


@dataclass(frozen=True)
class _Chosen:
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
class _Manner:
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
    called: Callable[[_Chosen, random.Random], str]
    kinds: Mapping[str, int]
    error: Callable[[Sequence[tuple[str, str]], random.Random], tuple[str, str]]
    worded: Callable[[str, Mapping[str, str], random.Random], str]
    framed: Callable[[str, Sequence[str], random.Random], str]


def _held_out(split: Split) -> _Manner:
    """Few wordings, which nobody trains on."""
    words = _wordings()[split]

    def laid_out(question: str, passages: Sequence[str], chance: random.Random) -> str:
        layout: str = chance.choice(words["layouts"])
        return layout.format(passage="\n\n".join(passages), question=question)

    return _Manner(
        split=split,
        called=lambda chosen, _: chosen.asked.name,
        kinds={"what": 3, "unnamed": 8, "returns": 4, "raises": 6, "default": 2, "arguments": 2},
        error=lambda errors, _: errors[0],
        worded=lambda kind, said, chance: str(chance.choice(words[kind])).format(**said),
        framed=laid_out,
    )


def _to_learn() -> _Manner:
    """As varied as can be (documentation_train.py)."""
    return _Manner(
        split="train",
        called=_called,
        kinds={"what": 15, "unnamed": 62, "returns": 17, "raises": 9, "default": 13, "arguments": 13},
        error=lambda errors, chance: chance.choice(errors),
        worded=worded,
        framed=framed,
    )


def _example(modules: Sequence[Sequence[Entry]], manner: _Manner, seed: int, number: int, source: str) -> Example:
    """An example with a passage of its own."""
    for attempt in range(_ATTEMPTS):
        chance = draw(seed, "documentation", manner.split, number, attempt)
        module, count = _module(modules, chance)
        shown = chance.sample(module, count)
        lacking = len(module) > len(shown) and chance.random() < 0.125
        asked = chance.choice([entry for entry in module if entry not in shown]) if lacking else shown[0]
        if made := _made(_Chosen(asked, shown, lacking), manner, chance, chance):
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
    manner = _to_learn()
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
                made = _made(_Chosen(asked, shown, lacking), manner, chance, common)
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


def _made(chosen: _Chosen, manner: _Manner, chance: random.Random, common: random.Random) -> dict[str, Any] | None:
    """An example but for where it is from; None when the entry does not give the question that was drawn.

    Args:
        chosen: what it is about.
        manner: how it is put.
        chance: draws the question.
        common: draws the order of the passage and the layout.
    """
    asked, shown, lacking = chosen.asked, list(chosen.shown), chosen.lacking
    made = _question(asked, manner.called(chosen, chance), manner, chance)
    if made is None or any(asked.name.endswith(entry.name) for entry in shown if entry is not asked):
        return None
    kind, question, answer, facts = made
    if kind == "unnamed" and (lacking or len(shown) < 2):
        return None
    common.shuffle(shown)
    passages = [entry.passage for entry in shown]
    example: dict[str, Any] = {
        "messages": [
            {"role": "system", "content": SYSTEM},
            user(manner.framed(question, passages, common)),
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


# How often a passage is drawn, a question about it, and for how many passages no question may stand twice in a block.
_ATTEMPTS: Final = 10_000
_TRIES: Final = 12
_CHOOSY: Final = 12

# How train is varied: how often names are invented, the entry that is asked about is not in the passage, entries are of
# one class or file, what is lacking is nearly something there, and an entry is called by its last name alone where that
# is clear.
_RENAMED: Final = 0.48
_LACKING: Final = 0.1
_NEAR: Final = 0.5
_TWIN: Final = 0.35
_BY_LAST_NAME: Final = 0.12


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


def _called(chosen: _Chosen, chance: random.Random) -> str:
    """How a question names an entry."""
    asked = chosen.asked
    last = asked.name.rpartition(".")[2]
    clear = all(last.lower() not in other.passage.lower() for other in chosen.shown if other is not asked)
    return last if asked.arguments is not None and clear and chance.random() < _BY_LAST_NAME else asked.name


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
    first, *others = _sentences(text)
    return " ".join([first, *added, *others[: max(0, chance.choice((0, 1, 2)) - len(added))]])


def _question(entry: Entry, called: str, manner: _Manner, chance: random.Random) -> _Question | None:
    """A question about an entry; None when it does not give the kind that was drawn."""
    if entry.arguments is None:
        kind = chance.choice(("section", "topic"))
        if kind == "section":
            return "what", manner.worded(kind, {"name": entry.name}, chance), entry.key, {}
        task = _lowered(entry.key.rstrip("."))
        return "unnamed", manner.worded(kind, {"task": task}, chance), f'"{entry.name}"', {}
    kind = chance.choices(list(manner.kinds), list(manner.kinds.values()))[0]
    sentences = _sentences(entry.passage.partition("\n")[2])
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
        found = [each for each in sentences if re.match(r"Returns? ", each) and len(each.split()) >= 4]
        if not found:
            return None
        answer = found[0]
    elif kind == "raises":
        errors = [
            (each, e)
            for each in sentences[1:]
            for e in re.findall(r"\b\w+(?:Error|Exception)\b", each)
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


# --------------------------------------------------------------------------------------------------------- checking

_REFUSES: Final = re.compile(
    r"(?i)\b(?:passage|text|documentation|manual|it|this)\b[^.]{0,30}\b(?:does not|doesn't|do not|didn't|did not)\b"
    r"[^.]{0,20}\b(?:say|tell|mention|contain|hold|cover|describe|state|explain|include|answer|provide|specify)"
    r"|\bno (?:answer|information|mention)\b|\bnot (?:in|mentioned|found|stated|given|described|covered)\b"
    r"|\b(?:cannot|can't|could not|couldn't) (?:find|tell|say|answer)\b|\bi (?:do not|don't) know\b"
)
_POLAR: Final = frozenset(
    {
        "not",
        "no",
        "never",
        "none",
        "false",
        "true",
        "cannot",
        "without",
        "only",
        "always",
        "unless",
        "except",
        "neither",
    }
)
_COUNTING: Final = ("all", "first", "last", "same", "single", "both", "second", "every", "each", "nothing")
_OPPOSITES: Final = [
    {"first", "last"}, {"open", "close"}, {"before", "after"}, {"minimum", "maximum"}, {"smallest", "largest"},
    {"greater", "less"}, {"start", "end"}, {"left", "right"}, {"upper", "lower"}, {"uppercase", "lowercase"},
    {"add", "remove"}, {"read", "write"}, {"increase", "decrease"}, {"true", "false"}, {"with", "without"},
    {"input", "output"}, {"encode", "decode"}, {"all", "none"}, {"old", "new"}, {"success", "failure"},
    {"enable", "disable"}, {"client", "server"}, {"source", "destination"}, {"begin", "end"}, {"push", "pop"},
    {"always", "never"}, {"oldest", "newest"}, {"empty", "full"}, {"forward", "backward"}, {"key", "value"},
    {"load", "save"}, {"create", "delete"}, {"set", "get"}, {"lock", "unlock"}, {"send", "receive"},
    {"parent", "child"}, {"row", "column"}, {"width", "height"}, {"closest", "furthest"},
    {"different", "same"}, {"one", "all"},
]  # fmt: skip


def check(example: Example, messages: Sequence[Message]) -> Verdict:
    """Judge an answer by the words of the passage."""
    facts = example["check"]
    answer, kind = answer_of(messages), facts["kind"]
    if not answer:
        return Verdict(False, 0.0, ("no answer",))
    refuses = _REFUSES.search(answer) is not None
    if kind == "lacking":
        if refuses and len(answer.split()) <= 40:
            return Verdict(True, 1.0)
        return Verdict(False, 0.0, ("answers what the passage does not say",))
    if refuses and not _REFUSES.search(facts["answer"]):
        return Verdict(False, 0.0, ("says that the passage holds no answer",))
    if len(answer.split()) > 2 * len(facts["answer"].split()) + 15:
        return Verdict(False, 0.0, ("copies or rambles",))
    judge = {"unnamed": _name, "default": _default, "arguments": _names}.get(kind, _sentence)
    score, flaws = judge(facts, answer)
    return Verdict(not flaws, score, tuple(flaws))


def _name(facts: Mapping[str, Any], answer: str) -> tuple[float, list[str]]:
    def named(name: str) -> bool:
        last = name if " " in name else name.rpartition(".")[2]
        return re.search(rf"(?<![\w]){re.escape(last)}(?![\w])", answer) is not None

    flaws = [] if named(facts["name"]) else ["does not name it"]
    prefix = facts["name"].rpartition(".")[0].split(".")
    others = [
        name
        for name, _ in facts["others"]
        if name.rpartition(".")[2] not in (*prefix, facts["name"].rpartition(".")[2])
    ]
    flaws += [f"names another: {name}" for name in others if named(name)]
    return float(not flaws), flaws


def _default(facts: Mapping[str, Any], answer: str) -> tuple[float, list[str]]:
    def plain(text: str) -> str:
        return re.sub(r"[\s`'\"]", "", text)

    literals = re.findall(r"`[^`]+`|'[^']*'|\"[^\"]*\"|(?<![\w.])-?\d+(?:\.\d+)?|\b(?:True|False|None)\b", answer)
    named = {facts["argument"], facts["name"], facts["name"].rpartition(".")[2], ""}
    said = {plain(each) for each in literals} - named or {plain(answer.rstrip(".").split()[-1])}
    value = plain(facts["value"])
    if value not in said:
        return 0.0, ["wrong default"]
    return (0.0, ["names another default"]) if said - {value} else (1.0, [])


def _names(facts: Mapping[str, Any], answer: str) -> tuple[float, list[str]]:
    wanted = set(facts["arguments"])
    said = {each.strip("*") for each in re.findall(r"`([^`]+)`", answer)}
    said = {part.strip("* ") for each in said for part in re.split(r"[,()]|=[^,)]*", each)}
    if not said & wanted:
        said = {word for word in re.findall(r"\w+", answer) if "_" in word or word in wanted}
    said -= {facts["name"], facts["name"].rpartition(".")[2], "", "self"} - wanted
    score = len(said & wanted) / len(said | wanted)
    flaws = [f"missing argument: {each}" for each in sorted(wanted - said)]
    return score, flaws + [f"invented argument: {each}" for each in sorted(said - wanted)]


def _sentence(facts: Mapping[str, Any], answer: str) -> tuple[float, list[str]]:
    own = next(
        (each for each in facts["passage"].split("\n\n") if re.match(rf"(# )?{re.escape(facts['name'])}", each)), ""
    )
    key, main, said = facts["answer"], _main(facts["answer"]), _words(answer)
    near = max(_sentences(answer), key=lambda each: _f1(_words(each), _words(key)))
    score = _f1(said, _words(key))
    flaws = []
    known = set(_words(own)) | set(_words(facts["name"].replace(".", " ")))
    nowhere = [word for word in said if word not in known]
    missing = sum((_words(main) - said).values())
    # A word of the key replaced by one that stands nowhere is another statement; so are its words in another order.
    if missing > 0.4 * sum(_words(main).values()) or (missing and nowhere):
        flaws.append("misses the answer")
    elif _in_order(main, answer) < 0.7:
        flaws.append("turns the answer round")
    strange = [word for word in re.findall(r"(?<=[a-z,] )[A-Z]\w+", answer) if not _has(own, word)]
    strange += [str(value) for value in numbers(answer) if value not in numbers(own)]
    if len(nowhere) > 0.34 * len(said) or strange:
        flaws.append(f"not in the passage: {', '.join((strange or nowhere)[:3])}")
    told = key if sum((said & _words(key)).values()) > 0.75 * sum(_words(key).values()) else main
    lost = (_polar(told) - _polar(near)) | (_polar(near) - _polar(key)) | (_polar(answer) - _polar(own))
    lost |= {word for word in _COUNTING if _has(near, word) and not _has(own, word)}
    if lost:
        flaws.append(f"contradicts: {', '.join(sorted(lost))}")
    flaws += [
        f"contradicts: {word} for {other}"
        for pair in _OPPOSITES
        for word in pair
        for other in pair - {word}
        if _has(answer, word) and not _has(key, word) and _has(key, other) and not _has(answer, other)
    ]
    for name, other in facts["others"]:
        if _f1(said, _words(other)) > score:
            flaws.append(f"answers about another: {name}")
    return (score if not flaws else min(score, 0.5)), flaws


def _main(key: str) -> str:
    """The first clause of a sentence, if it says something by itself."""
    for cut in re.finditer(r"[;(]|,? or None\b|, ", key):
        if sum(_words(key[: cut.start()]).values()) >= 3:
            return key[: cut.start()]
    return key


def _in_order(key: str, answer: str) -> float:
    """Of the key's words that the answer has, the share that stands in the key's order (longest common subsequence)."""
    wanted, said = list(_stems(key)), list(_stems(answer))
    row = [0] * (len(said) + 1)
    for word in wanted:
        before = 0
        for at, other in enumerate(said, start=1):
            before, row[at] = row[at], before + 1 if word == other else max(row[at], row[at - 1])
    return row[-1] / max(1, sum((Counter(wanted) & Counter(said)).values()))


def _has(text: str, word: str) -> bool:
    return re.search(rf"(?i)\b{word}s?\b", text) is not None


def _polar(text: str) -> frozenset[str]:
    text = re.sub(r"(?i)n't\b|\bcannot\b", " not ", text)
    return _POLAR & set(re.findall(r"[a-z]+", text.lower()))


def _words(text: str) -> Counter[str]:
    """How often each word that carries meaning stands there."""
    return Counter(_stems(text))


def _stems(text: str) -> Iterator[str]:
    """The words that carry meaning, in order, their endings cut."""
    text = re.sub(r"n't\b", " not", text.lower()).replace("cannot", "can not")
    for word in re.findall(r"[a-z0-9_]+", re.sub(r"\b(?:gets?|gives?)\b", "return", text)):
        if word not in _wordings()["words"]["empty"]:
            yield re.sub(r"(?<=\w{3})(?:ing|ies|ied|es|ed|e|s|y)$", "", word)


def _f1(some: Counter[str], other: Counter[str]) -> float:
    both = sum((some & other).values())
    return 2 * both / (sum(some.values()) + sum(other.values())) if both else 0.0
