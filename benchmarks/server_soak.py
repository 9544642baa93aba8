"""`sw2 serve` under 64 clients that stream for minutes, every third of which hangs up again and again.

The server runs as its command, in a process of its own, on `smollm2-135m-instruct`; the clients are coroutines here and
speak HTTP over the standard library's sockets, because what they cost is taken from the same cores. Each client asks
again as soon as it has its answer. Those that hang up do so after a number of pieces drawn for each request, at 0 while
it still waits. Of the others every second request is one of 64 fixed prompts, greedy and with log-probabilities.

    throughput   tokens that reached a client per second of the window after the warm-up, beside those of the engine
                 alone in this process with every slot always taken by the same mix; once before and once after, because
                 other load on a machine moves
    memory       resident memory of the server's process at the end of the warm-up and at the end of the window, and the
                 most in between
    answers      each finished answer to a fixed prompt, token by token, beside the same request with nobody else there.
                 Sums in another order round differently, so a difference is one of rounding where the two likeliest
                 tokens, alone, are less than 1e-3 apart at the first place that differs; others are mistakes

    python benchmarks/server_soak.py [--seconds 180] [--warm 30] [--clients 64] [--slots 8] [--threads 2]

Bars: 429 and errors at most 1 % of all requests, 0.8 of the engine's throughput, memory within 5 %, no mistake. What it
does not do: measure latency under a load that the slots can carry; here most of the clients wait.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sw2.catalog import catalog
from sw2.core.task import Context
from sw2.domains.language.chat.writer import ChatWriter
from sw2.parts.decoding.sampling import USUAL, Sampling

MODEL = "smollm2-135m-instruct"
THINGS = (
    *("a lamp", "the moon", "a bicycle", "a bank", "winter", "a violin", "bread", "a river"),
    *("a spider", "glass", "an election", "chess", "a volcano", "cotton", "a lighthouse", "salt"),
)
QUESTIONS = ("What is {}?", "Write a short poem about {}.", "Name three facts about {}.", "Explain {} to a child.")
FIXED = [question.format(thing) for question in QUESTIONS for thing in THINGS]
ROUNDING = 1e-3


def body(number: int, tokens: int) -> dict[str, Any]:
    """Request `number` of the fixed ones, or a varied one for what is beyond them."""
    if number < len(FIXED):
        asked: dict[str, Any] = {"content": FIXED[number], "temperature": 0, "logprobs": True, "top_logprobs": 2}
    else:
        thing = THINGS[number % len(THINGS)]
        asked = {"content": f"Tell me story number {number} about {thing}.", "seed": number}
    messages = [{"role": "user", "content": asked.pop("content")}]
    return {"model": MODEL, "messages": messages, "max_tokens": tokens, "stream": True, **asked}


# --------------------------------------------------------------------------------------------------------- the clients


class Refused(Exception):
    """An answer with another status than 200, or an error as a stream's last event."""


