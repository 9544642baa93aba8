"""Scores of a language model that compare across tokenisers, and one that does not.

The loss per token depends on how many tokens the tokeniser makes; the loss per *byte* of the text does not, so bits per
byte compares models with different vocabularies. It is also the compression rate that the model would reach with an
arithmetic coder: 8 is no compression.

Source: Shannon, "Prediction and entropy of printed English" (1951); Gao et al., "The Pile" (2020),
https://arxiv.org/abs/2101.00027, section 3.1, for bits per byte.

It knows no tokeniser: the caller adds up nats and counts bytes of the same text, in UTF-8.
"""

from __future__ import annotations

import math

from sw2.base.errors import DataError

__all__ = ["bits_per_byte", "perplexity"]


def bits_per_byte(nats: float, num_bytes: int) -> float:
    """The loss in bits per byte: nats / (ln 2 * bytes).

    Args:
        nats: the sum of -ln p over all tokens of the text.
        num_bytes: the length of the text in UTF-8, at least 1.

    Raises:
        DataError: when the text is empty.

    >>> bits_per_byte(nats=math.log(2) * 12, num_bytes=4)
    3.0
    """
    if num_bytes < 1:
        raise DataError("There is no text to score.", wanted="at least one byte", got=num_bytes)
    return nats / (math.log(2) * num_bytes)


def perplexity(nats: float, num_tokens: int) -> float:
    """exp(nats / tokens): among how many equally likely tokens the model is as unsure; infinite where exp overflows.

    Compare it only between models with the same tokeniser.

    Args:
        nats: the sum of -ln p over all tokens of the text.
        num_tokens: how many tokens were predicted, at least 1.

    Raises:
        DataError: when no token was predicted.

    >>> round(perplexity(nats=math.log(7) * 3, num_tokens=3), 6)
    7.0
    """
    if num_tokens < 1:
        raise DataError("There is no token to score.", wanted="at least one token", got=num_tokens)
    try:
        return math.exp(nats / num_tokens)
    except OverflowError:
        return math.inf
