"""Whose network is it? The model families of the field as configs of our one Decoder, and their weights by name.

| family (transformers) | positions | norm | feed-forward | biases | further |
|---|---|---|---|---|---|
| GPT2LMHeadModel | learned | LayerNorm | GELU (tanh) | all | matrices stored transposed |
| BloomForCausalLM | ALiBi | LayerNorm | GELU (tanh) | all | queries, keys, values interleaved by head; embedding norm |
| LlamaForCausalLM | rotary | RMSNorm | SwiGLU | none | also SmolLM2 |
| MistralForCausalLM | rotary | RMSNorm | SwiGLU | none | without a sliding window |
| Qwen2ForCausalLM | rotary | RMSNorm | SwiGLU | qkv | |
| Qwen3ForCausalLM | rotary | RMSNorm | SwiGLU | none | norms on queries and keys |

Notable
- A setting that we do not compute (a sliding window, experts, a scale of the scores) is refused by its name, never
  ignored: an unknown number would come out as a subtly different model.
- Going out, a config finds the first family that can hold it; LLaMA before the others.
- Weights that do not fit are reported all at once: every missing, left-over and misshapen tensor.

Sources: the papers are Radford et al. 2019; Le Scao et al. 2022, https://arxiv.org/abs/2211.05100; Touvron et al. 2023,
https://arxiv.org/abs/2302.13971; Jiang et al. 2023, https://arxiv.org/abs/2310.06825; Yang et al. 2024,
https://arxiv.org/abs/2407.10671 and 2025, https://arxiv.org/abs/2505.09388. The names are those of `transformers`.

What it does not do: files (see `formats`), tokenizers.

Shapes: R rows · C columns · H heads · E channels of a head
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from sw2.base.errors import ProgramError
from sw2.domains.language.decoder import Decoder
from sw2.parts.formats.huggingface import Settings, architectures, check_tensors
from sw2.parts.layers.transformer import RotaryScaling

__all__ = ["FAMILIES", "Family", "config_from_hf", "config_to_hf", "from_hf", "stacked_names", "to_hf"]

Layout = Literal["rows", "transposed", "interleaved"]


@dataclass(frozen=True)
class _Name:
    """One tensor of ours, and where it is in the family's weights.

    Args:
        ours: its name in `Decoder.state_dict()`.
        theirs: their names; ours stacks them along the rows.
        rows: how many rows of ours each of them has; () for all.
        layout: as it is; with rows and columns exchanged; or [H, 3, E, ...] where ours is [3, H, E, ...].
    """

    ours: str
    theirs: tuple[str, ...]
    rows: tuple[int, ...] = ()
    layout: Layout = "rows"


@dataclass(frozen=True)
class Family:
    """One architecture of `transformers`.

    Args:
        architecture: its class.
        model_type: its name in a config.
        read: a config.json to a Decoder.Config.
        write: back; None where it cannot hold the shape.
        names: every tensor of a shape.
        ignored: endings of tensors that carry nothing (masks kept as buffers).
    """

    architecture: str
    model_type: str
    read: Callable[[Settings], Decoder.Config]
    write: Callable[[Decoder.Config], dict[str, Any] | None]
    names: Callable[[Decoder.Config], Iterator[_Name]]
    ignored: tuple[str, ...] = ()


# ------------------------------------------------------------------------------------------------ the LLaMA families


def _scaling(settings: Settings) -> tuple[float, RotaryScaling]:
    """The base and the stretching of rotary positions, in the old spelling of a config.json and in the new one."""
    spelled = settings.get("rope_parameters", "rope_scaling", default={})
    if not isinstance(spelled, Mapping):
        raise ProgramError("The rotary positions of this config.json cannot be read.", wanted="a table", got=spelled)
    rope = Settings({**spelled, "architectures": [settings.architecture]})
    base = rope.number("rope_theta", default=settings.number("rope_theta", default=10_000.0))
    rule = rope.get("rope_type", "type", default="default")
    for name in ("mscale", "mscale_all_dim", "long_factor", "short_factor", "partial_rotary_factor"):
        rope.only(name)
    rope.only("truncate", True)
    if rule == "default":
        return base, RotaryScaling()
    if rule not in ("linear", "llama3", "yarn"):
        raise ProgramError(
            "These rotary positions are stretched by a rule that sw2 does not compute.",
            where="config.json, rope_type",
            wanted="default, linear, llama3 or yarn",
            got=repr(rule),
            do="Choose other weights of this family.",
        )
    factor = rope.number("factor", default=1.0)
    if rule == "linear":
        return base, RotaryScaling(rule="linear", factor=factor)
    context = settings.whole("max_position_embeddings", default=2048)
    trained = rope.whole("original_max_position_embeddings", default=context)
    if rule == "llama3":
        low, high = rope.number("low_freq_factor", default=1.0), rope.number("high_freq_factor", default=4.0)
        return base, RotaryScaling(rule="llama3", factor=factor, trained=trained, low=low, high=high)
    attention = rope.get("attention_factor")
    return base, RotaryScaling(
        rule="yarn",
        factor=factor,
        trained=trained,
        low=rope.number("beta_slow", default=1.0),
        high=rope.number("beta_fast", default=32.0),
        attention=0.0 if attention is None else rope.number("attention_factor", default=1.0),
    )


def _rope_parameters(config: Decoder.Config) -> dict[str, Any]:
    scaling = config.rope_scaling
    table: dict[str, Any] = {"rope_theta": config.rope_base, "rope_type": scaling.rule}
    if scaling.rule == "none":
        return table | {"rope_type": "default"}
    table["factor"] = scaling.factor
    if scaling.rule == "linear":
        return table
    table["original_max_position_embeddings"] = scaling.trained
    if scaling.rule == "llama3":
        return table | {"low_freq_factor": scaling.low, "high_freq_factor": scaling.high}
    table |= {"beta_slow": scaling.low, "beta_fast": scaling.high}
    return table | ({"attention_factor": scaling.attention} if scaling.attention else {})


def _read_llama(settings: Settings, **changes: Any) -> Decoder.Config:
    for name, *fine in (
        ("hidden_act", "silu"),
        ("mlp_bias", False),
        ("attention_bias", False),
        ("use_sliding_window", False),
        ("pretraining_tp", 1),
        ("num_experts", 0),
        ("num_local_experts", 0),
    ):
        settings.only(name, *fine)
    if settings.get("use_sliding_window") is None:
        settings.only("sliding_window")
    if set(settings.get("layer_types", default=())) - {"full_attention"}:
        settings.only("layer_types", "full_attention everywhere")
    width, heads = settings.whole("hidden_size"), settings.whole("num_attention_heads")
    head_dim = settings.whole("head_dim", default=changes.pop("usual_head_dim", width // heads))
    base, scaling = _scaling(settings)
    return Decoder.Config(
        vocab_size=settings.whole("vocab_size"),
        context=settings.whole("max_position_embeddings", default=2048),
        width=width,
        depth=settings.whole("num_hidden_layers"),
        heads=heads,
        kv_heads=settings.whole("num_key_value_heads", default=heads),
        hidden=settings.whole("intermediate_size"),
        rope_base=base,
        rope_scaling=scaling,
        norm_epsilon=settings.number("rms_norm_eps", default=1e-6),
        tied=bool(settings.get("tie_word_embeddings", default=False)),
        init_deviation=settings.number("initializer_range", default=0.02),
        head_dim=0 if head_dim * heads == width else head_dim,
        **changes,
    )


def _write_llama(config: Decoder.Config, *, biases: str = "none", head_norm: bool = False) -> dict[str, Any] | None:
    fits = (
        (config.positions, config.norm, config.activation) == ("rotary", "rms", "swiglu")
        and (config.biases, config.head_norm) == (biases, head_norm)
        and not (config.embedding_norm or config.recall)
    )
    if not fits:
        return None
    return {
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.attention.channels,
        "intermediate_size": config.hidden,
        "max_position_embeddings": config.context,
        "rms_norm_eps": config.norm_epsilon,
        "rope_parameters": _rope_parameters(config),
        # The old spelling, for readers that do not know the new one.
        "rope_theta": config.rope_base,
        "rope_scaling": None if config.rope_scaling.rule == "none" else _rope_parameters(config),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "initializer_range": config.init_deviation,
    }


def _write_qwen2(config: Decoder.Config) -> dict[str, Any] | None:
    written = _write_llama(config, biases="qkv")
    return None if written is None else written | {"use_sliding_window": False}


def _write_qwen3(config: Decoder.Config) -> dict[str, Any] | None:
    written = _write_llama(config, head_norm=True)
    return None if written is None else written | {"use_sliding_window": False}


def _llama_names(config: Decoder.Config) -> Iterator[_Name]:
    E = config.attention.channels
    thirds = (config.heads * E, config.kv_heads * E, config.kv_heads * E)
    halves = (config.hidden, config.hidden)
    yield _Name("embedding.weight", ("model.embed_tokens.weight",))
    for index in range(config.depth):
        ours, theirs = f"blocks.{index}.", f"model.layers.{index}."
        inner = f"{theirs}self_attn."
        yield _Name(f"{ours}attention_norm.weight", (f"{theirs}input_layernorm.weight",))
        for kind in ("weight", "bias") if config.biases == "qkv" else ("weight",):
            projections = tuple(f"{inner}{letter}_proj.{kind}" for letter in "qkv")
            yield _Name(f"{ours}attention.qkv.{kind}", projections, thirds)
        if config.head_norm:
            yield _Name(f"{ours}attention.query_norm.weight", (f"{inner}q_norm.weight",))
            yield _Name(f"{ours}attention.key_norm.weight", (f"{inner}k_norm.weight",))
        yield _Name(f"{ours}attention.out.weight", (f"{inner}o_proj.weight",))
        yield _Name(f"{ours}mlp_norm.weight", (f"{theirs}post_attention_layernorm.weight",))
        gates = (f"{theirs}mlp.gate_proj.weight", f"{theirs}mlp.up_proj.weight")
        yield _Name(f"{ours}mlp.gate_up.weight", gates, halves)
        yield _Name(f"{ours}mlp.down.weight", (f"{theirs}mlp.down_proj.weight",))
    yield _Name("norm.weight", ("model.norm.weight",))
    if not config.tied:
        yield _Name("head", ("lm_head.weight",))


# --------------------------------------------------------------------------------------------------- GPT-2 and BLOOM


def _read_gpt2(settings: Settings) -> Decoder.Config:
    settings.only("activation_function", "gelu_new", "gelu_pytorch_tanh", "gelu_fast")
    settings.only("scale_attn_weights", True)
    settings.only("scale_attn_by_inverse_layer_idx", False)
    settings.only("add_cross_attention", False)
    width = settings.whole("n_embd", "hidden_size")
    return Decoder.Config(
        vocab_size=settings.whole("vocab_size"),
        context=settings.whole("n_positions", "n_ctx", "max_position_embeddings"),
        width=width,
        depth=settings.whole("n_layer", "num_hidden_layers"),
        heads=(heads := settings.whole("n_head", "num_attention_heads")),
        kv_heads=heads,
        hidden=settings.whole("n_inner", default=4 * width),
        norm_epsilon=settings.number("layer_norm_epsilon", default=1e-5),
        tied=bool(settings.get("tie_word_embeddings", default=True)),
        init_deviation=settings.number("initializer_range", default=0.02),
        positions="learned",
        norm="layer",
        activation="gelu_tanh",
        biases="all",
    )


def _classic(config: Decoder.Config, positions: str, embedding_norm: bool) -> bool:
    """Whether GPT-2 or BLOOM can hold the shape, apart from what differs between them."""
    return (
        (config.positions, config.norm, config.activation, config.biases) == (positions, "layer", "gelu_tanh", "all")
        and config.heads == config.kv_heads
        and config.embedding_norm == embedding_norm
        and not (config.head_dim or config.head_norm or config.recall)
    )


def _write_gpt2(config: Decoder.Config) -> dict[str, Any] | None:
    if not _classic(config, "learned", embedding_norm=False):
        return None
    return {
        "n_embd": config.width,
        "n_layer": config.depth,
        "n_head": config.heads,
        "n_inner": config.hidden,
        "n_positions": config.context,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": config.norm_epsilon,
        "initializer_range": config.init_deviation,
    }


def _pairs(ours: str, theirs: str, layout: Layout = "rows") -> Iterator[_Name]:
    """A layer's weight and bias."""
    yield _Name(f"{ours}.weight", (f"{theirs}.weight",), (), layout)
    yield _Name(f"{ours}.bias", (f"{theirs}.bias",), (), layout if layout == "interleaved" else "rows")


