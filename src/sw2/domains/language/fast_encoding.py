"""The same ids, ten times as fast: byte-level tokenizers run by `tiktoken`.

`tokenizers` is what trains, saves and decodes; encoding goes through tiktoken where the two must agree. They do when a
tokenizer is nothing but byte-pair merges over words cut by a known expression, and its ids rise with the merges: the
one merges the listed pair of lowest number, the other the two neighbours whose join has the lowest id. A state in which
these differ would be two neighbours that join to a token made from another pair. Merging is local, so the bytes of that
token alone would come to the same state, and not become the token. Each token is therefore encoded once by
`tokenizers`; where one does not come back as itself, or the rule for words is another, there is no fast way.

Notable: expressions are written with possessive repeats, as tiktoken writes its own. Very long runs of white space
still overflow the stack of its regular expressions, so texts with one are left to `tokenizers`.

Source: https://github.com/openai/tiktoken (tiktoken_ext/openai_public.py for the expressions).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, final

import numpy as np
import tiktoken
import tokenizers
from numpy.typing import NDArray

__all__ = ["FastEncoder"]

# Words as GPT-2 cuts them, which is `use_regex` of the pre-tokenizer ByteLevel.
_GPT2: Final = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
# The same with every digit alone: what comes before digits is cut as if it ended there.
_DIGITS: Final = _GPT2.replace(r" ?\p{N}++", r"\p{N}").replace(r"\s++$", r"\s++(?=\p{N})|\s++$")
_WORTH_THREADS: Final = 64  # a pool costs more than a few texts
_RUN: Final = 1000  # a run of white space twice as long holds a whole stretch that begins at a multiple of this


@final
class FastEncoder:
    """Encodes plain text; see the top of this file.

    Args:
        encoding: tiktoken's, without control tokens.
    """

    def __init__(self, encoding: Any) -> None:
        self._encoding = encoding

    @classmethod
    def of(cls, document: str, byte_of: Mapping[str, int]) -> FastEncoder | None:
        """The fast form of a `tokenizer.json`, or None where it would not certainly give the same ids.

        Args:
            document: the text of the file.
            byte_of: the byte that each character of the vocabulary's alphabet stands for.
        """
        said = json.loads(document)
        model, rule = said["model"], said.get("pre_tokenizer") or {}
        plain = (
            model["type"] == "BPE"
            and said.get("normalizer") is None
            and not any(model.get(name) for name in ("dropout", "byte_fallback", "ignore_merges", "fuse_unk"))
            and not model.get("continuing_subword_prefix")
            and not model.get("end_of_word_suffix")
            and all(token["special"] for token in said["added_tokens"])
        )
        words = _words(rule)
        if words is None or not plain:
            return None
        special = {token["content"] for token in said["added_tokens"]}
        spelled = {name: number for name, number in model["vocab"].items() if name not in special}
        if not all(character in byte_of for name in spelled for character in name):
            return None
        ranks = {bytes(byte_of[character] for character in name): number for name, number in spelled.items()}
        pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
        made = [spelled.get("".join(pair), -1) for pair in pairs]
        rising = all(earlier < later for earlier, later in itertools.pairwise(made))
        whole = len(ranks) == len(spelled) == 256 + len(pairs) and all(bytes([byte]) in ranks for byte in range(256))
        if not rising or not whole or (made and made[0] < 0):
            return None
        merging = tokenizers.Tokenizer.from_str(json.dumps({**said, "pre_tokenizer": None, "added_tokens": []}))
        alone = merging.encode_batch_fast(list(spelled), add_special_tokens=False)
        if any(each.ids != [number] for each, number in zip(alone, spelled.values(), strict=True)):
            return None
        encoding = tiktoken.Encoding("sw2", pat_str=words, mergeable_ranks=ranks, special_tokens={})
        return cls(encoding)

    def encode(self, text: str) -> list[int] | None:
        """The ids of a text; None for one that must go the slow way."""
        if any(text[at : at + _RUN].isspace() for at in range(0, len(text) - _RUN + 1, _RUN)):
            return None
        ids: list[int] = self._encoding.encode_ordinary(text)
        return ids

    def encode_batch(self, texts: Sequence[str], threads: int) -> list[NDArray[np.int32] | None]:
        """The same of each text, int32 [T]."""
        if threads < 2 or len(texts) < _WORTH_THREADS:
            return [self._array(text) for text in texts]
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(self._array, texts))

    def _array(self, text: str) -> NDArray[np.int32] | None:
        ids = self.encode(text)
        return None if ids is None else np.asarray(ids, dtype=np.int32)


def _words(rule: Mapping[str, Any]) -> str | None:
    """The expression for a pre-tokenizer, None for one of another kind."""
    steps = rule.get("pretokenizers", [rule]) if rule.get("type") == "Sequence" else [rule]
    *before, last = steps or [{}]
    if (last.get("type"), last.get("add_prefix_space"), last.get("use_regex")) != ("ByteLevel", False, True):
        return None
    if not before:
        return _GPT2
    alone = [{"type": "Digits", "individual_digits": True}]
    return _DIGITS if before == alone else None
