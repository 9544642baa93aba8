"""Clients, unchanged, over HTTP: `openai` on each of its routes, with its own exception types; `llm`; schemathesis.

Schemathesis makes requests that the server's OpenAPI page allows and ones that it does not (the page's examples, every
value at its edges, random ones, sequences) and holds the answers to the page: no status 5xx, no status, content type or
body that is not described, nothing accepted that the page forbids, no method that is not there, nothing without a key.
All of its checks are on; one is told more than it knows by itself (see `CONFIG`).
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import openai
import pytest
import uvicorn

from sw2.catalog import catalog
from sw2.core.program import Program
from sw2.faces.server.app import Server, Settings
from sw2.faces.server.gate import Limits
from sw2.faces.server.serving import listen
from sw2.parts.decoding.sampling import Sampling
from sw2.verbs.tools import function_tool

KEY = "k" * 32
HELLO: list[Any] = [{"role": "user", "content": "hello"}]
CALL = 'Let me see. <tool_call>{"name": "weather", "arguments": {"city": "Köln"}}</tool_call>'
TOOLS: list[Any] = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


class Running:
    """A server that runs, and what it logged."""

    def __init__(self, programs: Mapping[str, Program], **settings: Any) -> None:
        self.lines: list[dict[str, Any]] = []
        self.server = Server(programs, Settings(**settings), lambda event, facts: self.lines.append({**facts}))
        self._listening = listen("127.0.0.1", 0)
        self.port = self._listening.getsockname()[1]
        config = uvicorn.Config(self.server, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
        self._uvicorn = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._uvicorn.run, kwargs={"sockets": [self._listening]}, daemon=True)
        self._thread.start()
        until(lambda: self._uvicorn.started)

    def client(self, key: str = KEY) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key=key, max_retries=0, timeout=30)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def stop(self) -> None:
        self.server.close()
        self._uvicorn.should_exit = True
        self._thread.join(10)
        assert not self._thread.is_alive()


def until(condition: Callable[[], Any], seconds: float = 20) -> None:
    """Wait until `condition` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


@pytest.fixture
def run() -> Iterator[Callable[..., Running]]:
    """Serve programs over HTTP under these settings."""
    running: list[Running] = []

    def start(programs: Mapping[str, Program], **settings: Any) -> Running:
        running.append(Running(programs, **settings))
        return running[-1]

    yield start
    for each in running:
        each.stop()