def _gpt2_names(config: Decoder.Config) -> Iterator[_Name]:
    yield _Name("embedding.weight", ("transformer.wte.weight",))
    yield _Name("positions.weight", ("transformer.wpe.weight",))
    for index in range(config.depth):
        ours, theirs = f"blocks.{index}.", f"transformer.h.{index}."
        yield from _pairs(f"{ours}attention_norm", f"{theirs}ln_1")
        yield from _pairs(f"{ours}attention.qkv", f"{theirs}attn.c_attn", "transposed")
        yield from _pairs(f"{ours}attention.out", f"{theirs}attn.c_proj", "transposed")
        yield from _pairs(f"{ours}mlp_norm", f"{theirs}ln_2")
        yield from _pairs(f"{ours}mlp.up", f"{theirs}mlp.c_fc", "transposed")
        yield from _pairs(f"{ours}mlp.down", f"{theirs}mlp.c_proj", "transposed")
    yield from _pairs("norm", "transformer.ln_f")
    if not config.tied:
        yield _Name("head", ("lm_head.weight",))


def _read_bloom(settings: Settings) -> Decoder.Config:
    settings.only("apply_residual_connection_post_layernorm", False)
    settings.only("slow_but_exact", False, True)
    width = settings.whole("hidden_size", "n_embed")
    return Decoder.Config(
        vocab_size=settings.whole("vocab_size"),
        context=settings.whole("seq_length", "max_position_embeddings", default=2048),
        width=width,
        depth=settings.whole("n_layer", "num_hidden_layers"),
        heads=(heads := settings.whole("n_head", "num_attention_heads")),
        kv_heads=heads,
        hidden=4 * width,
        norm_epsilon=settings.number("layer_norm_epsilon", default=1e-5),
        tied=bool(settings.get("tie_word_embeddings", default=True)),
        init_deviation=settings.number("initializer_range", default=0.02),
        positions="alibi",
        norm="layer",
        activation="gelu_tanh",
        biases="all",
        embedding_norm=True,
    )


