"""Which rule each parameter learns by: its optimiser, its weight decay and its share of the learning rate.

- Vectors and scalars (biases, gains) are never decayed: pulling a normalisation's gain to zero removes its layer.
- Muon takes the matrices and convolution filters inside the hidden layers; embeddings, stems, heads and depthwise
  filters (whose matrices have one row per channel and nothing to orthogonalise) stay with AdamW.
- Layer-wise decay of the learning rate for finetuning: with S stages from input to output, a parameter of stage s
  learns at `decay ** (S - 1 - s)` of the rate; what no stage names learns at the full rate.

Source: Bao et al., "BEiT" (2022), https://arxiv.org/abs/2106.08254, appendix, for layer-wise decay; the rest as in the
sources of `muon`.

It does not freeze anything: a parameter without a gradient is left alone by every optimiser.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from sw2.base.errors import UsageError

__all__ = ["Group", "divide"]


@dataclass(frozen=True)
class Group:
    """Parameters that learn by one rule: `rule` of "matrix" or "plain", decayed or not, at `scale` times the rate."""

    rule: Literal["matrix", "plain"]
    decayed: bool
    scale: float
    members: tuple[tuple[str, Tensor], ...]


def divide(
    named: Sequence[tuple[str, Tensor]],
    *,
    hidden: Sequence[str] = (),
    stages: Sequence[Sequence[str]] = (),
    layer_decay: float = 1.0,
) -> list[Group]:
    """Divide parameters into groups, in the order in which each group's first member stands in `named`.

    Args:
        named: parameters by dotted name, each once.
        hidden: a matrix is Muon's ("matrix") when one of these stands between the dots of its name; empty for none.
        stages: names of parameters, stage by stage from input to output.
        layer_decay: factor from one stage to the one before it, in (0, 1].

    Raises:
        UsageError: when `hidden` matches no matrix, a stage names a parameter that is not there, or there are no
            stages to decay over.
    """
    if layer_decay != 1.0 and not stages:
        raise UsageError(
            "Layer-wise decay needs the stages of the network, and this one names none.",
            wanted="optim.layer_decay = 1.0",
            got=layer_decay,
        )
    known = {name for name, _ in named}
    scales: dict[str, float] = {}
    for index, stage in enumerate(stages):
        for name in stage:
            if name not in known:
                raise UsageError("A stage names a parameter that the network does not have.", got=name)
            scales[name] = layer_decay ** (len(stages) - 1 - index)
    members: dict[tuple[Literal["matrix", "plain"], bool, float], list[tuple[str, Tensor]]] = {}
    for name, parameter in named:
        matrix = _is_matrix(parameter) and not set(hidden).isdisjoint(name.split("."))
        key = ("matrix" if matrix else "plain", parameter.ndim >= 2, scales.get(name, 1.0))
        members.setdefault(key, []).append((name, parameter))  # type: ignore[arg-type]
    if hidden and not any(rule == "matrix" for rule, _, _ in members):
        raise UsageError(
            "Muon found no hidden matrix to learn.",
            wanted=f"a matrix inside a module called {' or '.join(hidden)}",
            got=", ".join(sorted({name.rpartition(".")[0] for name, _ in named})),
            do="Name the hidden layers in optim.hidden, or use optim.method = adamw.",
        )
    return [Group(rule, decayed, scale, tuple(found)) for (rule, decayed, scale), found in members.items()]


def _is_matrix(parameter: Tensor) -> bool:
    return parameter.ndim >= 2 and not (parameter.ndim > 2 and parameter.shape[1] == 1)
