"""Training health: what gradients, activations and updates look like, layer by layer, and what that means.

At a cadence that costs under 1 % of the training time a probe runs one small batch forward and backward with hooks on
the stages of a network (`Model.layers()`), on copies of its buffers so that training is not touched, and reports

    activation   root mean square of a stage's output
    gradient     root mean square of the gradient with respect to a stage's output
    weight       root mean square of a stage's parameters
    dead         share of ReLU units that are zero for the whole batch
    update       root mean square of the last optimiser step divided by that of the weights, stage by stage

`diagnose` names *vanishing* and *exploding* gradients with the first stage (from the output, where gradients start)
at which it happens. Vanishing: the gradient falls below 1e-3 of the one at the last stage; exploding: it exceeds 1e3
times that, or is not finite. With He's rule each ReLU layer keeps the variance (He et al. 2015, arXiv:1502.01852);
Glorot's halves it, which is 2^-15 in root mean square after 30 layers. A dead unit is zero for every example of the
probe (Lu et al. 2019, arXiv:1903.06733). An update ratio near 1e-3 is usual; above 0.3 the steps are too large.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sw2.core.model import Batch, Model
from sw2.parts.layers.batch_norm import BatchNormRelu

__all__ = ["diagnose", "probe", "update_ratios"]

VANISHING = 1e-3
EXPLODING = 1e3
DEAD_SHARE = 0.5
LARGE_UPDATE = 0.3
_RECTIFIERS = (nn.ReLU, BatchNormRelu)


def _rms(tensor: Tensor) -> float:
    return float(tensor.detach().float().square().mean().sqrt())


def _first_tensor(output: Any) -> Tensor | None:
    if isinstance(output, Tensor):
        return output
    values = output.values() if isinstance(output, Mapping) else output if isinstance(output, (tuple, list)) else ()
    return next((value for value in values if isinstance(value, Tensor)), None)


def probe(model: Model, loss: Callable[[Model, Batch], Tensor], batch: Batch) -> list[dict[str, Any]]:
    """One row per stage from input to output; `model`, its buffers and gradients stay as they were.

    Args:
        model: the network, in the mode it trains in.
        loss: computes the scalar loss of the network on a batch.
        batch: a few examples.
    """
    rows: dict[str, dict[str, Any]] = {}
    handles = []

    def watch(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            del module, inputs
            tensor = _first_tensor(output)
            if tensor is None or not tensor.requires_grad:
                return
            rows[name]["activation"] = _rms(tensor)
            tensor.register_hook(lambda gradient: rows[name].__setitem__("gradient", _rms(gradient)))

        return hook

    def count_dead(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            del module, inputs
            # Units lie on axis 1 of pictures [B, C, H, W] and of vectors [B, F], on the last of sequences [B, T, F].
            units = output.detach().movedim(-1 if output.ndim == 3 else 1, 0).flatten(1)
            dead, total = rows[name].get("dead_units", (0, 0))
            rows[name]["dead_units"] = (dead + int((units <= 0).all(1).sum()), total + len(units))

        return hook

    for name, stage in model.layers():
        rows[name] = {"layer": name}
        parameters = [p for p in stage.parameters() if p.requires_grad]
        if parameters:
            rows[name]["weight"] = math.sqrt(
                sum(float(p.detach().float().square().sum()) for p in parameters) / sum(p.numel() for p in parameters)
            )
        handles.append(stage.register_forward_hook(watch(name)))
        handles += [m.register_forward_hook(count_dead(name)) for m in stage.modules() if isinstance(m, _RECTIFIERS)]

    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    try:
        for parameter in model.parameters():
            parameter.grad = None
        loss(model, batch).backward()
    finally:
        for handle in handles:
            handle.remove()
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])
        for name, parameter in model.named_parameters():
            parameter.grad = gradients[name]
    for row in rows.values():
        if "dead_units" in row:
            dead, total = row.pop("dead_units")
            row["dead"] = dead / max(total, 1)
    return [row for row in rows.values() if len(row) > 1]


def update_ratios(model: Model, before: Mapping[str, Tensor]) -> dict[str, float]:
    """For each stage, the root mean square of (parameters now - `before`) over that of `before`."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    ratios = {}
    for stage_name, stage in model.layers():
        moved = weight = 0.0
        for parameter in stage.parameters():
            old = before.get(names[id(parameter)])
            if old is not None:
                moved += float((parameter.detach() - old).float().square().sum())
                weight += float(old.float().square().sum())
        if weight > 0:
            ratios[stage_name] = math.sqrt(moved / weight)
    return ratios


def diagnose(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is wrong, in sentences with the stage and a remedy; empty when nothing is."""
    findings = []
    graded = [(str(row["layer"]), float(row["gradient"])) for row in rows if "gradient" in row]
    if graded:
        last_name, last = graded[-1]
        for name, gradient in reversed(graded):
            if not math.isfinite(gradient) or (last > 0 and gradient > EXPLODING * last):
                findings.append(
                    f"Exploding gradients from '{name}' down: root mean square {gradient:.1e} against {last:.1e} at "
                    f"'{last_name}'. Try He initialisation, normalisation, a lower learning rate or gradient clipping."
                )
                break
            if gradient < VANISHING * last:
                findings.append(
                    f"Vanishing gradients from '{name}' down: root mean square {gradient:.1e} against {last:.1e} at "
                    f"'{last_name}'. Try He initialisation, normalisation, ReLU instead of a saturating function, or "
                    "residual paths."
                )
                break
    for row in rows:
        if row.get("dead", 0.0) > DEAD_SHARE:
            findings.append(
                f"{row['dead']:.0%} of the ReLU units in '{row['layer']}' are dead. Try a lower learning rate or "
                "normalisation before the ReLU."
            )
        if row.get("update", 0.0) > LARGE_UPDATE:
            findings.append(
                f"The last step changed '{row['layer']}' by {row['update']:.0%} of its weights. Try a lower learning "
                "rate or a longer warm-up."
            )
    return findings