def _write_bloom(config: Decoder.Config) -> dict[str, Any] | None:
    if not _classic(config, "alibi", embedding_norm=True) or config.hidden != 4 * config.width:
        return None
    return {
        "hidden_size": config.width,
        "n_layer": config.depth,
        "n_head": config.heads,
        "seq_length": config.context,
        "layer_norm_epsilon": config.norm_epsilon,
        "initializer_range": config.init_deviation,
        "apply_residual_connection_post_layernorm": False,
    }


def _bloom_names(config: Decoder.Config) -> Iterator[_Name]:
    yield _Name("embedding.weight", ("transformer.word_embeddings.weight",))
    yield from _pairs("embedding_norm", "transformer.word_embeddings_layernorm")
    for index in range(config.depth):
        ours, theirs = f"blocks.{index}.", f"transformer.h.{index}."
        yield from _pairs(f"{ours}attention_norm", f"{theirs}input_layernorm")
        yield from _pairs(f"{ours}attention.qkv", f"{theirs}self_attention.query_key_value", "interleaved")
        yield from _pairs(f"{ours}attention.out", f"{theirs}self_attention.dense")
        yield from _pairs(f"{ours}mlp_norm", f"{theirs}post_attention_layernorm")
        yield from _pairs(f"{ours}mlp.up", f"{theirs}mlp.dense_h_to_4h")
        yield from _pairs(f"{ours}mlp.down", f"{theirs}mlp.dense_4h_to_h")
    yield from _pairs("norm", "transformer.ln_f")
    if not config.tied:
        yield _Name("head", ("lm_head.weight",))


