"""Constraints on what networks write: random ones, which obey nothing by themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sw2.base.errors import UsageError
from sw2.domains.language.decoder import Decoder
from sw2.domains.language.prep import PrepConfig, TextPrep
from sw2.domains.language.task import TextWriter
from sw2.domains.language.tokenizer import Tokenizer
from sw2.parts.decoding import native
from sw2.parts.decoding.constraint import MOST_BYTES, Compiler, Constraint, Matcher, compiler
from sw2.parts.decoding.sampling import Sampling

WORDS = 'the quick brown fox, naïve façades, 日本語 and "quoted" {"name": "text", "age": 12, "items": [true, null]} '
TOKENIZER = Tokenizer.train([WORDS * 20], 380).with_control("<|im_start|>", "<|im_end|>")
ENDS = (TOKENIZER.control["<|endoftext|>"], TOKENIZER.control["<|im_end|>"])
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
PERSON = Constraint.json_schema(SCHEMA)


def network(seed: int = 0, padding: int = 0) -> TextWriter:
    torch.manual_seed(seed)
    config = Decoder.Config(
        vocab_size=TOKENIZER.vocab_size + padding, context=512, width=64, depth=2, heads=2, kv_heads=1, hidden=64,
        init_deviation=0.3,
    )  # fmt: skip
    prep = TextPrep(TOKENIZER, PrepConfig(vocab_size=TOKENIZER.vocab_size))
    return TextWriter({"decoder": Decoder(config).eval()}, prep, {})


@pytest.fixture(scope="module")
def writer() -> TextWriter:
    return network(padding=13)


def write(
    writer: TextWriter, constraint: Constraint | None, seed: int = 0, *, temperature: float = 1.0, most: int = 300
) -> tuple[str, str | None]:
    """The text, and why it ended."""
    pieces = list(
        writer.generate("the", Sampling(temperature=temperature, seed=seed), max_tokens=most, constraint=constraint)
    )
    return "".join(piece.text for piece in pieces), pieces[-1].finished


def walk(constraint: Constraint, draw: np.random.Generator, most: int = 400) -> str | None:
    """A text of tokens drawn evenly from those allowed, without a network; None when it was cut off."""
    matcher, tokens = compiler(TOKENIZER).matcher(constraint, ENDS), list[int]()
    while matcher.finish is None and len(tokens) < most:
        token = int(draw.choice(matcher.allowed_C))
        if token in ENDS:
            return TOKENIZER.decode_bytes(tokens).decode()  # strictly: an answer that ended is UTF-8
        tokens.append(token)
        matcher.advance(token)
    return TOKENIZER.decode_bytes(tokens).decode() if matcher.finish == "stop" else None


# ----------------------------------------------------------------------------------------------------- vocabularies


@pytest.mark.parametrize("single_digits", [False, True])
def test_the_library_knows_every_token_by_its_bytes(single_digits: bool) -> None:
    tokenizer = Tokenizer.train([WORDS * 20], 380, single_digits=single_digits).with_control("<|im_start|>")
    known, control = compiler(tokenizer).tokens, set(tokenizer.control.values())
    assert known.vocab_size == tokenizer.vocab_size + 1
    for token in set(range(tokenizer.vocab_size)) - control:
        spelled = tokenizer.token_bytes(token)
        # No text holds the byte FF, which means something else there.
        assert known.decode_bytes([token]) == (spelled if spelled != b"\xff" else f"<[{token}]>".encode())
    assert [known.is_special_token(token) for token in control] == [False] * len(control)
    assert known.tokenize_str("naïve <|im_start|> 日本") == tokenizer.encode("naïve <|im_start|> 日本")


def test_added_tokens_are_text_and_half_characters_become_whole() -> None:
    inner = tokenizers.Tokenizer.from_str(TOKENIZER.to_json())
    inner.add_tokens(["zebra crossing", "naïve!"])
    more = Tokenizer(inner.to_str())
    matcher = compiler(more).matcher(Constraint.choice(["zebra crossing", "naïve!"]), ENDS)
    assert {more.vocab_size - 2, more.vocab_size - 1} <= set(matcher.allowed_C.tolist())
    # No token holds a whole one of these; their bytes are tokens.
    for seed in range(5):
        assert walk(Constraint.choice(["𝄞", "𝄢"]), np.random.default_rng(seed)) in ("𝄞", "𝄢")


def test_what_is_certain_is_written_in_the_tokenizer_s_own_tokens() -> None:
    text = 'the quick brown fox {"name": "naïve"}'
    matcher, found = compiler(TOKENIZER).matcher(Constraint.choice([text]), ENDS), list[int]()
    while matcher.finish is None:
        (token,) = matcher.allowed_C.tolist()
        found.append(token)
        matcher.advance(token)
    assert found == TOKENIZER.encode(text)


def test_control_and_unknown_tokens_are_never_allowed(writer: TextWriter) -> None:
    matcher = compiler(TOKENIZER).matcher(Constraint.regex(r"(?s:.)*"), ENDS)
    allowed, control = set(matcher.allowed_C.tolist()), set(TOKENIZER.control.values())
    assert allowed & control == set(ENDS)
    assert max(allowed) < TOKENIZER.vocab_size < writer.net.config.vocab_size
    for seed in range(3):
        # Spelled out, they are text.
        text, finished = write(writer, Constraint.choice(["<|im_start|>", "<|endoftext|>"]), seed)
        assert (text in ("<|im_start|>", "<|endoftext|>"), finished) == (True, "end")


def test_it_is_compiled_once_and_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    made, count = compiler(TOKENIZER), [0]
    assert compiler(TOKENIZER) is made
    whole = type(made)._compile

    def counted(self: Any, constraint: Constraint) -> Any:
        count[0] += 1
        return whole(self, constraint)

    monkeypatch.setattr(type(made), "_compile", counted)
    first = Constraint.choice(["only here"])
    for _ in range(3):
        made.matcher(first, ENDS)
    assert count == [1]
    for number in range(64):
        made.matcher(Constraint.choice([f"another {number}"]), ENDS)
    made.matcher(first, ENDS)
    assert count == [66]


# ---------------------------------------------------------------------------------------------------------- results


def meets(value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether `value` meets a schema of the keywords that `schemas` below makes; by hand, from the standard."""
    if "anyOf" in schema:
        return any(meets(value, each) for each in schema["anyOf"])
    if "enum" in schema:
        return any(type(value) is type(each) and value == each for each in schema["enum"])
    kind = schema["type"]
    if kind in ("integer", "number"):
        fits = isinstance(value, int if kind == "integer" else (int, float)) and not isinstance(value, bool)
        return fits and schema.get("minimum", value) <= value <= schema.get("maximum", value)
    if kind == "string":
        fits = isinstance(value, str) and schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 10**9)
        return fits and ("pattern" not in schema or re.search(schema["pattern"], value) is not None)
    if kind == "array":
        fits = isinstance(value, list) and schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 10**9)
        return fits and all(meets(each, schema["items"]) for each in value)
    if kind == "object":
        known = schema["properties"]
        fits = isinstance(value, dict) and set(schema["required"]) <= set(value) <= set(known)
        return fits and all(meets(each, known[name]) for name, each in value.items())
    return {"boolean": isinstance(value, bool), "null": value is None}[kind]


