"""Foreign formats: there and back for every family, files that lie, and shapes that do not fit."""

from __future__ import annotations

import contextlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sw2.base import device
from sw2.base.config import replace
from sw2.base.errors import ProgramError, ResourceError, Sw2Error
from sw2.base.seed import generator
from sw2.domains.language import families
from sw2.domains.language.decoder import Decoder
from sw2.domains.language.formats import reading, tokens
from sw2.domains.language.formats.gguf import GgufFile, from_gguf, hf_config, write_gguf
from sw2.domains.language.formats.writing import FORMATS, convert
from sw2.domains.language.prep import Controls, PrepConfig, TextPrep
from sw2.domains.language.tokenizer import Tokenizer

TOKENIZER = Tokenizer.train(["the cat sat on the mat 12345"] * 9, 272)
ROWS = TOKENIZER.vocab_size + 8  # as networks have that were padded
LLAMA = Decoder.Config(
    vocab_size=TOKENIZER.vocab_size + 8,
    context=32,
    width=64,
    depth=2,
    heads=4,
    kv_heads=2,
    hidden=96,
    init_deviation=0.2,
)
GPT2 = replace(LLAMA, kv_heads=4, hidden=256, positions="learned", norm="layer", activation="gelu_tanh", biases="all")
SHAPES = {
    "llama": LLAMA,
    "llama untied": replace(LLAMA, tied=False, rope_base=5e5),
    "qwen2": replace(LLAMA, biases="qkv"),
    "qwen3": replace(LLAMA, head_norm=True, head_dim=24),
    "gpt2": GPT2,
    "bloom": replace(GPT2, positions="alibi", embedding_norm=True),
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def network(config: Decoder.Config) -> Decoder:
    net = Decoder(config)
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator(1, "noise"))
    return net.requires_grad_(False)


PREP = TextPrep(TOKENIZER, PrepConfig(vocab_size=272))
CHAT = TextPrep(TOKENIZER, PrepConfig(vocab_size=272), Controls(chat_template="{{ messages }}", begins=""))


@pytest.mark.parametrize("name", ["huggingface", "gguf"])
@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES.keys())
def test_full_precision_comes_back_bit_for_bit(name: str, config: Decoder.Config, tmp_path: Path) -> None:
    net = network(config)
    checked, difference = convert(net, PREP, name, tmp_path)
    assert checked == 20 * 32
    assert difference == 0.0
    back = FORMATS[name].read(tmp_path)
    for key, tensor in net.state_dict().items():
        assert torch.equal(back.net.state_dict()[key], tensor), key
    assert replace(back.prep.controls, named={}) == PREP.controls


def test_fewer_bits_come_back_less_exactly(tmp_path: Path) -> None:
    differences = []
    for name in ("gguf", "gguf-f16", "gguf-q8_0", "gguf-q4_1"):
        (tmp_path / name).mkdir()
        differences.append(convert(network(LLAMA), PREP, name, tmp_path / name)[1])
    assert differences == sorted(set(differences))
    assert differences[1] < 0.02
    sizes = [(tmp_path / name / "model.gguf").stat().st_size for name in ("gguf", "gguf-f16", "gguf-q8_0", "gguf-q4_1")]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("name", ["huggingface", "gguf"])
def test_a_chat_template_and_its_tokens_come_back(name: str, tmp_path: Path) -> None:
    convert(network(LLAMA), CHAT, name, tmp_path)
    back = FORMATS[name].read(tmp_path).prep.controls
    assert (back.chat_template, back.begins, back.ends) == ("{{ messages }}", "", CHAT.controls.ends)


def test_recall_fits_no_format(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="No known model family"):
        convert(network(replace(LLAMA, recall=2)), PREP, "gguf", tmp_path)


