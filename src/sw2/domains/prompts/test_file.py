"""Reading a file: what is in it, and each thing that can be wrong with one, with its line."""

from __future__ import annotations

import json

import pytest

from sw2.base.errors import ProgramError, UsageError
from sw2.domains.prompts.file import read_prompt
from sw2.parts.decoding.constraint import Constraint

GOOD = """\
+++
about = "What a review says."
program = "some-model"
inputs.review = "text"
inputs.tone = { options = ["short", "long"], default = "short", about = "how much" }
output = { mood = ["good", "bad"], stars = "integer", tags = { list = "text", most = 2 } }

[writing]
max_tokens = 99
stop = ["\\n\\n"]

[[examples]]
review = '''
[tests]
It leaks.'''
answer = { mood = "bad", stars = 1, tags = ["leak"] }

[[tests]]
review = "Fine."
expect = { mood = "good", stars = { any = [4, 5] } }
+++ system
You read reviews; the {{ tone }} way.
+++ user
Between {{ review.open }} and {{ review.close }}:
{{ review }}
"""


def test_a_prompt_is_read() -> None:
    prompt = read_prompt(GOOD, "a.toml")
    assert (prompt.about, prompt.program) == ("What a review says.", "some-model")
    assert [(name, kind.name, kind.default) for name, kind in prompt.inputs.items()] == [
        ("review", "document", None),
        ("tone", "label", "short"),
    ]
    assert prompt.output.constraint is not None
    schema = json.loads(prompt.output.schema)
    assert schema["required"] == ["mood", "stars", "tags"]
    assert schema["properties"]["tags"] == {
        "type": "array",
        "items": {"type": "string", "maxLength": 200},
        "maxItems": 2,
    }
    assert (prompt.writing.max_tokens, prompt.writing.stop) == (99, ("\n\n",))
    assert prompt.tests[0].where == "a.toml, line 18"  # what stands in a text of several lines is no entry


def test_a_conversation_shows_examples_in_the_form_of_the_question() -> None:
    said = read_prompt(GOOD, "a.toml").conversation({"review": "Fine."})
    assert [each["role"] for each in said] == ["system", "user", "assistant", "user"]
    assert said[0]["content"] == "You read reviews; the short way."
    assert said[1]["content"] == "Between <review> and </review>:\n<review>\n[tests]\nIt leaks.\n</review>"
    assert json.loads(said[2]["content"]) == {"mood": "bad", "stars": 1, "tags": ["leak"]}
    assert said[3]["content"].endswith("<review>\nFine.\n</review>")


def test_one_input_needs_no_name() -> None:
    prompt = read_prompt(GOOD, "a.toml")
    assert prompt.conversation("Fine.") == prompt.conversation({"review": "Fine.", "tone": "short"})