# Control characters without an escape of their own have no spelling.
unspelled = "".join(map(chr, {*range(32), 127} - set(b"\n\r\t\b\f")))
names = st.text(st.characters(codec="utf-8", exclude_characters=unspelled), min_size=1, max_size=6)
lengths = st.integers(0, 6).flatmap(lambda least: st.tuples(st.just(least), st.integers(least, 8)))
leaves = st.one_of(
    st.sampled_from([{"type": "boolean"}, {"type": "null"}]),
    st.builds(
        lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more},
        st.integers(-200, 200),
        st.integers(0, 300),
    ),
    st.builds(lambda low: {"type": "number", "minimum": low, "maximum": low + 2.5}, st.integers(-9, 9)),
    st.builds(lambda sizes: {"type": "string", "minLength": sizes[0], "maxLength": sizes[1]}, lengths),
    st.sampled_from([{"type": "string", "pattern": p} for p in ("^[a-c]{2,4}$", r"^\d{4}-\d{2}$", "^(a|é|häufig)$")]),
    st.builds(lambda values: {"enum": values}, st.lists(names | st.integers(-5, 5), min_size=1, max_size=3)),
)  # fmt: skip
schemas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(lambda items, most: {"type": "array", "items": items, "maxItems": most}, inner, st.integers(0, 3)),
        st.builds(
            lambda properties, needed: {
                "type": "object",
                "properties": properties,
                "required": [name for name, wanted in zip(properties, needed, strict=False) if wanted],
                "additionalProperties": False,
            },
            st.dictionaries(names, inner, max_size=3),
            st.lists(st.booleans(), min_size=3, max_size=3),
        ),
        st.builds(lambda ways: {"anyOf": ways}, st.lists(inner, min_size=1, max_size=2)),
    ),
    max_leaves=5,
)