def test_a_folder_in_several_files(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    net = network(LLAMA)
    convert(net, PREP, "huggingface", tmp_path)
    whole = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    names = sorted(whole)
    halves = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in halves.items():
        save_file({name: whole[name] for name in part}, tmp_path / file)
    placed = {name: file for file, part in halves.items() for name in part}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))
    back = reading.read_folder(tmp_path)
    assert all(torch.equal(tensor, back.net.state_dict()[name]) for name, tensor in net.state_dict().items())
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(ProgramError, match="weights are not there"):
        reading.read_folder(tmp_path)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_without_a_file_or_with_half_of_one(file: str, tmp_path: Path) -> None:
    convert(network(LLAMA), PREP, "huggingface", tmp_path)
    whole = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ProgramError):
        reading.read_folder(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(ProgramError):
        reading.read_folder(tmp_path)


def test_weights_in_a_pickle_are_not_opened(tmp_path: Path) -> None:
    convert(network(LLAMA), PREP, "huggingface", tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ProgramError, match="not there") as caught:
        reading.read_folder(tmp_path)
    assert "pickle" in str(caught.value)


def test_a_tokenizer_with_more_tokens_than_the_network(tmp_path: Path) -> None:
    small = replace(LLAMA, vocab_size=TOKENIZER.vocab_size - 1)
    net = network(small)
    hf = families.config_to_hf(small)
    write_gguf(
        tmp_path / "m.gguf",
        families.to_hf(net.state_dict(), small),
        small,
        hf,
        tokens.to_settings(TOKENIZER, Controls(), TOKENIZER.vocab_size),
    )
    with pytest.raises(ProgramError, match="cannot be used") as caught:
        reading.read_gguf(tmp_path / "m.gguf")
    assert f"at most the {small.vocab_size} rows" in str(caught.value)


@pytest.mark.parametrize("shape", ["llama", "bloom"])
def test_heads_that_do_not_divide_the_rows_are_named(shape: str, tmp_path: Path) -> None:
    """Rows whose order cannot be changed as the settings say are a mismatch like any other."""
    config = SHAPES[shape]
    names = families.to_hf(network(config).state_dict(), config)
    hf = families.config_to_hf(config)
    write_gguf(tmp_path / "m.gguf", names, config, hf, tokens.to_settings(TOKENIZER, Controls(), ROWS))
    content = (tmp_path / "m.gguf").read_bytes()
    key = f"{shape}.attention.key_length" if shape == "llama" else f"{shape}.embedding_length"
    at = content.index(key.encode()) + len(key) + 4
    (tmp_path / "m.gguf").write_bytes(content[:at] + struct.pack("<I", 48) + content[at + 4 :])
    with pytest.raises(ProgramError, match="do not fit their config") as caught:
        reading.read_gguf(tmp_path / "m.gguf")
    assert "attn" in str(caught.value) or "attention" in str(caught.value)


def test_too_little_memory_is_said_before_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert(network(LLAMA), PREP, "gguf", tmp_path)
    monkeypatch.setattr(reading, "available_memory", lambda: 100_000)
    with pytest.raises(ResourceError, match="do not fit in memory") as caught:
        reading.read_gguf(tmp_path / "model.gguf")
    assert "0.0 GB free" in str(caught.value)
    assert (device.available_memory() or 1) > 0


@pytest.mark.parametrize(("name", "matrix", "table"), [("gguf-q8_0", 8, 8), ("gguf-q4_1", 4, 4)])
@pytest.mark.parametrize("shape", ["llama", "llama untied", "qwen2", "qwen3"])
def test_packed_numbers_stay_packed_and_mean_the_same(
    shape: str, name: str, matrix: int, table: int, tmp_path: Path
) -> None:
    convert(network(SHAPES[shape]), PREP, name, tmp_path)
    read = FORMATS[name].read(tmp_path)
    assert (read.net.config.matrix_bits, read.net.config.embedding_bits) == (matrix, table)
    with GgufFile(tmp_path / "model.gguf") as file:
        hf = hf_config(file)
        plain = families.config_from_hf(hf)
        floats = families.from_hf(dict(from_gguf(file, plain)), plain, hf)
    unpacked = read.net.unpacked()
    assert unpacked.config == plain
    for key, tensor in unpacked.state_dict().items():
        assert torch.equal(tensor, floats[key]), key
    text = torch.arange(12)[None]
    logits = read.net({"tokens": text})["logits"]
    torch.testing.assert_close(logits, unpacked({"tokens": text})["logits"])
    step = read.net.cached_step(1)([list(range(12))], [0], [0])
    torch.testing.assert_close(step[0], logits[0, -1], atol=1e-4, rtol=1e-4)


# ------------------------------------------------------------------------------------------------------- hostile files


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("small")
    tiny = replace(LLAMA, width=32, heads=2, kv_heads=1, hidden=32, depth=1)
    torch.set_num_threads(1)
    convert(network(tiny), PREP, "gguf-q8_0", folder)
    return (folder / "model.gguf").read_bytes()


def read_bytes(content: bytes, folder: Path) -> None:
    path = folder / "hostile.gguf"
    path.write_bytes(content)
    reading.read_gguf(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_mutated_file_is_read_or_refused_and_nothing_else(
    small_file: bytes, tmp_path: Path, data: st.DataObject
) -> None:
    content = bytearray(small_file)
    header = small_file.index(b"token_embd.weight") + 4000
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(header, len(content) - 9)))
        new = data.draw(
            st.one_of(
                st.binary(min_size=1, max_size=8),
                st.sampled_from([2**64 - 1, 2**63, 2**32, 0, 1]).map(lambda number: struct.pack("<Q", number)),
            )
        )
        content[at : at + len(new)] = new
    with contextlib.suppress(Sw2Error):  # any other error fails the test
        read_bytes(bytes(content), tmp_path)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 0.999))
