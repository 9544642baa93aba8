"""How text becomes tokens in a program: its tokenizer, and what the control tokens in it mean.

    text → TextPrep (a byte-level BPE trained on the training documents, or that of a foreign model) → ids, int32 [T]

`TokenPrep` is what learning, writing and judging need of it; whole words as tokens are another one (`window.words`).

Notable: what a model's control tokens mean travels in `controls.json` beside `tokenizer.json`; programs trained here
have the defaults and no such file. Both are held to each other when a program is opened.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sw2.base.config import to_dict
from sw2.base.errors import ProgramError
from sw2.base.store import parse_json, pretty_json
from sw2.core.data import Split
from sw2.core.task import Prep, PrepState
from sw2.domains.language.tokenizer import END_OF_TEXT, Tokenizer
from sw2.parts.decoding.vocabulary import Vocabulary

__all__ = ["Controls", "PrepConfig", "TextPrep", "TokenPrep"]


@dataclass(frozen=True, kw_only=True)
class PrepConfig:
    """How text becomes tokens.

    Args:
        vocab_size: at most so many tokens, at least 257.
        digits: "merged" like letters, or "single": each one a token, for numbers that are copied and reckoned with.
    """

    vocab_size: int = 4096
    digits: Literal["merged", "single"] = "merged"


@dataclass(frozen=True, kw_only=True)
class Controls:
    """What a model's control tokens mean, each as it is written.

    Args:
        document: stands before each document that is learned from or judged.
        begins: stands before each prompt; "" for nothing.
        ends: those that end what the model writes.
        chat_template: see `chat.template`; "" for a model that does not chat.
        named: what templates call them, such as {"bos_token": "<s>"}.
    """

    document: str = END_OF_TEXT
    begins: str = END_OF_TEXT
    ends: tuple[str, ...] = (END_OF_TEXT,)
    chat_template: str = ""
    named: Mapping[str, str] = field(default_factory=dict)


class _Tokens(Vocabulary, Protocol):
    """A tokenizer, as seen from what learns and judges."""

    @property
    def end_of_text(self) -> int:
        """The control token that stands between documents."""
        ...

    @property
    def control(self) -> Mapping[str, int]:
        """The tokens that no text can become, by how they are written."""
        ...

    def encode_batch(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Return the ids of each text, without a control token on either side."""
        ...

    def to_json(self) -> str:
        """Return all that decides which tokens a text becomes."""
        ...


class TokenPrep(Prep):
    """A tokenizer, and what its control tokens mean."""

    tokenizer: _Tokens
    controls: Controls

    def documents(self, examples: Split) -> Iterator[np.ndarray]:
        """The tokens of each document, with the token between documents in front: int32 [T]."""
        end = np.array([self.tokenizer.end_of_text], dtype=np.int32)
        # The next texts are read while these are encoded, on all threads.
        with ThreadPoolExecutor(1) as reader:
            batches = _batches(examples)
            coming = reader.submit(next, batches, None)
            while (texts := coming.result()) is not None:
                coming = reader.submit(next, batches, None)
                for tokens in self.tokenizer.encode_batch(texts):
                    yield np.concatenate([end, tokens])

    @abstractmethod
    def spelling_bits(self, texts: Iterable[str]) -> float:
        """The bits that would tell, beside the tokens of `texts`, what those stand for that stand for several words."""


class TextPrep(TokenPrep):
    """The tokenizer.

    Args:
        tokenizer: see `tokenizer`.
        config: what it was trained from.
        controls: what its control tokens mean; the default is that of tokenizers trained here.
    """

    tokenizer: Tokenizer

    def __init__(self, tokenizer: Tokenizer, config: PrepConfig, controls: Controls | None = None) -> None:
        self.tokenizer, self.config, self.controls = tokenizer, config, controls or Controls()

    def spelling_bits(self, texts: Iterable[str]) -> float:
        """None: the tokens are the text, byte for byte."""
        del texts
        return 0.0

    def state(self) -> PrepState:
        assets = {"tokenizer.json": self.tokenizer.to_json().encode()}
        if self.controls != Controls():
            assets["controls.json"] = pretty_json(to_dict(self.controls)).encode()
        return PrepState(config=to_dict(self.config), assets=assets)

    @classmethod
    def restore(cls, state: PrepState) -> TextPrep:
        controls = Controls()
        if "controls.json" in state.assets:
            said = parse_json(state.assets["controls.json"])
            controls = Controls(**{**said, "ends": tuple(said["ends"])})
        tokenizer = Tokenizer(state.assets["tokenizer.json"].decode(), controls.document)
        known = tokenizer.control
        named = (controls.document, *([controls.begins] if controls.begins else ()), *controls.ends)
        if strange := [token for token in named if token not in known] or ([] if controls.ends else ["no end"]):
            raise ProgramError(
                "The program's control tokens are not those of its tokenizer.",
                where="controls.json",
                wanted=" or ".join(known),
                got=", ".join(map(str, strange)),
            )
        return cls(tokenizer, PrepConfig(**state.config), controls)


_ENCODED_AT_ONCE: Final = 2**23


def _batches(examples: Split) -> Iterator[list[str]]:
    """The texts in lists of at most about eight million characters."""
    texts: list[str] = []
    size = 0
    for example in examples:
        texts.append(example["text"])
        size += len(texts[-1])
        if size >= _ENCODED_AT_ONCE:
            yield texts
            texts, size = [], 0
    if texts:
        yield texts
