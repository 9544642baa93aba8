"""Constraints on what is written: a JSON Schema, a regular expression, a choice of strings, a grammar, framed JSON.

    Constraint --compiled once for a vocabulary--> a state that every answer copies
               --after each token--> the tokens that may come next; the others cannot be chosen

Notable
- So an answer that came to its end obeys its constraint by construction, at any temperature. One that was cut off (by
  the token limit, a stop string, somebody who no longer wants it) is the beginning of an answer that does, and the
  beginning of a JSON text is no JSON. Its finish reason says so.
- The library llguidance decides which tokens may come: an Earley parser over lexemes, which are derivatives of regular
  expressions; it walks a trie of the vocabulary's bytes. See docs/decisions/0017-constraints-are-masks.md.
- It is told the bytes of each token and nothing of control tokens: these cannot be named in a grammar and are never
  allowed. Its token for the end stands for ours, which may be several, where the text is complete.
- Where the next bytes are certain, only the token is allowed that the tokenizer would cut from them, so a model reads
  its own words as it has learned to.
- White space in JSON is at most a space, or a new line with up to 16 spaces, in each place. Without an end to it, small
  models indent until they are cut off.
- A character in a JSON string has one spelling. If an `a` could be written as its number too, a key that a schema knows
  could come once more as one that it does not know. So control characters without a short escape stand in no string.
- Copies of a state share what the library has worked out. It is bounded, and full when the library says so: then the
  next answer starts from a new one.
- The library's recursion takes as much stack as a text has references in a row, and a full stack ends the process. So
  sources are bounded, and compiled by a thread whose stack holds the worst of them.

Sources: https://github.com/guidance-ai/llguidance (docs/json_schema.md for the keywords and where they depart from the
standard: properties come in the schema's order, a format is its regular expression; docs/syntax.md for grammars).

What it does not do: write several forced tokens in one step; GBNF; hold `%json` inside a grammar to more than the
library does by itself; find a grammar's rules that never end (an answer by them is cut off by the token limit, as one
that is too long).

Shapes: V vocabulary · C tokens to choose from
"""

from __future__ import annotations

import functools
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, final

import numpy as np
from numpy.typing import NDArray

from sw2.base.errors import UsageError
from sw2.base.names import missing_extra
from sw2.base.store import parse_json
from sw2.parts.decoding.schema import endless, place, unkept
from sw2.parts.decoding.vocabulary import Vocabulary

__all__ = ["Compiler", "Constraint", "Matcher", "compiler"]

Kind = Literal["json-schema", "regex", "choice", "grammar", "framed", "text-with-frames"]

_NAMES: Final[Mapping[str, str]] = {
    "json-schema": "the JSON Schema",
    "regex": "the regular expression",
    "choice": "the choice",
    "grammar": "the grammar",
    "framed": "the JSON Schema in a frame",
    "text-with-frames": "the JSON Schema in a frame",
}
_DO: Final[Mapping[str, str]] = {
    "json-schema": "Change the schema; docs/decisions/0017-constraints-are-masks.md says what is supported.",
    "regex": "Change the expression; look-around and references back are not supported.",
    "choice": "Offer fewer or shorter strings.",
    "grammar": "Change the grammar; its language is that of llguidance's docs/syntax.md.",
    "framed": "Change the schema; docs/decisions/0017-constraints-are-masks.md says what is supported.",
    "text-with-frames": "Change the schema; docs/decisions/0017-constraints-are-masks.md says what is supported.",
}

MOST_BYTES: Final = 1 << 16
"""How long the source of a constraint may be."""

_STACK: Final = 1 << 28  # bytes, of which only those are taken that are used
_ONE_AT_A_TIME: Final = threading.Lock()  # the size of new stacks is the whole process's
_COMPILED: Final = 64  # constraints remembered for a vocabulary
_VOCABULARIES: Final = 4