@settings(max_examples=60, deadline=None)
@given(schemas, st.integers(0, 2**32))
def test_json_parses_and_meets_its_schema(schema: dict[str, Any], seed: int) -> None:
    text = walk(Constraint.json_schema(schema), np.random.default_rng(seed))
    if text is not None:
        assert meets(json.loads(text), schema), text


@settings(max_examples=40, deadline=None)
@given(st.lists(schemas, min_size=1, max_size=3), st.integers(0, 2**32))
def test_json_in_a_frame_meets_the_schema_of_its_frame(found: list[dict[str, Any]], seed: int) -> None:
    frames = [(f"<{number}>", schema, f'"</{number}>') for number, schema in enumerate(found)]
    text = walk(Constraint.framed(frames), np.random.default_rng(seed))
    if text is not None:
        number = int(text[1])
        before, schema, after = frames[number]
        assert text.startswith(before)
        assert text.endswith(after)
        assert meets(json.loads(text[len(before) : -len(after)]), schema), text


def test_references_in_a_frame_find_their_targets() -> None:
    one = {"$ref": "#/$defs/a", "$defs": {"a": {"const": 1}}}
    framed = Constraint.framed([("a ", one, "!"), ("b ", {**one, "$defs": {"a": {"const": 2}}}, "")])
    for text in ("a 1!", "b 2"):
        assert reach(framed, text) == text
    assert reach(framed, "a 2") == "a "
    assert reach(framed, "b 1") == "b "


def _ends(constraint: Constraint, text: str) -> bool:
    """Whether `text` is allowed, and complete."""
    matcher = Compiler(Bytes()).matcher(constraint, (255,))
    for byte in text.encode():
        if byte not in matcher.allowed_C:
            return False
        matcher.advance(byte)
    return matcher.finish == "stop" or 255 in matcher.allowed_C


def test_a_text_may_hold_frames_and_nothing_else_behind_their_mark() -> None:
    city = {"type": "object", "properties": {"city": {"enum": ["Bonn"]}}, "required": ["city"]}
    frames = [("<call>a", {**city, "additionalProperties": False}, "</call>"), ("<call>b", {"const": 7}, "!")]
    right = ["", "hello", "a < b, <call, <calls and </call>", 'x<call>a{"city":"Bonn"}</call>', "<call>b7!"]
    right += ['<call>b7!<call>b7! and <call>a{"city":"Bonn"}</call>\n<cal', "naïve 日本 <call>b7! 日本"]
    wrong = ["<call>", "x<call>c", '<call>a{"city":"Paris"}</call>', "<call>b8!", "<call>b7", "<call>b7!<call>"]
    for mark, most in (("<call>", None), ("<call>", 3), ("<ca", None)):
        constraint = Constraint.text_with_frames(mark, frames, most)
        kept = [text for text in right if mark == "<call>" or not re.search(r"<ca(?!ll>[ab])", text)]
        assert [text for text in kept if not _ends(constraint, text)] == []
        assert [text for text in wrong if _ends(constraint, text)] == []
    one = Constraint.text_with_frames("<call>", frames, 1)
    assert reach(one, "<call>b7! and <call>b7!") == "<call>b7! and <call"
    assert [_ends(one, text) for text in ("", "x", "<call>b7! and <call")] == [True, True, True]