async def pieces(port: int, asked: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """The chunks of a streamed answer; closing it hangs up.

    Raises:
        Refused: with what went wrong.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    try:
        content = json.dumps(asked).encode()
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Connection: close\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content)
        await writer.drain()
        status = (await reader.readline()).split()
        if status[1:2] != [b"200"]:
            raise Refused(status[1].decode() if len(status) > 1 else "no answer")
        while True:
            line = await reader.readline()
            if not line:
                raise Refused("cut off")
            if not line.startswith(b"data: "):  # headers, lengths of chunks, empty lines
                continue
            if line.startswith(b"data: [DONE]"):
                return
            piece = json.loads(line[6:])
            if "error" in piece:
                raise Refused(str(piece["error"]["code"]))
            yield piece
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


Scores = list[dict[str, Any]]
"""The tokens of an answer with their log-probabilities, as the API gives them."""


@dataclass
class Soak:
    """What the clients saw."""

    tokens: int
    outcomes: Counter[str] = field(default_factory=Counter)
    arrivals: list[float] = field(default_factory=list)
    answers: list[tuple[int, Scores]] = field(default_factory=list)
    over: bool = False
    _fixed: Iterator[int] = field(default_factory=lambda: itertools.cycle(range(len(FIXED))))
    _varied: Iterator[int] = field(default_factory=lambda: itertools.count(len(FIXED)))

    async def client(self, port: int, number: int) -> None:
        """Ask until it is over; every third client hangs up."""
        chance = random.Random(number)
        for turn in itertools.count():
            if self.over:
                return
            hangs_up = number % 3 == 2
            asked = next(self._varied) if hangs_up or turn % 2 else next(self._fixed)
            most = chance.randrange(self.tokens) if hangs_up else None
            try:
                self.outcomes[await self._ask(port, asked, most)] += 1
            except Refused as error:
                self.outcomes[str(error)] += 1
                await asyncio.sleep(1)
            except OSError as error:
                self.outcomes[type(error).__name__] += 1
                await asyncio.sleep(1)

    async def _ask(self, port: int, number: int, most: int | None) -> str:
        scores: Scores = []
        if most == 0:  # gone while it waits
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(random.Random(number).uniform(0, 3)):
                    async with contextlib.aclosing(pieces(port, body(number, self.tokens))) as stream:
                        async for _ in stream:
                            break
            return "hung up"
        async with contextlib.aclosing(pieces(port, body(number, self.tokens))) as stream:
            count = 0
            async for piece in stream:
                (choice,) = piece["choices"]
                new = choice["logprobs"]["content"] if choice.get("logprobs") else []
                came = len(new) or bool(choice["delta"].get("content"))
                self.arrivals += [time.perf_counter()] * came
                scores += new
                count += came
                if most is not None and count >= most:
                    return "hung up"
        if number < len(FIXED):
            self.answers.append((number, scores))
        return "finished"


async def alone(port: int, tokens: int, numbers: Sequence[int]) -> dict[int, Scores]:
    """The answers to fixed prompts, one after the other with nobody else there."""
    found = {}
    for number in numbers:
        scores: Scores = []
        async for piece in pieces(port, body(number, tokens)):
            scores += (piece["choices"][0].get("logprobs") or {"content": []})["content"]
        found[number] = scores
    return found


def compared(answers: Sequence[tuple[int, Scores]], wanted: dict[int, Scores]) -> tuple[int, list[str], list[str]]:
    """How many are equal, and a line for each other one: those of rounding, and mistakes."""
    equal, rounding, mistakes = 0, [], []
    for number, scores in answers:
        right = wanted[number]
        ours, theirs = ([tuple(score["bytes"]) for score in each] for each in (scores, right))
        if ours == theirs:
            equal += 1
            continue
        place = next((n for n, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
        # The end of a text is no token of the answer; where one ends earlier, the longer one tells how near that was.
        top = (right if place < len(right) else scores)[place]["top_logprobs"]
        margin = top[0]["logprob"] - top[1]["logprob"]
        line = f"prompt {number}, token {place}: margin {margin:.2e}"
        (rounding if margin < ROUNDING else mistakes).append(line)
    return equal, rounding, mistakes


# ---------------------------------------------------------------------------------------------------------- the engine


def full_batch(writer: ChatWriter, slots: int, tokens: int, seconds: float) -> float:
    """Tokens per second of the engine alone, with work waiting for every slot."""
    engine, numbers = writer.text_engine(slots), itertools.count()
    running: list[Any] = []
    begin, written = time.perf_counter(), 0
    while (now := time.perf_counter()) - begin < seconds:
        while len(running) < 2 * slots:
            turn = next(numbers)
            fixed = turn % 3 == 0  # two thirds of the clients, every second time
            asked = body(turn % len(FIXED) if fixed else len(FIXED) + turn, tokens)
            sampling = Sampling(temperature=0.0) if fixed else Sampling(
                temperature=USUAL.temperature, top_p=USUAL.top_p, seed=turn
            )  # fmt: skip
            prompt = writer.encode_conversation(asked["messages"], [])
            running.append(engine.submit(prompt, sampling, max_tokens=tokens, logprobs=2 if fixed else None))
        for request in engine.step():
            piece = request.take()
            written += len(piece.tokens) if piece is not None else 0
        running = [request for request in running if request.finished is None]
    for request in running:
        engine.cancel(request)
    return written / (now - begin)


# ---------------------------------------------------------------------------------------------------------- the server


@contextlib.contextmanager
def serving(slots: int, queue: int, threads: int, log: Path) -> Iterator[tuple[int, int]]:
    """The command; its port and its process."""
    command = [sys.executable, "-m", "sw2.faces.cli", "serve", MODEL, "--port", "0", "--yes", "--json"]
    with (
        log.open("w") as lines,
        subprocess.Popen(
            [*command, "--slots", str(slots), "--queue", str(queue)],
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            stdout=subprocess.PIPE,
            stderr=lines,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            told = process.stdout.readline()
            if not told:
                raise SystemExit(f"The server did not start:\n{log.read_text()}")
            yield int(json.loads(told)["address"].rpartition(":")[2]), process.pid
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def resident(process: int) -> float:
    """Megabytes of a process that are in memory (Linux)."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def soak(
    port: int, process: int, soaking: Soak, clients: int, warm: float, seconds: float
) -> tuple[list[float], float, float]:
    """Let the clients ask; the memory at every second after the warm-up, and the window's begin and end."""
    tasks = [asyncio.create_task(soaking.client(port, number)) for number in range(clients)]
    await asyncio.sleep(warm)
    begin, memory = time.perf_counter(), [resident(process)]
    while time.perf_counter() - begin < seconds:
        await asyncio.sleep(1)
        memory.append(resident(process))
    end, soaking.over = time.perf_counter(), True
    await asyncio.gather(*tasks)
    return memory, begin, end


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=180, help="of the window")
    parser.add_argument("--warm", type=float, default=30, help="seconds before it")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=48, help="the most of an answer")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--alone", type=float, default=20, help="seconds of the engine alone, before and after")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    writer = catalog().program(MODEL, Context(confirm=lambda question: True)).runtime
    assert isinstance(writer, ChatWriter)
    batches = []

    def measure_batch() -> None:
        batches.append(full_batch(writer, arguments.slots, arguments.tokens, arguments.alone))

    soaking = Soak(arguments.tokens)
    full_batch(writer, arguments.slots, arguments.tokens, min(5.0, arguments.alone))  # warms up
    measure_batch()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with serving(arguments.slots, arguments.clients, arguments.threads, log) as (port, process):
            memory, begin, end = asyncio.run(
                soak(port, process, soaking, arguments.clients, arguments.warm, arguments.seconds)
            )
            asked = sorted({number for number, _ in soaking.answers})
            wanted = asyncio.run(alone(port, arguments.tokens, asked))
        faults = sum(json.loads(line)["event"] == "fault" for line in log.read_text().splitlines())
    measure_batch()

    total = sum(soaking.outcomes.values())
    bad = total - soaking.outcomes["finished"] - soaking.outcomes["hung up"]
    speed = sum(begin <= moment < end for moment in soaking.arrivals) / (end - begin)
    batch = sum(batches) / len(batches)
    equal, rounding, mistakes = compared(soaking.answers, wanted)
    print(f"requests    {total}: " + ", ".join(f"{count} {name}" for name, count in soaking.outcomes.most_common()))
    print(f"bad         {bad / max(total, 1):.2%} (bar 1 %); faults in the log: {faults}")
    print(
        f"throughput  {speed:.1f} tokens/s of {batch:.1f} of a full batch of {arguments.slots} alone "
        f"({', '.join(f'{each:.1f}' for each in batches)}): {speed / batch:.2f} (bar 0.8)"
    )
    print(
        f"memory      {memory[0]:.0f} MB after the warm-up, {memory[-1]:.0f} MB at the end, {max(memory):.0f} MB at "
        f"most: {memory[-1] / memory[0] - 1:+.1%} (bar 5 %)"
    )
    print(
        f"answers     {len(soaking.answers)} to {len(asked)} of {len(FIXED)} fixed prompts: {equal} equal, "
        f"{len(rounding)} differ by rounding, {len(mistakes)} mistakes (bar 0)"
    )
    for line in (*rounding, *mistakes):
        print(f"            {line}")


if __name__ == "__main__":
    main()
