"""What it would take to train a language model on a cluster: memory, layout, days, cost.

    parameters, tokens, GPUs  →  shape  →  memory a GPU under each layout  →  the first that fits
                              →  operations  →  days, at the utilisation that published runs had

The arithmetic, for N parameters, depth L, width D, heads H of E channels, context T, vocabulary V:

    states        2 N bytes of weights, 2 N of gradients, 12 N of optimiser (float32 weights and AdamW's two moments)
                  (Rajbhandari et al. 2019, https://arxiv.org/abs/1910.02054, section 3.1)
    activations   what the way back needs in 2 bytes a number: 32 D a token and layer for GPT's kind. Korthikanti et al.
                  2022, https://arxiv.org/abs/2205.05198, section 4.1, have 34 D, with the masks of dropout; their T² of
                  scores are not kept by fused attention
    checkpointed  2 D a token and layer, and one layer's activations
    operations    6 N + 12 L H E T a token (Chowdhery et al. 2022, https://arxiv.org/abs/2204.02311, appendix B), where
                  N counts matrices that multiply; checkpointing adds another forward pass through the layers

**Utilisation** is the share of a GPU's peak at which those operations run, repeated ones included. It is fitted, not
chosen: the geometric mean over `FITTED`, the published runs of LLaMA-65B and BLOOM-176B, each as this page would lay it
out. Fitted on one of the two, the hours of the other come out within 15 %; fitted on both, those of five other runs in
`RUNS` within 17 %. LLaMA 2's 70 B comes out 33 % too long, because this page would compute activations again there;
with `checkpointing=off` it is 1 % too short. GPT-3's table gives operations and no hours, so it tests their count
alone: 3 % more, because its authors leave out those of attention. A test holds all of these.

What it does not do: pipeline parallelism, experts, the time that talking between GPUs takes (it is inside the
utilisation, for clusters like those of `RUNS`), failures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from sw2.base.config import apply_settings, check_ranges, replace
from sw2.base.errors import UsageError
from sw2.base.names import pick
from sw2.core.card import count
from sw2.core.estimate import Estimate, Target
from sw2.domains.language.decoder import Decoder, parameter_count
from sw2.domains.language.shapes import SHAPES, llama, shape_for

__all__ = [
    "FITTED",
    "GPUS",
    "RUNS",
    "Assumed",
    "Gpu",
    "Layout",
    "PublishedRun",
    "estimate",
    "fitted",
    "operations",
    "predict",
]

PETAFLOP_DAY: Final = 1e15 * 86_400


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A device: bytes of memory, dense bf16 operations a second, watts at full load."""

    memory: float
    peak: float
    watts: float


GPUS: Final[Mapping[str, Gpu]] = {
    # NVIDIA A100 Tensor Core GPU, data sheet, SXM.
    "a100-40": Gpu(memory=40e9, peak=312e12, watts=400.0),
    "a100-80": Gpu(memory=80e9, peak=312e12, watts=400.0),
    # NVIDIA H100 Tensor Core GPU, data sheet, SXM; the sheet's 1,979 are with sparsity.
    "h100-80": Gpu(memory=80e9, peak=989.4e12, watts=700.0),
}


@dataclass(frozen=True, kw_only=True)
class Assumed:
    """What an estimate assumes; each is set as `--set KEY=VALUE`.

    Args:
        context: tokens a row.
        vocab_size: of a shape that is derived; a published one keeps its own.
        batch_tokens: tokens a step, over all GPUs. LLaMA's 4 million.
        utilisation: share of the peak, in (0, 1]; 0 for the fitted one.
        checkpointing: whether activations may be computed again: "auto" does so where they do not fit, before it
            divides matrices; "off" divides matrices instead; "on" always does.
        price: of a GPU-hour, in dollars. Invented: put your own.
        memory_share: the share of a GPU's memory that a plan may fill.
        node: GPUs that are wired closely enough to divide a matrix between them.
        building: energy of the whole building over that of its GPUs. LLaMA's 1.1 (section 6).
    """

    context: int = 2048
    vocab_size: int = 32_000
    batch_tokens: int = 4_194_304
    utilisation: float = 0.0
    checkpointing: Literal["auto", "on", "off"] = "auto"
    price: float = 2.0
    memory_share: float = 0.9
    node: int = 8
    building: float = 1.1

    def __post_init__(self) -> None:
        check_ranges(
            "assumed",
            self,
            {
                "context": (self.context >= 1, "at least 1"),
                "vocab_size": (self.vocab_size >= 1, "at least 1"),
                "batch_tokens": (self.batch_tokens >= self.context, f"at least one row of {self.context}"),
                "utilisation": (0 <= self.utilisation <= 1, "a share from 0 to 1, 0 for the fitted one"),
                "price": (self.price >= 0, "at least 0"),
                "memory_share": (0 < self.memory_share <= 1, "a share above 0"),
                "node": (self.node >= 1, "at least 1"),
                "building": (self.building >= 1, "at least 1"),
            },
        )