_JSON: Final[Any] = {
    "item_separator": ",",
    "key_separator": ":",
    "whitespace_pattern": r" |\n {0,16}",
    "json_allowed_escapes": 'nrbtf\\"',
    "lenient": False,
    "coerce_one_of": False,
}

_BY_NUMBER: Final = re.compile(r'"(?:\\.|[^"\\])*"|/(?![/])(?:\\.|[^/\\\n])+/|(?://|#)[^\n]*|(?P<number><\[)')
"""What may hold any characters in a grammar (strings, expressions, comments), or else a token by its number."""


@final
@dataclass(frozen=True)
class Constraint:
    """What a text has to be as a whole; hashable.

    Args:
        kind: "json-schema", "regex", "choice", "grammar", "framed" or "text-with-frames".
        source: for a JSON Schema its text (draft 2020-12); a regular expression in the syntax of Rust, that the whole
            text matches; for a choice a JSON list of strings; a grammar in llguidance's variant of Lark, whose rule
            `start` is the whole text; for JSON in a frame a JSON list of [text before, schema, text after], of which
            the whole text is one; for a text with frames {"mark": what each text before begins with, "frames": such a
            list, "most": how many may stand in it, null for any number}. At most 65,536 bytes of UTF-8.

    Raises:
        UsageError: the source is empty, too long, or plainly of another form; more is found when it is compiled.

    >>> Constraint.choice(["yes", "no"])
    Constraint(kind='choice', source='["yes", "no"]')
    """

    kind: Kind
    source: str

    def __post_init__(self) -> None:
        if self.kind not in _NAMES:
            raise UsageError("There is no such constraint.", wanted=f"one of: {', '.join(_NAMES)}", got=self.kind)
        # Half a surrogate pair has no bytes, and no token could spell it.
        size = len(self.source.encode(errors="replace"))
        if not 0 < size <= MOST_BYTES or not _encodable(self.source):
            raise _refused(
                self.kind,
                f"1 to {MOST_BYTES:,} bytes of Unicode text",
                f"{size:,} bytes" if _encodable(self.source) else "half a surrogate pair",
            )
        if self.kind == "json-schema":
            self._check_schema(self._parsed())
        if self.kind in ("framed", "text-with-frames"):
            parsed = self._parsed()
            frames = parsed if self.kind == "framed" else _frames_of(parsed)
            if not isinstance(frames, list) or not frames or not all(map(_is_frame, frames)):
                raise _refused(self.kind, "at least one [text, schema, text]", self.source[:200])
            for _, schema, _ in frames:
                self._check_schema(schema)
        if self.kind == "choice" and not (
            isinstance(options := self._parsed(), list)
            and any(options)
            and all(isinstance(option, str) and _encodable(option) for option in options)
        ):
            raise _refused(self.kind, "at least one text that is not empty", self.source[:200])

    @classmethod
    def json_schema(cls, schema: str | Mapping[str, Any]) -> Constraint:
        """The text is a JSON document that meets `schema`, given as its text or parsed."""
        return cls("json-schema", schema if isinstance(schema, str) else json.dumps(schema, ensure_ascii=False))

    @classmethod
    def regex(cls, pattern: str) -> Constraint:
        """The whole text matches `pattern`."""
        return cls("regex", pattern)

    @classmethod
    def choice(cls, options: Sequence[str]) -> Constraint:
        """The text is one of `options`."""
        return cls("choice", json.dumps(list(options), ensure_ascii=False))

    @classmethod
    def grammar(cls, lark: str) -> Constraint:
        """The text is derived from the rule `start` of a grammar."""
        return cls("grammar", lark)

    @classmethod
    def framed(cls, frames: Sequence[tuple[str, Mapping[str, Any], str]]) -> Constraint:
        """The text is one of `frames`: a text, a JSON document that meets a schema, and another text."""
        return cls("framed", json.dumps([list(each) for each in frames], ensure_ascii=False))

    @classmethod
    def text_with_frames(
        cls, mark: str, frames: Sequence[tuple[str, Mapping[str, Any], str]], most: int | None = None
    ) -> Constraint:
        """Any text, in which one of `frames` stands wherever `mark` does, with which each of them begins.

        Args:
            mark: not empty.
            frames: see `framed`.
            most: how many of them may stand in the text, at least 1; None for any number.
        """
        source = {"mark": mark, "frames": [list(each) for each in frames], "most": most}
        return cls("text-with-frames", json.dumps(source, ensure_ascii=False))

    def _parsed(self) -> Any:
        try:
            return parse_json(self.source)
        except json.JSONDecodeError as error:
            raise _refused(self.kind, "JSON", error.msg, f"line {error.lineno}, column {error.colno}") from error
        except (ValueError, RecursionError) as error:
            raise _refused(self.kind, "JSON", error) from error

    def _check_schema(self, schema: Any) -> None:
        if not isinstance(schema, dict):
            raise _refused(self.kind, "an object", self.source[:200])
        try:
            never, broken = endless(schema), unkept(schema)
        except RecursionError as error:
            raise _refused(self.kind, "schemas that do not stand in each other this deep", "a deeper one") from error
        if never:
            raise _refused(
                self.kind,
                "a schema that a finite document can meet",
                "one whose every way leads into itself again",
                "$ref",
            )
        if broken:
            where, wanted, got = broken
            raise _refused(self.kind, wanted, got, where)