def test_a_truncated_file_is_refused(small_file: bytes, tmp_path: Path, share: float) -> None:
    with pytest.raises(ProgramError):
        read_bytes(small_file[: int(share * len(small_file))], tmp_path)


def header(tensors: int, settings_count: int, body: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, settings_count) + body


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"GGML" + bytes(40), "no GGUF file"),
        (b"", "no GGUF file"),
        (b"GGUF" + struct.pack("<I", 9) + bytes(32), "version of GGUF"),
        (header(2**60, 0), "at most"),
        (header(0, 2**60), "at most"),
        (header(0, 1, struct.pack("<Q", 2**63) + bytes(8)), "bytes of text"),
        (header(0, 1, text(b"a") + struct.pack("<IIQ", 9, 8, 2**61)), "texts"),
        (header(0, 1, text(b"a") + struct.pack("<IIQ", 9, 9, 1) + bytes(40)), "array of numbers or texts"),
        (header(0, 1, text(b"a") + struct.pack("<I", 77) + bytes(8)), "type of setting"),
        (header(0, 1, text(b"\xff") + struct.pack("<I", 0) + bytes(8)), "UTF-8"),
        (header(0, 2, (text(b"a") + struct.pack("<IB", 0, 1)) * 2 + bytes(8)), "a twice"),
        (header(1, 0, text(b"t") + struct.pack("<IQIQ", 1, 2**62, 0, 0) + bytes(40)), "within the file"),
        (header(1, 0, text(b"t") + struct.pack("<IQIQ", 1, 4, 0, 2**62) + bytes(40)), "within the file"),
        (header(1, 0, text(b"t") + struct.pack("<IQIQ", 1, 4, 999, 0) + bytes(40)), "known type of numbers"),
        (header(1, 0, text(b"t") + struct.pack("<IQIQ", 1, 5, 8, 0) + bytes(90)), "multiple of 32"),
        (header(1, 0, text(b"t") + struct.pack("<I", 60) + bytes(90)), "dimensions"),
        (header(2, 0, (text(b"t") + struct.pack("<IQIQ", 1, 4, 0, 0)) * 2 + bytes(90)), "t twice"),
    ],
)
def test_each_lie_in_a_header_is_named(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "lie.gguf"
    path.write_bytes(content)
    with pytest.raises(ProgramError, match=says.split()[0]) as caught:
        GgufFile(path)
    assert says in str(caught.value)


def test_numbers_of_a_known_file_by_hand(tmp_path: Path) -> None:
    """One Q4_1 group written byte by byte: w = 0.5 · code - 2, low nibbles first."""
    codes = bytes(j | (15 - j) << 4 for j in range(16))
    group = np.array([0.5, -2.0], np.float16).tobytes() + codes
    table = text(b"t") + struct.pack("<IQIQ", 1, 32, 3, 0)
    start = 4 + 4 + 16 + len(table)
    path = tmp_path / "one.gguf"
    path.write_bytes(header(1, 0, table) + bytes(-start % 32) + group)
    with GgufFile(path) as file:
        numbers = file.floats("t").tolist()
    assert numbers == [0.5 * j - 2 for j in range(16)] + [0.5 * (15 - j) - 2 for j in range(16)]


@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "llama-bpe", "qwen2", "bloom"])
def test_each_rule_is_found_again(pre: str) -> None:
    said = tokens.to_settings(TOKENIZER, Controls(), TOKENIZER.vocab_size)
    spelled = {f"tokenizer.{name}": value for name, value in said.items()} | {"tokenizer.ggml.pre": pre}
    tokenizer, controls = tokens.from_settings(spelled, TOKENIZER.vocab_size, Path("x.gguf"))
    assert tokens.to_settings(tokenizer, controls, TOKENIZER.vocab_size)["ggml.pre"] == pre
    odd = "naïve 12345 \n\n isn't  日本語🙂<|endoftext|>"
    assert tokenizer.decode(tokenizer.encode(odd)) == odd
    assert tokenizer.end_of_text not in tokenizer.encode(odd)


def test_other_kinds_of_tokenizers_are_refused_by_name() -> None:
    with pytest.raises(ProgramError, match="cannot be used") as caught:
        tokens.from_settings({"tokenizer.ggml.model": "llama"}, 100, Path("x.gguf"))
    assert "tokenizer.ggml.model" in str(caught.value)
    said = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "klingon"}
    with pytest.raises(ProgramError, match="cannot be used") as caught:
        tokens.from_settings(said, 100, Path("x.gguf"))
    assert "klingon" in str(caught.value)