@dataclass(frozen=True, kw_only=True)
class PublishedRun:
    """A training that was published: how many tokens, GPUs of which kind (a rule of `GPUS`), and their hours."""

    shape: Decoder.Config
    tokens: float
    gpus: int
    gpu: str
    gpu_hours: float
    batch_tokens: int


def _llama2(size: str) -> Decoder.Config:
    """LLaMA 2's shapes: the first's, with a context of 4,096; 70 B has 8 key heads and a hidden size of 28,672."""
    if size != "70b":
        return replace(llama(size), context=4096)
    return replace(llama("65b"), context=4096, kv_heads=8, hidden=28_672)


RUNS: Final[Mapping[str, PublishedRun]] = {
    # LLaMA, https://arxiv.org/abs/2302.13971: tokens and batch in table 2, 2,048 GPUs in section 2.4, hours in table
    # 15. Section 2.4 says 21 days for 65 B, which 1,022,362 hours on 2,048 GPUs are.
    "llama-7b": PublishedRun(
        shape=llama("7b"), tokens=1.0e12, gpus=2048, gpu="a100-80", gpu_hours=82_432, batch_tokens=2**22
    ),
    "llama-13b": PublishedRun(
        shape=llama("13b"), tokens=1.0e12, gpus=2048, gpu="a100-80", gpu_hours=135_168, batch_tokens=2**22
    ),
    "llama-33b": PublishedRun(
        shape=llama("33b"), tokens=1.4e12, gpus=2048, gpu="a100-80", gpu_hours=530_432, batch_tokens=2**22
    ),
    "llama-65b": PublishedRun(
        shape=llama("65b"), tokens=1.4e12, gpus=2048, gpu="a100-80", gpu_hours=1_022_362, batch_tokens=2**22
    ),
    # BLOOM, https://arxiv.org/abs/2211.05100: 366 B tokens and a batch of 2,048 rows of 2,048 in table 3, 384 GPUs and
    # 1,082,990 hours in section 3.4.1; 118 days, stops included: https://arxiv.org/abs/2211.02001, table 1.
    "bloom-176b": PublishedRun(
        shape=SHAPES["bloom-176b"](), tokens=366e9, gpus=384, gpu="a100-80", gpu_hours=1_082_990, batch_tokens=2**22
    ),
    # LLaMA 2, https://arxiv.org/abs/2307.09288: 2 T tokens and a batch of 4 M in table 1, hours in table 2. How many
    # GPUs each took is not said; section 2.2.1 has up to 2,000.
    "llama2-7b": PublishedRun(
        shape=_llama2("7b"), tokens=2.0e12, gpus=1024, gpu="a100-80", gpu_hours=184_320, batch_tokens=2**22
    ),
    "llama2-13b": PublishedRun(
        shape=_llama2("13b"), tokens=2.0e12, gpus=1024, gpu="a100-80", gpu_hours=368_640, batch_tokens=2**22
    ),
    "llama2-70b": PublishedRun(
        shape=_llama2("70b"), tokens=2.0e12, gpus=1024, gpu="a100-80", gpu_hours=1_720_320, batch_tokens=2**22
    ),
}

FITTED: Final = ("bloom-176b", "llama-65b")
"""The runs that the utilisation comes from."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a model lies on GPUs, and the bytes that each of them then needs.

    Args:
        sharded: over how many GPUs weights, gradients and optimiser are divided.
        tensor: over how many each matrix is, with the activations.
        checkpointed: whether activations are computed again on the way back.
        weights, gradients, optimiser, activations: bytes; `working` are the gathered weights of layers at work and the
            logits.
        rows: how many rows must be under way at once.
    """

    sharded: int
    tensor: int
    checkpointed: bool
    weights: float
    gradients: float
    optimiser: float
    activations: float
    working: float
    rows: int

    @property
    def total(self) -> float:
        """Bytes a GPU."""
        return self.weights + self.gradients + self.optimiser + self.activations + self.working

    def describe(self) -> str:
        """A phrase."""
        states = "every GPU holds everything" if self.sharded == 1 else f"states sharded over {self.sharded:,}"
        if self.sharded == 1 and self.tensor > 1:
            states = "no sharding"
        tensor = f", matrices divided over {self.tensor}" if self.tensor > 1 else ""
        return states + tensor + (", checkpointed" if self.checkpointed else "")


