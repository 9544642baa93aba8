"""Randomness as a function: every draw is determined by (seed, purpose, position), never by what was drawn before.

A generator for "the augmentation of step 1,234" is made from those words alone. So a run that resumes, or that runs on
another number of processes, draws the same numbers without having saved any random state.

Not cryptographic. The hash is BLAKE2b, whose output is uniform enough that derived seeds may be treated as independent.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = ["derive", "generator", "numpy_generator"]


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the purpose that `names` spell, e.g. `derive(0, "augment", step)`."""
    text = "\x1f".join([str(seed), *(str(name) for name in names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *names: str | int) -> torch.Generator:
    """A torch generator on the CPU for one purpose."""
    import torch

    made = torch.Generator()
    made.manual_seed(derive(seed, *names))
    return made


def numpy_generator(seed: int, *names: str | int) -> np.random.Generator:
    """A numpy generator for one purpose."""
    import numpy as np

    return np.random.default_rng(derive(seed, *names))