def test_the_client_over_all_of_its_routes(
    run: Callable[..., Running], random_program: Program, make_script: Callable[..., Any], toys: Mapping[str, Program]
) -> None:
    script = make_script()
    script.teach("hello", CALL, TOOLS)
    script.teach("hello", "hello user")
    with run({"random": random_program, "script": script.program, **toys}, keys=[KEY]).client() as client:
        assert [each.id for each in client.models.list()] == ["random", "script", *toys]
        assert client.models.retrieve("random").owned_by == "sw2"

        answer = client.chat.completions.create(
            model="script", messages=HELLO, temperature=0, logprobs=True, top_logprobs=2
        )
        assert answer.choices[0].message.content == "hello user"
        assert answer.choices[0].finish_reason == "stop"
        scores = answer.choices[0].logprobs.content
        assert b"".join(bytes(score.bytes) for score in scores).decode() == "hello user"
        assert [len(score.top_logprobs) for score in scores] == [2] * len(scores)
        assert answer.usage.completion_tokens == len(scores)

        stream = client.chat.completions.create(
            model="script", messages=HELLO, temperature=0, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "hello user"
        assert chunks[-1].usage.completion_tokens == answer.usage.completion_tokens

        called = client.chat.completions.create(model="script", messages=HELLO, temperature=0, tools=TOOLS)
        assert called.choices[0].finish_reason == "tool_calls"
        (call,) = called.choices[0].message.tool_calls
        assert (call.function.name, call.function.arguments) == ("weather", '{"city": "Köln"}')
        result = {"role": "tool", "tool_call_id": call.id, "content": "rain"}
        more = client.chat.completions.create(
            model="script", messages=[*HELLO, called.choices[0].message, result], tools=TOOLS, max_tokens=2
        )
        assert more.choices[0].finish_reason == "length"
        with client.chat.completions.stream(model="script", messages=HELLO, temperature=0, tools=TOOLS) as live:
            final = live.get_final_completion()
        assert final.choices[0].message.tool_calls[0].function.arguments == '{"city": "Köln"}'
        assert final.choices[0].message.content == "Let me see."

        runtime: Any = random_program.runtime
        wanted = "".join(piece.text for piece in runtime.generate("world", Sampling(temperature=0.0), 6))
        body: dict[str, Any] = {"model": "random", "prompt": "world", "temperature": 0, "max_tokens": 6}
        assert client.completions.create(**body).choices[0].text == wanted
        assert "".join(each.choices[0].text for each in client.completions.create(**body, stream=True)) == wanted

        vectors = client.embeddings.create(model="lengths", input=["tree", "b"])
        assert [each.embedding for each in vectors.data] == [[4.0, 2.0], [1.0, 0.0]]


def test_the_client_reads_the_sources_of_an_answer_from_documents(
    run: Callable[..., Running], make_script: Callable[..., Any], tmp_path: Path
) -> None:
    question = "What is the access code of the Marlow vault?"
    (tmp_path / "vault.md").write_text("The access code of the Marlow vault is BK-4711.\n")
    asked: list[Any] = [{"role": "user", "content": question}]
    with catalog().documents(tmp_path, tmp_path / "index") as documents:
        running = run({"script": make_script().program}, keys=[KEY], documents=documents)
        with running.client() as client:
            until(lambda: any(line.get("said") for line in running.lines))
            ask = client.chat.completions.create
            message = ask(model="script", messages=asked, max_tokens=3).choices[0].message
            (source,) = message.model_extra["sources"]  # type: ignore[index]
            assert (source["path"], source["position"]) == ("vault.md", 1)
            assert source["quote"] == message.content
            chunks = list(ask(model="script", messages=asked, max_tokens=3, stream=True))
            told = [c.choices[0].delta.model_extra["sources"] for c in chunks if c.choices[0].delta.model_extra]
            assert told == [[source]]
            with client.chat.completions.stream(model="script", messages=asked, max_tokens=3) as live:
                final = live.get_final_completion().choices[0].message
            assert final.content == message.content
            assert final.model_extra["sources"] == [source]
            again = ask(model="script", messages=[*asked, message, *asked], max_tokens=3)
            assert again.choices[0].message.content == message.content
            free = ask(model="script", messages=asked, max_tokens=3, extra_body={"documents": False})
            assert free.choices[0].message.content == "xxx"


def _town(city: str) -> str:
    """Where a town is."""
    return f"{city} is on the Rhine"


def test_the_client_sees_what_the_server_ran_and_says_what_it_is_worth(
    run: Callable[..., Running], make_script: Callable[..., Any], tmp_path: Path
) -> None:
    tool, script = function_tool(_town), make_script()
    called = '<tool_call>{"name": "_town", "arguments": {"city": "Bonn"}}</tool_call>'
    script.teach("hello", called, [tool.schema])
    message: Any = script.program.runtime.message_of(called)
    before = [*HELLO, message, {"role": "tool", "name": "_town", "content": "Bonn is on the Rhine"}]
    tokens = script.program.runtime.encode_conversation(before, [tool.schema])
    script.network.scripts.append([*tokens, *script.network.prep.tokenizer.encode("By the Rhine.")])
    running = run({"script": script.program}, keys=[KEY], tools={"script": [tool]}, conversations=tmp_path / "log")
    with running.client() as client:
        body: dict[str, Any] = {"model": "script", "messages": HELLO, "temperature": 0, "stop": "xx"}
        answer = client.chat.completions.create(**body)
        said = answer.choices[0].message
        assert said.content == "By the Rhine."
        (step,) = said.model_extra["steps"]  # type: ignore[index]
        assert (step["name"], step["result"]) == ("_town", "Bonn is on the Rhine")
        with client.chat.completions.stream(**body) as live:
            final = live.get_final_completion().choices[0].message
        assert (final.content, final.model_extra["steps"]) == (said.content, [step])
        taken = client.post("/feedback", body={"id": answer.id, "thumb": "up"}, cast_to=dict[str, Any])
        assert taken["id"] == answer.id
        with pytest.raises(openai.BadRequestError, match="judged before"):
            client.post("/feedback", body={"id": answer.id, "thumb": "up"}, cast_to=dict[str, Any])


def test_errors_are_the_clients_own_types(
    run: Callable[..., Running], random_program: Program, make_script: Callable[..., Any]
) -> None:
    script = make_script(slots=1, seconds=0.01)
    running = run(
        {"random": random_program, "script": script.program},
        keys=[KEY], slots=1, queue_size=0, limits=Limits(body_bytes=10_000, seconds=2),
    )  # fmt: skip
    with running.client() as client, running.client("wrong" * 5) as stranger:
        ask = client.chat.completions.create
        with pytest.raises(openai.AuthenticationError, match="not known"):
            stranger.models.list()
        with pytest.raises(openai.NotFoundError, match="Did you mean 'random'") as unknown:
            ask(model="randm", messages=HELLO)
        assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
        with pytest.raises(openai.BadRequestError, match=r"messages\[0\].role"):
            ask(model="random", messages=[{"role": "usr", "content": "x"}])  # type: ignore[list-item]
        with pytest.raises(openai.BadRequestError) as long:
            ask(model="random", messages=[{"role": "user", "content": "x" * 500}], stream=True)
        assert long.value.code == "context_length_exceeded"
        never = {"name": "never", "schema": {"$ref": "#"}}
        with pytest.raises(openai.BadRequestError, match="a finite document") as endless:
            ask(model="random", messages=HELLO, response_format={"type": "json_schema", "json_schema": never})
        assert endless.value.param == "response_format.json_schema.schema"
        with pytest.raises(openai.APIStatusError) as large:
            ask(model="random", messages=[{"role": "user", "content": "x" * 20_000}])
        assert large.value.status_code == 413

        stream = ask(model="script", messages=HELLO, stream=True)
        next(iter(stream))
        with pytest.raises(openai.RateLimitError, match="queue is full") as full:
            ask(model="script", messages=HELLO)
        assert int(full.value.response.headers["retry-after"]) >= 1
        with pytest.raises(openai.APIError, match="took longer"):
            list(stream)
        with pytest.raises(openai.InternalServerError, match="took longer"):
            ask(model="script", messages=HELLO)
        script.network.fault = ZeroDivisionError("a secret")
        with pytest.raises(openai.InternalServerError, match="made a mistake"):
            ask(model="script", messages=HELLO)


def test_a_key_has_its_limit(run: Callable[..., Running], make_script: Callable[..., Any]) -> None:
    other = "o" * 32
    running = run({"script": make_script(seconds=0.01).program}, keys=[KEY, other], per_key=1)
    with running.client() as client, running.client(other) as somebody:
        stream = client.chat.completions.create(model="script", messages=HELLO, stream=True)
        next(iter(stream))
        with pytest.raises(openai.RateLimitError, match="its limit"):
            client.models.list()
        assert somebody.models.list().data
        stream.close()
        until(lambda: any(line["status"] == 499 for line in running.lines))
        assert client.models.list().data


# ------------------------------------------------------------------------------------------------- the llm command line

MODELS = """
- model_id: local
  model_name: {name}
  api_base: "http://127.0.0.1:{port}/v1"
  api_key_name: sw2
  supports_schema: true
  supports_tools: true
- model_id: plain
  model_name: {name}
  api_base: "http://127.0.0.1:{port}/v1"
  api_key_name: sw2
  completion: true
"""


COMMANDS = """
import json, sys
from click.testing import CliRunner
from llm.cli import cli

done = [CliRunner().invoke(cli, arguments) for arguments in json.load(sys.stdin)]
print(json.dumps([(each.exit_code, each.stdout.strip(), each.stderr.strip()) for each in done]))
"""
"""Several commands one after the other in one process, which is loaded once."""


def llm(folder: Path, *commands: list[str]) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of each; settings lie in `folder`, and keys of the machine are hidden."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LLM_", "OPENAI_"))}
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS],
        input=json.dumps(commands),
        env={**environment, "LLM_USER_PATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return [tuple(each) for each in json.loads(done.stdout)]


@pytest.mark.timeout(300)  # ten commands of another program, which a busy machine makes wait
def test_the_llm_command_line(run: Callable[..., Running], make_script: Callable[..., Any], tmp_path: Path) -> None:
    script = make_script()
    script.teach("hello", "hello user")
    script.teach("weather", "hello world", before=[*HELLO, {"role": "assistant", "content": "hello user"}])
    running = run({"script": script.program}, keys=[KEY])
    (tmp_path / "extra-openai-models.yaml").write_text(MODELS.format(name="script", port=running.port))
    schema = {"type": "object", "properties": {"x": {"enum": ["xx"]}}, "required": ["x"], "additionalProperties": False}
    local, greedy = ["-m", "local"], ["-o", "temperature", "0"]
    done = llm(
        tmp_path,
        ["keys", "set", "sw2", "--value", KEY],
        [*local, *greedy, "--no-stream", "hello"],
        [*local, *greedy, "hello"],
        ["-c", *greedy, "weather"],
        ["-m", "plain", *greedy, "-o", "max_tokens", "5", "hello"],
        [*local, *greedy, "--schema", json.dumps(schema), "user"],
        [*local, *greedy, "--no-stream", "--schema", json.dumps(schema), "user"],
        ["logs", "list", "--json", "-n", "1"],
        [*local, "--key", "wrong" * 5, "hello"],
        [*local, "--schema", json.dumps({"$ref": "#"}), "hello"],
    )
    assert [(code, error) for code, _, error in done[:-2]] == [(0, "")] * 8
    whole, streamed, continued, plain = (out for _, out, _ in done[1:5])
    assert whole == streamed == "hello user"
    assert continued == "hello world", "it knows what was said before"
    assert plain == "xxxxx"
    assert [json.loads(out) for _, out, _ in done[5:7]] == [{"x": "xx"}] * 2
    assert json.loads(done[7][1])[0]["output_tokens"] > 0, "it reads our usage"
    assert [(code, out) for code, out, _ in done[-2:]] == [(1, "")] * 2
    assert "This key is not known here." in done[-2][2]
    assert "a finite document" in done[-1][2]


# ------------------------------------------------------------------------------------------------------- schemathesis

CONFIG = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "400", "404"]
"""
"""Well-formed requests may be refused with 400: that a prompt has room in the context, a token is in the vocabulary, a
text in base64 is a picture, a schema can be compiled or two parameters go together cannot be said in JSON Schema."""


def _schemathesis(address: str, folder: Path, *options: str) -> None:
    """Let it search; it must find nothing."""
    (folder / "schemathesis.toml").write_text(CONFIG)
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml", "run", *options]
    more = ["--checks", "all", "--seed", "1", "--generation-database", "none", "--no-color", "--no-shrink"]
    done = subprocess.run(
        [*command, *more, "--continue-on-failure", "-H", f"Authorization: Bearer {KEY}", f"{address}/openapi.json"],
        cwd=folder,
        env={**os.environ, "COLUMNS": "160"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["--phases", "examples,coverage"], marks=pytest.mark.timeout(600)),
        pytest.param(["--max-examples", "100"], marks=[pytest.mark.slow, pytest.mark.timeout(3600)]),
    ],
    ids=["edges", "all"],
)
def test_schemathesis_finds_nothing(
    run: Callable[..., Running], make_script: Callable[..., Any], toys: Mapping[str, Program], tmp_path: Path,
    options: list[str],
) -> None:  # fmt: skip
    script = make_script(context=300)
    script.network.end_logit = 8.5
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "hello.md").write_text("Hello is what one says.\n")
    with catalog().documents(tmp_path / "docs", tmp_path / "index") as documents:
        running = run(
            {"script": script.program, **toys},
            keys=[KEY],
            queue_size=8,
            documents=documents,
            conversations=tmp_path / "log",
        )
        until(lambda: any(line.get("said") for line in running.lines))
        _schemathesis(f"http://127.0.0.1:{running.port}", tmp_path, *options)
        running.server.close()
    answered = {line["route"] for line in running.lines if line.get("status") == 200}
    answered |= {"/v1/feedback"}  # that nobody judges an answer whose id is made up is right
    assert answered >= running.server.routes.openapi()["paths"].keys(), "each route is not only refused"
    assert not [line for line in running.lines if "error" in line], "no fault in its log"


# --------------------------------------------------------------------------------------------------------- hanging up


def _request(stream: bool) -> bytes:
    body = b'{"model": "script", "messages": [{"role": "user", "content": "hello"}], "stream": %s}' % (
        b"true" if stream else b"false"
    )
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_frees_its_slot(
    run: Callable[..., Running], make_script: Callable[..., Any], stream: bool
) -> None:
    script = make_script(slots=1, seconds=0.01, context=100_000)
    running = run({"script": script.program}, slots=1, queue_size=1)
    engine = script.program.runtime.text_engine(1)
    first, second = running.connect(), running.connect()
    first.sendall(_request(stream))
    until(lambda: script.network.steps > 3)
    second.sendall(_request(stream))  # it waits for the slot, and goes as well
    until(lambda: len(engine._live) == 2)
    second.close()
    until(lambda: len(engine._live) == 1)
    begun = time.monotonic()
    first.close()
    until(lambda: not engine.busy())
    assert time.monotonic() - begun < 2, "and not after 1000 seconds of writing"
    until(lambda: [line["status"] for line in running.lines] == [499, 499])
    with running.client() as client:
        answer = client.chat.completions.create(model="script", messages=HELLO, max_tokens=2)
    assert answer.choices[0].message.content == "xx"


def test_a_body_that_does_not_come(run: Callable[..., Running], make_script: Callable[..., Any]) -> None:
    running = run({"script": make_script().program}, limits=Limits(body_seconds=0.2))
    with running.connect() as slow:
        slow.sendall(_request(False)[:-5])
        assert slow.recv(1000).startswith(b"HTTP/1.1 408")
    with running.connect() as gone:
        gone.sendall(_request(False)[:-5])
    until(lambda: [line["status"] for line in running.lines] == [408, 499])
