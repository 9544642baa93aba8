"""A model of another toolkit as a Program; `reading` has its parts.

sw2.load("model.gguf"), sw2.load("SmolLM2-135M/")
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sw2.base.device import memory_told
from sw2.core.card import Card
from sw2.core.program import Net, Program
from sw2.domains.language.chat.writer import ChatWriter
from sw2.domains.language.formats.reading import Model, read_folder, read_gguf
from sw2.domains.language.task import TextGeneration, TextWriter

if TYPE_CHECKING:
    from sw2.core.registry import Registry

__all__ = ["open_folder", "open_gguf"]


def open_gguf(path: Path, registry: Registry) -> Program:
    """The model in a GGUF file as a program; raises what `read_gguf` does."""
    with memory_told("this model"):
        return _program(read_gguf(path), registry)


def open_folder(path: Path, registry: Registry) -> Program:
    """The model in a Hugging Face folder as a program; raises what `read_folder` does."""
    with memory_told("this model"):
        return _program(read_folder(path), registry)


def _program(model: Model, registry: Registry) -> Program:
    return Program.assemble(
        task=TextGeneration(),
        runtime=ChatWriter if model.prep.controls.chat_template else TextWriter,
        nets={"decoder": Net("decoder", model.net)},
        prep=model.prep,
        provider=registry.provider("text-generation"),
        card=Card(facts=model.facts),
    )
