"""Programs to serve that cost nothing: a random network, one that writes from a script, toys of the other kinds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2
import numpy as np
import pytest
import torch
from torch import Tensor

from sw2.base.seed import generator
from sw2.catalog import catalog
from sw2.core.capabilities import Embed
from sw2.core.kinds import Kind
from sw2.core.model import Model
from sw2.core.program import Answer, Net, Program, Runtime
from sw2.domains.language.chat.task import ChatTask
from sw2.domains.language.chat.template import IM_END, IM_START, own_controls
from sw2.domains.language.chat.writer import ChatWriter
from sw2.domains.language.decoder import Decoder
from sw2.domains.language.prep import Controls, PrepConfig, TextPrep
from sw2.domains.language.task import TextGeneration
from sw2.domains.language.tokenizer import Tokenizer
from sw2.faces.server.app import Server, Settings
from sw2.parts.decoding.engine import Engine
from sw2.parts.decoding.text import TextEngine
from sw2.parts.prep.pictures import read_picture
from sw2.testing.toys import NoPrep


@pytest.fixture(scope="session")
def text_prep() -> TextPrep:
    tokenizer = Tokenizer.train(["user assistant tool weather hello world"] * 3, 300)
    return TextPrep(tokenizer.with_control(IM_START, IM_END), PrepConfig(), own_controls(Controls()))


def _net(prep: TextPrep, context: int, width: int = 32) -> Decoder:
    shape = {"width": width, "depth": 2, "heads": 2, "kv_heads": 2, "hidden": 48}
    net = Decoder(Decoder.Config(vocab_size=prep.tokenizer.vocab_size, context=context, **shape))
    net.initialise(generator(3, "weights"))
    return net


def _program(prep: TextPrep, net: Decoder, task: Any, name: str) -> Program:
    return Program.assemble(
        task=task,
        runtime=ChatWriter,
        nets={"decoder": Net("decoder", net)},
        prep=prep,
        provider=catalog().provider(name),
    )


@pytest.fixture(scope="session")
def random_program(text_prep: TextPrep) -> Program:
    """A network of random weights that was made for chat; its answers mean nothing and are always the same."""
    return _program(text_prep, _net(text_prep, 400), ChatTask(), "chat")


@pytest.fixture(scope="session")
def roomy_program(text_prep: TextPrep) -> Program:
    """The same with room for the schemas of tools."""
    return _program(text_prep, _net(text_prep, 1500), ChatTask(), "chat")


@dataclass
class Scripted:
    """A network that goes on as its scripts do, otherwise repeats a letter, and takes `seconds` for a step.

    The letter has the logit 9, the end of a message `end_logit`, everything else 0.
    """

    prep: TextPrep
    slots: int
    capacity: int
    seconds: float = 0.0
    end_logit: float = 0.0
    scripts: list[list[int]] = field(default_factory=list)
    steps: int = 0
    fault: Exception | None = None

    def __post_init__(self) -> None:
        self._held: list[list[int]] = [[] for _ in range(self.slots)]
        (self._letter,) = self.prep.tokenizer.encode("x")

    def __call__(self, tokens: Sequence[Sequence[int]], slots: Sequence[int], starts: Sequence[int]) -> Tensor:
        if self.fault is not None:
            raise self.fault
        self.steps += 1
        time.sleep(self.seconds)
        logits = torch.zeros(len(tokens), self.prep.tokenizer.vocab_size)
        for row, (new, slot, start) in enumerate(zip(tokens, slots, starts, strict=True)):
            held = self._held[slot] = [*self._held[slot][:start], *new]
            going = [script[len(held)] for script in self.scripts if script[: len(held)] == held < script]
            logits[row, self.prep.tokenizer.control[IM_END]] = self.end_logit
            logits[row, going[0] if going else self._letter] = 9.0
        return logits

    def copy(self, source: int, target: int, tokens: int) -> None:
        self._held[target] = self._held[source][:tokens]

    def refresh(self) -> None:
        """Nothing is copied."""


@dataclass
class Script:
    """A program and the script that it writes from."""

    program: Program
    network: Scripted

    def teach(self, question: str, answer: str, tools: Sequence[Any] = (), before: Sequence[Any] = ()) -> None:
        """Let it answer this to that, after the messages before."""
        runtime, prep = self.program.runtime, self.network.prep
        assert isinstance(runtime, ChatWriter)
        tokens = runtime.encode_conversation([*before, {"role": "user", "content": question}], tools)
        self.network.scripts.append([*tokens, *prep.tokenizer.encode(answer), prep.tokenizer.control[IM_END]])


@pytest.fixture(scope="session")
def make_script(text_prep: TextPrep) -> Callable[..., Script]:
    """A scripted program with so many slots and tokens of context, whose steps take so long."""

    def make(*, slots: int = 8, context: int = 2000, seconds: float = 0.0, chat: bool = False) -> Script:
        net = _net(text_prep, context, width=8)
        task, name = (ChatTask(), "chat") if chat else (TextGeneration(), "text-generation")
        program = _program(text_prep, net, task, name)
        network = Scripted(text_prep, slots, context, seconds)
        assert isinstance(program.runtime, ChatWriter)
        end = text_prep.tokenizer.control[IM_END]
        program.runtime._engine = TextEngine(Engine(network), text_prep.tokenizer, [end])
        return Script(program, network)

    return make


# ---------------------------------------------------------------------------------------------------------------- toys


class Brightness(Runtime):
    """Whether a picture is bright."""

    name = "brightness"
    Prep = NoPrep

    def __init__(self, nets: Mapping[str, Model], prep: Any, uses: Mapping[str, Program]) -> None:
        del nets, prep, uses

    def answer(self, inputs: Sequence[Any]) -> list[Answer]:
        assert all(isinstance(each, bytes) for each in inputs), "a path must never come here"
        shares = [float(read_picture(each, 1).mean()) / 255 for each in inputs]
        return [
            {"label": "bright" if share > 0.5 else "dark", "probabilities": {"bright": share, "dark": 1 - share}}
            for share in shares
        ]


class Lengths(Brightness, Embed):
    """Vectors that count letters."""

    name = "lengths"

    def answer(self, inputs: Sequence[Any]) -> list[Answer]:
        return [{"label": "long" if len(each) > 9 else "short"} for each in inputs]

    def embed(self, inputs: Sequence[object]) -> np.ndarray:
        return np.array([[len(str(each)), str(each).count("e")] for each in inputs], dtype=np.float32)


class Politeness(Brightness):
    """How polite the last message is."""

    name = "politeness"

    def answer(self, inputs: Sequence[Any]) -> list[Answer]:
        talks = [each["messages"] if isinstance(each, Mapping) else each for each in inputs]
        return [{"score": float("nan") if not talk else float("please" in talk[-1]["content"])} for talk in talks]


def _toy(runtime: type[Runtime], inputs: Mapping[str, Kind], outputs: Mapping[str, Kind]) -> Program:
    # What a server reads of a task is its name and its kinds.
    task = type("Toy", (), {"name": runtime.name, "inputs": inputs, "outputs": outputs})()
    return Program.assemble(task=task, runtime=runtime, nets={}, prep=NoPrep(), provider={})


@pytest.fixture(scope="session")
def toys() -> Mapping[str, Program]:
    """A picture classifier, a judge of conversations, and an encoder."""
    classes = {"label": Kind("label"), "probabilities": Kind("distribution", "float32", ("labels",))}
    return {
        "brightness": _toy(Brightness, {"image": Kind("image", "uint8", ("height", "width", 1))}, classes),
        "politeness": _toy(Politeness, {"messages": Kind("conversation")}, {"score": Kind("number")}),
        "lengths": _toy(Lengths, {"text": Kind("text")}, {"label": Kind("label")}),
    }


# ------------------------------------------------------------------------------------------------------------- serving


@dataclass
class Asked:
    """A server without a network, and what it logged."""

    server: Server
    lines: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, method: str, path: str, **options: Any) -> httpx2.Response:
        return self.together([(method, path, options)])[0]

    def together(self, requests: Sequence[tuple[str, str, dict[str, Any]]]) -> list[httpx2.Response]:
        """Ask all of these at once."""

        async def ask() -> list[httpx2.Response]:
            transport = httpx2.ASGITransport(app=self.server)
            async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
                return list(await asyncio.gather(*(client.request(method, path, **o) for method, path, o in requests)))

        return asyncio.run(ask())

    def post(self, path: str, **body: Any) -> httpx2.Response:
        return self("POST", path, json=body)


@pytest.fixture
def serve() -> Iterator[Callable[..., Asked]]:
    """Serve programs by name under these settings, without a network."""
    made: list[Asked] = []

    def start(programs: Mapping[str, Program], **settings: Any) -> Asked:
        lines: list[dict[str, Any]] = []
        server = Server(programs, Settings(**settings), lambda event, facts: lines.append({"event": event, **facts}))
        made.append(Asked(server, lines))
        return made[-1]

    yield start
    for each in made:
        each.server.close()