def operations(shape: Decoder.Config, context: int) -> tuple[float, float]:
    """Operations a token by the formula at the top: of the model, and of repeating the layers' forward pass."""
    lookup = 0 if shape.tied else shape.vocab_size * shape.width
    lookup += shape.context * shape.width if shape.positions == "learned" else 0
    matrices = parameter_count(shape) - lookup
    scores = shape.depth * shape.heads * shape.attention.channels * context
    return 6 * matrices + 12 * scores, 2 * (matrices - shape.vocab_size * shape.width) + 4 * scores


def _activations(shape: Decoder.Config) -> float:
    """Bytes that one layer keeps for the way back, a token."""
    heads = (2 * shape.heads + 2 * shape.kv_heads) * shape.attention.channels  # queries, keys, values, their outcome
    feed_forward = shape.hidden * (4 if shape.activation == "swiglu" else 2)
    return 2 * (4 * shape.width + heads + feed_forward)  # both norms' inputs and outputs


def _layout(
    shape: Decoder.Config, context: int, gpus: int, *, sharded: bool, tensor: int, checkpointed: bool
) -> Layout:
    numbers = parameter_count(shape)
    over = gpus if sharded else tensor
    embedding = shape.vocab_size * shape.width
    block = (numbers - embedding * (1 if shape.tied else 2)) / shape.depth
    layer = _activations(shape) * context / tensor
    kept = layer * shape.depth
    if checkpointed:
        kept = 2 * shape.width * context * shape.depth / tensor + layer
    # Two layers' weights (one at work, one on its way), one layer's gradient, the embedding, all in 2 bytes; logits in
    # 2 bytes, their softmax and its gradient in 4.
    gathered = 2 * (3 * block + embedding) / tensor if sharded else 0.0
    return Layout(
        sharded=gpus // tensor if sharded else 1,
        tensor=tensor,
        checkpointed=checkpointed,
        weights=2 * numbers / over,
        gradients=2 * numbers / over,
        optimiser=12 * numbers / over,
        activations=kept,
        working=gathered + 10 * shape.vocab_size * context / tensor,
        rows=gpus // tensor,
    )


def _layouts(shape: Decoder.Config, assumed: Assumed, gpus: int) -> list[Layout]:
    """All that are considered, the cheapest in time and talk first."""
    tensors = [2**power for power in range(1, 20) if 2**power <= min(assumed.node, gpus) and gpus % 2**power == 0]
    tensors = [each for each in tensors if shape.kv_heads % each == 0]
    dear = assumed.checkpointing != "off"
    forms = [(False, 1, assumed.checkpointing == "on"), (gpus > 1, 1, assumed.checkpointing == "on")]
    forms += [(gpus > 1, 1, dear), *((True, tensor, dear) for tensor in tensors)]
    return [
        _layout(shape, assumed.context, gpus, sharded=sharded, tensor=tensor, checkpointed=checkpointed)
        for sharded, tensor, checkpointed in dict.fromkeys(forms)
    ]


def _fits(layout: Layout, gpu: Gpu, assumed: Assumed) -> str:
    """Why `layout` does not fit, "" when it does."""
    room = gpu.memory * assumed.memory_share
    if layout.total > room:
        return f"needs {layout.total / 1e9:,.1f} of {room / 1e9:.0f} GB"
    if layout.rows * assumed.context > assumed.batch_tokens:
        return f"{layout.rows:,} rows at once are more than the {assumed.batch_tokens:,} tokens of a step"
    return ""


def _first_that_fits(shape: Decoder.Config, gpu: Gpu, assumed: Assumed, gpus: int) -> Layout | None:
    return next((each for each in _layouts(shape, assumed, gpus) if not _fits(each, gpu, assumed)), None)


def _work(run: PublishedRun, checkpointing: Literal["auto", "on", "off"] = "auto") -> float:
    """Operations of a whole run as this page lays it out."""
    assumed = Assumed(context=run.shape.context, batch_tokens=run.batch_tokens, checkpointing=checkpointing)
    layout = _first_that_fits(run.shape, GPUS[run.gpu], assumed, run.gpus)
    assert layout is not None, run
    model, again = operations(run.shape, run.shape.context)
    return run.tokens * (model + (again if layout.checkpointed else 0))


