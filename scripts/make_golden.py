"""Write tests/golden/: what trusted implementations answer, so that `make test` compares with them without them.

    python scripts/make_golden.py llama          needs transformers
    python scripts/make_golden.py efficientnet   needs efficientnet-lite-pytorch (`pip install --no-deps`)

Weights and inputs follow from their names (`sw2.testing.golden`), under the names that the trusted implementation has
for them. What is kept: its outputs, its loss, and a digest of each gradient. `tests/domains/test_parity.py` reads it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sw2.testing.golden import digest, numbers

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "golden"

# Every setting that could be overlooked differs from its default: two key heads, a rope base of its own, an odd hidden.
LLAMA = {
    "vocab_size": 31,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 37,
    "max_position_embeddings": 32,
    "rms_norm_eps": 1e-3,
}
ROPE_BASE = 500.0


def weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """A value for every tensor of a network: matrices by He's rule, norms and variances near 1, the rest near 0."""
    found = {}
    for name, shape in shapes.items():
        drawn = torch.from_numpy(numbers(name, *shape))
        if len(shape) > 1:
            found[name] = drawn * (6 / np.prod(shape[1:])) ** 0.5
        elif name.endswith(("running_var", "weight")):
            found[name] = 1 + 0.5 * drawn
        else:
            found[name] = 0.1 * drawn
    return found


def fill(network: nn.Module) -> None:
    # Not `state_dict`: there a tied head stands twice, and its second name would decide.
    held = [*network.named_parameters(), *network.named_buffers()]
    shapes = {name: tuple(tensor.shape) for name, tensor in held if tensor.ndim}
    network.load_state_dict(weights(shapes), strict=False)


def gradients(network: nn.Module) -> dict[str, list[float]]:
    return {name: digest(name, value.grad) for name, value in network.named_parameters()}


def llama() -> dict[str, Any]:
    """LLaMA with a tied and with an own head: logits, loss and gradients on two texts."""
    import transformers

    found: dict[str, Any] = {"made by": f"transformers {version('transformers')}, torch {torch.__version__}"}
    found |= {"config": LLAMA, "rope_base": ROPE_BASE}
    tokens = torch.from_numpy(((numbers("tokens", 2, 13) + 1) / 2 * LLAMA["vocab_size"]).astype(np.int64))
    found["tokens"] = tokens.tolist()
    for tied in (True, False):
        config = transformers.LlamaConfig(
            **LLAMA,
            rope_parameters={"rope_type": "default", "rope_theta": ROPE_BASE},
            tie_word_embeddings=tied,
            bos_token_id=None,
            eos_token_id=None,
            attn_implementation="eager",
        )
        network = transformers.LlamaForCausalLM(config)
        fill(network)
        network.tie_weights()
        answer = network(input_ids=tokens, labels=tokens)
        answer.loss.backward()
        found["tied" if tied else "own head"] = {
            "logits": answer.logits.tolist(),
            "loss": answer.loss.item(),
            "gradients": gradients(network),
        }
    return found


def efficientnet() -> dict[str, Any]:
    """EfficientNet-Lite0 in evaluation mode: logits and gradients on one picture of the size of its weights."""
    import efficientnet_lite_pytorch

    network = efficientnet_lite_pytorch.EfficientNet.from_name("efficientnet-lite0").eval()
    fill(network)
    logits = network(torch.from_numpy(numbers("image", 1, 3, 224, 224)))
    (logits * torch.from_numpy(numbers("direction", 1, 1000))).sum().backward()
    return {
        "made by": f"efficientnet-lite-pytorch 0.1.0, torch {torch.__version__}",
        "logits": logits[0].tolist(),
        "gradients": gradients(network),
    }


MAKERS: dict[str, Callable[[], dict[str, Any]]] = {"efficientnet": efficientnet, "llama": llama}


def rounded(value: Any) -> Any:
    """`value` with seven digits, as many as a float32 has."""
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, list) else value


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:] or MAKERS:
        path = FOLDER / f"{name}.json"
        path.write_text(json.dumps(rounded(MAKERS[name]()), separators=(",", ":")) + "\n")
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
