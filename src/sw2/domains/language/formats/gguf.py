"""GGUF, the one-file format of llama.cpp: a header with settings and a table of tensors, then the tensors.

    "GGUF" | version u32 | tensors u64 | settings u64 | settings … | table of tensors … | padding | data …

Notable
- The header is read by a strict parser of our own: a length, count or offset is believed only after it was held
  against the bytes that are there, so a hostile file can neither crash the reader nor make it take memory beyond a
  small multiple of the file's size. Data is mapped, not read, and leaves the map tensor by tensor.
- Numbers in groups (Q4_1, Q8_0, Q4_K, …) are unpacked by the package `gguf`, llama.cpp's own; Q4_1 and Q8_0 of the
  LLaMA families stay packed, bit for bit (`keep_packed`), and packed matrices go into a file as they are.
- LLaMA's queries and keys: llama.cpp turns neighbouring channels (2c, 2c + 1) where everyone else turns c with c + E/2,
  so its files hold their rows in another order. `from_gguf` and `to_gguf` exchange the two.

Sources: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (the format); the names of tensors are those of the
package `gguf`.

What it does not do: files in several parts, big-endian files, versions before 2.

Shapes: H heads · E channels of a head
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import torch
from torch import Tensor

from sw2.base.config import replace
from sw2.base.errors import ProgramError
from sw2.base.names import missing_extra
from sw2.domains.language import families
from sw2.domains.language.decoder import Decoder
from sw2.parts.layers.packed import GROUP

try:
    import gguf
except ModuleNotFoundError as error:
    raise missing_extra("gguf") from error

__all__ = ["GgufFile", "GgufTensor", "from_gguf", "hf_config", "to_gguf", "write_gguf"]

_SCALARS: Final = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_LONGEST_NAME: Final = 1 << 16
_MOST_DIMENSIONS: Final = 4


@final
@dataclass(frozen=True)
class GgufTensor:
    """A tensor in a file: shape as torch has it (rows first), type as ggml numbers it, and where its bytes are."""

    name: str
    shape: tuple[int, ...]
    kind: int
    begin: int
    size: int

    @property
    def kind_name(self) -> str:
        """For instance "Q4_1"."""
        return str(gguf.GGMLQuantizationType(self.kind).name)

    @property
    def numbers(self) -> int:
        """How many numbers it holds."""
        return int(np.prod(self.shape, dtype=np.int64))


class _Reader:
    """Takes values from a buffer, never from beyond its end."""

    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self.data, self.path, self.at = data, path, 0

    def wrong(self, wanted: str, got: object) -> ProgramError:
        return ProgramError(
            "This GGUF file is damaged.",
            where=f"{self.path}, byte {self.at}",
            wanted=wanted,
            got=got,
            do="Copy or download it again.",
        )

    def left(self) -> int:
        return len(self.data) - self.at

    def scalar(self, form: str) -> Any:
        size = struct.calcsize(form)
        if self.left() < size:
            raise self.wrong(f"{size} more bytes", f"the end of the file after {self.left()}")
        (value,) = struct.unpack_from(form, self.data, self.at)
        self.at += size
        return value

    def count(self, what: str, least_bytes: int) -> int:
        """A number of things that take at least so many bytes each, and so cannot be more than the rest holds."""
        number: int = self.scalar("<Q")
        if number * least_bytes > self.left():
            raise self.wrong(f"at most {self.left() // least_bytes} {what}", number)
        return number

    def text(self, longest: int | None = None) -> str:
        length = self.count("bytes of text", 1)
        if longest is not None and length > longest:
            raise self.wrong(f"a name of at most {longest} bytes", length)
        raw = self.data[self.at : self.at + length]
        try:
            value = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.wrong("UTF-8 text", error.reason) from error
        self.at += length
        return value

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self._array(self.scalar("<I"))
        if kind not in _SCALARS:
            raise self.wrong("a type of setting from 0 to 12", kind)
        return self.scalar(_SCALARS[kind])

    def _array(self, kind: int) -> list[Any]:
        if kind == _STRING:
            return [self.text() for _ in range(self.count("texts", 8))]
        if kind not in _SCALARS:
            raise self.wrong("an array of numbers or texts", f"one of type {kind}")
        form = _SCALARS[kind]
        size = struct.calcsize(form)
        number = self.count("numbers", size)
        values = np.frombuffer(self.data, np.dtype(form.replace("?", "b1")), number, self.at).tolist()
        self.at += number * size
        return values


@final
class GgufFile:
    """A GGUF file, open for reading; a context manager.

    Attributes:
        settings: by name.
        tensors: by name, in the file's order.

    Raises:
        ProgramError: it is no GGUF file, of an unknown version, or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            start = file.read(4)
            if start != b"GGUF":
                raise ProgramError(
                    "This is no GGUF file.", where=path, wanted="a file that begins with GGUF", got=repr(start)
                )
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            self._read_header()
        except BaseException:
            self._map.close()
            raise

    def __enter__(self) -> GgufFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._map.close()

    def _read_header(self) -> None:
        reader = _Reader(self._map, self.path)
        reader.at = 4
        version = reader.scalar("<I")
        if version not in (2, 3):
            raise ProgramError(
                "This version of GGUF is not known.",
                where=self.path,
                wanted="2 or 3",
                got=version,
                do="Convert the file with a present llama.cpp.",
            )
        tensors = reader.count("tensors", 32)
        self.settings: dict[str, Any] = {}
        for _ in range(reader.count("settings", 13)):
            name = reader.text(_LONGEST_NAME)
            if name in self.settings:
                raise reader.wrong("each setting once", f"{name} twice")
            self.settings[name] = reader.value(reader.scalar("<I"))
        alignment = self.settings.get("general.alignment", 32)
        if type(alignment) is not int or not 0 < alignment <= 1 << 20 or alignment % 8:
            raise reader.wrong("an alignment that is a multiple of 8", alignment)
        table = []
        for _ in range(tensors):
            name = reader.text(_LONGEST_NAME)
            dimensions = reader.scalar("<I")
            if not 1 <= dimensions <= _MOST_DIMENSIONS:
                raise reader.wrong(f"a tensor of 1 to {_MOST_DIMENSIONS} dimensions", dimensions)
            shape = tuple(reader.scalar("<Q") for _ in range(dimensions))[::-1]
            table.append((name, shape, reader.scalar("<I"), reader.scalar("<Q")))
        start = -(-reader.at // alignment) * alignment
        self.tensors: dict[str, GgufTensor] = {}
        for name, shape, kind, offset in table:
            if name in self.tensors:
                raise reader.wrong("each tensor once", f"{name} twice")
            if offset % alignment:
                raise reader.wrong(f"{name} at a multiple of {alignment}", offset)
            size = _bytes_of(shape, kind, reader)
            if start + offset + size > len(self._map):
                raise reader.wrong(f"{name} of {size} bytes within the file", f"an end at {start + offset + size}")
            self.tensors[name] = GgufTensor(name, shape, kind, start + offset, size)

    def raw(self, name: str) -> np.ndarray:
        """The bytes of a tensor, uint8 [rows, bytes of a row]; a copy."""
        tensor = self.tensors[name]
        flat = np.frombuffer(self._map, np.uint8, tensor.size, tensor.begin).copy()
        rows = tensor.numbers // tensor.shape[-1]
        return flat.reshape(rows, tensor.size // rows)

    def floats(self, name: str) -> Tensor:
        """A tensor as float32, unpacked where it is in groups."""
        tensor = self.tensors[name]
        kind = gguf.GGMLQuantizationType(tensor.kind)
        try:
            numbers = (
                gguf.quants.dequantize(self.raw(name), kind) if kind not in _PLAIN else _plain(self.raw(name), kind)
            )
        except NotImplementedError as error:
            raise ProgramError(
                "The numbers of this GGUF file are packed in a way that cannot be unpacked here.",
                where=f"{self.path}, {name}",
                wanted="F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K to Q6_K",
                got=kind.name,
                do="Choose another quantisation of this model.",
            ) from error
        return torch.from_numpy(numbers.reshape(tensor.shape).astype(np.float32, copy=False))


_PLAIN: Final = {
    gguf.GGMLQuantizationType.F32: np.float32,
    gguf.GGMLQuantizationType.F16: np.float16,
    gguf.GGMLQuantizationType.F64: np.float64,
}


def _plain(raw: np.ndarray, kind: Any) -> np.ndarray:
    return raw.reshape(-1).view(_PLAIN[kind])


def _bytes_of(shape: tuple[int, ...], kind: int, reader: _Reader) -> int:
    """The size of a tensor's data; everything about it is checked."""
    try:
        group, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind)]
    except (ValueError, KeyError) as error:
        raise reader.wrong("a known type of numbers", f"type {kind}") from error
    numbers = 1
    for length in shape:  # Python's whole numbers do not overflow
        numbers *= length
    if numbers == 0 or shape[-1] % group:
        raise reader.wrong(f"rows of a multiple of {group} numbers", shape)
    return int(numbers // group * size)


# ------------------------------------------------------------------------------------------------ names and settings

# GGUF's names inside a block, and those of transformers.
_LLAMA_BLOCK: Final = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_LLAMA_OUTER: Final = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_GPT2_BLOCK: Final = {
    "attn_norm": "ln_1",
    "attn_qkv": "attn.c_attn",
    "attn_output": "attn.c_proj",
    "ffn_norm": "ln_2",
    "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj",
}
_GPT2_OUTER: Final = {
    "token_embd": "transformer.wte",
    "position_embd": "transformer.wpe",
    "output_norm": "transformer.ln_f",
    "output": "lm_head",
}
_BLOOM_BLOCK: Final = {
    "attn_norm": "input_layernorm",
    "attn_qkv": "self_attention.query_key_value",
    "attn_output": "self_attention.dense",
    "ffn_norm": "post_attention_layernorm",
    "ffn_up": "mlp.dense_h_to_4h",
    "ffn_down": "mlp.dense_4h_to_h",
}
_BLOOM_OUTER: Final = {
    "token_embd": "transformer.word_embeddings",
    "token_embd_norm": "transformer.word_embeddings_layernorm",
    "output_norm": "transformer.ln_f",
    "output": "lm_head",
}


@dataclass(frozen=True)
class _Arch:
    """How an architecture is called in transformers, and where its tensors are."""

    architecture: str
    block: Mapping[str, str]
    outer: Mapping[str, str]
    layers: str


_ARCHS: Final = {
    "llama": _Arch("LlamaForCausalLM", _LLAMA_BLOCK, _LLAMA_OUTER, "model.layers"),
    "qwen2": _Arch("Qwen2ForCausalLM", _LLAMA_BLOCK, _LLAMA_OUTER, "model.layers"),
    "qwen3": _Arch("Qwen3ForCausalLM", _LLAMA_BLOCK, _LLAMA_OUTER, "model.layers"),
    "gpt2": _Arch("GPT2LMHeadModel", _GPT2_BLOCK, _GPT2_OUTER, "transformer.h"),
    "bloom": _Arch("BloomForCausalLM", _BLOOM_BLOCK, _BLOOM_OUTER, "transformer.h"),
}
# Tensors that carry nothing that the settings do not say.
_IGNORED: Final = ("rope_freqs.weight",)


def _arch(settings: Mapping[str, Any], path: Path) -> tuple[str, _Arch]:
    name = settings.get("general.architecture")
    if not isinstance(name, str) or name not in _ARCHS:
        raise ProgramError(
            "This architecture is not known.",
            where=f"{path}, general.architecture",
            wanted=" or ".join(_ARCHS),
            got=name,
            do="Choose a model of one of these families.",
        )
    return name, _ARCHS[name]


def hf_config(file: GgufFile) -> dict[str, Any]:
    """The config.json of `transformers` that says the same as a file's settings.

    Raises:
        ProgramError: the architecture is unknown, a setting is missing, or rotary positions are stretched by a rule
            that is not known.
    """
    name, arch = _arch(file.settings, file.path)

    def get(key: str, default: Any = None) -> Any:
        value = file.settings.get(f"{name}.{key}", default)
        if value is None:
            raise ProgramError(
                "This GGUF file lacks a setting.", where=file.path, wanted=f"{name}.{key}", got="nothing"
            )
        return value

    embedding = file.tensors.get("token_embd.weight")
    config: dict[str, Any] = {
        "architectures": [arch.architecture],
        "vocab_size": embedding.shape[0] if embedding is not None else get("vocab_size"),
        "tie_word_embeddings": "output.weight" not in file.tensors,
    }
    heads, width = get("attention.head_count"), get("embedding_length")
    if name in ("gpt2", "bloom"):
        sizes = {
            "layer_norm_epsilon": get("attention.layer_norm_epsilon"),
            "n_layer": get("block_count"),
            "n_head": heads,
        }
        if name == "bloom":
            return config | sizes | {"hidden_size": width, "seq_length": get("context_length", 2048)}
        # llama.cpp writes an output matrix even where it is the embedding.
        tied = config["tie_word_embeddings"] or _same(file, "token_embd.weight", "output.weight")
        sizes |= {
            "n_embd": width,
            "n_positions": get("context_length"),
            "n_inner": get("feed_forward_length", 4 * width),
        }
        return config | sizes | {"tie_word_embeddings": tied}
    rope: dict[str, Any] = {"rope_theta": get("rope.freq_base", 10_000.0), "rope_type": "default"}
    rule = file.settings.get(f"{name}.rope.scaling.type", "none")
    if "rope_freqs.weight" in file.tensors or rule not in ("none", "linear", "yarn"):
        raise ProgramError(
            "The rotary positions of this GGUF file are stretched by a rule that sw2 does not read from GGUF.",
            where=file.path,
            wanted="none, linear or yarn",
            got="a table of factors" if "rope_freqs.weight" in file.tensors else rule,
            do="Use the model's Hugging Face folder.",
        )
    if rule != "none":
        rope |= {"rope_type": rule, "factor": get("rope.scaling.factor", 1.0)}
    if rule == "yarn":
        rope["original_max_position_embeddings"] = get("rope.scaling.original_context_length")
    return config | {
        "hidden_size": width,
        "num_hidden_layers": get("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": get("attention.head_count_kv", heads),
        "head_dim": get("attention.key_length", width // heads if type(width) is type(heads) is int and heads else 1),
        "intermediate_size": get("feed_forward_length"),
        "max_position_embeddings": get("context_length"),
        # Stored as float32: 1e-5 comes back as 9.9999997e-06, which is what llama.cpp computes with.
        "rms_norm_eps": get("attention.layer_norm_rms_epsilon"),
        "rope_parameters": rope,
    }


def _same(file: GgufFile, one: str, other: str) -> bool:
    return one in file.tensors and other in file.tensors and np.array_equal(file.raw(one), file.raw(other))


def from_gguf(file: GgufFile, config: Decoder.Config) -> Iterator[tuple[str, Tensor]]:
    """Every tensor as float32, by the names and in the layout of `transformers`."""
    name, arch = _arch(file.settings, file.path)
    for ours, tensor in file.tensors.items():
        if ours in _IGNORED or (ours == "output.weight" and config.tied):
            continue
        numbers = file.floats(tensor.name)
        H, E = config.heads, config.attention.channels
        # What has not the rows that the settings speak of stays as it is, and `families.from_hf` names it.
        if name == "llama" and _turns(ours) and len(numbers) % E == E % 2 == 0:
            numbers = _halves(numbers, E)
        elif name == "gpt2" and numbers.ndim == 2 and "blk." in ours:
            numbers = numbers.T  # transformers keeps [in, out]
        elif name == "bloom" and ".attn_qkv." in ours and len(numbers) == 3 * H * E:
            # llama.cpp has all queries, all keys, all values; transformers those of each head together.
            numbers = numbers.unflatten(0, (3, H, E)).transpose(0, 1).flatten(0, 2)
        yield _their_name(ours, arch), numbers


def _turns(ours: str) -> bool:
    """Whether a tensor makes queries or keys, whose channels llama.cpp turns in pairs of neighbours."""
    return ours.rpartition(".")[0].endswith((".attn_q", ".attn_k"))


def _their_name(ours: str, arch: _Arch) -> str:
    stem, _, kind = ours.rpartition(".")
    if stem.startswith("blk."):
        _, _, rest = stem.partition(".")
        layer, _, inner = rest.partition(".")
        if inner in arch.block:
            return f"{arch.layers}.{layer}.{arch.block[inner]}.{kind}"
    elif stem in arch.outer:
        return f"{arch.outer[stem]}.{kind}"
    return ours  # reported as left over by `families.from_hf`


def _halves(rows: Tensor, channels: int) -> Tensor:
    """Rows of heads from neighbouring pairs (0, 1), (2, 3), … to halves (0, E/2), (1, E/2 + 1), …"""
    return rows.unflatten(0, (-1, channels // 2, 2)).transpose(1, 2).flatten(0, 2)


def _neighbours(rows: Tensor, channels: int) -> Tensor:
    """The inverse of `_halves`."""
    return rows.unflatten(0, (-1, 2, channels // 2)).transpose(1, 2).flatten(0, 2)


# The kinds that our packed modules keep bit for bit, and their bits.
_KEPT: Final = {gguf.GGMLQuantizationType.Q4_1: 4, gguf.GGMLQuantizationType.Q8_0: 8}


def keep_packed(
    file: GgufFile, config: Decoder.Config, state: Mapping[str, Tensor], hf: Mapping[str, Any]
) -> tuple[Decoder.Config, dict[str, Tensor]]:
    """Put the file's own packed numbers in the place of the unpacked ones where all matrices are Q4_1, or all Q8_0.

    Args:
        file: of a family whose layout is ours but for the order of rows; others come back as they are.
        config: of the unpacked network.
        state: the unpacked weights, by our names.
        hf: from `hf_config`.

    Returns:
        The config with its bits, and the state with names as `parts.layers.packed` has them.
    """
    name, arch = _arch(file.settings, file.path)
    stacked = families.stacked_names(config, hf)
    theirs = {_their_name(each, arch): each for each in file.tensors}
    sources = {ours: [theirs[part] for part in parts] for ours, parts in stacked.items() if set(parts) <= set(theirs)}
    matrices = [ours for ours in sources if ours.startswith("blocks.") and state[ours].ndim == 2]

    def bits(owners: list[str]) -> int:
        kinds = {file.tensors[part].kind for ours in owners for part in sources[ours]}
        aligned = all(state[ours].shape[1] % GROUP == 0 for ours in owners)
        return _KEPT.get(gguf.GGMLQuantizationType(kinds.pop()), 0) if len(kinds) == 1 and aligned else 0

    if name not in ("llama", "qwen2", "qwen3"):
        return config, dict(state)
    config = replace(
        config,
        matrix_bits=bits(matrices),
        embedding_bits=bits(["embedding.weight"]),
        head_bits=0 if config.tied else bits(["head"]),
    )
    kept = dict(state)
    for ours in [
        *(matrices if config.matrix_bits else []),
        *(["embedding.weight"] if config.embedding_bits else []),
        *(["head"] if config.head_bits else []),
    ]:
        del kept[ours]
        pieces = []
        for part in sources[ours]:
            packed = _parts(file, part)
            if name == "llama" and _turns(part):
                packed = {ending: _halves(rows, config.attention.channels) for ending, rows in packed.items()}
            pieces.append(packed)
        owner = ours.removesuffix(".weight")
        kept |= {f"{owner}{ending}": torch.cat([piece[ending] for piece in pieces]) for ending in pieces[0]}
    return config, kept


def _parts(file: GgufFile, name: str) -> dict[str, Tensor]:
    """A packed matrix' buffers by the endings of their names: of each group its scale, its minimum, its codes."""
    raw = torch.from_numpy(file.raw(name))
    rows = len(raw)
    if file.tensors[name].kind == gguf.GGMLQuantizationType.Q8_0:
        groups = raw.view(rows, -1, 2 + GROUP)
        codes = groups[..., 2:].reshape(rows, -1).view(torch.int8)
        return {".codes": codes, ".scales": _halves_of(groups[..., :2])}
    groups = raw.view(rows, -1, 4 + GROUP // 2)
    return {
        ".codes": groups[..., 4:].reshape(rows, -1),
        ".scales": _halves_of(groups[..., :2]),
        ".minima": _halves_of(groups[..., 2:4]),
    }


def _file_bytes(parts: Mapping[str, Tensor]) -> np.ndarray:
    """The inverse of `_parts`: uint8 [rows, bytes of a row]."""
    rows, groups = parts[".scales"].shape
    shown = [
        parts[ending].contiguous().view(torch.uint8).view(rows, groups, -1) for ending in _ORDER if ending in parts
    ]
    return torch.cat(shown, -1).flatten(1).numpy()


_ORDER: Final = (".scales", ".minima", ".codes")


def _halves_of(pairs: Tensor) -> Tensor:
    """Float16 numbers [R, G] from their bytes [R, G, 2]."""
    return pairs.contiguous().view(torch.float16).squeeze(-1)


# ----------------------------------------------------------------------------------------------------------- writing


def to_gguf(
    tensors: Mapping[str, Tensor], config: Decoder.Config, hf: Mapping[str, Any]
) -> Iterator[tuple[str, Tensor]]:
    """Weights by the names of `transformers` to GGUF's names and layout."""
    name, arch = _arch_of(hf)
    inner = {theirs: ours for ours, theirs in arch.block.items()}
    outer = {theirs: ours for ours, theirs in arch.outer.items()}
    for theirs, numbers in tensors.items():
        stem, _, kind = theirs.rpartition(".")
        if stem.startswith(f"{arch.layers}."):
            layer, _, rest = stem.removeprefix(f"{arch.layers}.").partition(".")
            ours = f"blk.{layer}.{inner[rest]}.{kind}"
        else:
            ours = f"{outer[stem]}.{kind}"
        if name == "llama" and _turns(ours):
            numbers = _neighbours(numbers, config.attention.channels)
        elif name == "gpt2" and numbers.ndim == 2 and "blk." in ours:
            numbers = numbers.T
        elif name == "bloom" and ".attn_qkv." in ours:
            H, E = config.heads, config.attention.channels
            numbers = numbers.unflatten(0, (H, 3, E)).transpose(0, 1).flatten(0, 2)
        yield ours, numbers.contiguous()


def _arch_of(hf: Mapping[str, Any]) -> tuple[str, _Arch]:
    return next((name, arch) for name, arch in _ARCHS.items() if arch.architecture in hf["architectures"])


def write_gguf(
    path: Path,
    tensors: Mapping[str, Tensor],
    config: Decoder.Config,
    hf: Mapping[str, Any],
    tokenizer: Mapping[str, Any],
    *,
    kind: str = "F32",
    packed: Mapping[str, Mapping[str, Tensor]] | None = None,
    title: str = "sw2 program",
) -> None:
    """Write a GGUF file that llama.cpp loads.

    Args:
        path: where; the caller sees to it that it appears whole.
        tensors: by the names of `transformers`.
        config: the shape.
        hf: `families.config_to_hf(config)`.
        tokenizer: settings by name, without the prefix "tokenizer.".
        kind: of the matrices: F32, F16, BF16, Q8_0 or Q4_1; vectors stay F32. A matrix whose rows are no multiple of
            a group's 32 numbers is written as F16.
        packed: for ".codes", ".scales" and ".minima" the same tensors with these in the place of packed matrices, which
            are then written as they are where `kind` is F32 or their own.
        title: general.name.
    """
    name, _ = _arch_of(hf)
    wanted = gguf.GGMLQuantizationType[kind]
    writer = gguf.GGUFWriter(path, name)
    writer.add_name(title)
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.width)
    writer.add_block_count(config.depth)
    writer.add_feed_forward_length(config.hidden)
    writer.add_head_count(config.heads)
    writer.add_vocab_size(config.vocab_size)
    if name in ("gpt2", "bloom"):
        writer.add_layer_norm_eps(config.norm_epsilon)
    else:
        writer.add_head_count_kv(config.kv_heads)
        writer.add_layer_norm_rms_eps(config.norm_epsilon)
        writer.add_rope_freq_base(config.rope_base)
        writer.add_rope_dimension_count(config.attention.channels)
        writer.add_key_length(config.attention.channels)
        writer.add_value_length(config.attention.channels)
        _write_stretching(writer, config)
    said = {4: "Q4_1", 8: "Q8_0"}.get(config.matrix_bits, kind) if kind == "F32" else kind
    writer.add_file_type(
        {"F32": 0, "F16": 1, "BF16": 32, "Q8_0": 7, "Q4_1": 3}[said]  # llama.cpp's LLAMA_FTYPE numbers
    )
    for key, value in tokenizer.items():
        _add(writer, f"tokenizer.{key}", value)
    parts = {ending: dict(to_gguf(state, config, hf)) for ending, state in (packed or {}).items()}
    for ours, numbers in to_gguf(tensors, config, hf):
        of_it = {ending: state[ours] for ending, state in parts.items() if ours in state}
        own = gguf.GGMLQuantizationType.Q4_1 if ".minima" in of_it else gguf.GGMLQuantizationType.Q8_0
        if of_it and wanted in (own, gguf.GGMLQuantizationType.F32):
            writer.add_tensor(ours, _file_bytes(of_it), raw_dtype=own)
            continue
        array = numbers.detach().float().numpy()
        chosen = gguf.GGMLQuantizationType.F32
        # llama.cpp computes with learned positions in float32.
        if array.ndim == 2 and not ours.startswith("position_embd"):
            group = gguf.GGML_QUANT_SIZES[wanted][0]
            chosen = wanted if array.shape[1] % group == 0 else gguf.GGMLQuantizationType.F16
        if chosen in (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16):
            writer.add_tensor(ours, array.astype(_PLAIN[chosen]))
        else:
            writer.add_tensor(ours, gguf.quants.quantize(array, chosen), raw_dtype=chosen)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_stretching(writer: Any, config: Decoder.Config) -> None:
    scaling = config.rope_scaling
    if scaling.rule == "none":
        return
    if scaling.rule == "llama3":
        raise ProgramError(
            "GGUF has no setting for these stretched rotary positions.",
            wanted="none, linear or yarn",
            got=scaling.rule,
            do="Export to a Hugging Face folder.",
        )
    writer.add_rope_scaling_type(gguf.RopeScalingType(scaling.rule))
    writer.add_rope_scaling_factor(scaling.factor)
    if scaling.rule == "yarn":
        writer.add_rope_scaling_orig_ctx_len(scaling.trained)


def _add(writer: Any, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)
