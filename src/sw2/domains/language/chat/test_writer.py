"""Answering: with a scripted network, so that every token that comes and goes is known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from sw2.base.errors import UsageError
from sw2.base.seed import generator
from sw2.core.tools import Tool
from sw2.domains.language.chat.template import IM_END, IM_START, own_controls
from sw2.domains.language.chat.tools import message_of, schemas
from sw2.domains.language.chat.writer import ChatWriter, Reply
from sw2.domains.language.decoder import Decoder
from sw2.domains.language.prep import Controls, PrepConfig, TextPrep
from sw2.domains.language.tokenizer import Tokenizer
from sw2.parts.decoding.constraint import Constraint
from sw2.parts.decoding.engine import Engine
from sw2.parts.decoding.sampling import Sampling
from sw2.parts.decoding.text import TextEngine

COLD = Sampling(temperature=0.0)
TOOLS = schemas(["calculator"])
ODD_CALL = '<tool_call>{"name":"calculator",  "arguments":{"expression":"2+2"}}</tool_call>'


class Scripted:
    """A network that goes on as its scripts do, and ends everything else at once."""

    def __init__(self, vocab_size: int, end: int, capacity: int = 2000, slots: int = 8) -> None:
        self.slots, self.capacity, self.scripts = slots, capacity, list[list[int]]()
        self._size, self._end, self._held = vocab_size, end, [list[int]() for _ in range(slots)]

    def __call__(self, tokens: Sequence[Sequence[int]], slots: Sequence[int], starts: Sequence[int]) -> Tensor:
        logits = torch.zeros(len(tokens), self._size)
        for row, (new, slot, start) in enumerate(zip(tokens, slots, starts, strict=True)):
            held = self._held[slot] = [*self._held[slot][:start], *new]
            going = [script[len(held)] for script in self.scripts if script[: len(held)] == held < script]
            logits[row, going[0] if going else self._end] = 9.0
        return logits

    def copy(self, source: int, target: int, tokens: int) -> None:
        self._held[target] = self._held[source][:tokens]


@pytest.fixture(scope="module")
def prep() -> TextPrep:
    tokenizer = Tokenizer.train(["user assistant tool calculator"] * 3, 300).with_control(IM_START, IM_END)
    return TextPrep(tokenizer, PrepConfig(), own_controls(Controls()))


def _writer(prep: TextPrep, capacity: int = 2000) -> tuple[ChatWriter, Scripted]:
    size = prep.tokenizer.vocab_size
    net = Decoder(Decoder.Config(vocab_size=size, context=8, width=8, depth=1, heads=1, kv_heads=1, hidden=8))
    writer = ChatWriter({"decoder": net}, prep, {})
    script = Scripted(size, prep.tokenizer.control[IM_END], capacity)
    writer._engine = TextEngine(Engine(script), prep.tokenizer, [prep.tokenizer.control[IM_END]])
    return writer, script


def _asks(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "tools": TOOLS}


def _teach(writer: ChatWriter, script: Scripted, talk: dict[str, Any], answers: Sequence[str]) -> list[int]:
    """Let the script give these answers, one after each result of the calculator; the tokens of it all."""
    from sw2.domains.language.chat.tools import message_of, results

    messages = list(talk["messages"])
    tokens = writer.template.tokens(messages, talk["tools"])
    for answer in answers:
        tokens += [*writer.prep.tokenizer.encode(answer), writer.prep.tokenizer.control[IM_END]]
        found = results(answer, talk["tools"])
        if found:
            messages += [message_of(answer), *found]
            tokens += writer.template.sequel(messages, talk["tools"]) or []
    script.scripts.append(tokens)
    return tokens


def test_many_conversations_with_calls_run_as_one_batch(prep: TextPrep) -> None:
    writer, script = _writer(prep)
    talks = [_asks(text) for text in ("2+2?", "hello", "broken?", "again?")]
    answers = [[ODD_CALL, "It is 4."], ["hello user"], ["<tool_call>{", "sorry"], [ODD_CALL, ODD_CALL, "4, twice"]]
    tokens = [_teach(writer, script, talk, each) for talk, each in zip(talks, answers, strict=True)]
    replies = writer.reply_many(talks, [COLD] * 4)
    for reply, wanted, said in zip(replies, tokens, answers, strict=True):
        assert isinstance(reply, Reply)
        assert reply.finished == "end"
        assert list(reply.tokens) == wanted, "as the model wrote them, not as the template would"
        assert reply.messages[-1] == {"role": "assistant", "content": said[-1]}
        pieces = "".join(
            prep.tokenizer.decode([token]) for token, mine in zip(reply.tokens, reply.written, strict=True) if mine
        )
        assert pieces == "".join(said)
        ends = [w for t, w in zip(reply.tokens, reply.written, strict=True) if t == prep.tokenizer.control[IM_END]]
        assert sum(ends) == len(said)
    roles = [[message["role"] for message in reply.messages] for reply in replies]
    assert roles[0] == ["user", "assistant", "tool", "assistant"]
    assert roles[1] == ["user", "assistant"]
    assert replies[0].messages[2]["content"] == "4"
    assert replies[2].messages[2]["content"].startswith("error: this call is not understood")
    assert roles[3].count("tool") == 2


def test_a_conversation_streams_with_its_tools(prep: TextPrep) -> None:
    writer, script = _writer(prep)
    _teach(writer, script, _asks("2+2?"), [ODD_CALL, "It is 4."])
    pieces = list(writer.converse(_asks("2+2?")["messages"], COLD, tools=TOOLS))
    assert "".join(piece.text for piece in pieces) == ODD_CALL + "It is 4."
    messages = [piece.message for piece in pieces if piece.message]
    assert [message["role"] for message in messages] == ["assistant", "tool", "assistant"]
    assert messages[0]["tool_calls"][0]["function"]["arguments"] == '{"expression": "2+2"}'
    assert [piece.finished for piece in pieces if piece.finished] == ["end", "end"]


def test_without_tools_a_call_is_only_text(prep: TextPrep) -> None:
    writer, script = _writer(prep)
    talk = {"messages": [{"role": "user", "content": "2+2?"}], "tools": []}
    _teach(writer, script, talk, [ODD_CALL])
    (reply,) = writer.reply_many([talk], [COLD])
    assert reply.messages[-1]["role"] == "assistant"
    assert "".join(piece.text for piece in writer.reply(talk["messages"], COLD)) == ODD_CALL
    assert writer.answer([talk, talk["messages"]])[1] == {"text": ""}


def test_a_full_context_ends_a_conversation(prep: TextPrep) -> None:
    talk = _asks("2+2?")
    room = len(_writer(prep)[0].template.tokens(talk["messages"], talk["tools"])) + len(prep.tokenizer.encode(ODD_CALL))
    writer, script = _writer(prep, capacity=room + 3)
    _teach(writer, script, talk, [ODD_CALL, "It is 4."])
    (reply,) = writer.reply_many([talk], [COLD])
    assert reply.finished == "length"
    assert reply.messages[-1] == {"role": "tool", "name": "calculator", "content": "4"}
    with pytest.raises(UsageError, match="too long"):
        writer.reply_many([_asks("x" * 2500)], [COLD])
    assert not writer.text_engine(1).busy()


def test_messages_obey_a_constraint_and_then_call_nothing(prep: TextPrep) -> None:
    writer, _ = _writer(prep)
    talk, asks = {"messages": [{"role": "user", "content": "which?"}]}, _asks("2+2?")
    choice = Constraint.choice(["left", "right"])
    assert "".join(piece.text for piece in writer.reply(talk["messages"], COLD, constraint=choice)) in ("left", "right")
    *_, last = writer.converse(talk["messages"], COLD, constraint=choice)
    assert last.message == message_of(last.message["content"])
    assert last.message["content"] in ("left", "right")
    assert last.finished == "end"
    for reply in writer.reply_many([talk, talk], [COLD] * 2, constraint=choice):
        assert reply.messages[-1]["content"] in ("left", "right")
    for refused in (
        lambda: writer.reply(asks["messages"], COLD, tools=TOOLS, constraint=choice),
        lambda: list(writer.converse(asks["messages"], COLD, tools=TOOLS, constraint=choice)),
        lambda: writer.reply_many([talk, asks], [COLD] * 2, constraint=choice),
    ):
        with pytest.raises(UsageError, match="cannot call tools"):
            refused()
    assert not writer.text_engine(1).busy()


CITIES = {
    "type": "object",
    "properties": {"city": {"$ref": "#/$defs/city"}, "days": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["city", "days"],
    "additionalProperties": False,
    "$defs": {"city": {"enum": ["Köln", "Bonn"]}},
}


@pytest.mark.parametrize("seed", range(6))
def test_a_call_that_is_required_is_valid_whatever_the_network_draws(prep: TextPrep, seed: int) -> None:
    size = prep.tokenizer.vocab_size
    net = Decoder(Decoder.Config(vocab_size=size, context=1500, width=8, depth=1, heads=1, kv_heads=1, hidden=8))
    net.initialise(generator(seed, "weights"))
    writer = ChatWriter({"decoder": net}, prep, {})
    weather = {"type": "function", "function": {"name": "weather", "parameters": CITIES}}
    offered = [weather, {"type": "function", "function": {"name": "now"}}] if seed % 2 else [weather]
    prompt = writer.encode_conversation([{"role": "user", "content": "hello"}], offered)
    text = "".join(
        piece.text
        for piece in writer.generate(prompt, Sampling(seed=seed), 400, constraint=writer.calling(offered))
        if piece.finished in (None, "end")
    )
    said = writer.message_of(text)
    (call,) = said["tool_calls"]
    assert said["content"] == ""
    arguments = json.loads(call["function"]["arguments"])
    if call["function"]["name"] == "weather":
        assert arguments.keys() == {"city", "days"}
        assert arguments["city"] in ("Köln", "Bonn")
        assert arguments["days"] <= 9
    else:
        assert call["function"]["name"] == "now"
        assert arguments == {}


def test_calls_in_a_text_are_held_to_their_schemas(prep: TextPrep) -> None:
    writer, script = _writer(prep)
    weather = {"type": "function", "function": {"name": "weather", "parameters": CITIES}}

    def call(city: str) -> str:
        return f'<tool_call>{{"name": "weather", "arguments": {{"city": "{city}", "days": 2}}}}</tool_call>'

    for said, most in ((f"Well. {call('Bonn')}", 1), (call("Bonn") * 2, None), ("Nothing to call.", 1)):
        prompt = writer.encode_conversation([{"role": "user", "content": said}], [weather])
        script.scripts.append([*prompt, *prep.tokenizer.encode(said), prep.tokenizer.control[IM_END]])
        constraint = writer.calling([weather], in_text=True, most=most)
        pieces = list(writer.generate(prompt, Sampling(temperature=0), 300, constraint=constraint))
        assert "".join(piece.text for piece in pieces) == said
        assert pieces[-1].finished == "end"
    prompt = writer.encode_conversation([{"role": "user", "content": "Paris"}], [weather])
    script.scripts.append([*prompt, *prep.tokenizer.encode(call("Paris")), prep.tokenizer.control[IM_END]])
    pieces = list(writer.generate(prompt, Sampling(temperature=0), 60, constraint=constraint))
    assert "Paris" not in "".join(piece.text for piece in pieces)


def test_a_tool_of_somebody_is_run_on_the_way(prep: TextPrep) -> None:
    writer, script = _writer(prep)
    told = []

    def run(arguments: Any) -> str:
        told.append(arguments)
        return "rain"

    weather = Tool("weather", "The weather.", {"type": "object"}, run)
    call = '<tool_call>{"name": "weather", "arguments": {"city": "Bonn"}}</tool_call>'
    talk = _asks("hello")
    tokens = writer.template.tokens(talk["messages"], [*TOOLS, weather.schema])
    tokens += [*prep.tokenizer.encode(call), prep.tokenizer.control[IM_END]]
    messages = [*talk["messages"], message_of(call), {"role": "tool", "name": "weather", "content": "rain"}]
    tokens += writer.template.sequel(messages, [*TOOLS, weather.schema]) or []
    script.scripts.append([*tokens, *prep.tokenizer.encode("Take a coat."), prep.tokenizer.control[IM_END]])
    said = [p.message for p in writer.converse(talk["messages"], COLD, tools=[*TOOLS, weather]) if p.message]
    assert [each["content"] for each in said] == ["", "rain", "Take a coat."]
    assert told == [{"city": "Bonn"}]


def test_calling_has_an_end(prep: TextPrep) -> None:
    writer, script = _writer(prep, capacity=3000)
    tokens = _teach(writer, script, _asks("again?"), [ODD_CALL] * 20)
    (reply,) = writer.reply_many([_asks("again?")], [COLD])
    assert sum(message["role"] == "tool" for message in reply.messages) == 8
    assert list(reply.tokens) == tokens[: len(reply.tokens)]
