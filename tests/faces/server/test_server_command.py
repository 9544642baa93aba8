"""`sw2 serve`: what it refuses, what it prints, and how it ends."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from typer.testing import CliRunner

from sw2.core.program import Program
from sw2.faces.cli import VERBS, app
from sw2.faces.server.app import Server, Settings
from sw2.faces.server.programs import named
from sw2.faces.server.serving import listen, serve

for _verb in VERBS:
    importlib.import_module(f"sw2.faces.cli.{_verb}_command")

HELLO: list[Any] = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def saved(random_program: Program, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_program.save(tmp_path_factory.mktemp("programs") / "talker")


def refused(*arguments: Any, says: str, code: int = 2) -> None:
    """The command ends before it serves, and says why."""
    result = CliRunner().invoke(app, ["serve", *map(str, arguments)])
    assert result.exit_code == code, result.output
    assert says in result.stderr
    assert "Traceback" not in result.stderr


def test_what_is_refused_before_anything_is_served(saved: Path, tmp_path: Path) -> None:
    wide = [saved, "--host", "0.0.0.0"]
    refused(*wide, says="would answer everybody")
    refused(*wide, says="SW2_SERVE_KEYS=$(python -c")
    refused(*wide, "--key", "short", says="can be guessed")
    refused(saved, "--key", "x" * 20 + "\n", says="can be guessed")
    (tmp_path / "keys").write_text("# nobody\n\n")
    refused(saved, "--key-file", tmp_path / "keys", says="holds no key")
    refused(saved, "--key-file", tmp_path / "nothing", says="no file of keys")
    (tmp_path / "keys").write_text(f"{'k' * 32} anna\n{'k' * 32} otto\n")
    refused(saved, "--key-file", tmp_path / "keys", says="A key stands here twice")
    refused(saved, "--per-key", "3", says="no effect")
    refused(saved, "--as", "anna", "--refresh", "5", says="Without documents these would have no effect")
    refused(saved, "--docs", tmp_path, "--as", "anna", "--key", "k" * 32, says="Who asks is known by their key")
    refused(saved, "--docs", tmp_path / "nowhere", "--embedder", "none", code=1, says="no folder of documents")
    (tmp_path / "other").symlink_to(saved)
    copy = tmp_path / "copy" / "talker"
    copy.parent.mkdir()
    copy.symlink_to(saved)
    refused(saved, copy, says="Two programs would be served as 'talker'")
    assert list(named([str(saved), str(tmp_path / "other")])) == ["talker", "other"]
    (tmp_path / "a b").mkdir()
    refused(tmp_path / "a b", says="cannot stand in an address")
    refused(tmp_path / "nothing", code=1, says="no program here")
    (tmp_path / "log").write_text("a letter\n")
    refused(saved, "--port", "0", "--log", tmp_path / "log", says="no log of conversations")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused(saved, "--port", taken.getsockname()[1], code=1, says="Choose another with --port")


def test_without_the_extra_its_install_line_is_told(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "sw2.faces.server.serving")
    refused(saved, says="pip install 'sw2[serve]'")


def test_documents_for_the_names_of_a_key(make_script: Callable[..., Any], tmp_path: Path) -> None:
    """From the line of a file of keys to the source in an answer."""
    roomy = make_script().program.save(tmp_path / "talker")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "pay.md").write_text("The yearly salary of Ines Dolfen is 81,500 euros.\n")
    (tmp_path / "docs" / ".sw2-owners.toml").write_text('[owners]\n"pay*" = ["board"]\n')
    (tmp_path / "keys").write_text(f"{'a' * 32} anna board\n{'o' * 32}\n")
    command = [sys.executable, "-m", "sw2.faces.cli", "serve", roomy, "--port", "0", "--json", "--key-file", "keys"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3] / "src")}
    asked: list[Any] = [{"role": "user", "content": "What is the yearly salary of Ines Dolfen?"}]
    with subprocess.Popen(
        [*command, "--docs", "docs", "--embedder", "none"],
        cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            address = json.loads(process.stdout.readline())["address"]
            _until(lambda: httpx2.get(address + "/readyz").status_code == 200)
            places = []
            for key in ("a", "o"):
                with openai.OpenAI(base_url=address + "/v1", api_key=key * 32, max_retries=0) as client:
                    message = client.chat.completions.create(model="talker", messages=asked, max_tokens=3)
                    extra: Any = message.choices[0].message.model_extra
                    places.append([source["place"] for source in extra["sources"]])
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=100)
        finally:
            process.kill()
    assert (process.returncode, out) == (0, ""), err
    assert places == [["pay.md:1"], []]
    told = [line for line in map(json.loads, err.splitlines()) if line["event"] == "documents"]
    assert told[0]["said"][0].startswith("1 file, 1 passages: 1 new")


def test_the_command_from_start_to_sigterm(saved: Path, tmp_path: Path) -> None:
    key = "k" * 32
    (tmp_path / "keys").write_text(f"# for the test\n{key}\n")
    command = [sys.executable, "-m", "sw2.faces.cli", "serve", str(saved), "--port", "0", "--key-file", "keys"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3] / "src")}
    with subprocess.Popen(
        [*command, "--json"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            (model,) = told["models"]
            assert (model["model"], model["task"]) == ("talker", "chat")
            with openai.OpenAI(base_url=told["address"] + "/v1", api_key=key, max_retries=0) as client:
                answer = client.chat.completions.create(model="talker", messages=HELLO, max_tokens=3, seed=0)
                assert answer.usage is not None
                assert answer.usage.completion_tokens == 3
            with socket.create_connection(
                ("127.0.0.1", int(told["address"].rpartition(":")[2])), timeout=60
            ) as connection:
                connection.sendall(b"a secret\r\n\r\n")
                assert connection.recv(100).startswith(b"HTTP/1.1 400")
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=100)
        finally:
            process.kill()  # a test that failed leaves no server behind
    assert process.returncode == 0, err
    assert out == ""
    # In either order: a client may have its answer, and ask again, before the line about it is written.
    lines = {line["event"]: line for line in map(json.loads, err.splitlines())}
    assert lines.keys() == {"request", "http"}, err
    assert (lines["request"]["route"], lines["request"]["status"]) == ("/v1/chat/completions", 200)
    assert lines["http"]["said"] == "Invalid HTTP request received."


# ------------------------------------------------------------------------------------------------------------ the end


@contextlib.contextmanager
def beside(work: Callable[[], None]) -> Iterator[None]:
    """Do `work` in a thread while the main thread serves; what it raises is raised here."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join(60)
    assert not thread.is_alive()
    if failed:
        raise failed[0]