def _refused(kind: Kind, wanted: str, got: object, where: str | None = None) -> UsageError:
    name = _NAMES[kind]
    return UsageError(
        "This constraint cannot be followed.",
        where=f"{name}, {where}" if where else name,
        wanted=wanted,
        got=got,
        do=_DO[kind],
    )


def _is_frame(value: Any) -> bool:
    """Whether it is a text that is not empty, something, and a text."""
    return (
        isinstance(value, list)
        and len(value) == 3
        and all(isinstance(text, str) and _encodable(text) for text in value[::2])
        and bool(value[0])
    )


def _frames_of(source: Any) -> Any:
    """The frames of a text with frames; None where its source is of another form."""
    match source:
        case {"mark": str(mark), "frames": list(frames), "most": None | int() as most, **more}:
            begin = all(_is_frame(frame) and frame[0].startswith(mark) and frame[0] != mark for frame in frames)
            plain = mark and begin and not more and (most is None or (most > 0 and not isinstance(most, bool)))
            return frames if plain else None
    return None


def _lark_of_text(source: Mapping[str, Any]) -> str:
    """The grammar of a text with frames: up to a mark any text, then the rest of a frame, and so on.

    The text before a frame takes the mark with it, as short as can be ("lazy"): a lexeme that ended before the mark
    would have to know that one follows.
    """
    mark, frames, most = source["mark"], source["frames"], source["most"]
    rest = [[frame[0].removeprefix(mark), *frame[1:]] for frame in frames]
    found = _escaped(mark)
    return "\n".join(
        [
            f"start: (before frame){'*' if most is None else f'{{0,{most}}}'} plain",
            f"before[lazy]: /(?s:.*){found}/",
            "plain: PLAIN",
            f"PLAIN: /(?s:.*)/ & ~/(?s:.*){found}(?s:.*)/",
            _lark(rest).replace("start: ", "frame: ", 1),
        ]
    )


def _lark(frames: Sequence[Any]) -> str:
    """The grammar of frames. Each schema is a document of its own, so that references inside find their targets."""
    rules = ["start: " + " | ".join(f"frame_{number}" for number in range(len(frames)))]
    for number, (before, schema, after) in enumerate(frames):
        rules.append(f"frame_{number}: {_string(before)} json_{number} {_string(after)}")
        rules.append(f"json_{number}: %json {_written({**schema, 'x-guidance': _JSON})}")
    return "\n".join(rules)


def _string(text: str) -> str:
    """A string of a grammar; nothing for an empty one."""
    return _written(text) if text else ""


