"""A prompt as a file: TOML between two lines of `+++`, then messages, each a Jinja template under a line of its own.

    +++
    about = "What a review says, as JSON."
    program = "smollm2-135m-instruct"
    inputs.review = "text"
    output = { mood = ["good", "bad"], item = "text" }

    [[examples]]
    review = "The kettle leaks."
    answer = { mood = "bad", item = "kettle" }

    [[tests]]
    review = "A fine lamp!"
    expect = { mood = "good", item = { any = ["lamp", "a lamp"] } }
    +++ system
    You read reviews.
    +++ user
    What does this review say?
    {{ review }}

docs/prompts.md says all of it. Notable

- The file is cut into messages before anything is filled in, so no input can begin one.
- Examples are questions and answers, not text: each is shown as the last message filled with the example's inputs, and
  the answer. So they have the form of what is asked, and their order can be changed.
- A prompt that takes a conversation (`inputs.talk = "conversation"`) is its system message, and nothing else.
- Everything that can be wrong with a file is told when it is read, with its line.

What it does not do: include other files, choose between several texts, YAML.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from sw2.base.config import from_dict
from sw2.base.errors import ProgramError, Sw2Error, UsageError
from sw2.base.names import nearest
from sw2.core.kinds import Kind
from sw2.domains.prompts.expecting import check_expectation
from sw2.domains.prompts.outputs import Output, output_of
from sw2.domains.prompts.templates import SCHEMA, Template
from sw2.domains.prompts.values import Fences, checked
from sw2.parts.decoding.sampling import Sampling

__all__ = ["ANSWER", "EXPECT", "Case", "Prompt", "Shot", "Writing", "read_prompt"]

ANSWER: Final = "answer"
EXPECT: Final = "expect"

_MARK: Final = re.compile(r"\+\+\+[ \t]*(\w*)[ \t]*")
_ROLES: Final = ("system", "user", "assistant")
_KEYS: Final = ("about", "examples", "inputs", "output", "program", "schema", "tests", "writing")
_TYPES: Final[Mapping[str, str]] = {
    "text": "document",
    "number": "number",
    "boolean": "boolean",
    "record": "record",
    "conversation": "conversation",
}
_WORD: Final = re.compile(r"[a-z][a-z0-9_]*")
_TAKEN: Final = (ANSWER, EXPECT, SCHEMA, "loop", "true", "false", "none", "and", "or", "not", "in", "is", "if", "else")
_LONGEST_FILE: Final = 1 << 20


@final
@dataclass(frozen=True, kw_only=True)
class Writing:
    """How answers are written.

    Args:
        max_tokens: the most tokens of one, ≥ 1; as many as fit where that is fewer.
        temperature, top_p, seed: see `Sampling`; 0 takes the likeliest token.
        stop: an answer ends before the first of these.
    """

    max_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_tokens < 1 or not all(self.stop):
            wrong = "max_tokens" if self.max_tokens < 1 else "stop"
            wanted = "at least 1" if self.max_tokens < 1 else "texts that are not empty"
            raise UsageError(f"writing.{wrong} is out of range.", wanted=wanted, got=getattr(self, wrong))
        self.sampling  # noqa: B018 (complains about what is out of range)

    @property
    def sampling(self) -> Sampling:
        """The same for the engine."""
        return Sampling(temperature=self.temperature, top_p=self.top_p, seed=self.seed)


@final
@dataclass(frozen=True)
class Shot:
    """An example that is shown: the values of all inputs, and the answer."""

    values: Mapping[str, Any]
    answer: Any


@final
@dataclass(frozen=True)
class Case:
    """A question and what is expected of the answer; of a prompt that converses, what the user says, turn by turn."""

    values: Mapping[str, Any]
    expect: Any
    where: str


@final
@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A prompt that was read.

    Args:
        source: the file's text.
        program: the program it runs on, as the file says it.
        inputs: what it takes, by name, in order; a single conversation of one that converses.
        messages: roles and templates; the last is the user's, or the system's of one that converses.
    """

    source: str
    about: str
    program: str
    inputs: Mapping[str, Kind]
    output: Output
    writing: Writing
    messages: Sequence[tuple[str, Template]]
    examples: Sequence[Shot]
    tests: Sequence[Case]

    @property
    def converses(self) -> bool:
        """Whether it takes a conversation."""
        return any(kind.name == "conversation" for kind in self.inputs.values())

    def conversation(self, raw: Any, examples: Sequence[Shot] | None = None) -> list[dict[str, str]]:
        """The messages that ask a question.

        Args:
            raw: the question, as `values.checked` takes it.
            examples: those to show, in this order; the file's when None.

        Raises:
            UsageError: the inputs do not fit, or the templates do not go with them.
        """
        values = checked(self.inputs, raw)
        shots = self.examples if examples is None else examples
        fences = Fences(self.inputs, [values, *(shot.values for shot in shots)])

        def say(template: Template, those: Mapping[str, Any]) -> str:
            return template.render({**fences.filled(those), SCHEMA: self.output.schema})

        *before, (_, last) = self.messages
        said = [{"role": role, "content": say(template, values)} for role, template in before]
        for shot in shots:
            said.append({"role": "user", "content": say(last, shot.values)})
            said.append({"role": "assistant", "content": self.output.text_of(shot.answer)})
        return [*said, {"role": "user", "content": say(last, values)}]

    def talk(self, messages: Sequence[Any]) -> list[Any]:
        """A conversation under this prompt's system message; of a caller's own only what is no system message."""
        system = self.messages[0][1].render({SCHEMA: self.output.schema})
        others = [each for each in messages if not (isinstance(each, Mapping) and each.get("role") == "system")]
        return [{"role": "system", "content": system}, *others]