@settings(max_examples=30, deadline=None)
@given(schemas, st.text(min_size=1, max_size=4).filter(lambda text: max(text) < "\ud800" or max(text) > "\udfff"))
def test_any_mark_and_any_schema_can_stand_in_a_text(schema: dict[str, Any], mark: str) -> None:
    frames = [(f"{mark}(", schema, ")")]
    before = "".join(c for c in "some text" if c not in mark)
    constraint = Constraint.text_with_frames(mark, frames)
    found = walk(Constraint.framed(frames), np.random.default_rng(0))
    if found is not None and found.count(mark) == 1 and max(map(ord, found)) < 0xD800:
        assert _ends(constraint, f"{before}{found}{before}")
        assert not _ends(constraint, f"{before}{found}{before}{mark}")


class Bytes:
    """A vocabulary of the 256 bytes, in which a text is spelled in one way."""

    vocab_size = 256

    def token_bytes(self, token: int) -> bytes:
        return bytes([token])

    def encode(self, text: str) -> list[int]:
        return list(text.encode())


def reach(constraint: Constraint, text: str) -> str:
    """How far `text` is allowed."""
    matcher = Compiler(Bytes()).matcher(constraint, ())
    for place, byte in enumerate(text.encode()):
        if byte not in matcher.allowed_C:
            return text.encode()[:place].decode()
        matcher.advance(byte)
    return text


def test_a_known_key_cannot_be_spelled_as_an_unknown_one() -> None:
    known = {"type": "object", "properties": {"a\n": {"type": "integer"}}, "additionalProperties": {"type": "string"}}
    person = Constraint.json_schema(known)
    for key in (r'"a\n"', r'"a\u000a"', r'"a\u000A"', r'"\u0061\n"'):
        assert reach(person, f'{{{key}:"x"}}') != f'{{{key}:"x"}}'
    assert reach(person, r'{"a\n":1,"b\t":"x"}') == r'{"a\n":1,"b\t":"x"}'


def test_white_space_has_an_end() -> None:
    pair = Constraint.json_schema({"type": "array", "items": {"type": "integer"}, "x-guidance": {"lenient": True}})
    for text in ("[1,2]", "[1, 2]", "[\n  1,\n  2\n]"):
        assert reach(pair, text) == text
    assert reach(pair, "[1,  2]") == "[1, "
    assert reach(pair, "[1,\n" + 17 * " ") == "[1,\n" + 16 * " "


pieces = st.one_of(
    st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=4).map(re.escape),
    st.sampled_from(["[a-f]", "[^a-z]", r"[0-9]", ".", "(?:ab|é|日本)", r"\n"]),
)
regexes = st.lists(st.tuples(pieces, st.sampled_from(["", "?", "{0,3}", "{2}"])), min_size=1, max_size=4).map(
    lambda parts: "".join(f"(?:{piece}){times}" for piece, times in parts)
)


@settings(max_examples=60, deadline=None)
@given(regexes, st.integers(0, 2**32))
def test_texts_match_their_expression(pattern: str, seed: int) -> None:
    text = walk(Constraint.regex(pattern), np.random.default_rng(seed))
    assert text is not None
    assert re.fullmatch(pattern, text)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.text(st.characters(codec="utf-8"), max_size=8), min_size=1, max_size=4).filter(any), st.integers(0, 99)
)
def test_a_choice_is_one_of_the_strings(options: list[str], seed: int) -> None:
    assert walk(Constraint.choice(options), np.random.default_rng(seed)) in options


def test_a_grammar_counts_its_parentheses() -> None:
    balanced = Constraint.grammar('start: "(" start ")" | "x"')
    for seed in range(20):
        text = walk(balanced, np.random.default_rng(seed))
        assert text is None or re.fullmatch(r"(\(*)x(\)*)", text)
        assert text is None or text.count("(") == text.count(")")


