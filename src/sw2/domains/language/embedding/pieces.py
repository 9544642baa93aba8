"""From a text to the tokens that an encoder reads: BERT's WordPiece, by the library `tokenizers`.

    "Who repairs it?" -> [CLS] who repairs it ? [SEP] -> ids, at most `most_tokens` of them, the end cut off

The saved form is `tokenizer.json`. Its own padding and cut are switched off: the longest text that a model is used with
is a setting of the program, and rows are padded where they are put together. Text is data: the characters `[SEP]` in it
become ordinary pieces, never the control token.

Sources: Schuster & Nakajima 2012, "Japanese and Korean voice search" (WordPiece); Devlin et al. 2018,
https://arxiv.org/abs/1810.04805, section 3.

What it does not do: training a vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from sw2.base.config import check_ranges, from_dict, to_dict
from sw2.base.errors import DataError, ProgramError
from sw2.base.names import missing_extra
from sw2.core.task import Prep, PrepState

try:
    import tokenizers
except ModuleNotFoundError as error:
    raise missing_extra(str(error.name)) from error

__all__ = ["PieceConfig", "PiecePrep"]


@dataclass(frozen=True, kw_only=True)
class PieceConfig:
    """How much of a text is read.

    Args:
        most_tokens: of a text, its two control tokens included; what comes after is not read.
    """

    most_tokens: int = 256

    def __post_init__(self) -> None:
        check_ranges("prep", self, {"most_tokens": (self.most_tokens >= 3, "a whole number of 3 or more")})


@final
class PiecePrep(Prep):
    """The tokenizer.

    Args:
        json: the text of a `tokenizer.json`.
        config: how much of a text is read.

    Raises:
        ProgramError: `json` is no tokenizer, or one of another kind.
    """

    def __init__(self, json: str, config: PieceConfig) -> None:
        try:
            inner = tokenizers.Tokenizer.from_str(json)
        except Exception as error:  # the library raises bare Exception
            raise ProgramError("The tokenizer cannot be read.", got=error, do="Restore tokenizer.json.") from error
        if not isinstance(inner.model, tokenizers.models.WordPiece) or inner.num_special_tokens_to_add(False) != 2:
            raise ProgramError(
                "The tokenizer is of another kind.",
                wanted="WordPiece that puts a control token on either side of a text",
                got=inner.model,
            )
        inner.no_padding()
        inner.no_truncation()
        self._json, self.config = str(inner.to_str()), config
        inner.enable_truncation(config.most_tokens)
        # Not part of the saved form, so it has to be said again after every loading.
        inner.encode_special_tokens = True
        self._inner = inner

    @property
    def vocab_size(self) -> int:
        """One more than the highest id."""
        return 1 + max(map(int, self._inner.get_vocab(with_added_tokens=True).values()))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, on all threads.

        Raises:
            DataError: what should be a text is none, or holds half a surrogate pair.
        """
        for number, text in enumerate(texts):
            if not isinstance(text, str):
                raise DataError("Only texts are embedded.", where=f"input {number}", wanted="a text", got=repr(text))
            try:
                text.encode("utf-8")
            except UnicodeEncodeError as error:
                raise DataError(
                    "A text holds half a surrogate pair.", where=f"input {number}", wanted="whole characters", got=error
                ) from error
        return [list(each.ids) for each in self._inner.encode_batch_fast(list(texts))]

    def state(self) -> PrepState:
        return PrepState(config=to_dict(self.config), assets={"tokenizer.json": self._json.encode()})

    @classmethod
    def restore(cls, state: PrepState) -> PiecePrep:
        return cls(state.assets["tokenizer.json"].decode(), from_dict(PieceConfig, state.config, "prep"))
