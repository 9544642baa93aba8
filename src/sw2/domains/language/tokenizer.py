"""Text to token ids and back: byte-pair encoding over bytes.

Notable
- Any text comes back byte for byte: no normalisation, no unknown token, all 256 bytes are in the alphabet.
- Words are split by GPT-2's expression, which GGUF knows by the name "gpt-2", so an exported model splits alike; with
  each digit alone it knows the rule as "smollm". Numbers that are copied and reckoned with want that (Singh & Strouse
  2024, https://arxiv.org/abs/2402.14903): learned merges cut 1250 and 1251 in different places.
- `<|endoftext|>` (id 0) starts every document; in a foreign tokenizer another control token may. Text is data: the
  characters `<|endoftext|>` inside a text are encoded as ordinary text, never as the control token.
- Trained by the library `tokenizers`, run by tiktoken where the two agree (see `fast_encoding`). The saved form is
  `tokenizer.json`, which others read too; those of GPT-2, BLOOM, SmolLM2, LLaMA 3 and Qwen are of this kind.

Sources: Sennrich et al. 2016, https://arxiv.org/abs/1508.07909, algorithm 1; over bytes: Radford et al. 2019, "Language
models are unsupervised multitask learners", section 2.2.

What it does not do: chat templates (see `chat`), SentencePiece models, normalisation other than Unicode's NFC.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from sw2.base.device import usable_cores
from sw2.base.errors import DataError, ProgramError, UsageError
from sw2.base.names import missing_extra
from sw2.base.store import parse_json

try:
    import tokenizers
    from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

    from sw2.domains.language.fast_encoding import FastEncoder
except ModuleNotFoundError as error:
    raise missing_extra(str(error.name)) from error

__all__ = ["END_OF_TEXT", "Tokenizer"]

END_OF_TEXT: Final = "<|endoftext|>"
_FREE_IDS: Final = 1 << 16


@final
class Tokenizer:
    """A trained tokenizer. `Tokenizer.train` makes one; `Tokenizer(json)` reads a saved one.

    Args:
        json: the text of a `tokenizer.json`.
        end_of_text: the control token that stands between documents.

    Raises:
        ProgramError: `json` is not a byte-level tokenizer with that token.
    """

    def __init__(self, json: str, end_of_text: str = END_OF_TEXT) -> None:
        try:
            _check_merges(parse_json(json)["model"])
            self._inner = tokenizers.Tokenizer.from_str(json)
        except Exception as error:  # the library raises bare Exception
            raise ProgramError("The tokenizer cannot be read.", got=error, do="Restore tokenizer.json.") from error
        if self.vocab_size > 2 * self._inner.get_vocab_size(with_added_tokens=True) + _FREE_IDS:
            # Before anything lists the ids: the library, too, writes down each one that no token has.
            raise ProgramError(
                "The tokenizer numbers its tokens too high.",
                wanted=f"about as many ids as its {self._inner.get_vocab_size(with_added_tokens=True)} tokens",
                got=f"ids up to {self.vocab_size - 1}",
                do="Restore tokenizer.json.",
            )
        end = self._inner.token_to_id(end_of_text)
        byte_level = isinstance(self._inner.decoder, decoders.ByteLevel)
        plain = self._inner.normalizer is None or isinstance(self._inner.normalizer, normalizers.NFC)
        if end is None or not byte_level or not plain:
            raise ProgramError(
                "The tokenizer is of another kind.",
                wanted=f"byte-level, without normaliser, with the token {end_of_text}",
                got=f"decoder {self._inner.decoder}, normaliser {self._inner.normalizer}, {end_of_text} {end}",
                do="Train a tokenizer with sw2, or use a byte-level one such as GPT-2's.",
            )
        self.end_of_text: int = end
        # Not part of the saved form, so it has to be said again after every loading.
        self._inner.encode_special_tokens = True

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int = 8192, *, single_digits: bool = False) -> Tokenizer:
        """Learn merges from `texts`.

        Args:
            texts: the documents; the same ones give the same tokenizer.
            vocab_size: at most this many tokens, `<|endoftext|>` and the 256 bytes included, ≥ 257. Little text gives
                fewer.
            single_digits: every digit is a token of its own.

        Raises:
            UsageError: `vocab_size` is below 257.
        """
        if vocab_size < 257:
            raise UsageError(
                "The vocabulary is too small.", wanted="at least 257", got=vocab_size, do="Raise the vocabulary size."
            )
        inner = tokenizers.Tokenizer(models.BPE())
        words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        digits = pre_tokenizers.Digits(individual_digits=True)
        inner.pre_tokenizer = pre_tokenizers.Sequence([digits, words]) if single_digits else words
        inner.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[END_OF_TEXT],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        inner.train_from_iterator(texts, trainer)
        return cls(inner.to_str())

    def with_control(self, *names: str) -> Tokenizer:
        """Return this tokenizer with further control tokens; those that it has stay as they are, new ones come last."""
        inner = tokenizers.Tokenizer.from_str(self.to_json())
        inner.add_special_tokens([tokenizers.AddedToken(name, normalized=False, special=True) for name in names])
        return Tokenizer(inner.to_str(), next(name for name, each in self.control.items() if each == self.end_of_text))

    def to_json(self) -> str:
        """Return the text of `tokenizer.json`."""
        return str(self._inner.to_str())

    @cached_property
    def vocab_size(self) -> int:
        """One more than the highest id."""
        return 1 + max(map(int, self._inner.get_vocab(with_added_tokens=True).values()), default=0)

    @cached_property
    def control(self) -> dict[str, int]:
        """The tokens that no text can become, by how they are written."""
        added = self._inner.get_added_tokens_decoder()
        return {str(token.content): int(number) for number, token in added.items() if token.special}

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, without `<|endoftext|>` on either side.

        Raises:
            DataError: `text` holds half a surrogate pair, which no bytes stand for.
        """
        _check_encodable(text, 0)
        ids = None if self._fast is None else self._fast.encode(text)
        return [int(token) for token in self.encode_batch([text])[0]] if ids is None else ids

    def encode_batch(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Return the ids of each text, on all threads.

        Raises:
            DataError: a text holds half a surrogate pair, which no bytes stand for.
        """
        for index, text in enumerate(texts):
            _check_encodable(text, index)
        found: list[NDArray[np.int32] | None] = [None] * len(texts)
        if self._fast is not None:
            found = self._fast.encode_batch(texts, usable_cores())
        slow = [text for text, ids in zip(texts, found, strict=True) if ids is None]
        encodings = iter(self._inner.encode_batch_fast(slow, add_special_tokens=False) if slow else ())
        return [np.asarray(next(encodings).ids, dtype=np.int32) if ids is None else ids for ids in found]

    @cached_property
    def _fast(self) -> FastEncoder | None:
        return FastEncoder.of(self.to_json(), _byte_of_character())

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the bytes that `ids` stand for; a control token stands for none."""
        return b"".join(map(self.token_bytes, ids))

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of `ids`; bytes that are no UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes of one token; a control token has none.

        Raises:
            UsageError: there is no such token.
        """
        if not 0 <= token < self.vocab_size:
            raise UsageError(
                "There is no such token.",
                wanted=f"0 to {self.vocab_size - 1}",
                got=token,
                do="Use the model's own tokenizer.",
            )
        return self._bytes[token]

    def bytes_per_token(self, texts: Sequence[str]) -> float:
        """Return how many UTF-8 bytes one token covers on average over `texts`.

        Raises:
            DataError: `texts` are empty.
        """
        tokens = sum(map(len, self.encode_batch(texts)))
        if not tokens:
            raise DataError("There is no text to measure.", wanted="at least one character", got="none", do="Add text.")
        return sum(len(text.encode()) for text in texts) / tokens

    @cached_property
    def _bytes(self) -> list[bytes]:
        byte_of = _byte_of_character()
        special = self._inner.get_added_tokens_decoder()
        spelled = [""] * self.vocab_size
        for name, token in self._inner.get_vocab(with_added_tokens=True).items():
            spelled[token] = name
        return [
            (b"" if special[token].special else name.encode())
            if token in special
            # Padding of a vocabulary may be spelled in any characters.
            else b"".join(bytes([byte_of[c]]) if c in byte_of else c.encode() for c in name)
            for token, name in enumerate(spelled)
        ]


def _byte_of_character() -> dict[str, int]:
    """The alphabet in which byte-level tokenizers spell bytes: printable Latin-1 as itself, the others from 256 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + index): byte for index, byte in enumerate(others)}


def _check_merges(model: Mapping[str, Any]) -> None:
    """Hold a tokenizer to what its library takes for granted: a merge of no token ends the process."""
    if model.get("continuing_subword_prefix"):
        raise ValueError("a prefix of pieces inside words, which byte-level tokenizers do not have")
    for merge in model.get("merges", ()):
        joined = merge.replace(" ", "", 1) if isinstance(merge, str) else "".join(merge)
        if joined not in model["vocab"]:
            raise ValueError(f"the merge {merge!r} makes no token")


def _check_encodable(text: object, index: int) -> None:
    if not isinstance(text, str):
        raise DataError("A text is not text.", where=f"text {index}", wanted="str", got=type(text).__name__)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            "A text cannot be written as bytes.",
            where=f"text {index}, character {error.start}",
            wanted="Unicode text",
            got=f"half a surrogate pair, U+{ord(text[error.start]):04X}",
            do="Read the file as UTF-8 with errors='replace'.",
        ) from error
