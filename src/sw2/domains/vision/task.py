"""Image classification: which of K labels does a picture have?

Shapes: N pictures, C channels (1 grey, 3 colour), S pixels a side, K labels.

    Data → PicturePrep (labels, size, mean and deviation of the training pictures) → a network's logits [N, K]
         → {"label": the likeliest, "probabilities": {label: probability}}

Beside its logits every network gives what it decides by, "features" [N, D].

The preprocessing is tensor operations from the decoded picture on, so that training, answers and exports compute the
same numbers (see `parts.prep.pictures`).

Baselines, all on the same held-out pictures: the most frequent label (chance), and multinomial logistic regression on
the pixels (scikit-learn, on at most 10,000 training pictures of at most 32x32).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sw2.base.config import check_shares, replace
from sw2.base.errors import DataError
from sw2.core.capabilities import Classified, Classify, Convert, Export, Graph
from sw2.core.data import Data, Example, Split
from sw2.core.kinds import Kind
from sw2.core.labelled import Labelled, Row
from sw2.core.model import Model, Outputs
from sw2.core.program import Answer, Program, Runtime
from sw2.core.task import CheckReport, Context, Prep, Score, Task
from sw2.domains.vision.data import hold_out, read, read_unlabelled
from sw2.domains.vision.prep import PicturePrep, PrepConfig, spread
from sw2.parts.linear import logistic_regression
from sw2.parts.metrics.classification import confusion_matrix, expected_calibration_error, log_loss
from sw2.parts.metrics.intervals import wilson
from sw2.parts.prep.pictures import read_picture, resize

__all__ = ["ImageClassification", "PictureClassifier", "PictureOptions", "seen"]


@dataclass(frozen=True, kw_only=True)
class PictureOptions:
    """How the data is read.

    Args:
        image, label: the columns of a table.
        test_share: share of the pictures held out for judging, where the data has no test split.
        validation_share: share of the training pictures to watch while learning, where there is no validation split.
        split_seed: another number, another division.
    """

    image: str = "image"
    label: str = "label"
    test_share: float = 0.2
    validation_share: float = 0.05
    split_seed: int = 0

    def __post_init__(self) -> None:
        check_shares("data", self, "test_share", "validation_share")


def seen(net: Model, prep: PicturePrep, inputs: Sequence[Any]) -> Iterator[Outputs]:
    """What `net` says of raw pictures, 256 at a time, in order; without gradients."""
    for start in range(0, len(inputs), 256):
        pictures = prep.decoded(inputs[start : start + 256])
        with torch.inference_mode():
            yield net({"image": prep.normalise(pictures)})


class PictureClassifier(Runtime, Classify, Convert, Export):
    """Answers with the likeliest label and the probability of each."""

    name = "picture-classifier"
    Prep = PicturePrep

    def __init__(self, nets: Mapping[str, Model], prep: PicturePrep, uses: Mapping[str, Program]) -> None:
        del uses
        # Convolutions of one picture take half the time with channels last.
        self.net, self.prep = nets["classifier"].to(memory_format=torch.channels_last), prep  # type: ignore[call-overload]

    @property
    def labels(self) -> Sequence[str]:
        return self.prep.labels

    def classify(self, inputs: Sequence[Any]) -> Classified:
        outputs = [(each["logits"].float(), each["features"].float()) for each in seen(self.net, self.prep, inputs)]
        if not outputs:
            nothing = np.zeros((0, len(self.prep.labels)), np.float32)
            return Classified(probabilities=nothing, features=np.zeros((0, 0), np.float32))
        logits_NK, features_ND = (torch.cat(parts) for parts in zip(*outputs, strict=True))
        return Classified(probabilities=torch.softmax(logits_NK, 1).numpy(), features=features_ND.numpy())

    def probabilities(self, inputs: Sequence[Any]) -> np.ndarray:
        """float32 [N, K] for raw pictures."""
        return self.classify(inputs).probabilities

    def answer(self, inputs: Sequence[Any]) -> list[Answer]:
        return [
            {
                "label": self.prep.labels[int(row.argmax())],
                "probabilities": {label: float(p) for label, p in zip(self.prep.labels, row, strict=True)},
            }
            for row in self.probabilities(inputs)
        ]

    def conversions(self) -> Mapping[str, str]:
        from sw2.domains.vision.folder import FORMATS

        return FORMATS

    def convert(self, format_name: str, into: Path) -> tuple[int, float]:
        from sw2.domains.vision.folder import convert

        return convert(format_name, self.net, self.prep, into)

    def graph(self) -> Graph:
        channels = self.prep.config.channels
        draw = torch.Generator().manual_seed(0)

        def noise(height: int, width: int) -> Tensor:
            return torch.randint(0, 256, (height, width, channels), dtype=torch.uint8, generator=draw)

        return Graph(
            module=_FromPicture(self.net, self.prep).eval(),
            inputs={"picture": noise(57, 43)},
            dynamic={"picture": {0: "height", 1: "width"}},
            outputs=("probabilities",),
            samples=[(noise(1 + 37 * i % 301, 1 + 61 * i % 401),) for i in range(100)],
            assets={},
            labels=self.prep.labels,
            example=_EXAMPLE.replace("MODE", "L" if channels == 1 else "RGB"),
        )


_EXAMPLE = """\
# pip install onnxruntime numpy pillow
import json, sys
import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession("model.onnx")
labels = json.load(open("labels.json", encoding="utf-8"))
for path in sys.argv[1:]:
    picture = np.atleast_3d(ImageOps.exif_transpose(Image.open(path)).convert("MODE"))
    (probabilities,) = session.run(None, {"picture": picture})
    print(path, labels[probabilities.argmax()], probabilities.max())
