"""`parts.layers.recall` against a direct search in pure Python."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from sw2.parts.layers.recall import recall


def _searched(tokens: list[int], documents: list[int], at: int, order: int) -> int | None:
    """The token after the latest s < at with tokens[s-order+1..s] == tokens[at-order+1..at], all in one document."""
    if at - order + 1 < 0 or documents[at - order + 1] != documents[at]:
        return None
    wanted = tokens[at - order + 1 : at + 1]
    for s in range(at - 1, order - 2, -1):
        inside = documents[s - order + 1] == documents[s] == documents[at]
        if inside and tokens[s - order + 1 : s + 1] == wanted:
            return tokens[s + 1]
    return None


@st.composite
def texts(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    tokens = draw(st.lists(st.integers(0, 3), min_size=1, max_size=24))
    borders = draw(st.lists(st.booleans(), min_size=len(tokens), max_size=len(tokens)))
    documents = [sum(borders[: i + 1]) for i in range(len(tokens))]
    return tokens, documents


@given(texts(), st.integers(1, 4))
def test_recall_finds_what_a_search_finds(text: tuple[list[int], list[int]], orders: int) -> None:
    tokens, documents = text
    positions = torch.arange(len(tokens))[None]
    found, known = recall(torch.tensor([tokens]), positions, orders, torch.tensor([documents]))
    for at in range(len(tokens)):
        for order in range(1, orders + 1):
            expected = _searched(tokens, documents, at, order)
            assert known[0, at, order - 1] == (expected is not None)
            assert found[0, at, order - 1] == (expected or 0)


def test_recall_of_single_queries_equals_that_of_all() -> None:
    tokens = torch.randint(0, 5, (3, 40), generator=torch.Generator().manual_seed(0))
    everywhere = recall(tokens, torch.arange(40).expand(3, 40), 3)
    for at in (0, 1, 7, 39):
        # What comes later is not looked at.
        hidden = tokens.clone()
        hidden[:, at + 1 :] = 9
        single = recall(hidden, torch.full((3, 1), at), 3)
        for one, every in zip(single, everywhere, strict=True):
            assert torch.equal(one[:, 0], every[:, at])