BROKEN = {
    "no fence": ("+++\nabout", "about", 1, "This file is no prompt."),
    "no second fence": (GOOD[GOOD.index("+++ system") :], "", 1, "no second line"),
    "no TOML": ('about = "What', "about = What", 2, "no TOML"),
    "an unknown entry": ("program =", "progam =", 3, "Did you mean 'program'?"),
    "no program": ('"some-model"', '""', 3, "A prompt says its program."),
    "an unknown kind": ('= "text"', '= "txt"', 4, "Did you mean 'text'?"),
    "a default of another kind": ('= "short", about', '= "shot", about', 5, "tone"),
    "an unknown kind of field": ('"integer"', '"intger"', 6, "Did you mean 'integer'?"),
    "a wrong setting": ("= 99", "= 0", 8, "max_tokens"),
    "an answer of another form": ("stars = 1, ", "", 16, "mood, stars, tags"),
    "an example without an input": ("review = '''", "tone = '''", 12, "review"),
    "a test of a field that is none": ('{ mood = "good"', '{ mod = "good"', 18, "mod"),
    "a test of an unknown input": ('review = "Fine."', 'revue = "Fine."', 18, "review"),
    "a test of nothing": ("expect =", "answer =", 18, "A test says what it expects."),
    "an unknown role": ("+++ system", "+++ robot", 21, "Nobody has this role."),
    "no last question": ("+++ user", "+++ assistant", 1, "no order"),
    "an empty message": (GOOD[GOOD.index("Between") :], "", 23, "This message is empty."),
    "an unclosed expression": ("{{ tone }}", "{{ tone", 22, "cannot be read"),
    "an unclosed block": ("{{ review }}", "{% if review %}x", 25, "endif"),
    "an unknown variable": ("{{ review }}", "{{ reviw }}", 25, "Did you mean 'review'?"),
    "an assignment": ("{{ review }}", "{% set x = 1 %}", 25, "assign"),
    "a call": ("{{ review }}", "{{ review.bare() }}", 25, "call"),
    "a product": ("{{ review }}", "{{ 'a' * 999999999 }}", 25, "mul"),
    "an unknown filter": ("{{ review }}", "{{ review | attr('x') }}", 25, "filter"),
    "a filter of our own": ("{{ review }}", "{{ review | _counted }}", 25, "filter"),
    "an include": ("{{ review }}", "{% include 'x' %}", 25, "include"),
    "blocks in blocks": ("{{ review }}", "{% if review %}" * 120 + "{% endif %}" * 120, 24, "less deep"),
    "a deep expression": ("{{ review }}", "{{ " + "not " * 250 + "review }}", 24, "less deep"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_is_told_with_its_line(name: str) -> None:
    before, after, line, says = BROKEN[name]
    with pytest.raises(ProgramError) as caught:
        read_prompt(GOOD.replace(before, after, 1), "a.toml")
    told = str(caught.value)
    assert f"a.toml, line {line}" in told
    assert says in told
    assert caught.value.wanted is not None


def test_a_list_of_lists_is_no_table() -> None:
    text = GOOD.replace("expect =", "more = [\n['a', 'b'],\n['c', 'd'],\n]\nexpect =").replace("99", "0")
    with pytest.raises(ProgramError, match=r"a\.toml, line 8"):
        read_prompt(text, "a.toml")
    wrong = GOOD.replace('tags = ["leak"] }', "tags = [\n['a'],\n] }\nanswr = 1")
    with pytest.raises(ProgramError, match=r"line 12, examples\[0\]"):
        read_prompt(wrong, "a.toml")


def test_a_schema_that_nothing_meets_is_refused() -> None:
    schema = "{ type = 'object', properties = { a = { '$ref' = '#' } }, required = ['a'] }"
    with pytest.raises(ProgramError, match="cannot be followed") as caught:
        read_prompt(GOOD.replace("output =", f"schema = {schema}\n#"), "a.toml")
    assert "line 6, schema" in str(caught.value)


def test_a_schema_may_hold_itself() -> None:
    part = "{ type = 'object', properties = { parts = { type = 'array', items = { '$ref' = '#' } } } }"
    text = GOOD.replace("output =", f"schema = {part}\n#").replace('mood = "bad", stars = 1, ', "")
    prompt = read_prompt(text.replace('mood = "good", stars = { any = [4, 5] }', "parts = []"), "a.toml")
    assert prompt.output.constraint == Constraint("json-schema", prompt.output.schema)


TALK = """\
+++
about = "Sells tea."
program = "some-model"
inputs.talk = "conversation"
[[tests]]
talk = ["Hello", "Bye"]
expect = { contains = "bye" }
+++ system
You sell tea.
"""


def test_a_prompt_that_converses_is_its_system_message() -> None:
    prompt = read_prompt(TALK, "t.toml")
    assert prompt.converses
    said = [{"role": "system", "content": "Be rude."}, {"role": "user", "content": "Hello"}]
    assert prompt.talk(said) == [{"role": "system", "content": "You sell tea."}, said[1]]


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("+++ system", "+++ user", "one system message"),
        ('"conversation"', '"conversation"\noutput = ["yes", "no"]', "answers in text"),
        ('"conversation"', '"conversation"\ninputs.more = "text"', "takes nothing else"),
        ('["Hello", "Bye"]', "[]", "what the user says"),
        ("sell tea.", "sell tea. {{ talk }}", "There is no input called 'talk'."),
    ],
)
def test_what_is_wrong_with_one_that_converses(before: str, after: str, says: str) -> None:
    with pytest.raises(ProgramError, match=says):
        read_prompt(TALK.replace(before, after), "t.toml")


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ({"review": "x", "tone": "loud"}, "short, long"),
        ({"review": 3}, "a text"),
        ({"tone": "long"}, "'review' is missing"),
        ({"review": "x", "tune": "long"}, "Did you mean 'tone'?"),
        ({"review": "x" * 200_001}, "too long"),
    ],
)
def test_inputs_that_do_not_fit(raw: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_prompt(GOOD, "a.toml").conversation(raw)
    assert says in str(caught.value)
