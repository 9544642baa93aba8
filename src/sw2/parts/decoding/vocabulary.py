"""What decoding needs to know of a tokenizer.

What it does not do: a tokenizer itself; the domains bring theirs.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

__all__ = ["Vocabulary"]


class Vocabulary(Hashable, Protocol):
    """A tokenizer, as seen from the text that tokens become."""

    @property
    def vocab_size(self) -> int:
        """How many tokens there are, numbered from 0."""
        ...

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes that `token` stands for; a control token stands for none."""
        ...

    def encode(self, text: str) -> list[int]:
        """Return the tokens of `text`, control tokens never among them."""
        ...
