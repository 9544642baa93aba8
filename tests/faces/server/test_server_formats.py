"""The server without a network: forms of answers and errors, limits of one request, log, metrics, OpenAPI."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import httpx2
import pytest
from PIL import Image

from sw2.core.program import Program
from sw2.faces.server.errors import ApiError
from sw2.faces.server.gate import Limits
from sw2.faces.server.keys import COOKIE, Keys
from sw2.parts.decoding.sampling import Sampling
from sw2.verbs.feedback import pairs

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]
KEY = "k" * 32
LENGTHS = {"inputs": [{"text": "x"}]}


def events(response: httpx2.Response) -> list[Any]:
    """The JSON of a stream, which must end as OpenAI's do."""
    blocks = response.text.split("\n\n")
    assert blocks[-2:] == ["data: [DONE]", ""]
    return [json.loads(block.removeprefix("data: ")) for block in blocks[:-2]]


def refused(response: httpx2.Response, status: int, *, param: str | None = None, says: str = "") -> dict[str, Any]:
    """The error of a response, which must have OpenAI's form."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["param"] == param
    assert says in error["message"]
    return dict(error)


# ---------------------------------------------------------------------------------------------------------------- chats


def test_answers_are_those_of_the_program_alone_and_eight_at_once(serve: Any, random_program: Program) -> None:
    ask = serve({"random": random_program})
    talks = [[{"role": "user", "content": f"hello {n} world" * (n + 1)}] for n in range(8)]
    wanted = []
    for n, talk in enumerate(talks):
        sampling = Sampling(temperature=0.0 if n < 4 else 1.0, seed=n)
        wanted.append("".join(p.text for p in random_program.runtime.reply(talk, sampling, 12)))  # type: ignore[attr-defined]
    bodies = [
        {"model": "random", "messages": talk, "max_tokens": 12, "temperature": 0 if n < 4 else 1, "top_p": 1, "seed": n}
        for n, talk in enumerate(talks)
    ]
    alone = [ask.post(CHAT, **body) for body in bodies]
    together = ask.together([("POST", CHAT, {"json": body}) for body in bodies])
    streamed = ask.together([("POST", CHAT, {"json": {**body, "stream": True}}) for body in bodies])
    assert [r.json()["choices"][0]["message"]["content"] for r in alone] == wanted
    assert [r.json()["choices"][0]["message"]["content"] for r in together] == wanted
    said = ["".join(e["choices"][0]["delta"].get("content") or "" for e in events(r)) for r in streamed]
    assert said == wanted


def test_a_stream_and_a_whole_answer_say_the_same(serve: Any, random_program: Program) -> None:
    ask = serve({"random": random_program})
    body = {
        "model": "random", "messages": HELLO, "max_tokens": 6, "seed": 5, "logprobs": True, "top_logprobs": 3, "n": 2,
    }  # fmt: skip
    whole = ask.post(CHAT, **body).json()
    chunks = events(ask.post(CHAT, **body, stream=True, stream_options={"include_usage": True}))
    usage = chunks.pop()
    assert usage["choices"] == []
    assert usage["usage"].keys() == whole["usage"].keys()
    assert usage["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"] == 12
    assert usage["usage"]["total_tokens"] == usage["usage"]["prompt_tokens"] + 12
    assert {chunk["id"] for chunk in chunks} == {usage["id"]}
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    texts = []
    for choice in whole["choices"]:
        mine = [c["choices"][0] for c in chunks if c["choices"][0]["index"] == choice["index"]]
        assert mine[0]["delta"] == {"role": "assistant", "content": ""}
        assert "".join(each["delta"].get("content") or "" for each in mine) == choice["message"]["content"]
        assert [each["finish_reason"] for each in mine if each["finish_reason"]] == [choice["finish_reason"]]
        scores = [score for each in mine if each["logprobs"] for score in each["logprobs"]["content"]]
        assert len(scores) == 6
        for score, other in zip(scores, choice["logprobs"]["content"], strict=True):
            assert score["bytes"] == other["bytes"]
            assert score["logprob"] == pytest.approx(other["logprob"], abs=1e-4)
            assert len(score["top_logprobs"]) == 3
            assert score["logprob"] <= score["top_logprobs"][0]["logprob"] + 1e-6
        texts.append(choice["message"]["content"])
    assert texts[0] != texts[1], "each choice has draws of its own"
    assert ask.post(CHAT, **{**body, "n": 1}).json()["choices"][0]["message"]["content"] == texts[0]


def test_answers_are_held_to_a_schema(serve: Any, random_program: Program) -> None:
    """Seven at once beside a free one. The network draws by chance, so nothing but the schema makes it JSON."""
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}, "size": {"enum": ["small", "large"]}},
        "required": ["ok", "size"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "order", "schema": schema, "strict": True}}
    ask = serve({"random": random_program})
    body = {"model": "random", "messages": HELLO, "max_tokens": 100}
    free = {**body, "max_tokens": 20, "seed": 1}
    bodies = [{**body, "response_format": wanted, "seed": seed, "stream": seed % 2 == 1} for seed in range(7)]
    *held, beside = ask.together([("POST", CHAT, {"json": each}) for each in (*bodies, free)])
    assert beside.json()["choices"] == ask.post(CHAT, **free).json()["choices"]
    found = set()
    for sent, response in zip(bodies, held, strict=True):
        if sent["stream"]:
            chunks = [each["choices"][0] for each in events(response)]
            said, reason = "".join(c["delta"].get("content") or "" for c in chunks), chunks[-1]["finish_reason"]
        else:
            choice = response.json()["choices"][0]
            said, reason = choice["message"]["content"], choice["finish_reason"]
        assert reason == "stop"
        answer = json.loads(said)
        assert answer.keys() == {"ok", "size"}
        found.add((answer["ok"], answer["size"]))
    assert len(found) > 1
    assert found <= {(ok, size) for ok in (True, False) for size in ("small", "large")}
    cut = ask.post(CHAT, **{**body, "max_tokens": 3, "response_format": wanted}).json()["choices"][0]
    assert cut["finish_reason"] == "length"


def test_stop_strings_and_lengths(serve: Any, make_script: Callable[..., Any]) -> None:
    script = make_script()
    script.teach("hello", "hello user, world")
    prep = script.network.prep
    first = prep.tokenizer.decode(prep.tokenizer.encode("hello user, world")[:1])
    ask = serve({"script": script.program})
    body = {"model": "script", "messages": HELLO, "temperature": 0}
    for more, text, reason in (
        ({}, "hello user, world", "stop"),
        ({"stop": ", w"}, "hello user", "stop"),
        ({"stop": ["world", "lo u"]}, "hel", "stop"),
        ({"max_tokens": 1}, first, "length"),
        ({"max_completion_tokens": 10**30}, "hello user, world", "stop"),
    ):
        choice = ask.post(CHAT, **body, **more).json()["choices"][0]
        assert (choice["message"]["content"], choice["finish_reason"]) == (text, reason), more
        chunks = events(ask.post(CHAT, **body, **more, stream=True))
        assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks) == text
        assert chunks[-1]["choices"][0]["finish_reason"] == reason


def test_parts_and_roles_make_the_same_conversation(serve: Any, make_script: Callable[..., Any]) -> None:
    script = make_script()
    script.teach("hello", "world")
    ask = serve({"script": script.program})
    parts = [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]
    answer = ask.post(CHAT, model="script", messages=parts, temperature=0).json()
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "world"}
    # Spelled control tokens and control characters are text like any other.
    odd = [{"role": "developer", "content": "\u0000\u001b[0m"}, {"role": "user", "content": "<|im_end|>"}]
    assert ask.post(CHAT, model="script", messages=odd, max_tokens=2).status_code == 200


def _named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


NO_OBJECT = [{"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}]
STRICT_LIST = [{"type": "function", "function": {**NO_OBJECT[0]["function"], "strict": True}}]
WRONG_CALL = {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
CUT_CALL = {"tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}
CALL = 'Let me see. <tool_call>{"name": "weather", "arguments": {"city": "Köln"}}</tool_call>'
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]


def test_calls_come_in_openais_form(serve: Any, make_script: Callable[..., Any]) -> None:
    script = make_script()
    script.teach("hello", CALL, TOOLS)
    script.teach("hello", CALL)
    ask = serve({"script": script.program})
    body = {"model": "script", "messages": HELLO, "temperature": 0}
    choice = ask.post(CHAT, **body, tools=TOOLS).json()["choices"][0]
    (call,) = choice["message"]["tool_calls"]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", "Let me see.")
    assert call["id"].startswith("call_")
    assert call["function"] == {"name": "weather", "arguments": '{"city": "Köln"}'}

    chunks = [chunk["choices"][0] for chunk in events(ask.post(CHAT, **body, tools=TOOLS, stream=True))]
    shown = [chunk["delta"]["content"] for chunk in chunks if chunk["delta"].get("content")]
    assert "".join(shown) == "Let me see."
    assert len(shown) > 1, "what is certainly no call comes at once"
    (calls,) = [chunk["delta"]["tool_calls"] for chunk in chunks if chunk["delta"].get("tool_calls")]
    assert (calls[0]["index"], calls[0]["function"]) == (0, call["function"])
    assert chunks[-1]["finish_reason"] == "tool_calls"

    # The answer goes back as the client has it, with the tool's result.
    more = [
        *HELLO, choice["message"], {"role": "tool", "tool_call_id": call["id"], "content": "rain"},
    ]  # fmt: skip
    assert ask.post(CHAT, model="script", messages=more, tools=TOOLS, max_tokens=2).status_code == 200
    for hidden in ({}, {"tools": TOOLS, "tool_choice": "none"}):
        choice = ask.post(CHAT, **body, **hidden).json()["choices"][0]
        assert (choice["message"].get("tool_calls"), choice["message"]["content"]) == (None, CALL)


@pytest.mark.parametrize(
    "text", ["<tool_call>{", "a <tool_call>nothing</tool_call> b", "no call <tool", "  hello ", "<tool_call>[]"]
)
def test_what_is_no_call_stays_a_text(serve: Any, make_script: Callable[..., Any], text: str) -> None:
    script = make_script()
    script.teach("hello", text, TOOLS)
    ask = serve({"script": script.program})
    body = {"model": "script", "messages": HELLO, "temperature": 0, "tools": TOOLS}
    choice = ask.post(CHAT, **body).json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (text, "stop")
    chunks = events(ask.post(CHAT, **body, stream=True))
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks) == text


PLACES = {
    "type": "object",
    "properties": {"city": {"$ref": "#/$defs/city"}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city", "days"],
    "additionalProperties": False,
    "$defs": {"city": {"enum": ["Köln", "Bonn"]}},
}
CHOSEN = [
    {"type": "function", "function": {"name": "weather", "parameters": PLACES, "strict": True}},
    {"type": "function", "function": {"name": "now"}},
]


def test_a_call_that_is_asked_for_is_a_valid_one(serve: Any, roomy_program: Program) -> None:
    """The network draws by chance, so nothing but the form makes it a call."""
    ask = serve({"random": roomy_program})
    body = {"model": "random", "messages": HELLO, "tools": CHOSEN, "parallel_tool_calls": False, "max_tokens": 120}
    bodies: list[dict[str, Any]] = [
        {**body, "tool_choice": choice, "seed": seed, "stream": stream}
        for choice in ("required", _named("weather"))
        for seed in range(4)
        for stream in (False, True)
    ]
    answers = ask.together([("POST", CHAT, {"json": each}) for each in bodies])
    found = []
    for asked, answer in zip(bodies, answers, strict=True):
        assert answer.status_code == 200, answer.text
        if asked["stream"]:
            chunks = [chunk["choices"][0] for chunk in events(answer)]
            (calls,) = [chunk["delta"]["tool_calls"] for chunk in chunks if chunk["delta"].get("tool_calls")]
            reason = chunks[-1]["finish_reason"]
        else:
            (choice,) = answer.json()["choices"]
            calls, reason = choice["message"]["tool_calls"], choice["finish_reason"]
            assert choice["message"]["content"] is None
        (call,) = calls
        assert reason == "tool_calls"
        arguments = json.loads(call["function"]["arguments"])
        if call["function"]["name"] == "weather":
            assert arguments.keys() == {"city", "days"}
            assert arguments["city"] in ("Köln", "Bonn")
            assert arguments["days"] in range(1, 10)
        else:
            assert asked["tool_choice"] == "required"
            assert (call["function"]["name"], arguments) == ("now", {})
        found.append((call["function"]["name"], call["function"]["arguments"]))
    assert found[::2] == found[1::2], "a stream and a whole answer say the same"
    assert len(set(found)) > 2
    cut = ask.post(CHAT, **{**bodies[0], "max_tokens": 3}).json()["choices"][0]
    assert (cut["finish_reason"], cut["message"].get("tool_calls")) == ("length", None)


def test_strict_tools_and_single_calls_beside_free_text(serve: Any, make_script: Callable[..., Any]) -> None:
    def call(city: str, days: int) -> str:
        return f'<tool_call>{{"name": "weather", "arguments": {{"city": "{city}", "days": {days}}}}}</tool_call>'

    said = f"Let me see. {call('Bonn', 3)} and {call('Köln', 2)}"
    asked: dict[str, Any] = {"temperature": 0, "model": "script", "max_tokens": 400}
    script = make_script(context=2000)
    ask = serve({"script": script.program})
    prep, tools = script.program.runtime, [{**CHOSEN[0], "function": {**CHOSEN[0]["function"]}}, CHOSEN[1]]
    del tools[0]["function"]["strict"]
    script.teach("hello", said, tools)
    assert prep.template.knows_tools

    def answer(**more: Any) -> Any:
        response = ask.post(CHAT, messages=HELLO, **asked, **more)
        assert response.status_code == 200, response.text
        (choice,) = response.json()["choices"]
        return [json.loads(each["function"]["arguments"]) for each in choice["message"].get("tool_calls") or []]

    both = [{"city": "Bonn", "days": 3}, {"city": "Köln", "days": 2}]
    assert answer(tools=tools) == answer(tools=CHOSEN) == both
    assert answer(tools=CHOSEN, parallel_tool_calls=False) in ([], both[:1]), "the mark of another cannot be written"
    # Of what the script says next, the schema allows the beginning alone.
    script.teach("world", call("Paris", 3), tools)
    world = {"messages": [{"role": "user", "content": "world"}], **asked}
    loose = ask.post(CHAT, **world, tools=tools).json()["choices"][0]["message"]
    assert json.loads(loose["tool_calls"][0]["function"]["arguments"])["city"] == "Paris"
    strict = ask.post(CHAT, **world, tools=CHOSEN)
    assert strict.status_code == 200
    assert "Paris" not in strict.text


def test_half_a_character_in_a_call(serve: Any, make_script: Callable[..., Any]) -> None:
    script = make_script()
    script.teach("hello", '<tool_call>{"name": "' + "w" * 20 + '", "arguments": {"a": "\\ud800"}}</tool_call>', TOOLS)
    ask = serve({"script": script.program})
    body = {"model": "script", "messages": HELLO, "temperature": 0, "tools": TOOLS}
    (call,) = ask.post(CHAT, **body).json()["choices"][0]["message"]["tool_calls"]
    assert call["function"] == {"name": "w" * 20, "arguments": '{"a": "?"}'}
    assert events(ask.post(CHAT, **body, stream=True))[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_a_call_that_was_cut_stays_a_text(serve: Any, make_script: Callable[..., Any]) -> None:
    script = make_script()
    script.teach("hello", CALL, TOOLS)
    ask = serve({"script": script.program})
    body = {"model": "script", "messages": HELLO, "temperature": 0, "tools": TOOLS, "max_tokens": 30}
    choice = ask.post(CHAT, **body).json()["choices"][0]
    assert choice["finish_reason"] == "length"
    assert CALL.startswith(choice["message"]["content"])
    assert "<tool_call>{" in choice["message"]["content"]
    chunks = events(ask.post(CHAT, **body, stream=True))
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks) == choice["message"]["content"]


# ----------------------------------------------------------------------------------------------- completions and others


def test_completions_of_several_prompts(serve: Any, random_program: Program) -> None:
    ask = serve({"random": random_program})
    runtime: Any = random_program.runtime
    prompts = ["hello", "world hello"]
    body = {"model": "random", "temperature": 0, "max_tokens": 5}
    wanted = ["".join(p.text for p in runtime.generate(each, Sampling(temperature=0.0), 5)) for each in prompts]
    for given in (prompts, [runtime.encode_prompt(each) for each in prompts]):
        answer = ask.post("/v1/completions", **body, prompt=given).json()
        assert [choice["text"] for choice in answer["choices"]] == wanted
    (choice,) = ask.post("/v1/completions", **body, prompt=runtime.encode_prompt("hello")).json()["choices"]
    assert choice["text"] == wanted[0]
    answer = ask.post("/v1/completions", model="random", prompt=prompts, n=3, logprobs=2, seed=1, max_tokens=4).json()
    assert [choice["index"] for choice in answer["choices"]] == list(range(6))
    assert answer["usage"]["completion_tokens"] == 24
    assert answer["usage"]["prompt_tokens"] == sum(len(runtime.encode_prompt(each)) for each in prompts)
    for choice in answer["choices"]:
        logprobs = choice["logprobs"]
        assert {len(logprobs[key]) for key in ("tokens", "token_logprobs", "top_logprobs", "text_offset")} == {4}
        assert logprobs["text_offset"][0] == 0
        assert all(0 <= offset <= len(choice["text"]) for offset in logprobs["text_offset"])
    chunks = events(ask.post("/v1/completions", model="random", prompt=prompts, seed=1, max_tokens=4, stream=True))
    for number in (0, 1):
        said = "".join(c["choices"][0]["text"] for c in chunks if c["choices"][0]["index"] == number)
        assert said == answer["choices"][3 * number]["text"]


def test_vectors(serve: Any, toys: Mapping[str, Program]) -> None:
    ask = serve(toys)
    plain = ask.post("/v1/embeddings", model="lengths", input=["tree", "b"]).json()
    assert [each["embedding"] for each in plain["data"]] == [[4.0, 2.0], [1.0, 0.0]]
    coded = ask.post("/v1/embeddings", model="lengths", input="tree", encoding_format="base64").json()
    assert base64.b64decode(coded["data"][0]["embedding"]) == b"\0\0\x80@\0\0\0@"
    refused(ask.post("/v1/embeddings", model="brightness", input="x"), 400, param="model", says="/v1/run/brightness")
    # What embeds pictures would take a text for a path, and look into the server's own files.
    pictures = serve({"shades": replace(toys["lengths"], task=toys["brightness"].task)})
    refused(pictures.post("/v1/embeddings", model="shades", input="x"), 400, param="model", says="/v1/run/shades")


def _png(grey: int) -> str:
    file = io.BytesIO()
    Image.new("L", (3, 2), grey).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_other_kinds_of_tasks(serve: Any, toys: Mapping[str, Program], random_program: Program) -> None:
    ask = serve({**toys, "random": random_program})
    inputs = [{"image": _png(250)}, {"image": "data:image/png;base64," + _png(10)}]
    answers = ask.post("/v1/run/brightness", inputs=inputs).json()["answers"]
    assert [answer["label"] for answer in answers] == ["bright", "dark"]
    assert answers[0]["probabilities"]["bright"] == pytest.approx(250 / 255)
    talk = [{"role": "user", "content": "please"}]
    answers = ask.post("/v1/run/politeness", inputs=[{"messages": talk}, {"messages": {"messages": HELLO}}]).json()
    assert answers == {"model": "politeness", "answers": [{"score": 1.0}, {"score": 0.0}]}
    answers = ask.post("/v1/run/lengths", inputs=[{"text": "a"}, {"text": "a long text"}]).json()["answers"]
    assert answers == [{"label": "short"}, {"label": "long"}]
    place = "inputs[0].image"
    refused(ask.post("/v1/run/brightness", inputs=[{"image": "/etc/hostname"}]), 400, param=place, says="base64")
    refused(ask.post("/v1/run/brightness", inputs=[{"image": "AAAA"}]), 400, says="picture")
    refused(ask.post("/v1/run/brightness", inputs=[]), 400, param="inputs")
    refused(ask.post("/v1/run/brightness", inputs=[{"picture": "AAAA"}]), 400, param=place)
    bad = [{"messages": [{"role": "usr", "content": "x"}]}]
    refused(ask.post("/v1/run/politeness", inputs=bad), 400, param="inputs[0].messages[0].role")
    refused(ask.post("/v1/run/random", inputs=[{"text": "x"}]), 400, says="/v1/chat/completions")
    refused(ask.post("/v1/run/britghness", inputs=[]), 404, param="model", says="Did you mean 'brightness'?")


def test_openapi_describes_programs_by_their_kinds(serve: Any, toys: Mapping[str, Program]) -> None:
    page = serve(toys)("GET", "/openapi.json").json()
    assert {"/v1/run/brightness", "/v1/run/politeness", CHAT, "/v1/completions", "/v1/models"} <= page["paths"].keys()
    schemas = page["components"]["schemas"]
    assert schemas["BrightnessInput"]["properties"]["image"]["type"] == "string"
    assert schemas["BrightnessAnswer"]["required"] == ["label", "probabilities"]
    run = page["paths"]["/v1/run/brightness"]["post"]
    assert run["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/BrightnessInputs")
    assert "422" not in run["responses"]
    assert "text/event-stream" in page["paths"][CHAT]["post"]["responses"]["200"]["content"]
    assert run["responses"]["429"]["content"]["application/json"]["schema"]["$ref"].endswith("/Error")


def test_openapi_names_the_models_that_can_and_the_key(
    serve: Any, toys: Mapping[str, Program], random_program: Program
) -> None:
    ask = serve(toys, keys=[KEY])
    with_key = {"headers": {"authorization": f"Bearer {KEY}"}}

    def models() -> list[Any]:
        schemas = ask("GET", "/openapi.json", **with_key).json()["components"]["schemas"]
        return [schemas[body]["properties"]["model"].get("enum") for body in ("Chat", "Completion", "Embeddings")]

    assert models() == [None, None, ["lengths"]]
    ask.server.open("random", random_program)
    assert models() == [["random"], ["random"], ["lengths"]]
    paths = ask("GET", "/openapi.json", **with_key).json()["paths"]
    assert {path for path, methods in paths.items() if "security" not in methods.popitem()[1]} == {
        "/healthz",
        "/readyz",
    }


def test_models(serve: Any, toys: Mapping[str, Program], random_program: Program) -> None:
    ask = serve({**toys, "random": random_program})
    found = {each["id"]: each for each in ask("GET", "/v1/models").json()["data"]}
    assert list(found) == [*toys, "random"]
    assert found["random"]["context"] == 400
    assert ask("GET", "/v1/models/lengths").json() == found["lengths"]
    refused(ask("GET", "/v1/models/lenghts"), 404, param="model", says="Did you mean 'lengths'?")


# ------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("more", "param", "says"),
    [
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": "hello"}, "messages", "list"),
        ({"messages": [{"role": "usr", "content": "x"}]}, "messages[0].role", "'user'"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "needs a text"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content", "string"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type", "'text'"),
        ({"messages": [{"role": "user", "content": "x", **WRONG_CALL}]}, None, "not understood"),
        ({"messages": [{"role": "assistant", **CUT_CALL}]}, None, "not understood"),
        ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        ({"max_tokens": 1.5}, "max_tokens", "integer"),
        ({"max_tokens": "5"}, "max_tokens", "integer"),
        ({"max_tokens": True}, "max_tokens", "integer"),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens", "one of them"),
        ({"temperature": -1}, "temperature", "greater than or equal to 0"),
        ({"temperature": 2.5}, "temperature", "less than or equal to 2"),
        ({"top_p": 0}, "top_p", "greater than 0"),
        ({"presence_penalty": 3}, "presence_penalty", "2"),
        ({"n": 0}, "n", "1"),
        ({"n": 100}, "n", "room for"),
        ({"stop": ""}, "stop", "at least 1"),
        ({"stop": ["a", ""]}, "stop[1]", "at least 1"),
        ({"stop": [3]}, "stop[0]", "string"),
        ({"logit_bias": {"x": 1}}, "logit_bias.x", "pattern"),
        ({"logit_bias": {"9999999": 1}}, None, "no such token"),
        ({"top_logprobs": 2}, "top_logprobs", "together with logprobs"),
        ({"logprobs": True, "top_logprobs": 99}, "top_logprobs", "20"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing"),
        ({"response_format": {"type": "json_object"}, "tools": TOOLS}, "response_format", "no room for calls"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "strin"}}}},
            None,
            "cannot be followed",
        ),
        ({"tool_choice": "required"}, "tool_choice", "there is no tool"),
        ({"tool_choice": "always"}, "tool_choice", "'required'"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function", "required"),
        ({"tools": TOOLS, "tool_choice": _named("whether")}, "tool_choice.function.name", "Did you mean 'weather'?"),
        ({"tools": TOOLS * 2}, "tools[1].function.name", "one name"),
        ({"tools": STRICT_LIST}, "tools", "are an object"),
        ({"tools": NO_OBJECT, "tool_choice": "required"}, "tools", "are an object"),
        ({"response_format": {"type": "json_object"}, "tool_choice": "required"}, "response_format", "no room"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", "pattern"),
        ({"temprature": 1}, "temprature", "no such parameter"),
        ({"seed": 2**70}, "seed", "less than"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(serve: Any, make_script: Any, more: dict[str, Any], param: str, says: str) -> None:
    ask = serve({"script": make_script().program}, queue_size=4)
    for stream in (False, True):
        body = {"model": "script", "messages": HELLO, "stream": stream, **more}
        refused(ask.post(CHAT, **body), 400, param=param, says=says)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "empty"),
        (b"{", "not JSON"),
        (b"[]", "JSON object"),
        (b"null", ""),
        (b'"\x01"', "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"model": "script", "messages": [{"role": "user", "content": "\\ud800"}]}', "half a character"),
        (b'{"model": "script", "messages": [], "temperature": NaN}', "NaN is no number"),
        (b'{"model": "script", "messages": [], "temperature": 1e999}', "not JSON"),
        (b'{"model": "script", "messages": [], "max_tokens": 1' + b"0" * 5000 + b"}", "not JSON"),
        (b"[" * 100_000, "too deep"),
        (b'{"a":' * 900 + b"1" + b"}" * 900, ""),
    ],
)
def test_bodies_that_are_no_requests(serve: Any, make_script: Callable[..., Any], body: bytes, says: str) -> None:
    ask = serve({"script": make_script().program})
    for path in (CHAT, "/v1/completions", "/v1/embeddings"):
        refused(
            ask("POST", path, content=body, headers={"content-type": "application/json"}), 400, param=ANY, says=says
        )
    odd = ask("POST", CHAT, content=body, headers={"content-type": "Application/JSON"})
    refused(odd, 400, param=ANY, says=says)
    as_text = ask("POST", CHAT, content=b'{"model": "script"}', headers={"content-type": "text/plain"})
    refused(as_text, 400, says="application/json")


def test_a_prompt_over_the_context(serve: Any, random_program: Program) -> None:
    ask = serve({"random": random_program})
    long = [{"role": "user", "content": "x" * 500}]
    for stream in (False, True):
        error = refused(ask.post(CHAT, model="random", messages=long, stream=stream), 400, param="messages")
        assert error["code"] == "context_length_exceeded"
    error = refused(ask.post("/v1/completions", model="random", prompt="x" * 500), 400, param="prompt")
    assert error["code"] == "context_length_exceeded"
    fits = ask.post("/v1/completions", model="random", prompt=[5] * 399, max_tokens=1000, seed=0)
    assert fits.json()["usage"]["completion_tokens"] == 1
    refused(ask.post("/v1/completions", model="random", prompt=[10**8]), 400, says="no such token")
    refused(ask.post("/v1/completions", model="random", prompt=[]), 400, param="prompt")
    refused(ask.post("/v1/completions", model="random", prompt=["a", 3]), 400, param="prompt[1]")
    refused(ask.post("/v1/completions", model="random", prompt="a", best_of=3), 400, param="best_of")
    refused(ask.post("/v1/completions", model="random", prompt="a", echo=True), 400, param="echo")
    refused(ask.post("/v1/completions", model="random", prompt="a", echo=0), 400, param="echo", says="be False")


def test_options_of_a_stream_that_is_none(serve: Any, random_program: Program) -> None:
    ask = serve({"random": random_program})
    options = ask.post(CHAT, model="random", messages=HELLO, stream_options={"include_usage": True})
    refused(options, 400, param="stream_options", says="together with stream")


def test_paths_and_models_that_are_not_there(serve: Any, random_program: Program) -> None:
    ask = serve({"random": random_program})
    refused(ask("GET", "/v1/nothing"), 404, says="nothing at")
    refused(ask("GET", CHAT), 405)
    error = refused(ask.post(CHAT, model="randm", messages=HELLO), 404, param="model", says="Did you mean 'random'?")
    assert error["code"] == "model_not_found"
    refused(ask.post(CHAT, model="\u0000", messages=HELLO), 404, param="model")


def test_what_only_chat_programs_can(serve: Any, toys: Mapping[str, Program]) -> None:
    ask = serve(toys)
    refused(ask.post(CHAT, model="lengths", messages=HELLO), 400, param="model", says="cannot 'Chat'")
    refused(ask.post("/v1/completions", model="lengths", prompt="x"), 400, param="model", says="cannot 'Generate'")


def test_large_bodies_and_slow_answers(serve: Any, make_script: Callable[..., Any]) -> None:
    script = make_script(seconds=0.02)
    ask = serve({"script": script.program}, limits=Limits(body_bytes=1000, seconds=0.2))
    refused(ask.post(CHAT, model="script", messages=[{"role": "user", "content": "x" * 1000}]), 413, says="1000 bytes")
    late = ask.post(CHAT, model="script", messages=HELLO)
    assert refused(late, 504)["code"] == "time_limit"
    assert late.headers["x-should-retry"] == "false"
    stream = ask.post(CHAT, model="script", messages=HELLO, stream=True)
    assert stream.status_code == 200
    assert json.loads(stream.text.split("data: ")[-1])["error"]["code"] == "time_limit"
    assert _waits(lambda: not script.program.runtime.text_engine(1).busy()), "its slot is free"
    assert _value(ask("GET", "/metrics").text, 'sw2_written_tokens_total{model="script"}') > 4, "cut short, they count"
    assert [line["status"] for line in ask.lines[:3]] == [413, 504, 200]
    assert ask.lines[2]["code"] == "time_limit"


def _waits(condition: Callable[[], bool]) -> bool:
    for _ in range(200):
        if condition():
            return True
        time.sleep(0.01)
    return False


def test_a_fault_ends_its_step_and_not_the_server(serve: Any, make_script: Callable[..., Any]) -> None:
    script = make_script()
    ask = serve({"script": script.program})
    script.network.fault = ZeroDivisionError("a secret of a user")
    broken = ask.post(CHAT, model="script", messages=HELLO)
    assert "secret" not in broken.text
    assert refused(broken, 500)["code"] == "internal_error"
    script.network.fault = None
    assert ask.post(CHAT, model="script", messages=HELLO, max_tokens=3).status_code == 200
    assert "secret" not in json.dumps(ask.lines)
    (told,) = [line for line in ask.lines if line["event"] == "fault"]
    assert told["error"] == "ZeroDivisionError", "the log says what the answer does not"
    assert any("conftest.py" in place for place in told["at"])
    assert told["id"] == broken.headers["x-request-id"]


def test_a_fault_of_a_program_comes_in_openais_form(serve: Any, toys: Mapping[str, Program], monkeypatch: Any) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("a secret of a user")

    ask = serve(toys)
    monkeypatch.setattr(type(toys["lengths"].runtime), "embed", broken)
    monkeypatch.setattr(type(toys["lengths"].runtime), "answer", broken)
    for path, body in (("/v1/embeddings", {"model": "lengths", "input": "x"}), ("/v1/run/lengths", LENGTHS)):
        answer = ask.post(path, **body)
        assert refused(answer, 500, says="its log says which")["code"] == "internal_error"
        assert answer.headers["x-should-retry"] == "false"
    assert [line["error"] for line in ask.lines if line["event"] == "fault"] == ["ZeroDivisionError"] * 2
    assert "secret" not in json.dumps(ask.lines)


# ------------------------------------------------------------------------------------------------ keys, log and metrics


def test_keys(serve: Any, random_program: Program) -> None:
    ask = serve({"random": random_program}, keys=[KEY, "another-key-of-somebody"])
    for path in ("/healthz", "/readyz"):
        assert ask("GET", path).status_code == 200
    for path in ("/v1/models", "/metrics", "/openapi.json", "/v1/nothing"):
        error = refused(ask("GET", path), 401)
        assert error["code"] == "invalid_api_key"
        refused(ask("GET", path, headers={"authorization": "Bearer " + "l" * 32}), 401)
        refused(ask("GET", path, headers={"authorization": f"Basic {KEY}"}), 401)
    assert ask("GET", "/v1/models", headers={"authorization": f"Bearer {KEY}"}).status_code == 200
    assert ask("GET", "/v1/models", headers={"authorization": f"bearer {KEY}", "host": "a.b"}).status_code == 200
    assert KEY not in json.dumps(ask.lines)


def test_one_key_cannot_see_what_another_asked(serve: Any, random_program: Program) -> None:
    other = "another-key-of-somebody"
    ask = serve({"random": random_program}, keys=[KEY, other])
    body = {"model": "random", "messages": [{"role": "user", "content": "hello world " * 9}], "max_tokens": 1}

    def known(key: str) -> int:
        answer = ask("POST", CHAT, json=body, headers={"authorization": f"Bearer {key}"}).json()
        return int(answer["usage"]["prompt_tokens_details"]["cached_tokens"])

    assert known(KEY) == 0
    assert known(other) == 0, "else a guess of what was asked would show whether it is right"
    assert known(other) > 0


def test_sessions_of_browsers_are_bounded() -> None:
    keys = Keys([KEY], None)
    first, *_, last = [keys.begin_session(KEY, "") for _ in range(1001)]
    with pytest.raises(ApiError):
        keys.who(None, "", f"{COOKIE}={first}")
    assert keys.who(None, "", f"{COOKIE}={last}") == keys.who(f"Bearer {KEY}", "")


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:8000", 200), ("[::1]:8000", 200), ("127.0.0.1", 200), ("evil.example:8000", 403), ("", 403)],
)
def test_without_keys_only_names_of_this_machine_are_answered(
    serve: Any, random_program: Program, host: str, status: int
) -> None:
    assert serve({"random": random_program})("GET", "/v1/models", headers={"host": host}).status_code == status


def test_how_full_the_cache_is(make_script: Callable[..., Any]) -> None:
    script = make_script(slots=2, context=20)
    engine = script.program.runtime.text_engine(2)
    text = engine.submit([5] * 4, Sampling(temperature=0.0), max_tokens=10)
    for _ in range(3):
        engine.step()
    assert engine.cache_use() == (4 + 2) / 40, "the third token is not read yet"
    engine.cancel(text)
    assert engine.cache_use() == 0


def test_the_log_holds_nothing_of_users(serve: Any, random_program: Program) -> None:
    ask = serve({"random": random_program})
    secret = "xyzzy"
    ask.post(CHAT, model="random", messages=[{"role": "user", "content": secret}], max_tokens=2, seed=0)
    ask.post(CHAT, model=secret, messages=[{"role": secret, "content": secret}])
    ask("GET", f"/v1/{secret}?{secret}", headers={"x-request-id": secret, "user-agent": secret})
    assert secret not in json.dumps(ask.lines)
    line = ask.lines[0]
    assert line["route"] == CHAT
    assert line["model"] == "random"
    assert line["completion_tokens"] == 2
    assert {each["event"] for each in ask.lines} == {"request"}
    assert [each["status"] for each in ask.lines] == [200, 400, 404]
    assert secret not in ask("GET", "/metrics").text


def test_conversations_are_kept_when_asked_to(serve: Any, make_script: Callable[..., Any], tmp_path: Path) -> None:
    script = make_script()
    script.teach("hello", "world")
    ask = serve({"script": script.program}, conversations=tmp_path / "log.jsonl")
    ask.post(CHAT, model="script", messages=HELLO, temperature=0)
    ask.post(CHAT, model="script", messages=HELLO, temperature=0, stream=True)
    ask.post(CHAT, model="script", messages=[])
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    kept = {"messages": [*HELLO, {"role": "assistant", "content": "world"}], "tools": [], "program": script.program.id}
    assert rows == [kept, kept]
    # A person adds what it is worth; then it makes pairs.
    (tmp_path / "log.jsonl").write_text(json.dumps({**kept, "edit": "better"}) + "\n")
    assert pairs(tmp_path / "log.jsonl").pairs[0]["rejected"]["content"] == "world"


def _value(metrics: str, name: str) -> float:
    (line,) = [line for line in metrics.splitlines() if line.startswith(name + " ")]
    return float(line.rpartition(" ")[2])


def test_metrics_count(serve: Any, random_program: Program) -> None:
    ask = serve({"random": random_program}, slots=3)
    long = [{"role": "user", "content": "hello world " * 10}]
    ask.together([("POST", CHAT, {"json": {"model": "random", "messages": long, "max_tokens": 4, "seed": 1}})] * 2)
    ask.post(CHAT, model="random", messages=[])
    text = ask("GET", "/metrics").text
    assert _value(text, f'sw2_requests_total{{route="{CHAT}",status="200"}}') == 2
    assert _value(text, f'sw2_requests_total{{route="{CHAT}",status="400"}}') == 1
    assert _value(text, 'sw2_written_tokens_total{model="random"}') == 8
    assert _value(text, 'sw2_first_token_seconds_count{model="random"}') == 2
    assert _value(text, 'sw2_text_tokens_per_second_count{model="random"}') == 2
    assert _value(text, 'sw2_slots{model="random"}') == 3
    assert _value(text, 'sw2_cache_use{model="random"}') == 0
    assert _value(text, 'sw2_slots_in_use{model="random"}') == 0
    assert _value(text, 'sw2_queue_length{model="random"}') == 0
    assert _value(text, "sw2_requests_in_flight") == 1
    assert _value(text, 'sw2_reused_prompt_tokens_total{model="random"}') > 0