def test_a_schema_may_refer_to_itself() -> None:
    tree: dict[str, Any] = {
        "$ref": "#/$defs/tree",
        "$defs": {
            "tree": {
                "type": "object",
                "properties": {"v": {"type": "integer", "minimum": 0, "maximum": 9}, "of": {"anyOf": [
                    {"$ref": "#/$defs/tree"}, {"type": "null"}]}},
                "required": ["v", "of"],
                "additionalProperties": False,
            }
        },
    }  # fmt: skip
    found = [walk(Constraint.json_schema(tree), np.random.default_rng(seed)) for seed in range(20)]
    depths = []
    for text in filter(None, found):
        node, depth = json.loads(text), 0
        while node is not None:
            assert set(node) == {"v", "of"}
            assert node["v"] in range(10)
            node, depth = node["of"], depth + 1
        depths.append(depth)
    assert max(depths) > 1


# ------------------------------------------------------------------------------------------------------- the engine


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_networks_obey_at_any_temperature(writer: TextWriter, temperature: float) -> None:
    ended = 0
    for seed in range(4):
        text, finished = write(writer, PERSON, seed, temperature=temperature)
        if finished == "end":
            assert meets(json.loads(text), SCHEMA)
            ended += 1
        assert write(writer, Constraint.choice(["left", "right"]), seed, temperature=temperature)[0] in (
            "left",
            "right",
        )
        text, finished = write(writer, Constraint.regex("[0-9]{3}-[a-zé]{2}"), seed, temperature=temperature)
        assert (re.fullmatch("[0-9]{3}-[a-zé]{2}", text) is not None, finished) == (True, "end")
    assert ended >= 2


def together(writer: TextWriter, chosen: Mapping[int, Constraint | None], slots: int) -> dict[int, list[int]]:
    """The tokens written after each of several prompts, by the number of the prompt."""
    engine = writer.text_engine(slots)
    requests = {
        number: engine.submit(
            [5, 6, 7 + number], Sampling(temperature=number % 2, seed=number), max_tokens=40, constraint=constraint
        )
        for number, constraint in chosen.items()
    }
    for _ in engine.stream(*requests.values()):
        pass
    return {number: request.request.tokens for number, request in requests.items()}


def test_in_a_batch_as_alone_and_others_as_without() -> None:
    mixed = dict(enumerate([PERSON, None, Constraint.choice(["left", "north"]), None, Constraint.regex("[a-f]{9}")]))
    writer = network()
    found = together(writer, mixed, 5)
    free = together(writer, dict.fromkeys(mixed), 5)
    for number, constraint in mixed.items():
        assert (found[number] == free[number]) == (constraint is None)
        assert together(network(), {number: constraint}, 1) == {number: found[number]}
    assert together(writer, mixed, 2) == found  # some wait


@pytest.mark.skipif(bool(native.available()), reason="no native kernels here")
def test_the_native_path_writes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {0: PERSON, 1: None, 2: Constraint.choice(["left", "north"]), 3: PERSON}
    found = together(network(), asked, 4)
    monkeypatch.delenv("SW2_NATIVE")
    fast = network()
    assert isinstance(fast.net.cached_step(1), native.NativeStep)
    assert together(fast, asked, 4) == found


def test_an_answer_ends_where_nothing_can_follow_and_only_where_it_is_complete(writer: TextWriter) -> None:
    engine = writer.text_engine(1)
    request = engine.submit([1], Sampling(seed=1), max_tokens=3, constraint=Constraint.choice(["ok"]))
    tokens = [score.token for _, piece in engine.stream(request) for score in piece.tokens]
    assert (TOKENIZER.decode(tokens), request.finished) == ("ok", "end")  # no step was needed to see the end
    never_ends = Sampling(logit_bias=tuple((end, 1e9) for end in ENDS))
    pieces = list(writer.generate("the", never_ends, constraint=Constraint.regex("[ab]{5}c*")))
    assert re.fullmatch("[ab]{5}", "".join(piece.text for piece in pieces))  # not before, and then at once
    assert pieces[-1].finished == "end"


def test_what_was_cut_off_says_so(writer: TextWriter) -> None:
    text, finished = write(writer, PERSON, most=4)
    assert finished == "length"
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        json.loads(text)
    # A limit at the same place as the end is no cut.
    assert write(writer, Constraint.regex("a"), most=1) == ("a", "end")


