"""Tools: the calculator beside Python's own arithmetic, calls written, read, broken."""

from __future__ import annotations

import json
import re
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sw2.base.errors import UnknownName, UsageError
from sw2.core.tools import Tool
from sw2.domains.language.chat.tools import Call, calculate, calling, calls_in, message_of, results, schemas
from sw2.domains.language.tokenizer import Tokenizer
from sw2.parts.decoding.constraint import Compiler

OFFERED = schemas(["calculator"])


def _expressions() -> st.SearchStrategy[str]:
    atoms = st.integers(0, 99).map(str)

    def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        joined = st.tuples(inner, st.sampled_from(["+", "-", "*", "//", "%"]), inner).map(" ".join)
        powers = st.tuples(inner.map("({})".format), st.integers(0, 3).map(str)).map("**".join)
        return joined | powers | inner.map("({})".format) | inner.map("-{}".format)

    return st.recursive(atoms, larger, max_leaves=8)


@given(_expressions())
def test_whole_numbers_come_out_as_in_python(expression: str) -> None:
    try:
        wanted = eval(expression)
    except ZeroDivisionError:
        with pytest.raises(ValueError, match="division by zero"):
            calculate(expression)
        return
    assume(abs(wanted) < 10**30)
    assert int(calculate(expression)) == wanted


@given(st.decimals(-(10**9), 10**9, places=2), st.decimals(-(10**9), 10**9, places=2), st.sampled_from("+-*/"))
def test_sums_of_money_are_exact(one: object, other: object, operator: str) -> None:
    assume(operator != "/" or Fraction(str(other)))
    first, second = Fraction(str(one)), Fraction(str(other))
    wanted = {"+": first + second, "-": first - second, "*": first * second, "/": second and first / second}[operator]
    got = Fraction(calculate(f"({one}) {operator} ({other})"))
    assert got == wanted if operator != "/" else abs(got - wanted) <= abs(wanted) * Fraction(1, 10**11)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("0.1 + 0.2", "0.3"),
        ("12345678901.23 + 1", "12345678902.23"),
        ("-2 ** 2", "-4"),
        ("2 ** -1", "0.5"),
        ("2 ** 3 ** 2", "512"),
        ("-7 // 2", "-4"),
        ("-7 % 3", "2"),
        ("2 ** 0.5", "1.41421356237"),
        ("2 / 3", "0.666666666667"),
        ("1.", "1"),
        (".5*4", "2"),
        ("3 × 1,234.50 − 1", "3702.5"),
        ("2 ** 200", "1.60693804426e+60"),
        ("1 ** 10 ** 20", "1"),
    ],
)
def test_by_hand(expression: str, value: str) -> None:
    assert calculate(expression) == value


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("", "a number was expected"),
        ("2 +", "a number was expected"),
        ("2 3", "'3' does not fit"),
        ("(2", "not closed"),
        ("2)", "')' does not fit"),
        ("* 2", "'*' does not fit"),
        ("1 / 0", "division by zero"),
        ("0 ** -1", "division by zero"),
        ("9 ** 9 ** 9", "too large"),
        ("1e5", "'e' is not understood"),
        ("__import__('os')", "'_' is not understood"),
        ("(-8) ** 0.5", "root of a negative"),
        ("(" * 100 + "1" + ")" * 100, "nested deeper"),
        ("-" * 300 + "1", "nested deeper"),
        ("1+" * 300 + "1", "longer than"),
        ("(10 ** 400) ** 0.5", "too large"),
    ],
)
def test_what_is_no_expression(expression: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        calculate(expression)


def test_a_call_becomes_a_message_and_its_result_another() -> None:
    text = 'Let me see.\n<tool_call>{"name": "calculator", "arguments": {"expression": "3 * 4.50"}}</tool_call>'
    message = message_of(text)
    assert message["content"] == "Let me see."
    (call,) = message["tool_calls"]
    assert call["function"]["name"] == "calculator"
    assert json.loads(call["function"]["arguments"]) == {"expression": "3 * 4.50"}
    assert results(text, OFFERED) == [{"role": "tool", "name": "calculator", "content": "13.5"}]
    assert results("nothing to call", OFFERED) == []
    assert message_of("nothing to call") == {"role": "assistant", "content": "nothing to call"}


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("{", "not JSON"),
        ("[1]", "wanted"),
        ('{"name": 3}', "wanted"),
        ('{"name": "calculator", "arguments": "2+2"}', "wanted"),
        ('{"name": "abacus", "arguments": {}}', "no tool 'abacus', only calculator"),
        ('{"name": "calculator", "arguments": {}}', 'wanted {"expression"'),
        ('{"name": "calculator", "arguments": {"expression": true}}', 'wanted {"expression"'),
        ('{"name": "calculator", "arguments": {"expression": "1/0"}}', "division by zero"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_broken_call_is_answered_with_what_is_wrong(written: str, says: str) -> None:
    for text in (f"<tool_call>{written}</tool_call>", f"well <tool_call>{written}"):
        found = results(text, OFFERED)
        assert found is not None
        assert found[0]["role"] == "tool"
        assert found[0]["content"].startswith("error: ")
        assert says in found[0]["content"]


def test_a_text_with_a_broken_call_stays_whole() -> None:
    text = '<tool_call>{</tool_call> and <tool_call>{"name": "calculator", "arguments": {}}</tool_call>'
    assert message_of(text) == {"role": "assistant", "content": text}
    assert len(results(text, OFFERED) or []) == 2


def test_somebody_elses_tool_is_left_to_them() -> None:
    theirs = {"type": "function", "function": {"name": "weather", "parameters": {}}}
    assert results('<tool_call>{"name": "weather", "arguments": {}}</tool_call>', [theirs]) is None
    both = '<tool_call>{"name": "calculator", "arguments": {"expression": "2"}}</tool_call>'
    assert results(both + '<tool_call>{"name": "weather"}</tool_call>', [*OFFERED, theirs]) is None, "and none is run"
    with pytest.raises(UnknownName, match="no tool called 'calculater'"):
        schemas(["calculater"])


def test_a_tool_that_comes_with_what_runs_it() -> None:
    def run(arguments: object) -> str:
        if arguments == {}:
            raise ValueError("wanted a city")
        return "rain" * 1000

    weather = Tool("weather", "The weather.", {"type": "object"}, run)
    (fine, wrong) = results(
        '<tool_call>{"name": "weather", "arguments": {"city": "Köln"}}</tool_call><tool_call>{"name": "weather"}',
        [weather],
    ) or ({}, {})
    assert fine == {"role": "tool", "name": "weather", "content": "rain" * 500}
    assert wrong["content"] == "error: wanted a city"


def test_an_argument_may_spell_the_end_of_a_call() -> None:
    text = 'a <tool_call>{"name": "say", "arguments": {"it": "</tool_call> <tool_call>"}}</tool_call> b'
    assert calls_in(text) == ("a\nb", [Call("say", {"it": "</tool_call> <tool_call>"})])


def test_what_cannot_be_a_call() -> None:
    compiler = Compiler(Tokenizer.train(["a"], 300))
    for parameters, says in (
        ({"type": "array"}, "arguments of a call are an object"),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/b"}}}, "cannot be followed"),
    ):
        tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
        with pytest.raises(UsageError, match=says):
            compiler.matcher(calling([tool]), [0])


@given(
    st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.text(max_size=9), max_size=3),
    st.text(max_size=5),
)
def test_what_is_written_is_read_back(arguments: dict[str, object], name: str) -> None:
    written = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    assert calls_in(f"<tool_call>{written}</tool_call>") == ("", [Call(name, arguments)])
