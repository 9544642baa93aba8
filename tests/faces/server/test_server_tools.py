"""Tools that the server runs: steps, bounds, faults, beside a client's own, search for who asks; and feedback."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import httpx2
import pytest

from sw2.catalog import catalog
from sw2.core.tools import Tool
from sw2.faces.server.gate import Limits
from sw2.verbs.feedback import pairs
from sw2.verbs.tools import document_tool, function_tool

CHAT = "/v1/chat/completions"
ASKED = [{"role": "user", "content": "hello"}]
THEIRS = [{"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}]
KEY, OTHER = "k" * 32, "o" * 32


def weather(city: str) -> str:
    """The weather."""
    if city == "Atlantis":
        raise KeyError(city)
    return f"rain in {city}"


TOOL = function_tool(weather)


def call(name: str, **arguments: Any) -> str:
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments}, ensure_ascii=False)}</tool_call>"


def events(response: httpx2.Response) -> list[Any]:
    return [json.loads(block.removeprefix("data: ")) for block in response.text.split("\n\n")[:-2]]


class Told:
    """A server whose script knows a conversation with calls, and its two ways to answer."""

    def __init__(self, serve: Any, script: Any, **settings: Any) -> None:
        self.script, self.talker = script, script.program.runtime
        self.ask = serve({"script": script.program}, **settings)

    def teach(self, messages: Sequence[Any], tools: Sequence[Any], answers: Sequence[str]) -> None:
        """Let it write these one after the other, each after what came of the calls in the one before."""
        messages = list(messages)
        schemas = [each.schema if isinstance(each, Tool) else each for each in tools]
        prep = self.script.network.prep
        for number, answer in enumerate(answers, 1):
            before = self.talker.encode_conversation(messages, schemas)
            end = prep.tokenizer.control["<|im_end|>"]
            self.script.network.scripts.append([*before, *prep.tokenizer.encode(answer), end])
            if number == len(answers):
                break  # nothing is written after what comes of its calls, and a tool may hang
            messages += [self.talker.message_of(answer), *(self.talker.results_of(answer, tools) or [])]

    def both(self, **more: Any) -> dict[str, Any]:
        """The choice of a whole answer, which has to be what its stream comes to; without ids."""
        body = {"model": "script", "messages": ASKED, "temperature": 0, **more}
        answer = self.ask.post(CHAT, **body)
        assert answer.status_code == 200, answer.text
        (choice,) = answer.json()["choices"]
        chunks = events(self.ask.post(CHAT, **body, stream=True, stream_options={"include_usage": True}))
        assert chunks.pop()["usage"].keys() == answer.json()["usage"].keys()
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
        message = choice["message"]
        assert "".join(each.get("content") or "" for each in deltas) == (message["content"] or "")
        assert [step for each in deltas for step in each.get("steps") or []] == (message.get("steps") or [])
        calls = [each["function"] for delta in deltas for each in delta.get("tool_calls") or []]
        assert calls == [each["function"] for each in message.get("tool_calls") or []]
        assert [chunk["choices"][0]["finish_reason"] for chunk in chunks][-1] == choice["finish_reason"]
        return dict(choice)


@pytest.fixture
def told(serve: Any, make_script: Callable[..., Any]) -> Callable[..., Told]:
    def start(tools: Sequence[Tool] = (TOOL,), *, context: int = 4000, **settings: Any) -> Told:
        return Told(serve, make_script(context=context), tools={"script": tools}, **settings)

    return start


def test_a_call_is_run_and_its_result_answered(told: Any) -> None:
    server = told()
    server.teach(ASKED, [TOOL], ["Let me see. " + call("weather", city="Bonn"), "Take a coat."])
    choice = server.both()
    assert choice["message"] == {
        "role": "assistant",
        "content": "Let me see.\nTake a coat.",
        "steps": [{"index": 0, "name": "weather", "arguments": '{"city": "Bonn"}', "result": "rain in Bonn"}],
    }
    assert choice["finish_reason"] == "stop"
    hidden = server.both(tool_choice="none", max_tokens=3)
    assert "steps" not in hidden["message"], "hidden with all others"
    held = server.both(response_format={"type": "json_object"}, max_tokens=3)
    assert "steps" not in held["message"], "an answer that is held to a form calls nothing"
    # What goes back as a client has it is a conversation like any other.
    more = [*ASKED, choice["message"], {"role": "user", "content": "and now?"}]
    assert server.ask.post(CHAT, model="script", messages=more, max_tokens=2).status_code == 200


def test_faults_are_told_to_the_model_and_shown(told: Any) -> None:
    server = told()
    answers = [
        call("weather", city="Atlantis"),
        call("weather", town="Bonn"),
        call("whether"),
        "Well <tool_call>{",
        call("weather", city="Bonn") + call("weather", city="Ulm"),
        "Sorry.",
    ]
    server.teach(ASKED, [TOOL], answers)
    message = server.both()["message"]
    assert message["content"] == "Well\nSorry."
    assert [(step["index"], step["name"]) for step in message["steps"]] == [
        (0, "weather"), (1, "weather"), (2, "whether"), (3, "error"), (4, "weather"), (5, "weather"),
    ]  # fmt: skip
    results = [step["result"] for step in message["steps"]]
    assert results[0] == "error: KeyError: 'Atlantis'"
    assert "city: Missing required argument" in results[1]
    assert "no tool 'whether', only weather" in results[2]
    assert "not understood" in results[3]
    assert results[4:] == ["rain in Bonn", "rain in Ulm"]


def test_steps_are_bounded_in_number_and_tokens(told: Any) -> None:
    server = told(context=6000)
    again = call("weather", city="Bonn")
    server.teach(ASKED, [TOOL], [again] * 20)
    choice = server.both()
    assert [len(choice["message"]["steps"]), choice["finish_reason"]] == [8, "stop"]
    size = len(server.script.network.prep.tokenizer.encode(again))
    for most, steps in ((size + 1, 1), (2 * size + 3, 2), (size - 2, 0)):
        choice = server.both(max_tokens=most)
        assert (len(choice["message"].get("steps") or []), choice["finish_reason"]) == (steps, "length"), most
    # The result fills the context.
    prompt = len(server.talker.encode_conversation(ASKED, [TOOL.schema]))
    small = told(context=prompt + size + 4)
    small.teach(ASKED, [TOOL], [again, "Never."])
    choice = small.both()
    assert (len(choice["message"]["steps"]), choice["finish_reason"]) == (1, "length")


def test_tools_of_the_client_beside_those_of_the_server(told: Any) -> None:
    server = told()
    offered = [*THEIRS, TOOL]
    server.teach(ASKED, offered, [call("weather", city="Bonn"), "So: " + call("clock") + call("weather", city="Ulm")])
    choice = server.both(tools=THEIRS)
    assert choice["finish_reason"] == "tool_calls"
    assert [step["result"] for step in choice["message"]["steps"]] == ["rain in Bonn"]
    (theirs,) = choice["message"]["tool_calls"]
    assert (theirs["function"], choice["message"]["content"]) == ({"name": "clock", "arguments": "{}"}, "So:")
    plain = [{"type": "function", "function": {"name": "clock"}}]
    choice = server.both(tools=plain, tool_choice="required", max_tokens=200)
    assert [each["function"]["name"] for each in choice["message"]["tool_calls"]] == ["clock"], "what is waited for"
    assert "steps" not in choice["message"]
    same = [{"type": "function", "function": {"name": "weather"}}]
    refused = server.ask.post(CHAT, model="script", messages=ASKED, tools=same)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tools[0].function.name")


def test_a_call_of_the_servers_can_be_required(told: Any) -> None:
    def toss(side: Literal["heads", "tails"]) -> str:
        """A coin."""
        return side

    server = told([TOOL, function_tool(toss)])
    choice = server.both(tool_choice={"type": "function", "function": {"name": "toss"}}, max_tokens=200)
    (step,) = choice["message"]["steps"]
    assert (step["name"], json.loads(step["arguments"])) == ("toss", {"side": step["result"]})
    assert choice["message"]["content"].strip("x") == "", "and after it the model writes freely"


def test_several_choices_each_go_their_way(told: Any) -> None:
    server = told()
    server.teach(ASKED, [TOOL], [call("weather", city="Bonn"), "Take a coat."])
    answer = server.ask.post(CHAT, model="script", messages=ASKED, temperature=0, n=3).json()
    assert [each["message"]["content"] for each in answer["choices"]] == ["Take a coat."] * 3
    assert [len(each["message"]["steps"]) for each in answer["choices"]] == [1] * 3
    line = server.ask.lines[-1]
    used = answer["usage"]
    assert (used["prompt_tokens"] > 0, used["completion_tokens"]) == (True, line["completion_tokens"])
    assert used["total_tokens"] == used["prompt_tokens"] + used["completion_tokens"]
    assert "Bonn" not in json.dumps(server.ask.lines), "nothing of it is in the log"


def test_a_slow_tool_holds_up_nobody_else(told: Any) -> None:
    def slow(city: str) -> str:
        """The weather."""
        time.sleep(0.5)
        return "rain"

    tool = Tool("weather", "", {"type": "object"}, lambda arguments: slow(**arguments))
    server = told([tool])
    server.teach(ASKED, [tool], [call("weather", city="Bonn"), "Take a coat."])
    other = {"model": "script", "messages": [{"role": "user", "content": "x"}], "max_tokens": 2, "temperature": 0}
    mine = {"model": "script", "messages": ASKED, "temperature": 0}
    server.ask.together([("POST", CHAT, {"json": mine}), ("POST", CHAT, {"json": other})])
    first, last = [line for line in server.ask.lines if line["event"] == "request"]
    assert first["seconds"] < last["seconds"]
    assert first["completion_tokens"] == 2


def test_tools_that_never_end_hold_up_nobody_else(told: Any) -> None:
    ended = threading.Event()

    def hang(_: Any) -> str:
        ended.wait(60)
        return "late"

    tool = Tool("weather", "", {"type": "object"}, hang)
    server = told([tool], slots=20, limits=Limits(seconds=1.0))
    server.teach(ASKED, [tool], [call("weather", city="Bonn")])
    mine = {"model": "script", "messages": ASKED, "temperature": 0}
    hanging = server.ask.together([("POST", CHAT, {"json": mine})] * 12)
    assert {answer.status_code for answer in hanging} == {504}
    other = {"model": "script", "messages": [{"role": "user", "content": "x"}], "max_tokens": 2}
    assert server.ask.post(CHAT, **other).status_code == 200
    ended.set()


def test_search_as_a_tool_finds_what_a_key_may_read(told: Any, tmp_path: Path) -> None:
    pytest.importorskip("usearch")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "pay.md").write_text("The salary of Ines is 81,500 euros.\n")
    (tmp_path / "docs" / "shed.md").write_text("The salary of the shed is nothing.\n")
    (tmp_path / "docs" / ".sw2-owners.toml").write_text('[owners]\n"pay*" = ["anna"]\n')
    with catalog().documents(tmp_path / "docs", tmp_path / "index") as documents:
        documents.refresh()
        server = told((), documents=documents, documents_as="tool", keys=[KEY, OTHER], names={KEY: ["anna"]})
        search = call("documents", question="salary of Ines")
        for names in (["anna"], []):
            tool = document_tool(lambda question, count, names=names: documents.search(question, count, owners=names))  # type: ignore[misc]
            server.teach(ASKED, [tool], [search, "Found."])
        until = time.monotonic() + 20
        while server.ask("GET", "/readyz").status_code != 200:
            assert time.monotonic() < until
        steps = {}
        body = {"model": "script", "messages": ASKED, "temperature": 0, "max_tokens": 400}
        for key in (KEY, OTHER):
            answer = server.ask("POST", CHAT, json=body, headers={"authorization": f"Bearer {key}"})
            message = answer.json()["choices"][0]["message"]
            assert message["content"] == "Found."
            (steps[key],) = message["steps"]
        assert "pay.md:1\n> The salary of Ines is 81,500 euros." in steps[KEY]["result"]
        assert "shed.md:1" in steps[OTHER]["result"]
        assert "81,500" not in steps[OTHER]["result"]
        off = server.ask("POST", CHAT, json={**body, "documents": False}, headers={"authorization": f"Bearer {KEY}"})
        assert "steps" not in off.json()["choices"][0]["message"]


# ------------------------------------------------------------------------------------------------------------- feedback


def test_thumbs_and_edits_go_into_the_log(told: Any, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    server = told((), conversations=log, keys=[KEY, OTHER])

    def post(path: str, key: str = KEY, **body: Any) -> httpx2.Response:
        return server.ask("POST", path, json=body, headers={"authorization": f"Bearer {key}"})  # type: ignore[no-any-return]

    for answer in ("hello user", "hello world"):
        server.teach([{"role": "user", "content": answer}], [], [answer])
    body = {"model": "script", "messages": [{"role": "user", "content": "hello user"}], "temperature": 0, "n": 2}
    first = post(CHAT, **body).json()["id"]
    stream = post(CHAT, **{**body, "n": 1, "stream": True})
    second = events(stream)[0]["id"]
    for wrong, status, param in (
        ({"id": first}, 400, "thumb"),
        ({"id": first, "thumb": "up", "edit": "x"}, 400, "edit"),
        ({"id": first, "thumb": "left"}, 400, "thumb"),
        ({"id": "chatcmpl-0", "thumb": "up"}, 404, "id"),
        ({"id": first, "choice": 2, "thumb": "up"}, 404, "id"),
    ):
        refused = post("/v1/feedback", **wrong)
        assert (refused.status_code, refused.json()["error"]["param"]) == (status, param)
    assert post("/v1/feedback", key=OTHER, id=first, thumb="up").status_code == 404, "it is not theirs"
    taken = post("/v1/feedback", id=first, choice=1, thumb="down", why="too short", edit="hello, dear user")
    assert taken.json() == {"object": "feedback", "id": first, "choice": 1}
    assert post("/v1/feedback", id=first, choice=1, thumb="up").json()["error"]["code"] == "already_judged"
    assert post("/v1/feedback", id=second, thumb="up").status_code == 200
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert [row.get("thumb", "") for row in rows] == ["", "", "", "down", "up"]
    assert rows[3]["edit"] == "hello, dear user"
    made = pairs(log)
    (pair,) = made.pairs
    assert pair["messages"][-1]["content"] == "hello, dear user"
    assert pair["rejected"]["content"] == "hello user"
    assert "dear" not in json.dumps(server.ask.lines)


def test_without_a_log_there_is_no_feedback(told: Any) -> None:
    server = told(())
    assert server.ask.post("/v1/feedback", id="chatcmpl-0", thumb="up").status_code == 404
    assert "/v1/feedback" not in server.ask("GET", "/openapi.json").json()["paths"]


def test_only_the_last_answers_can_be_judged(told: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sw2.faces.server.log._MOST_ANSWERS", 2)
    server = told((), conversations=tmp_path / "log.jsonl")
    ids = [server.ask.post(CHAT, model="script", messages=ASKED, max_tokens=1).json()["id"] for _ in range(3)]
    assert [server.ask.post("/v1/feedback", id=each, thumb="up").status_code for each in ids] == [404, 200, 200]