def test_what_the_library_gives_up_is_cut_off_and_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gives:
        def __init__(self, after: int) -> None:
            self.after = after

        def consume_token(self, token: int) -> bool:
            self.after -= 1
            return self.after > 0

        def compute_bitmask(self) -> bytes:
            return b"\x06"

        def is_accepting(self) -> bool:
            return False

        def is_error(self) -> bool:
            return self.after == 0

    told = []
    matcher = Matcher(Gives(2), np.array([False, True, True]), (0,), lambda: told.append(1))
    matcher.advance(1)
    assert (matcher.allowed_C.tolist(), matcher.finish, told) == ([1, 2], None, [])
    matcher.advance(2)
    assert (matcher.finish, told) == ("length", [1])


def test_log_probabilities_are_the_network_s_own(writer: TextWriter) -> None:
    pieces = list(writer.generate("the", Sampling(), logprobs=1, constraint=Constraint.choice(["left"])))
    written = [score for piece in pieces for score in piece.tokens]
    assert sum(score.logprob or 0 for score in written) < -3  # of one choice, a share of the probability would be 0


# --------------------------------------------------------------------------------------------------------- mistakes

ENDLESS = {"type": "object", "properties": {"n": {"$ref": "#"}}, "required": ["n"]}
HUGE = "x{4000000}"


@pytest.mark.parametrize(
    ("kind", "source", "says"),
    [
        ("json-schema", "{not", "where:  the JSON Schema, line 1, column 2"),
        ("json-schema", "[]", "wanted: an object"),
        ("json-schema", '{"properties": {"a": {"type": "objekt"}}}', "the JSON Schema, #/properties/a/type"),
        ("json-schema", '{"type": "array", "uniqueItems": true}', "the JSON Schema, #/uniqueItems"),
        ("json-schema", '{"items": {"not": {}}}', 'got:    Unimplemented keys: ["not"]'),
        ("json-schema", '{"$ref": "#/$defs/none"}', "does not exist"),
        ("json-schema", '{"type": "integer", "minimum": 5, "maximum": 3}', "minimum (5) is greater than maximum (3)"),
        ("json-schema", json.dumps(ENDLESS), "a schema that a finite document can meet"),
        ("json-schema", '{"$ref": "#"}', "a schema that a finite document can meet"),
        ("json-schema", '{"type": "object", "minProperties": 2}', "the JSON Schema, #/minProperties"),
        ("json-schema", '{"items": {"minimum": 3, "exclusiveMinimum": true}}', "#/items/exclusiveMinimum"),
        ("json-schema", '{"allOf": [' * 300 + "{}" + "]}" * 300, "recursion limit"),
        ("json-schema", '{"allOf": [' * 5000 + "{}" + "]}" * 5000, "too deep"),
        ("regex", "[0-9", "got:    unclosed character class"),
        ("regex", "(?=a)b", "look-around"),
        ("regex", r"(a)\1", "backreferences are not supported"),
        ("regex", r"[^\s\S]", "wanted: something that a text can meet"),
        ("regex", "", "got:    0 bytes"),
        ("regex", "()", "only the empty text"),
        ("regex", HUGE, "within the limits of llguidance"),
        ("regex", "\ud800", "half a surrogate pair"),
        ("regex", "é" * MOST_BYTES, "131,072 bytes"),
        ("choice", "[]", "at least one text that is not empty"),
        ("choice", '["a", 3]', "at least one text"),
        ("choice", r'["a", "\ud800"]', "at least one text"),
        ("grammar", "start: foo", "where:  the grammar, line 1, column 8"),
        ("grammar", 'start: "a" (', "the grammar, line 1, column 13"),
        ("grammar", 'start: "a" <|im_start|>', "unknown special token"),
        ("grammar", '# <[1] is no token here\nstart: "<[2]" <[3]>', "the grammar, line 2"),
        ("framed", "[]", "at least one [text, schema, text]"),
        ("text-with-frames", '{"mark": "<", "frames": [["a", {}, ""]], "most": null}', "at least one [text, schema"),
        ("text-with-frames", '{"mark": "", "frames": [["a", {}, ""]], "most": null}', "at least one [text, schema"),
        ("text-with-frames", '{"mark": "a", "frames": [["a", {}, ""]], "most": null}', "at least one [text, schema"),
        ("text-with-frames", '{"mark": "a", "frames": [["ab", {}, ""]], "most": 0}', "at least one [text, schema"),
        ("text-with-frames", '{"mark": "a", "frames": [["ab", [], ""]], "most": 1}', "wanted: an object"),
        ("framed", '[["a", {}]]', "at least one [text, schema, text]"),
        ("framed", '[["", {}, "b"]]', "at least one [text, schema, text]"),
        ("framed", '[["a", [], "b"]]', "wanted: an object"),
        ("framed", json.dumps([["a", {"$ref": "#"}, "b"]]), "a schema that a finite document can meet"),
        ("framed", json.dumps([["a", {"items": {"not": {}}}, "b"]]), "Unimplemented keys"),
        ("words", "a", "one of: json-schema, regex, choice, grammar"),
    ],
)
def test_what_cannot_be_followed_is_refused_before_anything_is_written(
    writer: TextWriter, kind: Any, source: str, says: str
) -> None:
    with pytest.raises(UsageError) as caught:
        list(writer.generate_many(["the", "dog"], [Sampling()] * 2, constraint=Constraint(kind, source)))
    assert says in str(caught.value)
    assert not writer.text_engine(1).busy()


