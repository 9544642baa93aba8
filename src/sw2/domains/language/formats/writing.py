"""A language model in the formats of other toolkits: written, read back, and compared before it counts.

    OUT/model.gguf                                    gguf, gguf-f16, gguf-q8_0, gguf-q4_1
    OUT/config.json, model.safetensors, tokenizer…    huggingface

What is compared are logits on random tokens, from the files as `reading` reads them. Full precision must come back
exactly, and so must matrices in 4 and 8 bits, which go into a GGUF file as they are; where a format has fewer bits than
the program the difference is measured and told. The other formats get unpacked numbers.

What it does not do: several files of weights (readers take one of any size).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import save_file
from torch import Tensor

from sw2.base.errors import ProgramError
from sw2.base.seed import generator
from sw2.domains.language import families
from sw2.domains.language.decoder import Decoder
from sw2.domains.language.formats import reading, tokens
from sw2.domains.language.prep import TextPrep
from sw2.parts.layers.packed import PARTS

__all__ = ["FORMATS", "Format", "convert"]

_ROWS, _LENGTH = 20, 64


@dataclass(frozen=True)
class Format:
    """One line about it, how it is written into a folder and read from it, and whether it keeps every bit."""

    summary: str
    write: Callable[[Decoder, TextPrep, Path], None]
    read: Callable[[Path], reading.Model]
    exact: bool


def _write_folder(net: Decoder, prep: TextPrep, into: Path) -> None:
    net = net.unpacked()
    hf, weights = families.config_to_hf(net.config), families.to_hf(net.state_dict(), net.config)
    ids = prep.tokenizer.control
    begin = prep.controls.begins or prep.controls.named.get("bos_token", prep.controls.document)
    ends = [ids[token] for token in prep.controls.ends]
    hf |= {"bos_token_id": ids[begin], "eos_token_id": ends if len(ends) > 1 else ends[0]}
    (into / "config.json").write_text(json.dumps(hf, indent=2), encoding="utf-8")
    save_file(weights, into / "model.safetensors", {"format": "pt"})
    tokens.to_folder(prep.tokenizer, prep.controls, net.config.context, into)


def _gguf(kind: str, summary: str) -> Format:
    def write(net: Decoder, prep: TextPrep, into: Path) -> None:
        from sw2.domains.language.formats.gguf import write_gguf

        hf, state = families.config_to_hf(net.config), net.unpacked().state_dict()
        settings = tokens.to_settings(prep.tokenizer, prep.controls, net.config.vocab_size)
        write_gguf(
            into / "model.gguf",
            families.to_hf(state, net.config),
            net.config,
            hf,
            settings,
            kind=kind,
            packed={ending: _parts_to_hf(net, state, ending) for ending in PARTS},
        )

    return Format(summary, write, lambda folder: reading.read_gguf(folder / "model.gguf"), exact=kind == "F32")


def _parts_to_hf(net: Decoder, state: Mapping[str, Tensor], ending: str) -> dict[str, Tensor]:
    """The packed matrices' codes, scales or minima, laid out and named as `to_hf` does it with the matrices."""
    # Whatever is done to a matrix is done to whole rows, so it can be done to what stands for a row.
    parts = {}
    for name, tensor in net.state_dict().items():
        if name.endswith(ending):
            owner = name.removesuffix(ending)
            parts[owner if owner in state else f"{owner}.weight"] = tensor
    return families.to_hf(parts, net.config)


FORMATS: Final[Mapping[str, Format]] = {
    "huggingface": Format("a folder for transformers", _write_folder, reading.read_folder, exact=True),
    "gguf": _gguf("F32", "one file for llama.cpp, in the bits that the program has"),
    "gguf-f16": _gguf("F16", "the same with 16 bits"),
    "gguf-q8_0": _gguf("Q8_0", "the same with 8 bits"),
    "gguf-q4_1": _gguf("Q4_1", "the same with 4 bits, rounded to nearest"),
}


def convert(net: Decoder, prep: TextPrep, format_name: str, into: Path) -> tuple[int, float]:
    """Write `format_name` into the folder `into` and compare; see `core.capabilities.Convert`."""
    chosen = FORMATS[format_name]
    chosen.write(net, prep, into)
    back = chosen.read(into)
    length = min(_LENGTH, net.config.context)
    text_BT = torch.randint(prep.tokenizer.vocab_size, (_ROWS, length), generator=generator(0, "conversion"))
    worst = 0.0
    with torch.inference_mode():
        for row_T in text_BT:
            wanted, got = (each({"tokens": row_T[None]})["logits"] for each in (net, back.net))
            worst = max(worst, float((got - wanted).abs().max() / wanted.abs().max()))
    odd = "naïve 1234  \n\tdef f(x): # 日本語 🙂"
    if back.prep.tokenizer.encode(odd) != prep.tokenizer.encode(odd) or back.prep.controls.ends != prep.controls.ends:
        raise ProgramError("The exported tokenizer does not answer as the program's.", where=into, got=format_name)
    if chosen.exact and worst > 1e-5:
        raise ProgramError(
            "The exported file does not answer as the program does.",
            where=into,
            wanted="differences of at most 1e-5 of the largest logit",
            got=f"{worst:.1e}",
        )
    return _ROWS * length, worst
