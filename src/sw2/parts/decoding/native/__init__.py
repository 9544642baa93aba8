"""The decode step as one native call: kernels in C++, compiled on first use, called through ctypes.

`available()` says whether this machine can (a compiler is there); `NativeStep` is the step, an
`engine.StepFunction` like `decoding.cache.CachedStep`; `NativeWeights` describes the network to it. Reading order:
`kernels.cpp` (the frame draws how weights lie in memory), `build.py`, `step.py`.

Which networks it knows: those of `sw2.domains.language.decoder`, from GPT-2 to Qwen3 and the ones with recall, in sizes
that are multiples of 32. The torch path remains the reference.
"""

from sw2.parts.decoding.native.build import PATHS, available, best_path
from sw2.parts.decoding.native.step import NativeLayer, NativeMatrix, NativeNorm, NativeStep, NativeWeights

__all__ = [
    "PATHS",
    "NativeLayer",
    "NativeMatrix",
    "NativeNorm",
    "NativeStep",
    "NativeWeights",
    "available",
    "best_path",
]
