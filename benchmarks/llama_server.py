"""One program behind `sw2 serve` and, exported, behind a llama.cpp server: the same requests by the `openai` client.

    python -m venv peer && peer/bin/pip install 'llama-cpp-python[server]'
    python benchmarks/llama_server.py PROGRAM --peer-python peer/bin/python [--format gguf] [--rounding 0.01] [--json]

The peer may also be the binary of llama.cpp itself: --peer-python "" takes `llama-server` from the path.

Texts to go on from and conversations, greedy, one at a time: both servers read them by their own tokenizer and their
own reading of the chat template. The answers are compared token by token, as the program's tokenizer spells them. Where
the first tokens differ, the margin is told: how much likelier, in nats, our token was than our second. Sums in another
order round differently, so a difference at a margin under `--rounding` is one of rounding; others are mistakes, and the
exit code is 1. Of weights with 4 or 8 bits llama.cpp rounds what they are multiplied with to 8 bits, too: take 0.5.

What it does not do: compare speed; that is `native_decode.py`'s.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai

from sw2.catalog import catalog
from sw2.core.capabilities import Generate
from sw2.core.task import Context
from sw2.verbs.export import export

TEXTS = (
    "The capital of France is",
    "def add(a, b):\n    return",
    "Once upon a time there was a lighthouse keeper who",
    "Water boils at",
    "1, 2, 3, 4,",
    "Die Hauptstadt von Deutschland ist",
    "To make bread you need",
    "The three laws of motion are",
)
QUESTIONS = (
    "What is the moon?",
    "Write a short poem about a river.",
    "Name three colours.",
    "Explain glass to a child.",
    "Wie heißt du?",
    "How do I boil an egg?",
    "What is 12 times 12?",
    "Translate 'good morning' to French.",
)


@dataclass(frozen=True)
class Compared:
    """One request: where the answers part, counted in tokens, None for nowhere; and how sure we were there."""

    asked: str
    ours: str
    theirs: str
    tokens: int
    parts: int | None
    margin: float


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@contextlib.contextmanager
def _serving(command: Sequence[str], port: int) -> Iterator[openai.OpenAI]:
    """A server that runs inside, and a client of it."""
    with tempfile.TemporaryFile() as log:
        running = subprocess.Popen(command, stdout=log, stderr=log)
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=600)
        try:
            end = time.monotonic() + 600
            while True:
                try:
                    client.models.list()
                    break
                except openai.APIError:
                    if running.poll() is not None or time.monotonic() > end:
                        log.seek(0)
                        sys.exit(f"{command[0]} does not answer:\n{log.read().decode(errors='replace')[-3000:]}")
                    time.sleep(0.2)
            yield client
        finally:
            running.terminate()
            running.wait(30)


def _requests(client: openai.OpenAI, model: str, tokens: int, with_margins: bool) -> Iterator[tuple[str, str, Any]]:
    """What was asked, the answer's text, and what was told of its tokens."""
    common: dict[str, Any] = {"model": model, "temperature": 0, "max_tokens": tokens}
    for text in TEXTS:
        extra: dict[str, Any] = {"logprobs": 2} if with_margins else {}
        choice = client.completions.create(prompt=text, **common, **extra).choices[0]
        tops = [sorted(each.values()) for each in choice.logprobs.top_logprobs] if with_margins else []
        yield text, choice.text, tops
    for question in QUESTIONS:
        extra = {"logprobs": True, "top_logprobs": 2} if with_margins else {}
        messages: Any = [{"role": "user", "content": question}]
        said = client.chat.completions.create(messages=messages, **common, **extra).choices[0]
        scores = said.logprobs.content if with_margins else []
        yield (
            question,
            said.message.content or "",
            [sorted(top.logprob for top in each.top_logprobs) for each in scores],
        )


def compare(program: str, peer: Sequence[str], format_name: str, tokens: int) -> list[Compared]:
    """Serve and export `program`, and ask both servers.

    Args:
        peer: the command that serves a file, without the file and the port.
    """
    loaded = catalog().program(program, Context())
    writer = loaded.runtime
    assert isinstance(writer, Generate), "a program that writes"
    with tempfile.TemporaryDirectory() as folder:
        export(loaded, Path(folder) / "exported", format_name)
        file = str(Path(folder) / "exported" / "model.gguf")
        port = _free_port()
        with _serving([*peer, "--model", file, "--port", str(port)], port) as client:
            (model,) = client.models.list().data
            theirs = list(_requests(client, model.id, tokens, False))
    port = _free_port()
    ours_command = [sys.executable, "-m", "sw2.faces.cli", "serve", program, "--port", str(port)]
    with _serving(ours_command, port) as client:
        ours = list(_requests(client, client.models.list().data[0].id, tokens, True))
    found = []
    for (asked, our, tops), (_, their, _) in zip(ours, theirs, strict=True):
        one, other = (writer.encode_prompt(text) for text in (our, their))
        longest = max(len(one), len(other))
        parts = next((n for n in range(longest) if one[n : n + 1] != other[n : n + 1]), None)
        # The text that both have may be spelled by other tokens than it was written with: then the surest is told.
        near = [top[-1] - top[-2] for top in tops[max(0, (parts or 0) - 1) : (parts or 0) + 2] if len(top) > 1]
        margin = 0.0 if parts is None else min(near, default=float("inf"))
        found.append(Compared(asked, our, their, len(one), parts, margin))
    return found


def main() -> None:
    """Print the table; exit code 1 when an answer differs by more than rounding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--peer-python", default=sys.executable, help='with llama_cpp; "" for llama-server')
    parser.add_argument("--format", default="gguf", help="one of sw2 export's that begin with gguf")
    parser.add_argument("--rounding", type=float, default=0.01, help="nats")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    peer = [asked.peer_python, "-m", "llama_cpp.server", "--n_ctx", "2048"]
    if not asked.peer_python:
        peer = ["llama-server", "--ctx-size", "2048"]
    threads = os.environ.get("OMP_NUM_THREADS", "2")
    peer += ["--n_threads" if asked.peer_python else "--threads", threads]
    found = compare(asked.program, peer, asked.format, asked.tokens)
    differ = [each for each in found if each.parts is not None]
    wrong = [each for each in differ if each.margin > asked.rounding]
    if asked.json:
        print(json.dumps({"compared": [vars(each) for each in found], "wrong": len(wrong)}))
        sys.exit(bool(wrong))
    for each in differ:
        print(
            f"{each.asked!r}: apart at token {each.parts} of {each.tokens}, our two best {each.margin:.4f} apart there"
        )
        print(f"    sw2        {each.ours!r}\n    llama.cpp  {each.theirs!r}")
    print(
        f"{len(found) - len(differ)} of {len(found)} answers are the same, token by token "
        f"({sum(each.tokens for each in found)} tokens); {len(wrong)} differ by more than rounding"
    )
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