def read_prompt(source: str, where: str) -> Prompt:
    """The prompt in a file's text.

    Args:
        source: the text.
        where: what to call the file in messages.

    Raises:
        ProgramError: with the line, as far as there is one.
    """
    return _Reader(source, where).prompt()


class _Reader:
    def __init__(self, source: str, where: str) -> None:
        self._source, self._where = source, where
        self._lines: dict[str, int] = {}

    def _fault(self, message: str, wanted: object, got: object, *path: str, do: str | None = None) -> ProgramError:
        """What is wrong at an entry, such as "tests[0].review"."""
        key = ".".join(path)
        line = self._lines.get(key) or next(
            (self._lines[known] for known in _upwards(key) if known in self._lines), self._lines.get("", 0)
        )
        where = f"{self._where}, line {line}" if line else self._where
        return ProgramError(message, where=f"{where}, {key}" if key else where, wanted=wanted, got=got, do=do)

    def prompt(self) -> Prompt:
        front, cuts = self._cut()
        said = self._front(front)
        for key in said:
            if key not in _KEYS:
                close = nearest(key, _KEYS)
                do = f"Did you mean '{close}'?" if close else None
                raise self._fault(f"There is no entry called '{key}'.", ", ".join(_KEYS), key, key, do=do)
        for key in ("about", "program"):
            if not isinstance(said.get(key), str) or not said[key].strip():
                raise self._fault(f"A prompt says its {key}.", f'{key} = "…"', said.get(key, "nothing"), key)
        inputs = self._inputs(said.get("inputs", {}))
        try:
            output = output_of(said.get("output"), said.get("schema"))
        except ValueError as error:
            wanted, _, got = str(error).partition("\n")
            entry = "schema" if "schema" in said else "output"
            raise self._fault("What the answer has to be is not understood.", wanted, got, entry) from error
        except UsageError as error:
            entry = "schema" if "schema" in said else "output"
            raise self._fault(error.message, error.wanted, error.got, entry, do=error.do) from error
        converses = any(kind.name == "conversation" for kind in inputs.values())
        # What is said in a conversation comes after the system message, and is no part of it.
        names = () if converses else tuple(inputs)
        messages = [(role, Template(text, names, self._where, line)) for role, text, line in cuts]
        self._check_order([role for role, _ in messages], converses, output)
        try:
            writing = from_dict(Writing, self._table(said, "writing"), "writing")
        except UsageError as error:
            raise self._fault(error.message, error.wanted, error.got, "writing", do=error.do) from error
        if converses and said.get("examples"):
            raise self._fault(
                "A prompt that converses shows no examples.", "them in the system message", "examples", "examples[0]"
            )
        return Prompt(
            source=self._source,
            about=said["about"],
            program=said["program"],
            inputs=inputs,
            output=output,
            writing=writing,
            messages=messages,
            examples=[self._shot(row, f"examples[{n}]", inputs, output) for n, row in self._rows(said, "examples")],
            tests=[self._case(row, f"tests[{n}]", inputs, output) for n, row in self._rows(said, "tests")],
        )

    # -- cutting ---------------------------------------------------------------------------------------------------

    def _cut(self) -> tuple[str, list[tuple[str, str, int]]]:
        """The front matter, and for each message its role, template and first line."""
        if len(self._source) > _LONGEST_FILE:
            raise ProgramError(
                "This prompt is too long.",
                where=self._where,
                wanted=f"at most {_LONGEST_FILE:,} characters",
                got=f"{len(self._source):,}",
            )
        lines = self._source.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
        marks = [(number, found) for number, line in enumerate(lines) if (found := _MARK.fullmatch(line))]
        if not marks or marks[0][0] != 0 or marks[0][1][1] or len(marks) < 2:
            raise ProgramError(
                "This file is no prompt.",
                where=f"{self._where}, line 1",
                wanted="a line +++, entries in TOML, and a line such as +++ user before each message",
                got=repr(lines[0][:80]) if not marks or marks[0][0] else "no second line of +++",
                do="docs/prompts.md shows one.",
            )
        cuts = []
        ends = [number for number, _ in marks[2:]] + [len(lines)]
        for (number, found), end in zip(marks[1:], ends, strict=True):
            role = found[1] or "user"
            if role not in _ROLES:
                raise ProgramError(
                    "Nobody has this role.",
                    where=f"{self._where}, line {number + 1}",
                    wanted=", ".join(f"+++ {each}" for each in _ROLES),
                    got=lines[number],
                )
            text = "\n".join(lines[number + 1 : end])
            if not text.strip():
                raise ProgramError(
                    "This message is empty.", where=f"{self._where}, line {number + 1}", wanted="a text", got="none"
                )
            cuts.append((role, text, number + 2))
        return "\n".join(lines[1 : marks[1][0]]), cuts

    def _front(self, front: str) -> dict[str, Any]:
        try:
            said = tomllib.loads(front)
        except tomllib.TOMLDecodeError as error:
            found = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
            line = int(found[1]) + 1 if found else front.count("\n") + 2
            raise ProgramError(
                "The entries of this prompt are no TOML.",
                where=f"{self._where}, line {line}",
                wanted="TOML between the first two lines of +++",
                got=str(error).partition(" (at ")[0],
            ) from error
        except RecursionError as error:
            raise ProgramError("The entries of this prompt are no TOML.", where=self._where, got=error) from error
        self._lines = _lines_of(front)
        return said

    def _check_order(self, roles: Sequence[str], converses: bool, output: Output) -> None:
        if converses:
            if list(roles) != ["system"]:
                raise self._fault("A prompt that converses is one system message.", "+++ system", " ".join(roles))
            if output.constraint is not None:
                raise self._fault("A prompt that converses answers in text.", 'output = "text"', output.kind, "output")
            return
        after_system = [role for role in roles[1:] if role == "system"]
        turns = [role for role in roles if role != "system"]
        alternate = turns == [_ROLES[1 + number % 2] for number in range(len(turns))]
        if after_system or not alternate or not turns or turns[-1] != "user":
            raise self._fault(
                "These messages are in no order that models know.",
                "perhaps +++ system, then +++ user and +++ assistant in turn, +++ user at the end",
                ", ".join(roles),
            )

    # -- entries ---------------------------------------------------------------------------------------------------

    def _table(self, said: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        table = said.get(key, {})
        if not isinstance(table, dict):
            raise self._fault(f"The entry {key} is no table.", f"[{key}]", repr(table), key)
        return table

    def _rows(self, said: Mapping[str, Any], key: str) -> list[tuple[int, Mapping[str, Any]]]:
        rows = said.get(key, [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise self._fault(f"The entry {key} is no list of tables.", f"[[{key}]]", repr(rows)[:80], key)
        return list(enumerate(rows))

    def _inputs(self, said: Any) -> dict[str, Kind]:
        if not isinstance(said, dict) or not said:
            raise self._fault("A prompt says its inputs.", 'inputs.text = "text"', repr(said), "inputs")
        found = {name: self._kind(name, spec) for name, spec in said.items()}
        if "conversation" in {kind.name for kind in found.values()} and len(found) > 1:
            raise self._fault(
                "A prompt that takes a conversation takes nothing else.", "one input", ", ".join(found), "inputs"
            )
        if all(kind.default is not None for kind in found.values()):
            raise self._fault("One input at least has to be said.", "one without a default", "defaults only", "inputs")
        # What has to be said comes first: on the command line a text without a name is the first input.
        return dict(sorted(found.items(), key=lambda each: each[1].default is not None))

    def _kind(self, name: str, spec: Any) -> Kind:
        key = f"inputs.{name}"
        if not _WORD.fullmatch(name) or name in _TAKEN:
            raise self._fault(
                "An input cannot be called so.", f"a word in small letters, none of {', '.join(_TAKEN)}", name, key
            )
        if not isinstance(spec, dict):
            spec = {"options": spec} if isinstance(spec, list) else {"type": spec}
        if extra := set(spec) - {"type", "options", "default", "about"}:
            raise self._fault(
                "An input has no such entry.", "type or options, default, about", ", ".join(sorted(extra)), key
            )
        kind, options = spec.get("type"), spec.get("options")
        if (kind is None) == (options is None) or (kind is not None and kind not in _TYPES):
            close = nearest(str(kind), _TYPES) if kind is not None else None
            raise self._fault(
                "What this input is is not understood.",
                f"{', '.join(_TYPES)}, or a list of texts",
                repr(kind if options is None else spec),
                key,
                do=f"Did you mean '{close}'?" if close else None,
            )
        if options is not None and not (
            isinstance(options, list) and options and all(isinstance(each, str) and each for each in options)
        ):
            raise self._fault("What this input may be is not understood.", "a list of texts", repr(options), key)
        made = Kind(
            "label" if options is not None else _TYPES[str(kind)],
            options=tuple(options or ()),
            default=spec.get("default"),
            about=str(spec.get("about", "")),
        )
        if made.default is not None:
            if made.name in ("conversation", "record"):
                raise self._fault("This input has no default.", "one that has to be said", repr(made.default), key)
            self._values({name: Kind(made.name, options=made.options)}, {name: made.default}, key)
        return made

    def _values(self, inputs: Mapping[str, Kind], raw: Mapping[str, Any], key: str) -> dict[str, Any]:
        try:
            return checked(inputs, raw)
        except UsageError as error:
            raise self._fault(error.message, error.wanted, error.got, key) from error

    def _shot(self, row: Mapping[str, Any], key: str, inputs: Mapping[str, Kind], output: Output) -> Shot:
        if ANSWER not in row:
            raise self._fault("An example shows an answer.", f"{ANSWER} = …", ", ".join(row), key)
        answer = row[ANSWER]
        named = {name: value for name, value in row.items() if name != ANSWER}
        values = self._values(inputs, named, key)
        fields = list(output.fields or ())
        if output.kind == "record":
            fits = isinstance(answer, (dict, list)) and (not fields or list(answer) == fields)
            wanted = f"a table of {', '.join(fields)}, in this order" if fields else "a table or a list"
        else:
            fits = isinstance(answer, str) and (not output.options or answer in output.options)
            wanted = f"one of: {', '.join(output.options)}" if output.options else "a text"
        if not fits:
            raise self._fault("This answer is not what answers are.", wanted, repr(answer)[:200], key, ANSWER)
        return Shot(values, answer)

    def _case(self, row: Mapping[str, Any], key: str, inputs: Mapping[str, Kind], output: Output) -> Case:
        line = self._lines.get(key)
        where = f"{self._where}, line {line}" if line else f"{self._where}, {key}"
        try:
            return case_of(row, inputs, output, where)
        except Sw2Error as error:
            raise self._fault(error.message, error.wanted, error.got, key, do=error.do) from error


def case_of(row: Mapping[str, Any], inputs: Mapping[str, Kind], output: Output, where: str) -> Case:
    """A test from its entries, or from a row of data.

    Raises:
        UsageError: it says no expectation, or its inputs do not fit.
    """
    if row.get(EXPECT) is None:
        raise UsageError("A test says what it expects.", wanted=f"{EXPECT} = …", got=", ".join(map(str, row)))
    named = {name: value for name, value in row.items() if name != EXPECT}
    conversation = next((name for name, kind in inputs.items() if kind.name == "conversation"), None)
    if conversation is None:
        values: Mapping[str, Any] = checked(inputs, named)
    else:
        turns = named.get(conversation)
        turns = [turns] if isinstance(turns, str) else turns
        if set(named) != {conversation} or not isinstance(turns, list) or not turns or \
           not all(isinstance(turn, str) and turn for turn in turns):  # fmt: skip
            raise UsageError(
                "A test of a conversation says what the user says.",
                wanted=f'{conversation} = ["…", …], a text for each turn',
                got=repr(named)[:200],
            )
        values = {conversation: turns}
    check_expectation(row[EXPECT], output)
    return Case(values, row[EXPECT], where)


# ---------------------------------------------------------------------------------------------------- lines of entries


def _upwards(key: str) -> list[str]:
    """The entries that an entry stands in, the nearest first."""
    parts = re.split(r"\.", key)
    return [".".join(parts[:count]) for count in range(len(parts) - 1, 0, -1)]


def _lines_of(front: str) -> dict[str, int]:
    """On which line of the file each entry begins, by its dotted name; lists of tables by number, from 0.

    Found by the look of lines, for messages only; what stands inside texts of several lines is no entry.
    """
    found = {"": 1}
    counts: dict[str, int] = {}
    table, quote = "", ""
    for number, line in enumerate(front.split("\n"), start=2):
        if quote:
            quote = "" if quote in line else quote
            continue
        if header := re.match(r"\s*(\[\[?)\s*([^\[\],]+?)\s*\]\]?\s*(?:#.*)?$", line):
            table = header[2].replace('"', "")
            if header[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = f"{table}[{counts[table]}]"
            found.setdefault(table, number)
        elif entry := re.match(r'\s*("?[\w.-]+"?)\s*=', line):
            key = entry[1].replace('"', "")
            whole = f"{table}.{key}" if table else key
            found.setdefault(whole, number)
            for above in _upwards(whole):
                found.setdefault(above, number)
        for mark in ('"""', "'''"):
            if line.count(mark) % 2:
                quote = mark
    return found
