"""From a picture to the network's numbers: size, channels, mean and deviation, and the labels in their order.

    anything that opens as a picture -> [C, S, S] in grey values -> minus mean, by deviation -> the network

Shapes: N pictures, C channels (1 grey, 3 colour), S pixels a side.

What it does not do: read a data set (`data`), change pictures while learning (`augment`, `regularise`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from sw2.base.config import check_ranges, from_dict, replace, to_dict
from sw2.base.errors import UsageError
from sw2.core.data import Example, Split
from sw2.core.task import Prep, PrepState
from sw2.parts.prep.pictures import Fit, read_picture, resample, resize_matrices

__all__ = ["PicturePrep", "PrepConfig", "spread"]

# Pictures of one shape are resized together, so many pixels at most; those that come have a few shapes most often.
_PIXELS_AT_ONCE: Final = 1 << 20
_matrices = functools.lru_cache(maxsize=8)(resize_matrices)


@dataclass(frozen=True, kw_only=True)
class PrepConfig:
    """How a picture becomes a tensor.

    Args:
        size: S, pixels a side.
        channels: 1 grey or 3 colour.
        fit: what to do when the picture is not square; see `parts.prep.pictures.resize`.
        zoom: how many times larger a picture is made before its middle is cut out, at least 1; 256/224 is ImageNet's
            habit.
        mean, deviation: subtracted and divided by, in grey values 0 to 255, one a channel; empty measures them on the
            training split.
    """

    size: int = 28
    channels: int = 1
    fit: Fit = "crop"
    zoom: float = 1.0
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 1 or self.channels not in (1, 3):
            raise UsageError(
                "This is not the shape of a picture.",
                wanted="prep.size of at least 1, prep.channels 1 (grey or colour shown as grey) or 3 (colour)",
                got=f"size {self.size}, channels {self.channels}",
            )
        check_ranges("prep", self, {"zoom": (self.zoom >= 1, "a number of at least 1")})
        if any(value <= 0 for value in self.deviation) or len(self.mean) != len(self.deviation):
            raise UsageError(
                "prep.mean and prep.deviation do not belong together.", wanted="as many, deviations above 0"
            )


class PicturePrep(Prep):
    """The fitted preprocessing.

    Args:
        config: with mean and deviation filled in.
        labels: in the order of the network's outputs.
    """

    def __init__(self, config: PrepConfig, labels: Sequence[str]) -> None:
        self.config, self.labels = config, tuple(labels)
        self._number = {label: number for number, label in enumerate(labels)}

    @classmethod
    def fitted(cls, config: PrepConfig, labels: Sequence[str], train: Split) -> PicturePrep:
        """The preprocessing with mean and deviation of the pictures in `train`, unless the config says them.

        They are measured on at most 2,000 pictures.
        """
        if config.mean:
            return cls(config, labels)
        sample = cls(config, labels).pictures(spread(train, 2000)).double()
        mean, deviation = sample.mean((0, 2, 3)), sample.std((0, 2, 3)).clamp(min=1.0)
        return cls(replace(config, mean=tuple(mean.tolist()), deviation=tuple(deviation.tolist())), labels)

    def picture(self, raw: Any) -> Tensor:
        """One raw picture, decoded and resized: float32 [C, S, S] in grey values 0 to 255."""
        return self.decoded([raw])[0]

    def decoded(self, raws: Sequence[Any]) -> Tensor:
        """Raw pictures, decoded and resized: float32 [N, C, S, S] in grey values 0 to 255."""
        return torch.cat(list(self._decoded(raws)))

    def pictures(self, examples: Split) -> Tensor:
        """All pictures of a split, rounded for the training cache: uint8 [N, C, S, S]."""
        made = torch.empty(len(examples), self.config.channels, *self._size, dtype=torch.uint8)
        row = 0
        for some_BCSS in self._decoded(example["image"] for example in examples):
            made[row : row + len(some_BCSS)] = some_BCSS.round().clamp(0, 255)
            row += len(some_BCSS)
        return made

    def _decoded(self, raws: Iterable[Any]) -> Iterator[Tensor]:
        """In order; pictures of one shape that follow each other are resized together, as many as fit at once."""
        read = (read_picture(raw, self.config.channels) for raw in raws)
        for shape, alike in groupby(read, key=np.shape):
            while some := list(islice(alike, max(1, _PIXELS_AT_ONCE // math.prod(shape)))):
                matrices = _matrices(*shape[:2], self._size, self.config.fit, self.config.zoom)
                yield resample(torch.from_numpy(np.stack(some)).permute(0, 3, 1, 2), matrices)

    def targets(self, examples: Split) -> Tensor:
        """The numbers of the labels: int64 [N]."""
        return torch.tensor([self._number[example["label"]] for example in examples])

    def normalise(self, pictures_NCSS: Tensor) -> Tensor:
        """Grey values to zero mean and unit deviation over the training split: float32 [N, C, S, S]."""
        mean, deviation = (torch.tensor(v).view(1, -1, 1, 1) for v in (self.config.mean, self.config.deviation))
        return (pictures_NCSS.float() - mean) / deviation

    @property
    def _size(self) -> tuple[int, int]:
        return self.config.size, self.config.size

    def state(self) -> PrepState:
        return PrepState(config={**to_dict(self.config), "labels": list(self.labels)})

    @classmethod
    def restore(cls, state: PrepState) -> PicturePrep:
        values = {name: value for name, value in state.config.items() if name != "labels"}
        return cls(from_dict(PrepConfig, values, "prep"), state.config["labels"])


def spread(examples: Split, most: int) -> list[Example]:
    """At most `most` examples, evenly spaced over the split."""
    if len(examples) <= most:
        return list(examples)
    return [examples[int(i)] for i in np.linspace(0, len(examples) - 1, most)]