@pytest.mark.parametrize(("drain", "in_time"), [(30.0, True), (0.1, False)])
def test_sigterm_drains(make_script: Callable[..., Any], drain: float, in_time: bool) -> None:
    # Four seconds for the whole text: what is asked while the server drains has to come before its end.
    script = make_script(seconds=0.04)
    server = Server({"script": script.program}, Settings(), lambda event, facts: None)
    listening = listen("127.0.0.1", 0)
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    ready = threading.Event()

    def work() -> None:
        assert ready.wait(20)
        with openai.OpenAI(base_url=address + "/v1", api_key="none", max_retries=0) as client:
            stream = client.chat.completions.create(model="script", messages=HELLO, max_tokens=100, stream=True)
            next(iter(stream))
            assert httpx2.get(address + "/readyz").status_code == 200
            os.kill(os.getpid(), signal.SIGTERM)
            if not in_time:
                with pytest.raises(openai.APIError, match="going down"):
                    list(stream)
                return
            _until(lambda: httpx2.get(address + "/readyz").status_code == 503)
            with pytest.raises(openai.InternalServerError, match="going down"):
                client.models.list()
            assert sum(len(chunk.choices[0].delta.content or "") for chunk in stream) >= 99
        _until(lambda: not _answers(address))

    with beside(work):
        assert serve(server, listening, drain, ready.set) is in_time
    assert not script.program.runtime.text_engine(1).busy()


def _until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def _answers(address: str) -> bool:
    try:
        httpx2.get(address + "/healthz")
    except httpx2.TransportError:
        return False
    return True
