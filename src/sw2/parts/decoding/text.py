"""Tokens to text while they come, never showing half a character.

A byte-level token may end in the middle of a UTF-8 sequence. The bytes of an unfinished character are held back until
the next token completes it. Bytes that cannot become a character turn into U+FFFD, as soon as that is certain.

What it does not do: find stop strings, strip spaces.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from typing import final

__all__ = ["TextStream"]


@final
class TextStream:
    """Turns tokens into whole characters.

    Args:
        token_bytes: the bytes that a token stands for.
    """

    def __init__(self, token_bytes: Callable[[int], bytes]) -> None:
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """Take one token and return the characters that are now complete, possibly none."""
        return self._decoder.decode(self._token_bytes(token))

    def finish(self) -> str:
        """Return what is left: U+FFFD when the last character never came to its end, otherwise nothing."""
        return self._decoder.decode(b"", final=True)
