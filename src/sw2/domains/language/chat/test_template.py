"""Conversations: the template's control tokens are control, a message's never; hostile templates stay in the box."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sw2.base.errors import ProgramError, UsageError
from sw2.domains.language.chat.template import IM_END, IM_START, OWN, ChatTemplate, Marked, own_controls
from sw2.domains.language.prep import Controls
from sw2.domains.language.tokenizer import Tokenizer

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """A trained tokenizer with two more control tokens."""
    return Tokenizer.train(["user assistant system hello <|im_end|>"] * 3, 300).with_control(IM_START, IM_END)


def test_a_conversation_by_hand(tokenizer: Tokenizer) -> None:
    start, end = tokenizer.control["<|im_start|>"], tokenizer.control["<|im_end|>"]
    said = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hello"}]
    wanted = [start, *tokenizer.encode("system\nbe kind"), end, *tokenizer.encode("\n")]
    wanted += [start, *tokenizer.encode("user\nhello"), end, *tokenizer.encode("\n")]
    wanted += [start, *tokenizer.encode("assistant\n")]
    assert ChatTemplate(CHATML, tokenizer, {}).tokens(said) == wanted


@settings(max_examples=60, deadline=None)
@given(
    pieces=st.lists(
        st.sampled_from(["<|im_end|>", "<|im_start|>", "system\n", "<|endoftext|>", "x", "\U000f0000", " "])
    )
)
def test_no_message_can_forge_a_control_token(tokenizer: Tokenizer, pieces: list[str]) -> None:
    content = "".join(pieces)
    ids = ChatTemplate(CHATML, tokenizer, {}).tokens([{"role": "user", "content": content}])
    control = [token for token in ids if token in tokenizer.control.values()]
    start, end = tokenizer.control["<|im_start|>"], tokenizer.control["<|im_end|>"]
    assert control == [start, end, start]
    inner = ids[ids.index(start) + 1 : ids.index(end)]
    assert tokenizer.decode(inner) == f"user\n{content}"


def test_halves_of_a_control_token_do_not_meet(tokenizer: Tokenizer) -> None:
    template = ChatTemplate("{% for m in messages %}{{ m['content'] }}{% endfor %}", tokenizer, {})
    for first, second in (("<|im_", "start|>"), ("x<", "|im_end|>y"), ("<|im_start", "|>")):
        ids = template.tokens([{"role": "user", "content": first}, {"role": "user", "content": second}])
        assert not set(ids) & set(tokenizer.control.values())
        assert tokenizer.decode(ids) == first + second


def test_a_role_cannot_carry_a_control_token(tokenizer: Tokenizer) -> None:
    with pytest.raises(UsageError, match="message is not understood"):
        ChatTemplate(CHATML, tokenizer, {}).tokens([{"role": "user<|im_end|>", "content": "x"}])


def test_a_template_may_refuse(tokenizer: Tokenizer) -> None:
    template = ChatTemplate("{{ raise_exception('roles must alternate') }}", tokenizer, {})
    with pytest.raises(UsageError, match="refuses this conversation") as caught:
        template.tokens([{"role": "user", "content": "x"}])
    assert "roles must alternate" in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{% include '/etc/hostname' %}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{% for i in range(10**9) %}x{% endfor %}",
        "{{ 1 // 0 }}",
        "{{ 'x'.encode('nope') }}",
    ],
)
def test_a_hostile_template_stays_in_its_box(tokenizer: Tokenizer, source: str) -> None:
    with pytest.raises((UsageError, ProgramError)):
        ChatTemplate(source, tokenizer, {}).tokens([{"role": "user", "content": "x"}])


def test_a_broken_template_and_broken_messages_are_explained(tokenizer: Tokenizer) -> None:
    with pytest.raises(ProgramError, match="cannot be read"):
        ChatTemplate("{% for %}", tokenizer, {})
    template = ChatTemplate(CHATML, tokenizer, {})
    with pytest.raises(UsageError, match="message is not understood") as caught:
        template.tokens([{"role": "user"}])
    assert "message 0" in str(caught.value)
    with pytest.raises(UsageError, match="conversation is empty"):
        template.tokens([])


# ------------------------------------------------------------------------------------- what the assistant wrote

# As Qwen3 does it: thoughts of answers before the last question are dropped.
THINKING = (
    "{% set ns = namespace(last=0) %}"
    "{% for m in messages %}{% if m['role'] == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}"
    "{% set said = m['content'].split('</think>')[-1] if loop.index0 < ns.last else m['content'] %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + said + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
GENERATION = CHATML.replace(
    "+ message['content'] + '<|im_end|>' +",
    "}}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{",
)
CALCULATOR = {"type": "function", "function": {"name": "calculator", "description": "Computes.", "parameters": {}}}
TALK = [
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "<think>hm</think>hello user"},
    {"role": "user", "content": " 2+2?"},
    {"role": "assistant", "content": "\n4"},
]
CALLED = [
    {"role": "user", "content": "2+2?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"function": {"name": "calculator", "arguments": '{"expression": "2+2"}'}}],
    },
    {"role": "tool", "content": "4"},
    {"role": "assistant", "content": "4"},
]


def _written(row: Marked, tokenizer: Tokenizer) -> list[str]:
    """The stretches that are learned, control tokens spelled."""
    names = {number: name for name, number in tokenizer.control.items()}
    found, inside = [], False
    for token, learned in zip(row.tokens, row.written, strict=True):
        if learned and not inside:
            found.append(b"")
        if learned:
            found[-1] += names[token].encode() if token in names else tokenizer.token_bytes(token)
        inside = learned
    return [piece.decode() for piece in found]


@pytest.mark.parametrize("source", [CHATML, OWN, GENERATION])
def test_what_the_assistant_wrote_is_marked(tokenizer: Tokenizer, source: str) -> None:
    template = ChatTemplate(source, tokenizer, {})
    (row,) = template.marked(TALK)
    assert _written(row, tokenizer) == ["<think>hm</think>hello user<|im_end|>", "\n4<|im_end|>"]
    for number, begin in zip((2, 4), row.begins, strict=True):
        assert template.tokens(TALK[:number]) == row.tokens[:begin]


def test_calls_are_written_and_results_are_not(tokenizer: Tokenizer) -> None:
    template = ChatTemplate(OWN, tokenizer, {})
    (row,) = template.marked(CALLED, [CALCULATOR])
    call = '<tool_call>{"name": "calculator", "arguments": {"expression": "2+2"}}</tool_call><|im_end|>'
    assert _written(row, tokenizer) == [call, "4<|im_end|>"]
    assert template.tokens(CALLED[:3], [CALCULATOR]) == row.tokens[: row.begins[1]]
    assert template.end_of_answer == tokenizer.control[IM_END]
    opening = [*tokenizer.encode("\n"), tokenizer.control[IM_START]]
    assert template.sequel(CALLED[:3], [CALCULATOR])[: len(opening)] == opening


def test_a_template_that_rewrites_gives_a_row_for_each_answer(tokenizer: Tokenizer) -> None:
    template = ChatTemplate(THINKING, tokenizer, {})
    rows = template.marked(TALK)
    assert [_written(row, tokenizer) for row in rows] == [["<think>hm</think>hello user<|im_end|>"], ["\n4<|im_end|>"]]
    for row, number in zip(rows, (2, 4), strict=True):
        assert template.tokens(TALK[:number]) == row.tokens[: row.begins[0]]
    assert template.sequel([*TALK, {"role": "user", "content": "and 3+3?"}]) is not None
    assert len(template.marked(TALK[:1] + TALK[3:])) == 1


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (CHATML.replace("<|im_end|>", ""), "does not end an answer"),
        (CHATML.replace("assistant\n' }}{% endif %}", "bot\n' }}{% endif %}"), "opens an answer otherwise"),
    ],
)
def test_a_template_that_cannot_be_learned_says_so(tokenizer: Tokenizer, source: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        ChatTemplate(source, tokenizer, {}).marked(TALK)


CONTENT = st.lists(
    st.sampled_from(["<|im_end|>", "<|im_start|>", "<|im_", "start|>", "assistant\n", "<tool_call>", "}", '"', "x\n"]),
    max_size=6,
).map("".join)


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(CONTENT, min_size=8, max_size=8), source=st.sampled_from([CHATML, OWN, THINKING]))
def test_training_and_serving_render_the_same_tokens(tokenizer: Tokenizer, texts: list[str], source: str) -> None:
    roles = ["system", "user", "assistant", "user", "assistant"]
    messages: list[dict[str, Any]] = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    tools = []
    if source == OWN:
        arguments = json.dumps({texts[5]: [texts[6]]})
        messages[2]["tool_calls"] = [{"function": {"name": texts[7], "arguments": arguments}}]
        messages.insert(3, {"role": "tool", "content": texts[6]})
        messages.insert(4, {"role": "assistant", "content": texts[7]})
        tools = [{"type": "function", "function": {"name": texts[5], "parameters": {texts[6]: {"enum": texts}}}}]
    template = ChatTemplate(source, tokenizer, {})
    answers = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
    rows = template.marked(messages, tools)
    begins = [(row, begin) for row in rows for begin in row.begins]
    for number, (row, begin) in zip(answers, begins, strict=True):
        assert template.tokens(messages[:number], tools) == list(row.tokens[:begin])
    # Every control token is the template's: those of the same conversation with harmless texts.
    harmless = ChatTemplate(source, tokenizer, {}).tokens(
        [{**message, "content": "x"} for message in messages], tools and [CALCULATOR]
    )
    control = set(tokenizer.control.values())
    ours = template.tokens(messages, tools)
    assert [token for token in ours if token in control] == [token for token in harmless if token in control]
    for content in texts[: 2 if source == THINKING else 5]:
        assert content in tokenizer.decode(ours)


def test_tools_need_a_template_that_knows_them(tokenizer: Tokenizer) -> None:
    template = ChatTemplate(CHATML, tokenizer, {})
    assert not template.knows_tools
    assert ChatTemplate(OWN, tokenizer, {}).knows_tools
    for messages, tools in ((CALLED[:1], [CALCULATOR]), (CALLED, [])):
        with pytest.raises(UsageError, match="knows no tools"):
            template.tokens(messages, tools)


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]},
        {"role": "assistant", "content": "", "tool_calls": [{"function": "f"}]},
        {"role": "assistant", "content": "", "tool_calls": "f"},
        {"role": "user", "content": "", "tool_calls": CALLED[1]["tool_calls"]},
        {"role": "user", "content": None},
        {"role": "user", "content": [{"type": "text", "text": "x"}]},
    ],
)
def test_broken_calls_are_explained(tokenizer: Tokenizer, message: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="message is not understood"):
        ChatTemplate(OWN, tokenizer, {}).tokens([message])


def test_broken_tools_are_explained(tokenizer: Tokenizer) -> None:
    deep: Any = {}
    for _ in range(100):
        deep = {"x": deep}
    for tool in ("f", {"function": {}}, {"name": "f", "parameters": deep}):
        with pytest.raises(UsageError, match="tool is not understood"):
            ChatTemplate(OWN, tokenizer, {}).tokens(CALLED[:1], [tool])  # type: ignore[list-item]


def test_our_controls_keep_what_was_there() -> None:
    ours = own_controls(Controls(begins="", named={"bos_token": "<|endoftext|>"}))
    assert ours.ends == (IM_END, "<|endoftext|>")
    assert ours.named == {"bos_token": "<|endoftext|>", "eos_token": IM_END}
    assert (ours.begins, ours.chat_template) == ("", OWN)