def fitted(names: Sequence[str] = FITTED) -> float:
    """The geometric mean of the utilisation of these runs of `RUNS`."""
    shares = [_work(RUNS[name]) / (RUNS[name].gpu_hours * 3600 * GPUS[RUNS[name].gpu].peak) for name in names]
    return math.prod(shares) ** (1 / len(shares))


def predict(name: str, utilisation: float, checkpointing: Literal["auto", "on", "off"] = "auto") -> float:
    """The GPU-hours of a run of `RUNS` at this utilisation."""
    run = RUNS[name]
    return _work(run, checkpointing) / (utilisation * GPUS[run.gpu].peak * 3600)


def estimate(target: Target) -> Estimate:
    """What the training in `target` would take.

    Raises:
        UsageError: a number, a name or a setting does not fit, or the model does not fit on so many GPUs.
    """
    assumed = apply_settings({"assumed": Assumed()}, target.settings)["assumed"]
    gpu = pick("GPU", target.gpu, GPUS)
    reasons: dict[str, str] = {}
    if target.parameters in SHAPES:
        shape, origin = SHAPES[target.parameters](), f"{target.parameters} as published"
    else:
        shape, origin = shape_for(_amount("parameters", target.parameters), assumed.vocab_size)
    shape = replace(shape, context=max(shape.context, assumed.context))
    numbers = parameter_count(shape)
    reasons["shape"] = origin
    tokens = 20.0 * numbers if target.tokens is None else _amount("tokens", target.tokens)
    if target.tokens is None:
        reasons["tokens"] = "20 a parameter, the best for the compute (Hoffmann et al. 2022, arXiv:2203.15556, table 3)"
    gpus, layout = _placed(shape, gpu, assumed, target, reasons)
    utilisation = assumed.utilisation or fitted()
    reasons["utilisation"] = _why_utilisation(assumed, target.gpu, utilisation)
    reasons["price"] = f"{assumed.price:.2f} dollars a GPU-hour is an assumption; --set price=…"

    model, again = operations(shape, assumed.context)
    done = model + (again if layout.checkpointed else 0)
    hours = tokens * done / (utilisation * gpu.peak * 3600)
    days = hours / gpus / 24
    energy = hours * gpu.watts * assumed.building / 1e6
    reasons["energy"] = f"{gpu.watts:.0f} W a GPU, and {assumed.building} times that for the building"
    best = math.sqrt(tokens * numbers / 20)
    facts = {
        "parameters": numbers,
        "shape": {name: getattr(shape, name) for name in ("depth", "width", "heads", "kv_heads", "hidden")}
        | {"context": assumed.context, "vocab_size": shape.vocab_size},
        "tokens": tokens,
        "tokens_per_parameter": tokens / numbers,
        "best_parameters_for_this_compute": best,
        "operations": tokens * model,
        "petaflop_s_days": tokens * model / PETAFLOP_DAY,
        "gpus": gpus,
        "layout": {
            "data_parallel": gpus // layout.tensor,
            "sharded": layout.sharded,
            "tensor_parallel": layout.tensor,
            "checkpointed": layout.checkpointed,
            "rows_per_gpu_group": max(1, assumed.batch_tokens // assumed.context // layout.rows),
        },
        "memory_per_gpu": _bytes(layout),
        "memory_of_layouts": [
            {"layout": each.describe(), **_bytes(each), "why_not": _fits(each, gpu, assumed)}
            for each in _layouts(shape, assumed, gpus)
        ],
        "utilisation": utilisation,
        "model_utilisation": utilisation * model / done,
        "tokens_per_second": tokens / (days * 86_400),
        "days": days,
        "gpu_hours": hours,
        "dollars": hours * assumed.price,
        "megawatt_hours": energy,
    }
    lines = {
        "model": f"{count(numbers)} parameters: depth {shape.depth}, width {shape.width}, {shape.heads} heads",
        "tokens": f"{_short(tokens)}, {tokens / numbers:.1f} a parameter; about 20 are best for the compute, so this "
        f"compute would rather train {count(best)} parameters on {_short(20 * best)}"
        if not 0.7 < tokens / numbers / 20 < 1.4
        else f"{_short(tokens)}, {tokens / numbers:.1f} a parameter; about 20 are best for the compute",
        "compute": f"{tokens * model:.2e} operations, {tokens * model / PETAFLOP_DAY:,.0f} petaflop/s-days",
        "layout": f"{gpus:,} × {target.gpu}: {layout.describe()}",
        "memory": f"{layout.total / 1e9:.1f} GB a GPU, of {gpu.memory / 1e9:.0f}",
        "time": f"{days:,.1f} days, {hours:,.0f} GPU-hours, {tokens / (days * 86_400):,.0f} tokens a second",
        "cost": f"{hours * assumed.price:,.0f} dollars",
        "energy": f"{energy:,.0f} MWh",
    }
    return Estimate(facts=facts, lines=lines, table=_table(shape, gpu, assumed, gpus, layout), reasons=reasons)


def _placed(
    shape: Decoder.Config, gpu: Gpu, assumed: Assumed, target: Target, reasons: dict[str, str]
) -> tuple[int, Layout]:
    """How many GPUs, and how the model lies on them."""
    fewest, smallest = 1, _first_that_fits(shape, gpu, assumed, 1)
    while smallest is None and fewest < 2**17:
        fewest *= 2
        smallest = _first_that_fits(shape, gpu, assumed, fewest)
    if target.gpus is None and smallest is not None:
        reasons["gpus"] = "the fewest, as a power of two, that hold it"
        return fewest, smallest
    gpus = target.gpus or fewest
    if gpus < 1:
        raise UsageError("There is no training on so few GPUs.", wanted="--gpus 1 or more", got=gpus)
    layout = _first_that_fits(shape, gpu, assumed, gpus)
    if layout is None:
        tried = "; ".join(f"{each.describe()}: {_fits(each, gpu, assumed)}" for each in _layouts(shape, assumed, gpus))
        raise UsageError(
            f"This model cannot be trained on {gpus:,} × {target.gpu}.",
            where=f"{count(parameter_count(shape))} parameters, rows of {assumed.context} tokens",
            wanted="a layout that fits" if smallest is None else f"for instance --gpus {fewest}",
            got=tried,
            do="Take other GPUs, or --set context=…, --set batch_tokens=…",
        )
    first = _layouts(shape, assumed, gpus)
    passed = [f"{each.describe()} {_fits(each, gpu, assumed)}" for each in first[: first.index(layout)]]
    reasons["layout"] = "; ".join(passed) or "it fits as it is"
    return gpus, layout


def _why_utilisation(assumed: Assumed, gpu: str, utilisation: float) -> str:
    if assumed.utilisation:
        return f"{utilisation:.3f} of the peak, set by hand"
    among = " and ".join(f"{name} ({fitted([name]):.3f})" for name in FITTED)
    known = {run.gpu for run in RUNS.values()}
    unseen = "" if gpu in known else f"; no published run on {gpu} is behind it"
    return f"{utilisation:.3f} of the peak, repeated work included, as in the published runs of {among}{unseen}"


def _bytes(layout: Layout) -> dict[str, float]:
    parts = ("weights", "gradients", "optimiser", "activations", "working", "total")
    return {name: getattr(layout, name) for name in parts}


def _table(shape: Decoder.Config, gpu: Gpu, assumed: Assumed, gpus: int, taken: Layout) -> list[list[str]]:
    head = ["GB a GPU", "weights", "gradients", "optimiser", "activations", "working", "total", ""]
    rows = []
    for layout in _layouts(shape, assumed, gpus):
        why = _fits(layout, gpu, assumed)
        last = "taken" if layout == taken else "too much" if why.startswith("needs") else why or "fits too"
        rows.append([layout.describe(), *(f"{value / 1e9:,.1f}" for value in _bytes(layout).values()), last])
    return [head, *rows]


def _amount(what: str, text: str) -> float:
    """The number that a text such as "65e9", "65B" or "1.4T" stands for."""
    factors = {"K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12}
    bare = text.strip().replace("_", "").replace(",", "")
    factor = factors.get(bare[-1:].upper(), 0.0)
    try:
        value = float(bare[:-1] if factor else bare) * (factor or 1.0)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        names = f", or one of {', '.join(sorted(SHAPES))}" if what == "parameters" else ""
        raise UsageError(f"This is no number of {what}.", wanted=f"a number such as 65e9 or 65B{names}", got=repr(text))
    return value


def _short(number: float) -> str:
    """1.4e12 as "1.4 T"."""
    return f"{number / 1e12:.3g} T" if number >= 1e12 else f"{number / 1e9:.3g} G" if number >= 1e9 else count(number)