KEYWORDS = (
    *("type", "properties", "required", "items", "prefixItems", "minItems", "anyOf", "oneOf", "allOf", "$ref", "$defs"),
    *("enum", "const", "minProperties", "exclusiveMinimum", "additionalProperties", "pattern", "a"),
)
keywords = st.sampled_from(KEYWORDS)
words = st.sampled_from(["object", "array", "string", "#", "#/$defs/a", "#/items", "a", "[", ""])
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 5) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keywords, inner, max_size=4),
    max_leaves=12,
)


parts = st.sampled_from(
    ["start", ":", " ", "a", "b: ", "\n", '"', "/", "(", ")", "[", "]", "|", "*", "{2}", "\\", "<[1]>"]
)
sources = st.one_of(
    st.tuples(st.just("json-schema"), st.dictionaries(keywords, anything, max_size=4).map(json.dumps)),
    st.tuples(
        st.just("framed"),
        st.dictionaries(keywords, anything, max_size=4).map(lambda schema: json.dumps([["a", schema, "b"]])),
    ),
    st.tuples(
        st.just("text-with-frames"),
        st.dictionaries(keywords, anything, max_size=4).map(
            lambda schema: json.dumps({"mark": "a", "frames": [["a:", schema, "b"]], "most": 2})
        ),
    ),
    st.tuples(st.just("regex"), st.text(max_size=8) | st.lists(parts, max_size=8).map("".join)),
    st.tuples(st.just("grammar"), st.lists(parts, max_size=8).map(lambda found: "start: " + "".join(found))),
)


@settings(max_examples=50, deadline=None)
@given(sources)
def test_whatever_a_source_holds_it_is_followed_or_refused(source: tuple[Any, str]) -> None:
    try:
        walk(Constraint(*source), np.random.default_rng(0), most=10)
    except UsageError as error:
        assert error.got  # noqa: PT017 (either outcome is right)


def test_long_chains_of_references_do_not_end_the_process() -> None:
    chain = {"$ref": "#/0", **{str(each): {"$ref": f"#/{each + 1}"} for each in range(2500)}, "2500": {"type": "null"}}
    with pytest.raises(UsageError, match="cannot be followed"):
        compiler(TOKENIZER).matcher(Constraint("json-schema", json.dumps(chain, separators=(",", ":"))), ENDS)
    rules = "start: r0\n" + "".join(f"r{each}: r{each + 1}\n" for each in range(4000)) + 'r4000: "a"\n'
    assert walk(Constraint.grammar(rules), np.random.default_rng(0)) == "a"
