"""Embedding: parity with torch's own encoder, and what users may count on; the named model: tests/domains."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
from torch import nn

from sw2.base.errors import DataError, ProgramError, UsageError
from sw2.core.capabilities import Embed
from sw2.core.program import Net, Program
from sw2.core.task import Context
from sw2.domains.language.embedding import embedder as embedding
from sw2.domains.language.embedding.embedder import TextEmbedder
from sw2.domains.language.embedding.encoder import TextEncoder
from sw2.domains.language.embedding.pairs import PairOptions, documentation, read
from sw2.domains.language.embedding.pieces import PieceConfig, PiecePrep
from sw2.domains.language.embedding.task import FeatureExtraction, _passages, _ranks, _words_in_common

SMALL = TextEncoder.Config(vocab_size=40, context=12, width=16, depth=2, heads=4, hidden=24)


def _network(config: TextEncoder.Config = SMALL) -> TextEncoder:
    net = TextEncoder(config)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    return net


def _pieces(most_tokens: int = 12) -> PiecePrep:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghij", *(f"##{letter}" for letter in "abcdefghij"), "[", "]"]
    inner = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]")
    )
    inner.normalizer = tokenizers.normalizers.BertNormalizer()
    inner.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    inner.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    inner.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    inner.enable_truncation(5)
    inner.enable_padding(length=9)
    return PiecePrep(inner.to_str(), PieceConfig(most_tokens=most_tokens))


def _program(net: TextEncoder | None = None, most_tokens: int = 12) -> Program:
    return Program.assemble(
        task=FeatureExtraction(),
        runtime=TextEmbedder,
        nets={"encoder": Net("text-encoder", net or _network())},
        prep=_pieces(most_tokens),
        provider={"name": "language", "distribution": "sw2", "version": "0"},
    )


@pytest.fixture(autouse=True)
def _in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that do not depend on the machine."""
    monkeypatch.setattr(TextEmbedder, "_runs", property(lambda self: self.net))


# ------------------------------------------------------------------------------------------------------------- network


def test_values_and_gradients_are_those_of_torchs_encoder() -> None:
    ours = _network()
    reference = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(16, 4, 24, 0.0, "gelu", SMALL.norm_epsilon, batch_first=True),
        2,
        enable_nested_tensor=False,
    )
    names = {"self_attn.in_proj_": "attention.qkv.", "self_attn.out_proj.": "attention.out.", "linear1.": "mlp.up."}
    names |= {"linear2.": "mlp.down.", "norm1.": "attention_norm.", "norm2.": "mlp_norm."}
    state = ours.state_dict()
    pairs = {}
    for name, parameter in reference.named_parameters():
        own = name.replace("layers.", "body.")
        for theirs, mine in names.items():
            own = own.replace(theirs, mine)
        pairs[name] = own
        parameter.data.copy_(state[own])
    tokens, lengths = torch.randint(40, (3, 9)), torch.tensor([9, 4, 1])
    here = torch.arange(9) < lengths[:, None]
    got = ours({"tokens": tokens, "lengths": lengths})["vectors"]
    x = ours.embedding_norm(ours.embedding(tokens) + ours.positions.weight[:9]).detach()
    x = reference(x, src_key_padding_mask=~here)
    wanted = nn.functional.normalize((x * here[..., None]).sum(1) / lengths[:, None], dim=-1)
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    direction = torch.randn(3, 16)
    (got * direction).sum().backward()
    (wanted * direction).sum().backward()
    gradients = dict(ours.named_parameters())
    for name, parameter in reference.named_parameters():
        torch.testing.assert_close(gradients[pairs[name]].grad, parameter.grad, rtol=1e-4, atol=1e-5, msg=name)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(UsageError, match="shape of an encoder"):
        TextEncoder.Config(width=10, heads=4)


# --------------------------------------------------------------------------------------------------------------- texts


def test_the_order_and_the_company_of_texts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "_TOKENS_AT_ONCE", 20)
    monkeypatch.setattr(embedding, "_TEXTS_SORTED", 5)
    runtime = _program().capability(Embed)
    texts = ["a", "abcdefghij", "b c", "", "a b c d e f", "j i h", "cab", "dada", "a b", "ffff gg"]
    together = runtime.embed(texts)
    alone = np.concatenate([runtime.embed([text]) for text in texts])
    assert together.dtype == np.float32
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert runtime.embed([]).shape == (0, 16)