# ---------------------------------------------------------------------------------------------------------- the door

FAMILIES = (
    Family("LlamaForCausalLM", "llama", _read_llama, _write_llama, _llama_names, ("rotary_emb.inv_freq",)),
    Family("MistralForCausalLM", "mistral", _read_llama, lambda config: None, _llama_names),
    Family(
        "Qwen2ForCausalLM", "qwen2", lambda settings: _read_llama(settings, biases="qkv"), _write_qwen2, _llama_names
    ),
    Family(
        "Qwen3ForCausalLM",
        "qwen3",
        lambda settings: _read_llama(settings, head_norm=True, usual_head_dim=128),
        _write_qwen3,
        _llama_names,
    ),
    Family("GPT2LMHeadModel", "gpt2", _read_gpt2, _write_gpt2, _gpt2_names, ("attn.bias", "attn.masked_bias")),
    Family("BloomForCausalLM", "bloom", _read_bloom, _write_bloom, _bloom_names),
)


def config_from_hf(hf: Mapping[str, Any]) -> Decoder.Config:
    """The shape that a config.json of `transformers` describes.

    Raises:
        ProgramError: the architecture is unknown (says which are known), or it has a setting that we do not compute.
    """
    return _family(hf).read(Settings(hf))


def config_to_hf(config: Decoder.Config) -> dict[str, Any]:
    """The config.json of the first family that can hold a shape.

    Raises:
        ProgramError: none can.
    """
    family, written = _holder(config)
    return {
        "architectures": [family.architecture],
        "model_type": family.model_type,
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tied,
        "torch_dtype": "float32",
        **written,
    }


