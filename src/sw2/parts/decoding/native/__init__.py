"""The decode step as one native call: kernels in C++, compiled on first use, called through ctypes.

`available()` says whether this machine can (a compiler is there); `NativeStep` is the step, an
`engine.StepFunction` like `decoding.cache.CachedStep`; `NativeWeights` describes the network to it. Reading order:
`kernels.cpp` (the frame draws how weights lie in memory), `build.py`, `step.py`.

Which networks it knows: rotary positions, RMSNorm, SwiGLU, grouped-query attention; biases of the queries, keys and
values, norms of query and key heads; a head of its own or the embedding. The torch path remains the reference.
"""

from sw2.parts.decoding.native.build import PATHS, available, best_path
from sw2.parts.decoding.native.step import NativeLayer, NativeMatrix, NativeStep, NativeWeights

__all__ = ["PATHS", "NativeLayer", "NativeMatrix", "NativeStep", "NativeWeights", "available", "best_path"]