def test_batches_hold_every_text_once_and_no_more_tokens_than_they_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "_TOKENS_AT_ONCE", 30)
    lengths = [3, 40, 7, 7, 2, 11, 1, 9]
    batches = list(embedding._batches(lengths))
    assert sorted(number for batch in batches for number in batch) == list(range(8))
    assert all(len(batch) == 1 or len(batch) * max(lengths[n] for n in batch) <= 30 for batch in batches)


def test_the_files_own_padding_and_cut_do_not_hold_and_the_programs_does() -> None:
    assert _pieces().encode(["a b c d e f g"]) == [[2, 4, 5, 6, 7, 8, 9, 10, 3]]
    assert _pieces(most_tokens=4).encode(["a b c d e f g", "a"]) == [[2, 4, 5, 3], [2, 4, 3]]


def test_a_text_cannot_spell_a_control_token() -> None:
    [tokens] = _pieces(most_tokens=64).encode(["a [SEP] b [CLS]"])
    assert tokens.count(2) == 1
    assert tokens.count(3) == 1


def test_what_is_no_text_is_refused_with_its_number() -> None:
    runtime = _program().capability(Embed)
    with pytest.raises(DataError, match="Only texts") as caught:
        runtime.embed(["a", 3])
    assert caught.value.where == "input 1"
    with pytest.raises(DataError, match="surrogate"):
        runtime.embed(["\ud800"])


def test_a_tokenizer_of_another_kind_or_size_is_refused() -> None:
    bytes_pairs = tokenizers.Tokenizer(tokenizers.models.BPE())
    with pytest.raises(ProgramError, match="another kind"):
        PiecePrep(bytes_pairs.to_str(), PieceConfig())
    with pytest.raises(ProgramError, match="cannot be read"):
        PiecePrep("{}", PieceConfig())
    with pytest.raises(ProgramError, match="does not belong"):
        _program(most_tokens=13)


def test_in_half_precision_vectors_are_nearly_the_same() -> None:
    net = _network()
    batch = {"tokens": torch.randint(40, (4, 12)), "lengths": torch.tensor([12, 3, 8, 1])}
    with torch.inference_mode():
        whole, half = net(batch)["vectors"], _copy_in_bf16(net)(batch)["vectors"]
    assert half.dtype == torch.float32
    assert float((whole * half).sum(-1).min()) > 0.999


def _copy_in_bf16(net: TextEncoder) -> TextEncoder:
    other = TextEncoder(net.config)
    other.load_state_dict(net.state_dict())
    return other.bfloat16()


# ------------------------------------------------------------------------------------------------------------- judging


def test_ranks_count_equals_as_better() -> None:
    scores = np.array([[0.1, 0.9, 0.5], [0.2, 0.2, 0.2]])
    assert _ranks(scores, np.array([2, 0])).tolist() == [2, 3]


def test_a_perfect_embedder_scores_one_and_words_are_a_baseline() -> None:
    rows = [{"text": text, "positive": text} for text in ("a b", "c d e", "f", "g h")]
    score, found = FeatureExtraction().judge(_program(), rows, Context())[:2]
    assert (score.name, score.value, found.value) == ("nDCG@10", 1.0, 1.0)
    passages, right = _passages(rows)
    assert _ranks(_words_in_common(["d", "h"], passages), right[[1, 3]]).tolist() == [1, 1]


def test_pairs_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [{"text": f"q{n}", "positive": f"p{n}"} for n in range(12)]
    path.write_text("\n".join(map(json.dumps, rows)) + '\n{"text": "no passage"}\n')
    data = read(str(path), PairOptions())
    assert list(data.splits) == ["test"]
    assert len(data.split("test")) == 12
    assert [each.where for each in data.rejected] == ["pairs.jsonl, line 13"]
    with pytest.raises(DataError, match="no pairs"):
        read(str(tmp_path / "nothing"), PairOptions())
    path.write_text('{"text": 1}\n[]\nnonsense\n')
    with pytest.raises(DataError, match="Too many rows"):
        read(str(path), PairOptions())


def test_questions_of_the_named_data_do_not_name_what_they_ask_for() -> None:
    rows = list(documentation("test", 0))
    assert len(rows) > 100
    for row in rows:
        assert row["name"] not in row["text"]
        assert row["name"] in row["positive"]
    assert not {row["module"] for row in rows} & {row["module"] for row in documentation("validation", 0)}