def from_hf(tensors: Mapping[str, Tensor], config: Decoder.Config, hf: Mapping[str, Any]) -> dict[str, Tensor]:
    """Rename a family's weights to a Decoder's.

    Args:
        tensors: by the names of `transformers`.
        config: from `config_from_hf(hf)`.
        hf: the config.json, which names the family.

    Raises:
        ProgramError: weights and config do not fit; lists every tensor that is missing, left over or misshapen.
    """
    family = _family(hf)
    given = {_full_name(name, family): tensor for name, tensor in tensors.items()}
    left = {name for name in given if not name.endswith(family.ignored or ("\0",))}
    left -= {"lm_head.weight"} if config.tied else set()
    if config.depth > len(given):  # said before a network of so many layers is made
        raise ProgramError(
            "These weights do not fit their config.",
            where=family.architecture,
            wanted=f"the tensors of {config.depth} layers",
            got=f"{len(given)} tensors",
            do="Check that config and weights belong together.",
        )
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in Decoder(config).state_dict().items()}
    names = list(family.names(config))
    wanted = {
        theirs: _their_shape(shapes[name.ours], rows, name.layout)
        for name in names
        for theirs, rows in zip(name.theirs, name.rows or (None,), strict=True)
    }
    check_tensors(given, wanted, family.architecture, left)
    return {name.ours: _to_ours([given[theirs] for theirs in name.theirs], name.layout, config) for name in names}


def stacked_names(config: Decoder.Config, hf: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """For each tensor of ours those of the family that it stacks along the rows; without those of another layout."""
    return {name.ours: name.theirs for name in _family(hf).names(config) if name.layout == "rows"}


def to_hf(state: Mapping[str, Tensor], config: Decoder.Config) -> dict[str, Tensor]:
    """Rename a Decoder's weights, or their gradients, to those of the family that `config_to_hf` chooses.

    Args:
        state: all of them, or some.
        config: of the Decoder.

    Raises:
        ProgramError: no family can hold the shape.
    """
    family, _ = _holder(config)
    renamed: dict[str, Tensor] = {}
    for name in family.names(config):
        if name.ours not in state:
            continue
        ours = state[name.ours]
        if name.layout == "transposed":
            ours = ours.T
        elif name.layout == "interleaved":
            H, E = config.heads, config.attention.channels
            ours = ours.unflatten(0, (3, H, E)).transpose(0, 1).flatten(0, 2)
        parts = ours.split(name.rows) if name.rows else (ours,)
        renamed |= {theirs: part.contiguous() for theirs, part in zip(name.theirs, parts, strict=True)}
    return renamed


def _family(hf: Mapping[str, Any]) -> Family:
    known = {family.architecture: family for family in FAMILIES}
    by_type = {family.model_type: family for family in FAMILIES}
    named = architectures(hf)
    found = next((known[name] for name in named if name in known), None)
    if not named:
        found = by_type.get(str(hf.get("model_type")))
    if found is None:
        raise ProgramError(
            "This architecture is not known.",
            where="config.json",
            wanted=" or ".join(known),
            got=", ".join(named) or hf.get("model_type") or "neither architectures nor model_type",
            do="Convert the weights to one of these, if they are one under another name.",
        )
    return found


def _holder(config: Decoder.Config) -> tuple[Family, dict[str, Any]]:
    for family in FAMILIES:
        if (written := family.write(config)) is not None:
            return family, written
    raise ProgramError(
        "No known model family has this shape.",
        wanted=" or ".join(family.architecture for family in FAMILIES),
        got=f"recall {config.recall}" if config.recall else config,
        do="Train with --set model.recall=0." if config.recall else "Choose the shape of one of these families.",
    )


def _full_name(name: str, family: Family) -> str:
    """Older GPT-2 and BLOOM files leave out the name of the network inside."""
    if family.model_type in ("gpt2", "bloom") and not name.startswith(("transformer.", "lm_head.")):
        return f"transformer.{name}"
    return name


def _their_shape(ours: tuple[int, ...], rows: int | None, layout: Layout) -> tuple[int, ...]:
    shape = (rows or ours[0], *ours[1:])
    return shape[::-1] if layout == "transposed" else shape


def _to_ours(pieces: list[Tensor], layout: Layout, config: Decoder.Config) -> Tensor:
    whole = torch.cat(pieces) if len(pieces) > 1 else pieces[0]
    if layout == "transposed":
        return whole.T.contiguous()
    if layout == "interleaved":
        H, E = config.heads, config.attention.channels
        return whole.unflatten(0, (H, 3, E)).transpose(0, 1).flatten(0, 2).contiguous()
    return whole