"""


class _FromPicture(nn.Module):
    """The whole program for exporters: a decoded picture uint8 [H, W, C] to probabilities float32 [K]."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, net: Model, prep: PicturePrep) -> None:
        super().__init__()
        self.net, self.prep = net, prep
        self.register_buffer("mean", torch.tensor(prep.config.mean).view(-1, 1, 1))
        self.register_buffer("deviation", torch.tensor(prep.config.deviation).view(-1, 1, 1))

    def forward(self, picture_HWC: Tensor) -> Tensor:
        size = self.prep.config.size, self.prep.config.size
        picture_CSS = resize(picture_HWC.permute(2, 0, 1), size, self.prep.config.fit, self.prep.config.zoom)
        normal_CSS = (picture_CSS - self.mean) / self.deviation
        return torch.softmax(self.net({"image": normal_CSS[None]})["logits"], 1)[0]


class ImageClassification(Task, Labelled):
    """The task at the top of this file."""

    name = "image-classification"
    inputs = {"image": Kind("image", "uint8", ("height", "width", "channels"))}
    outputs = {"label": Kind("label"), "probabilities": Kind("distribution", "float32", ("labels",))}
    metric = "accuracy"
    runtime = PictureClassifier.name
    Options = PictureOptions

    def read(self, source: str, options: PictureOptions, context: Context) -> Data:
        data = self.gather(source, options, context)
        held_out = {}
        if "test" not in data.splits:
            held_out["test"] = options.test_share
        if "validation" not in data.splits:
            held_out["validation"] = options.validation_share * (1 - held_out.get("test", 0.0))
        held_out = {name: share for name, share in held_out.items() if share > 0}
        if not held_out:
            return data
        divided = hold_out(data, {"train": 1 - sum(held_out.values()), **held_out}, options.split_seed)
        # Of a few pictures a small share is none.
        return replace(divided, splits={name: split for name, split in divided.splits.items() if split})

    def gather(self, source: str, options: PictureOptions, context: Context) -> Data:
        return read(source, confirm=context.confirm, image=options.image, label=options.label)

    def unlabelled(self, source: str, options: PictureOptions, context: Context) -> Data:
        return read_unlabelled(source, confirm=context.confirm, image=options.image)

    def metadata(self, example: Example) -> Mapping[str, str | int | float]:
        return {"label": example["label"], **example.get("metadata", {})}

    def row(self, example: Example) -> Row:
        return Row(name=example["name"], label=example.get("label", ""), content=example["sha256"])

    def check(self, data: Data) -> CheckReport:
        counts = Counter(example["label"] for example in data.split("train"))
        facts: dict[str, Any] = {name: f"{len(split)} pictures" for name, split in data.splits.items()}
        facts["labels"] = f"{len(counts)}: " + ", ".join(list(counts)[:12]) + (" …" if len(counts) > 12 else "")
        notes = [f"skipped {row.where}: {row.why}" for row in data.rejected[:20]]
        if len(data.rejected) > 20:
            notes.append(f"skipped {len(data.rejected) - 20} more")
        (often, most), (rare, least) = counts.most_common()[0], counts.most_common()[-1]
        if most > 20 * least:
            notes.append(f"'{often}' has {most} pictures and '{rare}' only {least}: accuracy will hide '{rare}'")
        seen = {example["sha256"] for example in data.split("train")}
        if copies := sum(example["sha256"] in seen for example in data.splits.get("test", ())):
            notes.append(f"{copies} test pictures are also in the training split")
        return CheckReport(facts=facts, notes=notes)

    def prepare(self, train: Split, config: PrepConfig) -> PicturePrep:
        if not train:
            raise DataError("There are no pictures to learn from.", wanted="at least two", got="none")
        labels = sorted({example["label"] for example in train})
        return PicturePrep.fitted(config, labels, train)

    def baselines(self, data: Data, prep: Prep, context: Context) -> Sequence[Score]:
        train, test = data.split("train"), data.split("test")
        often = Counter(example["label"] for example in train).most_common(1)[0][0]
        hits = sum(example["label"] == often for example in test)
        chance = _accuracy(hits, len(test), of="most frequent label")
        return [chance, self._logistic_regression(train, test)]

    @staticmethod
    def _logistic_regression(train: Split, test: Split) -> Score:
        first = read_picture(train[0]["image"], 3)
        size = min(32, *first.shape[:2])
        grey = bool((first == first[..., :1]).all())
        labels = sorted({example["label"] for example in train})
        prep = PicturePrep(PrepConfig(size=size, channels=1 if grey else 3, fit="stretch"), labels)
        few = spread(train, 10_000)
        known, asked = (prep.pictures(part).flatten(1).numpy() / np.float32(255) for part in (few, test))
        # On thousands of pictures it is still improving a little after 200 iterations, which take a minute.
        model = logistic_regression(known, prep.targets(few).numpy(), standardise=False)
        right = model.predict(asked) == prep.targets(test).numpy()
        name = "logistic regression" + (f" ({len(few)} pictures)" if len(few) < len(train) else "")
        return _accuracy(int(right.sum()), len(test), of=name)

    def judge(self, program: Program, held_out: Split, context: Context) -> Sequence[Score]:
        runtime = program.capability(PictureClassifier)
        labels = runtime.prep.labels
        unknown = {example["label"] for example in held_out} - set(labels)
        if unknown:
            raise DataError(
                "The data has labels that this program does not know.",
                where=program.path,
                wanted=", ".join(labels[:20]),
                got=", ".join(sorted(unknown)[:10]),
            )
        p_NK = runtime.probabilities([example["image"] for example in held_out])
        target_N = runtime.prep.targets(held_out).numpy()
        right_N = p_NK.argmax(1) == target_N
        n = len(target_N)
        confusion = confusion_matrix(p_NK.argmax(1), target_N, len(labels))
        details = {
            "labels": list(labels),
            "confusion": confusion.tolist(),
            "cases": right_N.astype(float).tolist(),
            "pictures": _shown(held_out, p_NK, right_N, labels),
        }
        return [
            _accuracy(
                int(right_N.sum()), n, details=details,
                answers=[
                    (f"picture {number}: {example['label']}", labels[found])
                    for number, (example, found) in enumerate(zip(held_out, p_NK.argmax(1), strict=True))
                ],
            ),
            Score(name="log loss", value=float(log_loss(p_NK, target_N)), better="lower", examples=n),
            Score(
                name="calibration error", value=float(expected_calibration_error(p_NK, target_N)), better="lower",
                examples=n,
            ),
        ]  # fmt: skip


def _shown(held_out: Split, p_NK: np.ndarray, right_N: np.ndarray, labels: Sequence[str]) -> list[dict[str, Any]]:
    """The eight most confident mistakes, as small pictures for reports."""
    import base64
    import io

    from PIL import Image

    wrong = np.flatnonzero(~right_N)
    shown = []
    for row in wrong[np.argsort(-p_NK[wrong].max(1), kind="stable")][:8]:
        pixels = read_picture(held_out[int(row)]["image"], 3)
        image = Image.fromarray(pixels)
        image.thumbnail((96, 96))
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        shown.append({
            "image": "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode(),
            "label": held_out[int(row)]["label"],
            "answer": labels[int(p_NK[row].argmax())],
            "probability": float(p_NK[row].max()),
        })  # fmt: skip
    return shown


def _accuracy(hits: int, examples: int, **more: Any) -> Score:
    return Score.estimated("accuracy", wilson(hits, examples), better="higher", examples=examples, **more)
