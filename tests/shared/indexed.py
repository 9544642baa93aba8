"""What tests of learned indexes share: a column in a file, and the index that is learned from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sw2.catalog import catalog
from sw2.core.program import Program
from sw2.core.task import Context
from sw2.verbs.train import Order, train

__all__ = ["index", "saved"]


def saved(folder: Path, values: Any, name: str = "keys.npy") -> Path:
    """A new file of numpy with these values."""
    np.save(folder / name, np.asarray(values))
    return folder / name


def index(path: Path, out: Path, *settings: str, model: str | None = "pgm") -> Program:
    """The index of the column in `path`; the trial chooses its model where that is None."""
    return train(catalog(), Order(task="learned-index", data=str(path), model=model, settings=settings), out, Context())