def _written(value: Any) -> str:
    """JSON for a grammar, whose lexer takes no control character as it is, while JSON does take the last of them."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _escaped(text: str) -> str:
    """A regular expression of `text` alone."""
    return "".join(each if each.isascii() and each.isalnum() else f"\\x{{{ord(each):x}}}" for each in text)


def _encodable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


@final
class Matcher:
    """Where one answer stands in its constraint; `Compiler.matcher` makes it.

    Args:
        state: the library's, at the start.
        text_V: bool, the tokens that stand for text.
        ends: the tokens that end an answer.
        broken: called when the library has reached its limits.

    Attributes:
        allowed_C: int64, the tokens that may come next, rising; those in `ends` among them where the text is complete.
        finish: None while an ordinary token may come. Otherwise "stop", when the text is complete and can only end, or
            "length", when the library cannot go on (a limit of its work is reached, or no token fits): the text is
            then cut off.
    """

    def __init__(self, state: Any, text_V: NDArray[np.bool_], ends: Sequence[int], broken: Callable[[], None]) -> None:
        self._state, self._text_V, self._ends, self._broken = state, text_V, list(ends), broken
        self.allowed_C: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.finish: Literal["stop", "length"] | None = None
        self._look()

    def advance(self, token: int) -> None:
        """Take the next token of the answer, one of those allowed that stand for text."""
        assert self._text_V[token], "the end of an answer is nobody's next token"
        self._state.consume_token(token)
        self._look()

    def _look(self) -> None:
        bits = np.frombuffer(self._state.compute_bitmask(), dtype=np.uint8)
        allowed_V = np.unpackbits(bits, count=len(self._text_V), bitorder="little").view(np.bool_) & self._text_V
        complete = bool(self._state.is_accepting())
        if self._state.is_error():
            self._broken()
            self.finish = "length"
        elif not allowed_V.any():
            self.finish = "stop" if complete else "length"
        elif complete:
            allowed_V[self._ends] = True
        self.allowed_C = allowed_V.nonzero()[0]


@final
class Compiler:
    """Makes matchers for the tokens of a vocabulary, and remembers what it has compiled: the 64 last used.

    Args:
        vocabulary: the tokenizer.

    Raises:
        MissingExtra: the library is not installed.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        try:
            import llguidance
        except ModuleNotFoundError as error:
            raise missing_extra("llguidance") from error
        self._library = llguidance
        tokens = [vocabulary.token_bytes(token) for token in range(vocabulary.vocab_size)]
        # The library marks special tokens by this byte, which no UTF-8 text holds.
        tokens = [b"" if spelled.startswith(b"\xff") else spelled for spelled in tokens]
        self._text_V = np.array([bool(spelled) for spelled in tokens])
        self.tokens = llguidance.LLTokenizer(llguidance.TokenizerWrapper(_Tokens(tokens, vocabulary.encode)))
        """The vocabulary as the library knows it: one token more, for the end."""
        self._compiled: OrderedDict[Constraint, Any] = OrderedDict()

    def matcher(self, constraint: Constraint, ends: Sequence[int]) -> Matcher:
        """Return a matcher at the start of an answer.

        Args:
            constraint: what the answer has to be.
            ends: the tokens that end an answer. Without one it ends only where nothing else could follow.

        Raises:
            UsageError: the constraint is not well-formed, not supported, too large, or nothing but the empty text
                meets it.
        """
        compiled = self._compiled.pop(constraint, None) or self._compile(constraint)
        self._compiled[constraint] = compiled
        while len(self._compiled) > _COMPILED:
            self._compiled.popitem(last=False)
        state = compiled.deep_copy()
        return Matcher(state, self._text_V, ends, lambda: self._forget(constraint))

    def _forget(self, constraint: Constraint) -> None:
        self._compiled.pop(constraint, None)

    def _compile(self, constraint: Constraint) -> Any:
        if constraint.kind == "grammar":
            for found in _BY_NUMBER.finditer(constraint.source):
                if found["number"]:
                    line = constraint.source.count("\n", 0, found.start()) + 1
                    raise _refused(
                        constraint.kind, "strings, expressions and rules", "tokens by number", f"line {line}"
                    )
        state = _with_deep_stack(lambda: self._started(constraint))
        message = str(state.get_error())
        if message:
            raise _complaint(constraint, message)
        matcher = Matcher(state.deep_copy(), self._text_V, (), lambda: None)
        if matcher.finish == "stop":
            raise _refused(constraint.kind, "at least one text that is not empty", "only the empty text")
        # Some limits show at the first token only.
        if matcher.finish is None:
            matcher.advance(int(matcher.allowed_C[0]))
        if matcher.finish == "length":
            raise _refused(
                constraint.kind, "something that a text can meet, within the limits of llguidance", "neither"
            )
        return state

    def _started(self, constraint: Constraint) -> Any:
        library, source = self._library.LLMatcher, constraint.source
        try:
            if constraint.kind == "json-schema":
                grammar = library.grammar_from_json_schema(source, overrides=_JSON)
            elif constraint.kind == "regex":
                grammar = library.grammar_from_regex(source)
            elif constraint.kind == "choice":
                grammar = library.grammar_from_regex("|".join(map(_escaped, json.loads(source))))
            elif constraint.kind == "framed":
                grammar = library.grammar_from_lark(_lark(json.loads(source)))
            elif constraint.kind == "text-with-frames":
                grammar = library.grammar_from_lark(_lark_of_text(json.loads(source)))
            else:
                grammar = library.grammar_from_lark(source)
        except ValueError as error:
            raise _complaint(constraint, str(error)) from error
        return library(self.tokens, grammar, log_level=0)


