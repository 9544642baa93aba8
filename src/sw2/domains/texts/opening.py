"""A classifier of fastText (.bin, .ftz) as a program, for `sw2 run`, `eval` and `serve`.

Its texts are taken as they are, as the official program takes them. Product codes are unpacked: the 50,000 rows of the
model of 176 languages are 3 MB.

What it does not do: models without labels, which open as word vectors.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from sw2.base.device import memory_told
from sw2.base.errors import ProgramError
from sw2.core.card import Card
from sw2.core.program import Net, Program
from sw2.domains.texts.bags import BagOfNgrams
from sw2.domains.texts.prep import TextPrep
from sw2.domains.texts.task import TextClassification, TextClassifier
from sw2.parts.formats.compressed import ProductCodes
from sw2.parts.formats.fasttext import Matrix, read

if TYPE_CHECKING:
    from sw2.core.registry import Registry

__all__ = ["open_model"]


def open_model(path: Path, registry: Registry) -> Program:
    """The classifier in a file of fastText as a program.

    Raises:
        DataError: it is no file of fastText, or damaged.
        ProgramError: it has no labels.
        ResourceError: it would not fit in memory.
    """
    with memory_told("this model", least=path.stat().st_size):
        model = read(path)
        if model.arguments.model != "supervised":
            raise ProgramError(
                "This model of fastText has no labels: it is one of word vectors.",
                where=path,
                wanted="a model that was trained with supervision",
                got=model.arguments.model,
                do="Let its name end in .bin: it opens as word vectors then.",
            )
        first, last = _dense(model.input), _dense(model.output)
    kept = model.pruned
    if kept is not None:
        # Rows in the order of their places, and none without an n-gram.
        order = sorted(kept, key=kept.__getitem__)
        rows = [*range(len(model.words)), *(len(model.words) + kept[each] for each in order)]
        first, kept = first[rows], {each: row for row, each in enumerate(order)}
    else:
        first = first[: len(model.words) + model.arguments.buckets]
    empty = np.zeros((0, first.shape[1]), np.float32)
    prep = TextPrep(False, replace(model, pruned=kept, input=empty, output=empty))
    shape = {"rows": len(first), "labels": len(last), "dimensions": first.shape[1], "loss": model.arguments.loss}
    net = BagOfNgrams(BagOfNgrams.Config(**shape))
    net.load_state_dict({"input": torch.from_numpy(first), "output": torch.from_numpy(last)})
    return Program.assemble(
        task=TextClassification(),
        runtime=TextClassifier,
        nets={"classifier": Net("bag-of-ngrams", net)},
        prep=prep,
        provider=registry.provider("text-classification"),
        card=Card(facts={"read from": path.name, "words": len(model.words), "labels": len(model.labels)}),
    )


def _dense(matrix: Matrix) -> np.ndarray:
    return matrix.rows(np.arange(matrix.shape[0])) if isinstance(matrix, ProductCodes) else matrix
