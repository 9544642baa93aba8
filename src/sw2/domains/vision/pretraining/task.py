"""Image feature extraction: a picture in, a vector out; the more alike two pictures, the larger the product of theirs.

Shapes: N pictures, D width of the network's last layer.

    any pictures → PicturePrep (size, mean and deviation) → a network's features [N, D] → {"vector": of length 1}

It is learned from pictures alone (`masked`, `contrastive`). Judged are vectors by what they know of labels that had no
part in learning: on held-out pictures, told by each other (`probing`). The same network untrained stands beside it, and
so do raw pixels under the same probe, and the most frequent label.

Choices: pictures may come without labels, and then nothing is judged here; `sw2 eval` judges on others that have some.
A folder of folders is taken as labelled where that leaves out no picture; `data.labels` says otherwise. Where the data
has a test split, or is labelled and one is held out, learning does not see it.

Source of the name: the tasks of Hugging Face, https://huggingface.co/tasks/image-feature-extraction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, final

import numpy as np
import torch

from sw2.base.config import check_shares, replace
from sw2.base.errors import DataError
from sw2.base.seed import derive
from sw2.base.store import sha256_of_bytes
from sw2.core.capabilities import Embed
from sw2.core.data import Data, Example, Split
from sw2.core.kinds import Kind
from sw2.core.model import Model
from sw2.core.program import Answer, Program, Runtime
from sw2.core.task import CheckReport, Context, Score, Task
from sw2.domains.vision.data import is_divided, leaves_out
from sw2.domains.vision.prep import PicturePrep, PrepConfig
from sw2.domains.vision.pretraining.probing import folds, labels_of, neighbours, probe
from sw2.domains.vision.task import ImageClassification, PictureOptions, seen
from sw2.parts.metrics.intervals import wilson

__all__ = ["ImageFeatureExtraction", "PictureEmbedder", "PretrainingOptions", "untrained"]

_LARGEST_PIXELS = 32  # a side, of raw pictures under the probe


@dataclass(frozen=True, kw_only=True)
class PretrainingOptions:
    """How the data is read.

    Args:
        image, label: the columns of a table.
        labels: "auto" judges by labels where there are some, "required" refuses data without, "ignored" takes every
            picture at any depth of a folder and looks at no label.
        test_share: share of labelled pictures that are held out for judging, where the data has no test split.
        validation_share: share of the training pictures to watch while learning, where there is no validation split.
        split_seed: another number, another division.
    """

    image: str = "image"
    label: str = "label"
    labels: Literal["auto", "required", "ignored"] = "auto"
    test_share: float = 0.2
    validation_share: float = 0.05
    split_seed: int = 0

    def __post_init__(self) -> None:
        check_shares("data", self, "test_share", "validation_share")


@final
class PictureEmbedder(Runtime, Embed):
    """Turns pictures into vectors of length 1."""

    name = "picture-embedder"
    Prep = PicturePrep

    def __init__(self, nets: Mapping[str, Model], prep: PicturePrep, uses: Mapping[str, Program]) -> None:
        del uses
        self.net, self.prep = nets["encoder"], prep

    def embed(self, inputs: Sequence[object]) -> np.ndarray:
        found = [outputs["features"].float() for outputs in seen(self.net, self.prep, inputs)]
        if not found:
            return np.zeros((0, 0), np.float32)
        vectors: np.ndarray = torch.nn.functional.normalize(torch.cat(found)).numpy()
        return vectors

    def answer(self, inputs: Sequence[Any]) -> list[Answer]:
        return [{"vector": vector.tolist()} for vector in self.embed(inputs)]


@final
class ImageFeatureExtraction(Task):
    """The task at the top of this file."""

    name = "image-feature-extraction"
    inputs = {"image": Kind("image", "uint8", ("height", "width", "channels"))}
    outputs = {"vector": Kind("vector", "float32", ("width",))}
    metric: ClassVar[str] = "probe accuracy"
    runtime: ClassVar[str] = PictureEmbedder.name
    Options = PretrainingOptions

    def read(self, source: str, options: PretrainingOptions, context: Context) -> Data:
        pictures, path = ImageClassification(), Path(source)
        own = PictureOptions(
            image=options.image,
            label=options.label,
            test_share=options.test_share,
            validation_share=options.validation_share,
            split_seed=options.split_seed,
        )
        why = "data.labels=ignored"
        if options.labels == "auto" and path.is_dir() and leaves_out(path):
            why = "files stand beside the folders, so the folders are no labels"
        elif options.labels != "ignored":
            try:
                return pictures.read(source, own, context)
            except DataError as error:
                # Without its labels a divided folder would be learned from as a whole, test pictures too.
                if options.labels == "required" or (path.is_dir() and is_divided(path)):
                    raise
                why = f"{error.message} {error.got}"
        return _without_labels(pictures.unlabelled(source, own, context), options, why)

    def metadata(self, example: Example) -> Mapping[str, str | int | float]:
        label = {"label": example["label"]} if "label" in example else {}
        return {**label, **example.get("metadata", {})}

    def check(self, data: Data) -> CheckReport:
        facts: dict[str, Any] = {name: f"{len(split)} pictures" for name, split in data.splits.items()}
        notes = [f"skipped {row.where}: {row.why}" for row in data.rejected[:20]]
        if len(data.rejected) > 20:
            notes.append(f"skipped {len(data.rejected) - 20} more")
        if "test" in data.splits:
            labels = {example["label"] for example in data.split("test")}
            facts["labels"] = f"{len(labels)}, looked at for judging alone"
        else:
            facts["labels"] = f"none ({data.facts.get('no labels', 'nothing is held out')})"
            notes.append("nothing is judged here; sw2 eval PROGRAM LABELLED-PICTURES judges it on others")
        return CheckReport(facts=facts, notes=notes)

    def prepare(self, train: Split, config: PrepConfig) -> PicturePrep:
        if len(train) < 2:
            raise DataError("There are too few pictures to learn from.", wanted="at least two", got=len(train))
        return PicturePrep.fitted(config, (), train)

    def judge(self, program: Program, held_out: Split, context: Context) -> Sequence[Score]:
        embedder = program.capability(Embed)  # type: ignore[type-abstract]
        labels_N, folds_N = labels_of(held_out), folds(held_out)
        pictures = [example["image"] for example in held_out]
        scores = _scores(embedder.embed(pictures), labels_N, folds_N, "program")
        if isinstance(embedder, PictureEmbedder):
            fresh = PictureEmbedder({"encoder": untrained(embedder.net, context.seed)}, embedder.prep, {})
            scores += _scores(fresh.embed(pictures), labels_N, folds_N, "the network untrained")
        return scores

    def baselines(self, data: Data, prep: PicturePrep, context: Context) -> Sequence[Score]:  # type: ignore[override]
        del context
        test = data.split("test")
        labels_N, folds_N = labels_of(test), folds(test)
        small = PicturePrep(replace(prep.config, size=min(_LARGEST_PIXELS, prep.config.size)), ())
        pixels = small.pictures(test).flatten(1).numpy().astype(np.float32)
        often_N = labels_N == Counter(labels_N.tolist()).most_common(1)[0][0]
        return [
            _score(self.metric, often_N, "most frequent label"),
            *_scores(_unit(pixels - pixels.mean(0)), labels_N, folds_N, "raw pixels"),
        ]


def _without_labels(data: Data, options: PretrainingOptions, why: str) -> Data:
    """The pictures for learning, and some to watch; which ones depends on their content and the seed."""

    def watched(example: Example) -> bool:
        drawn = int(sha256_of_bytes(f"{options.split_seed}:{example['sha256']}".encode())[:13], 16) / 16**13
        return drawn < options.validation_share

    splits: dict[str, list[Example]] = {"train": [], "validation": []}
    for example in data.split("unlabelled"):
        splits["validation" if watched(example) else "train"].append(example)
    return replace(
        data,
        splits={name: split for name, split in splits.items() if split or name == "train"},
        facts={**data.facts, "no labels": why},
    )


def untrained(net: Model, seed: int) -> Model:
    """A network of the same shape, with weights as it would begin to learn with."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "untrained"))
        return net.blank().eval().requires_grad_(False)


def _unit(vectors_ND: np.ndarray) -> np.ndarray:
    length_N1 = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    shortened: np.ndarray = vectors_ND / np.maximum(length_N1, 1e-12)
    return shortened


def _scores(vectors_ND: np.ndarray, labels_N: np.ndarray, folds_N: np.ndarray, of: str) -> list[Score]:
    """What a linear probe and nearest neighbours make of vectors of length 1."""
    return [
        _score(ImageFeatureExtraction.metric, probe(vectors_ND, labels_N, folds_N), of),
        _score("neighbour accuracy", neighbours(vectors_ND, labels_N, folds_N), of),
    ]


def _score(name: str, right_N: np.ndarray, of: str) -> Score:
    details = {"cases": right_N.astype(float).tolist()} if of == "program" else {}
    found = wilson(int(right_N.sum()), len(right_N))
    return Score.estimated(name, found, better="higher", examples=len(right_N), of=of, details=details)
