"""The families: values and gradients of `transformers`, both ways, and weights or settings that do not fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sw2.base.config import replace
from sw2.base.errors import ProgramError
from sw2.base.seed import generator
from sw2.domains.language.decoder import Decoder
from sw2.domains.language.families import FAMILIES, config_from_hf, config_to_hf, from_hf, to_hf

COMMON = {"vocab_size": 61, "tie_word_embeddings": True, "initializer_range": 0.1}
LLAMA = {
    **COMMON,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
}
STRETCHED = {"rope_theta": 5e4, "factor": 4.0, "original_max_position_embeddings": 16}
GPT2 = {**COMMON, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
BLOOM = {**COMMON, "hidden_size": 32, "n_layer": 2, "n_head": 4}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {**LLAMA, "architectures": ["LlamaForCausalLM"]},
    "llama untied, old spelling": {
        **LLAMA,
        "architectures": ["LlamaForCausalLM"],
        "tie_word_embeddings": False,
        "rope_theta": 5e5,
    },
    "llama linear": {
        **LLAMA,
        "architectures": ["LlamaForCausalLM"],
        "rope_parameters": {"rope_theta": 1e4, "rope_type": "linear", "factor": 2.0},
    },
    "llama 3.1": {
        **LLAMA,
        "architectures": ["LlamaForCausalLM"],
        "rope_parameters": {
            **STRETCHED,
            "rope_type": "llama3",
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
        },
    },
    "llama yarn": {
        **LLAMA,
        "architectures": ["LlamaForCausalLM"],
        "rope_parameters": {**STRETCHED, "rope_type": "yarn", "beta_fast": 32.0, "beta_slow": 1.0},
    },
    "one key head": {**LLAMA, "architectures": ["LlamaForCausalLM"], "num_key_value_heads": 1, "head_dim": 16},
    "mistral": {**LLAMA, "architectures": ["MistralForCausalLM"], "sliding_window": None},
    "qwen2": {**LLAMA, "architectures": ["Qwen2ForCausalLM"]},
    "qwen3": {**LLAMA, "architectures": ["Qwen3ForCausalLM"], "head_dim": 12},
    "gpt2": {**GPT2, "architectures": ["GPT2LMHeadModel"]},
    "gpt2 narrow": {**GPT2, "architectures": ["GPT2LMHeadModel"], "n_inner": 24, "tie_word_embeddings": False},
    "bloom": {**BLOOM, "architectures": ["BloomForCausalLM"]},
    "bloom of six heads": {**BLOOM, "architectures": ["BloomForCausalLM"], "hidden_size": 24, "n_head": 6},
}
EVERY = pytest.mark.parametrize("hf", CONFIGS.values(), ids=CONFIGS.keys())


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def lively(model: torch.nn.Module, seed: int = 3) -> None:
    """Weights of which every one matters: biases and norms too."""
    draws = generator(seed, "weights")
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=draws)


def reference(hf: dict[str, Any], transformers: Any) -> Any:
    family = hf["architectures"][0]
    config_class = getattr(transformers, family.replace("ForCausalLM", "Config").replace("LMHeadModel", "Config"))
    plain = {name: value for name, value in hf.items() if name != "architectures"}
    config = config_class(**plain, bos_token_id=None, eos_token_id=None, pad_token_id=None, attn_implementation="eager")
    for name in ("attn_pdrop", "embd_pdrop", "resid_pdrop", "hidden_dropout", "attention_dropout"):
        if hasattr(config, name):
            setattr(config, name, 0.0)
    return getattr(transformers, family)(config)


def check_parity(hf: dict[str, Any], transformers: Any, rows: int = 2, length: int = 40) -> tuple[float, float]:
    """Compare logits and gradients; the largest differences, as shares of the largest number."""
    theirs = reference(hf, transformers)
    lively(theirs)
    # What transformers itself writes into config.json must do too.
    for spelling in (hf, theirs.config.to_dict() | {"architectures": hf["architectures"]}):
        config = config_from_hf(spelling)
        ours = Decoder(config)
        ours.load_state_dict(from_hf(theirs.state_dict(), config, spelling))
        text = torch.randint(config.vocab_size, (rows, length), generator=generator(1, "text"))
        logits, wanted = ours({"tokens": text})["logits"], theirs(input_ids=text).logits
        off = float(((logits - wanted).abs().max() / wanted.abs().max()).detach())
        assert off <= 1e-5
    ours({"tokens": text[:, :-1], "targets": text[:, 1:]})["nats"].mean().backward()
    theirs(input_ids=text, labels=text).loss.backward()
    grown = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    gradients = from_hf(grown, config, hf)
    steepest = max(float(gradient.abs().max()) for gradient in gradients.values())
    slip = max(
        float((parameter.grad - gradients[name]).abs().max() / steepest) for name, parameter in ours.named_parameters()
    )
    assert slip <= 1e-5
    return off, slip


@EVERY
def test_values_and_gradients_are_those_of_transformers(hf: dict[str, Any]) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: no parity of families")
    check_parity(hf, transformers)


@EVERY
def test_our_weights_run_in_transformers(hf: dict[str, Any]) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: no parity of families")
    ours = Decoder(config_from_hf(hf))
    lively(ours, seed=5)
    written = config_to_hf(ours.config)
    config = transformers.AutoConfig.for_model(**written, attn_implementation="eager")
    theirs = getattr(transformers, written["architectures"][0])(config).eval()
    missing, unexpected = theirs.load_state_dict(to_hf(ours.state_dict(), ours.config), strict=False)
    assert not unexpected
    assert set(missing) <= {"lm_head.weight"}
    theirs.tie_weights()
    text = torch.randint(61, (2, 30), generator=generator(1, "text"))
    wanted = ours({"tokens": text})["logits"]
    off = ((theirs(input_ids=text).logits - wanted).abs().max() / wanted.abs().max()).detach()
    assert float(off) <= 1e-5


@EVERY
def test_there_and_back(hf: dict[str, Any]) -> None:
    config = config_from_hf(hf)
    state = Decoder(config).state_dict()
    written = config_to_hf(config)
    assert config_from_hf(written) == config
    back = from_hf(to_hf(state, config), config, written)
    assert set(back) == set(state)
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_known_places_of_interleaved_and_transposed_rows() -> None:
    """BLOOM keeps the query, key and value of a head together; GPT-2 keeps matrices as [in, out]."""
    bloom = CONFIGS["bloom"]
    config = config_from_hf(bloom)
    state: dict[str, Tensor] = {
        name: torch.zeros_like(t) for name, t in to_hf(Decoder(config).state_dict(), config).items()
    }
    fused = state["transformer.h.0.self_attention.query_key_value.bias"]
    fused[1 * 24 + 8 : 1 * 24 + 16] = 7.0  # head 1: eight of query, eight of key, eight of value
    ours = from_hf(state, config, bloom)["blocks.0.attention.qkv.bias"]
    assert ours.nonzero().flatten().tolist() == list(range(32 + 8, 32 + 16))
    gpt2 = CONFIGS["gpt2"]
    config = config_from_hf(gpt2)
    state = {name: torch.zeros_like(t) for name, t in to_hf(Decoder(config).state_dict(), config).items()}
    state["transformer.h.1.mlp.c_fc.weight"][3, 100] = 1.0
    assert from_hf(state, config, gpt2)["blocks.1.mlp.up.weight"].nonzero().tolist() == [[100, 3]]


def test_every_tensor_that_does_not_fit_is_named_at_once() -> None:
    hf = CONFIGS["llama"]
    config = config_from_hf(hf)
    state = to_hf(Decoder(config).state_dict(), config)
    del state["model.layers.1.self_attn.k_proj.weight"]
    state["model.layers.0.mlp.up_proj.weight"] = torch.zeros(40, 31)
    state["model.layers.2.mlp.up_proj.weight"] = torch.zeros(40, 32)
    with pytest.raises(ProgramError, match="do not fit their config") as caught:
        from_hf(state, config, hf)
    text = str(caught.value)
    assert "3 tensors" in text
    assert "missing model.layers.1.self_attn.k_proj.weight [16, 32]" in text
    assert "model.layers.0.mlp.up_proj.weight is [40, 31], wanted [40, 32]" in text
    assert "left over model.layers.2.mlp.up_proj.weight [40, 32]" in text
    with pytest.raises(ProgramError, match="do not fit their config") as caught:
        from_hf(state, replace(config, depth=10**9), hf)  # at once: no network of so many layers is made
    assert f"the tensors of {10**9} layers" in str(caught.value)


@pytest.mark.parametrize("named", [7, {"a": 1}, "LlamaForCausalLM", [], [3], [["LlamaForCausalLM"]], None])
def test_architectures_of_any_type_are_a_name_or_refused(named: Any) -> None:
    with pytest.raises(ProgramError, match="architecture is not known"):
        config_from_hf({"architectures": named, "vocab_size": 8})


def test_masks_kept_as_weights_and_short_names_are_fine() -> None:
    hf = CONFIGS["gpt2"]
    config = config_from_hf(hf)
    state = to_hf(Decoder(config).state_dict(), config)
    short = {name.removeprefix("transformer."): tensor for name, tensor in state.items()}
    short["h.0.attn.bias"] = torch.ones(1, 1, 64, 64)
    assert set(from_hf(short, config, hf)) == set(Decoder(config).state_dict())


def test_an_unknown_architecture_says_which_are_known() -> None:
    with pytest.raises(ProgramError, match="architecture is not known") as caught:
        config_from_hf({"architectures": ["MambaForCausalLM"]})
    text = str(caught.value)
    assert "MambaForCausalLM" in text
    assert all(family.architecture in text for family in FAMILIES)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("sliding_window", {"architectures": ["MistralForCausalLM"], "sliding_window": 4096}),
        ("use_sliding_window", {"architectures": ["Qwen2ForCausalLM"], "use_sliding_window": True}),
        ("attention_bias", {"attention_bias": True}),
        ("mlp_bias", {"mlp_bias": True}),
        ("hidden_act", {"hidden_act": "gelu"}),
        ("rope_type", {"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4}}),
        ("hidden_size", {"hidden_size": -5}),
        ("num_hidden_layers", {"num_hidden_layers": "two"}),
        ("layer_types", {"layer_types": ["full_attention", "sliding_attention"]}),
        ("scale_attn_by_inverse_layer_idx", {**CONFIGS["gpt2"], "scale_attn_by_inverse_layer_idx": True}),
        ("activation_function", {**CONFIGS["gpt2"], "activation_function": "relu"}),
        (
            "apply_residual_connection_post_layernorm",
            {**BLOOM, "architectures": ["BloomForCausalLM"], "apply_residual_connection_post_layernorm": True},
        ),
    ],
)
def test_a_setting_that_is_not_computed_is_refused_by_name(name: str, change: dict[str, Any]) -> None:
    with pytest.raises(ProgramError) as caught:
        config_from_hf({**CONFIGS["llama"], **change})
    assert name in str(caught.value)


def test_recall_fits_into_no_family() -> None:
    config = replace(config_from_hf(CONFIGS["llama"]), recall=2)
    with pytest.raises(ProgramError, match="No known model family") as caught:
        to_hf(Decoder(config).state_dict(), config)
    assert "model.recall=0" in str(caught.value)
