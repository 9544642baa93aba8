"""A Hugging Face folder with a picture classifier (`folder`) as a program, for `sw2.load` and `--from`.

What it does not do: read the files; write them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sw2.base.device import memory_told
from sw2.core.card import Card
from sw2.core.program import Net, Program
from sw2.domains.vision.folder import read_folder
from sw2.domains.vision.task import ImageClassification, PictureClassifier

if TYPE_CHECKING:
    from sw2.core.registry import Registry

__all__ = ["open_folder"]


def open_folder(path: Path, registry: Registry) -> Program:
    """The classifier in a Hugging Face folder as a program.

    Raises:
        ProgramError: a file is missing or damaged, the architecture is unknown, it has a setting that we do not
            compute, or tensors do not fit the config.
        ResourceError: it would not fit in memory.
    """
    size = sum(file.stat().st_size for file in path.glob("*.safetensors"))
    with memory_told("this model", least=size):
        family, net, prep, facts = read_folder(path)
    return Program.assemble(
        task=ImageClassification(),
        runtime=PictureClassifier,
        nets={"classifier": Net(family.model, net)},
        prep=prep,
        provider=registry.provider("image-classification"),
        card=Card(facts=facts),
    )
