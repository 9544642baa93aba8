"""Ray Serve: what a replica refuses, and two of them as processes on this machine, one of which is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

import sw2
from sw2.base.errors import MissingExtra, ProgramError, UsageError
from sw2.core.program import Program
from sw2.faces import ray_serve
from sw2.faces.ray_serve import Scale
from sw2.parts.decoding.sampling import Sampling

PROMPT = """\
+++
about = "What a review says."
program = "talker"
inputs.review = "text"
output = { mood = ["good", "bad"], stars = { kind = "integer", least = 1, most = 5 } }
+++ user
{{ review }}
"""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "serve.programs"),
        ({"programs": " , "}, "serve.programs"),
        ({"programs": "a", "replicas": "0"}, "serve.replicas"),
        ({"programs": "a", "replicas": "two"}, "serve.replicas"),
        ({"programs": "a", "cores": "0"}, "serve.cores"),
        ({"programs": "a", "replica": "2"}, "Did you mean 'serve.replicas'?"),
    ],
)
def test_wrong_arguments(arguments: dict[str, str], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        ray_serve.app(arguments)
    assert says in str(caught.value)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "ray.serve", raising=False)
    with pytest.raises(MissingExtra, match=r"sw2\[scale\]"):
        ray_serve.app({"programs": "a"})


def test_paths_are_made_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "a.toml").touch()
    assert [ray_serve._whole(each) for each in ("mine", "named", "a.toml@mine", "extract@mine", "extract@named")] == [
        str(tmp_path / "mine"),
        "named",
        f"{tmp_path / 'a.toml'}@{tmp_path / 'mine'}",
        f"extract@{tmp_path / 'mine'}",
        "extract@named",
    ]


@pytest.mark.parametrize(
    ("keys", "client", "sent", "status"),
    [
        ("", "127.0.0.1", "", 200),
        ("", "10.0.0.7", "", 403),
        ("k" * 20, "10.0.0.7", "k" * 20, 200),
        ("k" * 20, "127.0.0.1", "", 401),
    ],
)
def test_without_keys_this_machine_alone_is_answered(
    keys: str, client: str, sent: str, status: int, tmp_path: Path, random_program: Program,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    random_program.save(tmp_path / "talker")
    monkeypatch.setenv("SW2_SERVE_KEYS", keys)
    replica = ray_serve._Replica({"talker": str(tmp_path / "talker")}, Scale(programs="talker"))

    async def ask() -> httpx2.Response:
        transport = httpx2.ASGITransport(app=replica, client=(client, 1234))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as session:
            return await session.get("/v1/models", headers={"Authorization": f"Bearer {sent}"} if sent else {})

    try:
        assert asyncio.run(ask()).status_code == status
        assert replica.server.alive()
    finally:
        replica.server.close()
    assert not replica.server.alive(), "Ray asks for this, and replaces the replica"


# ------------------------------------------------------------------------------------------------------- two processes

SCRIPT = """
import sys

import ray
from ray import serve

from sw2.faces.ray_serve import app

port, places = int(sys.argv[1]), sys.argv[2]
ray.init(num_cpus=2, include_dashboard=False, object_store_memory=80 * 2**20, log_to_driver=False)
serve.start(http_options={"host": "127.0.0.1", "port": port})
serve.run(app({"programs": places, "replicas": "2"}))
print("ready", flush=True)
sys.stdin.read()
serve.shutdown()
ray.shutdown()
"""


@pytest.fixture
def cluster(tmp_path: Path, random_program: Program) -> Iterator[int]:
    """Two replicas that serve a program which chats and a prompt that runs on it; the port of Ray's proxy."""
    pytest.importorskip("ray", reason="Ray is in the extra scale, which tests do not install: pip install 'sw2[scale]'")
    random_program.save(tmp_path / "talker")
    (tmp_path / "extract.toml").write_text(PROMPT, encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="ray") as short:  # its sockets' paths have to be short
        environment = {**os.environ, "RAY_TMPDIR": short, "HOME": short, "RAY_raylet_start_wait_time_s": "300"}
        running = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(port), "talker,extract.toml"],
            cwd=tmp_path, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert running.stdin is not None
        assert running.stdout is not None
        try:
            assert "ready\n" in iter(running.stdout.readline, ""), "the driver says why on standard error"
            yield port
        finally:
            running.stdin.close()
            try:
                running.wait(120)
            except subprocess.TimeoutExpired:
                running.kill()
            running.stdout.close()


def _replicas(driver_home: str) -> list[int]:
    """The processes of replicas that this test has started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            named = (folder / "cmdline").read_bytes().startswith(b"ray::ServeReplica:default:sw2")
            if named and f"SW2_HOME={driver_home}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:  # it has ended
            continue
    return found


def _until(condition: Any, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="replicas are found under /proc")
def test_two_replicas_answer_as_the_program_and_one_may_die(
    cluster: int, tmp_path: Path, own_home: Path, random_program: Program
) -> None:
    runtime: Any = random_program.runtime
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{cluster}/v1", api_key="none", max_retries=0, timeout=120)
    _until(lambda: len(_replicas(str(own_home))) == 2, 120)

    def asks(prompt: str) -> None:
        wanted = "".join(piece.text for piece in runtime.generate(prompt, Sampling(temperature=0.0), 8))
        said = client.completions.create(model="talker", prompt=prompt, temperature=0, max_tokens=8)
        assert said.choices[0].text == wanted

    assert [each.id for each in client.models.list()] == ["talker", "extract"]
    for prompt in ("world", "hello", "user tool", "weather"):
        asks(prompt)
    reply = "".join(
        piece.text for piece in runtime.reply([{"role": "user", "content": "hello"}], Sampling(temperature=0.0), 8)
    )
    stream = client.chat.completions.create(
        model="talker", messages=[{"role": "user", "content": "hello"}], temperature=0, max_tokens=8, stream=True
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == reply
    answer = client.post("/run/extract", body={"inputs": [{"review": "hello"}]}, cast_to=dict[str, Any])
    assert answer["answers"] == [sw2.load(tmp_path / "extract.toml")("hello")]
    with pytest.raises(openai.NotFoundError, match="Did you mean 'talker'"):
        client.completions.create(model="talkre", prompt="x")

    first, second = _replicas(str(own_home))
    os.kill(first, signal.SIGKILL)
    failed = 0
    for number in range(20):
        try:
            asks(f"world {number % 4}")
        except openai.APIError:  # one that was on its way to the dead replica may be lost
            failed += 1
    assert failed <= 1
    _until(lambda: len(_replicas(str(own_home))) == 2, 240)
    assert second in _replicas(str(own_home)), "the other one was left alone"
    asks("hello")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own, while it is imported
def test_what_is_wrong_with_a_program_is_told_before_anything_starts(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is in the extra scale, which tests do not install: pip install 'sw2[scale]'")
    with pytest.raises(ProgramError):
        ray_serve.app({"programs": str(tmp_path / "nothing")})