@functools.lru_cache(maxsize=_VOCABULARIES)
def compiler(vocabulary: Vocabulary) -> Compiler:
    """Return the compiler for `vocabulary`: the one of before, for the last four."""
    return Compiler(vocabulary)


class _Tokens:
    """A vocabulary in the form that the library asks for, and the token for the end, the last one."""

    bos_token_id = None

    def __init__(self, tokens: Sequence[bytes], encode: Callable[[str], list[int]]) -> None:
        # No special token's name in a grammar may hold a space, so nothing can name this one.
        self.tokens = [*tokens, b"<the end>"]
        self.eos_token_id = len(tokens)
        self.special_token_ids = [len(tokens)]
        self._encode = encode

    def __call__(self, text: str | bytes) -> list[int]:
        if isinstance(text, bytes):
            raise TypeError("text is wanted")  # how the library asks whether bytes would do
        return self._encode(text)


def _with_deep_stack(function: Callable[[], Any]) -> Any:
    """The result of `function`, from a thread whose stack holds what recursion over a source takes."""
    results: list[Any] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)

    with _ONE_AT_A_TIME:
        before = threading.stack_size(_STACK)
        try:
            thread = threading.Thread(target=run, name="sw2 constraint")
            thread.start()
        finally:
            threading.stack_size(before)
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _complaint(constraint: Constraint, message: str) -> UsageError:
    """The library's message for a user, with its place in the source where the library gives one."""
    lines = message.splitlines() or ["no reason given"]
    got, where = lines[0], None
    if constraint.kind == "json-schema":
        words = re.findall(r"[^\s\"\[\]',:]+", got)
        found = (place(json.loads(constraint.source), word) for word in reversed(words))
        where = next(filter(None, found), None)
    elif constraint.kind == "regex":
        got = next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), got)
    elif constraint.kind == "grammar" and (position := re.match(r"(?:at )?(\d+)\((\d+)\): (.*)", got)):
        where, got = f"line {position[1]}, column {position[2]}", position[3]
    return _refused(constraint.kind, "one that llguidance can compile", got[:300], where)
