"""The network and the tokenizer in a file or folder of another toolkit.

    read_gguf("model.gguf")           one file: settings, tokenizer, chat template, weights
    read_folder("SmolLM2-135M/")      config.json, *.safetensors (with an index where there are several), tokenizer.json

Weights in 4 bits (Q4_1) and 8 (Q8_0) stay as they are, others become float32. What unpacking takes is compared with the
memory that is free before anything is read.

What it does not do: weights in pickle files (they can carry code), parts of a model (adapters); making a program of it
(see `opening`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sw2.base.device import available_memory
from sw2.base.errors import ResourceError
from sw2.domains.language import families
from sw2.domains.language.decoder import Decoder, parameter_count
from sw2.domains.language.formats import tokens
from sw2.domains.language.prep import Controls, PrepConfig, TextPrep
from sw2.domains.language.tokenizer import Tokenizer
from sw2.parts.formats.huggingface import read_object, read_tensors
from sw2.parts.layers.packed import PARTS

__all__ = ["Model", "read_folder", "read_gguf"]


@dataclass(frozen=True)
class Model:
    """What either format holds: a network, its tokenizer, and remarks for the card."""

    net: Decoder
    prep: TextPrep
    facts: Mapping[str, Any]


def read_gguf(path: Path) -> Model:
    """Read a GGUF file.

    Raises:
        ProgramError: it is damaged, of an unknown architecture, or its tensors do not fit its settings.
        ResourceError: it would not fit in memory.
    """
    from sw2.domains.language.formats import gguf

    with gguf.GgufFile(path) as file:
        hf = gguf.hf_config(file)
        config = families.config_from_hf(hf)
        _check_memory(config, path)
        tokenizer, controls = tokens.from_settings(file.settings, config.vocab_size, path)
        state = families.from_hf(dict(gguf.from_gguf(file, config)), config, hf)
        config, state = gguf.keep_packed(file, config, state, hf)
        kinds = ", ".join(sorted({tensor.kind_name for tensor in file.tensors.values()}))
    return _model(state, config, tokenizer, controls, {"read from": path.name, "numbers in the file": kinds})


def read_folder(path: Path) -> Model:
    """Read a Hugging Face folder.

    Raises:
        ProgramError: a file is missing or damaged, the architecture is unknown, or tensors do not fit the config.
        ResourceError: it would not fit in memory.
    """
    hf = read_object(path / "config.json")
    config = families.config_from_hf(hf)
    _check_memory(config, path)
    tokenizer, controls = tokens.from_folder(path, config.vocab_size)
    state = families.from_hf(read_tensors(path), config, hf)
    return _model(state, config, tokenizer, controls, {"read from": path.name})


def _model(
    state: Mapping[str, Tensor],
    config: Decoder.Config,
    tokenizer: Tokenizer,
    controls: Controls,
    facts: Mapping[str, Any],
) -> Model:
    with torch.device("meta"):
        net = Decoder(config)
    net.load_state_dict(
        {name: tensor if name.endswith(PARTS) else tensor.float() for name, tensor in state.items()}, assign=True
    )
    net.eval().requires_grad_(False)
    prep = TextPrep(tokenizer, PrepConfig(vocab_size=tokenizer.vocab_size), controls)
    return Model(net, prep, {**facts, "parameters": parameter_count(config)})


def _check_memory(config: Decoder.Config, path: Path) -> None:
    # Once as numbers, and once more while a tensor is brought into its place.
    needed, free = int(4 * 1.1 * parameter_count(config)), available_memory()
    if free is not None and needed > free:
        raise ResourceError(
            "These weights do not fit in memory.",
            where=path,
            wanted=f"{needed / 1e9:.1f} GB for {parameter_count(config) / 1e6:.0f} million weights in float32",
            got=f"{free / 1e9:.1f} GB free",
            do="Choose a smaller model, or free memory.",
        )
