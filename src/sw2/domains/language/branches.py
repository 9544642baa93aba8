"""Answers to one prompt, as rows to learn from: the prompt is read once, and answers do not see each other.

    tokens      prompt . . . . . . | answer 1 . . | answer 2 . . . . | padding
    branches    0 0 0 0 0 0 0 0 0    1 1 1 1 1 1    2 2 2 2 2 2 2 2    -1 -1
    positions   0 1 2 3 4 5 6 7 8    9 10 …         9 10 …              0  0

What is computed for each answer is what a row of its own would give it. Two answers after a prompt of five times their
length take 7 parts of work instead of 12, and eight take 13 instead of 48; the widely used trainers read the prompt
anew for each.

Rows may hold several such groups, which do not see each other either (`packed`).

A decoder with recall looks for repetitions across the whole text, so there each answer is a row of its own:
`share=False`. Whoever computes with a batch need not know which it is: see `read`, `answer_nats` and `at_places`.

Shapes: N prompts · G answers to each · R rows · T tokens of a row · P places of an answer or of a row
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
import torch
from torch import Tensor

from sw2.core.model import Batch
from sw2.parts.data.packing import in_common

__all__ = ["Group", "Text", "answer_nats", "as_batch", "at_places", "learned", "packed", "read"]

_STEP: Final = 64
"""Rows are a multiple of this long, so that shapes are few."""


@final
@dataclass(frozen=True)
class Text:
    """A prompt and an answer to it.

    Args:
        tokens: what is read, int64 [T].
        targets: what is to follow each of them, int64 [T]; -1 where nothing is learned.
    """

    tokens: np.ndarray
    targets: np.ndarray


def as_batch(groups: Sequence[Sequence[Text]], *, share: bool) -> Batch:
    """Groups of texts that begin alike, each with as many as the others.

    Args:
        groups: N of G texts.
        share: whether what the texts of a group have in common is read once.

    Returns:
        "tokens" int64 [N, T] with "branches" and "positions" [N, T], or [N, G, T] where nothing is shared; "places"
        and "targets" int64 [N, G, P], where in its row an answer's tokens are predicted and what they are, -1 where
        there are no more; "last" int64 [N, G], where its text ends.
    """
    N, G = len(groups), len(groups[0])
    # One answer shares its prompt with nobody, and needs no mask then.
    share = share and G > 1
    rows = [_shared(group) if share else _apart(group) for group in groups]
    length = -(-max(len(part) for row in rows for part in row.tokens) // _STEP) * _STEP
    most = max(1, *(int((text.targets >= 0).sum()) for group in groups for text in group))
    tokens, branches, positions = (np.full((N, len(rows[0].tokens), length), empty) for empty in (0, -1, 0))
    places_NGP, targets_NGP = np.zeros((N, G, most), np.int64), np.full((N, G, most), -1)
    last_NG = np.zeros((N, G), np.int64)
    for number, (group, row) in enumerate(zip(groups, rows, strict=True)):
        for part in range(len(row.tokens)):
            here = (number, part, slice(len(row.tokens[part])))
            tokens[here], branches[here], positions[here] = row.tokens[part], row.branches[part], row.positions[part]
        for answer, (text, where) in enumerate(zip(group, row.places, strict=True)):
            known = np.flatnonzero(text.targets >= 0)
            places_NGP[number, answer, : len(known)] = where[known]
            targets_NGP[number, answer, : len(known)] = text.targets[known]
            last_NG[number, answer] = where[-1]
    arrays = {"places": places_NGP, "targets": targets_NGP, "last": last_NG, "tokens": tokens}
    if share:
        arrays |= {"tokens": tokens[:, 0], "branches": branches[:, 0], "positions": positions[:, 0]}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


@dataclass(frozen=True)
class _Rows:
    """The rows of a group: one that branches, or one for each text; and where in its row each text's tokens stand."""

    tokens: Sequence[np.ndarray]
    branches: Sequence[np.ndarray]
    positions: Sequence[np.ndarray]
    places: Sequence[np.ndarray]


def _apart(group: Sequence[Text]) -> _Rows:
    places = [np.arange(len(text.tokens)) for text in group]
    return _Rows([text.tokens for text in group], [np.zeros_like(each) for each in places], places, places)


def _shared(texts: Sequence[Text]) -> _Rows:
    group = Group.of(texts)
    arrays, places = packed([[group]], group.size)
    return _Rows([arrays["tokens"][0]], [arrays["branches"][0]], [arrays["positions"][0]], places[0][0])


@final
@dataclass(frozen=True)
class Group:
    """Texts that begin alike.

    Args:
        texts: one or several.
        common: how many of their first tokens are read once.
    """

    texts: Sequence[Text]
    common: int = 0

    @classmethod
    def of(cls, texts: Sequence[Text]) -> Group:
        """Texts with all that they have in common, answers too as far as they are the same."""
        return cls(texts, in_common([text.tokens for text in texts]))

    @property
    def size(self) -> int:
        """How many tokens it takes in a row."""
        return sum(len(text.tokens) for text in self.texts) - (len(self.texts) - 1) * self.common


def packed(rows: Sequence[Sequence[Group]], length: int) -> tuple[dict[str, np.ndarray], list[list[list[np.ndarray]]]]:
    """Rows of groups that do not see each other.

    Args:
        rows: the groups of each row.
        length: T, at least what each row needs.

    Returns:
        "tokens", "documents", "branches" and "positions", int64 [R, T], as `Decoder.forward` has them; and of each row,
        group and text where in the row its tokens stand.
    """
    shape = (len(rows), length)
    arrays = {
        "tokens": np.zeros(shape, np.int64),
        "documents": np.full(shape, -1),
        "branches": np.full(shape, -1),
        "positions": np.zeros(shape, np.int64),
    }
    places: list[list[list[np.ndarray]]] = []
    for row, groups in enumerate(rows):
        places.append([])
        at = 0
        for document, group in enumerate(groups):
            begins = np.arange(at, at + group.common)
            places[-1].append([])
            for branch, text in enumerate(group.texts):
                # The first brings what all have in common along.
                skipped = group.common if branch else 0
                here = slice(at, at + len(text.tokens) - skipped)
                arrays["tokens"][row, here], arrays["documents"][row, here] = text.tokens[skipped:], document
                arrays["positions"][row, here] = np.arange(skipped, len(text.tokens))
                arrays["branches"][row, here] = branch + 1
                arrays["branches"][row, begins] = 0
                places[-1][-1].append(np.concatenate([begins[:skipped], np.arange(here.start, here.stop)]))
                at = here.stop
    return arrays, places


def learned(
    rows: Sequence[Sequence[Group]], places: Sequence[Sequence[Sequence[np.ndarray]]], most: int | None = None
) -> dict[str, np.ndarray]:
    """What is learned of rows, one text after the other.

    Args:
        rows, places: as `packed` takes and returns them.
        most: P; as many as these rows need if None.

    Returns:
        "places" and "targets", int64 [R, P], where in its row each learned token is predicted and what it is, -1 where
        there are no more; "texts" int64 [R, P], which text of its row it belongs to.
    """
    texts_of = [[text for group in groups for text in group.texts] for groups in rows]
    P = max(sum(int((text.targets >= 0).sum()) for text in texts) for texts in texts_of) if most is None else most
    places_RP, targets_RP, texts_RP = (np.full((len(rows), P), empty) for empty in (0, -1, 0))
    for row, (texts, found) in enumerate(zip(texts_of, places, strict=True)):
        at = 0
        for number, (text, there) in enumerate(zip(texts, itertools.chain(*found), strict=True)):
            known = np.flatnonzero(text.targets >= 0)
            here = slice(at, at := at + len(known))
            places_RP[row, here], targets_RP[row, here], texts_RP[row, here] = there[known], text.targets[known], number
    return {"places": places_RP, "targets": targets_RP, "texts": texts_RP}


def read(batch: Batch) -> Batch:
    """What a network reads of a batch: "tokens" [R, T], and what `Decoder.forward` has to know beside them."""
    if batch["tokens"].ndim == 3:
        return {"tokens": batch["tokens"].flatten(0, 1)}
    return {name: batch[name] for name in ("tokens", "documents", "branches", "positions") if name in batch}


def answer_nats(net: Callable[[Batch], Mapping[str, Tensor]], batch: Batch) -> Tensor:
    """Return -ln p of each learned token, float32 [N, G, P]; 0 where there is none."""
    rows = read(batch)
    of_rows = {name: batch[name].reshape(len(rows["tokens"]), -1) for name in ("places", "targets")}
    return net({**rows, **of_rows})["nats"].view_as(batch["targets"])


def at_places(scores_RT: Tensor, places: Tensor) -> Tensor:
    """Of scores for each token that `read` gave, those at "places" or "last", in its shape."""
    return scores_RT.gather(1, places.reshape(len(scores_RT), -1)).view_as(places)
