"""Maps and neighbours against scipy, numpy and loops; what a rotation must not change."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sw2.domains.words.alignment import geometry
from sw2.domains.words.alignment.geometry import densities, nearest, normalised, procrustes, reweighted, unit


def vectors(rows: int, dimensions: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, dimensions)).astype(np.float32))


def rotation(dimensions: int, seed: int = 0) -> Tensor:
    return torch.linalg.qr(vectors(dimensions, dimensions, seed).double())[0].float()


@pytest.mark.parametrize(("rows", "dimensions"), [(40, 5), (7, 7), (3, 6), (1, 1)])
def test_procrustes_is_scipys(rows: int, dimensions: int) -> None:
    source, target = vectors(rows, dimensions, 1), vectors(rows, dimensions, 2)
    found = procrustes(source, target)
    assert torch.allclose(found @ found.T, torch.eye(dimensions), atol=1e-5)
    wanted, _ = scipy.linalg.orthogonal_procrustes(source.numpy().astype(float), target.numpy().astype(float))
    if rows >= dimensions:  # with fewer pairs there is more than one best map
        assert np.allclose(found.numpy(), wanted, atol=1e-4)
    least = np.linalg.norm(source.numpy() @ wanted - target.numpy())
    assert float((source @ found - target).norm()) == pytest.approx(least, rel=1e-4)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), dimensions=st.integers(1, 12))
def test_procrustes_finds_any_rotation(seed: int, dimensions: int) -> None:
    source, turn = vectors(5 * dimensions + 5, dimensions, seed), rotation(dimensions, seed + 1)
    assert torch.allclose(procrustes(source, source @ turn), turn, atol=1e-4)


def test_normalised_rows_have_length_one_and_nearly_no_mean() -> None:
    found = normalised(vectors(300, 6) + 3)
    assert torch.allclose(found.norm(dim=1), torch.ones(300), atol=1e-6)
    assert float(found.mean(dim=0).abs().max()) < 0.05
    assert torch.equal(unit(torch.zeros(2, 3)), torch.zeros(2, 3))


def naive_csls(queries: np.ndarray, others: np.ndarray, neighbours: int) -> np.ndarray:
    """Equations 4 and 5 of Conneau et al. (2018), a pair at a time."""

    def crowded(word: np.ndarray, words: np.ndarray) -> float:
        return float(np.mean(sorted((float(word @ each) for each in words), reverse=True)[:neighbours]))

    scores = np.zeros((len(queries), len(others)))
    for row, query in enumerate(queries):
        for place, other in enumerate(others):
            scores[row, place] = 2 * query @ other - crowded(query, others) - crowded(other, queries)
    return scores


@pytest.mark.parametrize("neighbours", [1, 4, 100])
@pytest.mark.parametrize("at_once", [1, 50, 16_000_000])
def test_neighbours_are_those_of_a_loop(neighbours: int, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geometry, "_AT_ONCE", at_once)
    queries, others = unit(vectors(17, 5, 3)), unit(vectors(23, 5, 4))
    wanted = naive_csls(queries.numpy().astype(float), others.numpy().astype(float), neighbours)
    crowded, crowded_others = densities(queries, others, neighbours), densities(others, queries, neighbours)
    scores, rows = nearest(queries, others, 3, crowded, crowded_others)
    assert np.array_equal(rows.numpy(), np.argsort(-wanted, axis=1)[:, :3])
    assert np.allclose(scores.numpy(), -np.sort(-wanted, axis=1)[:, :3], atol=1e-5)
    cosines = (queries @ others.T).numpy()
    scores, rows = nearest(queries, others, 1000)
    assert np.array_equal(rows.numpy(), np.argsort(-cosines, axis=1))
    assert np.allclose(scores.numpy(), -np.sort(-cosines, axis=1), atol=1e-6)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_a_rotation_of_both_languages_changes_no_neighbour(seed: int) -> None:
    source, target, turn = normalised(vectors(30, 6, seed)), normalised(vectors(40, 6, seed + 1)), rotation(6, seed + 2)
    one = nearest(source, target, 3, densities(source, target, 5), densities(target, source, 5))
    source, target = source @ turn, target @ turn
    other = nearest(source, target, 3, densities(source, target, 5), densities(target, source, 5))
    assert torch.allclose(one[0], other[0], atol=1e-5)
    assert float((one[1] == other[1]).float().mean()) > 0.95  # but for near ties


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_reweighting_is_that_of_the_paper(power: float) -> None:
    """By singular values of each matrix, as section 3.4 of Artetxe et al. (2018b) writes it down."""
    source, target = vectors(200, 6, 5), vectors(200, 6, 5) @ rotation(6) + 0.5 * vectors(200, 6, 6)
    maps = []
    whitened = []
    for each in (source, target):
        _, values, axes = np.linalg.svd(each.numpy().astype(float), full_matrices=False)
        maps.append(axes.T @ np.diag(1 / values) @ axes)
        whitened.append(each.numpy() @ maps[-1])
    u, s, vt = np.linalg.svd(whitened[0].T @ whitened[1])
    wanted = [
        white @ turn @ np.diag(s**power) @ turn.T @ np.linalg.inv(white) @ turn
        for white, turn in zip(maps, (u, vt.T), strict=True)
    ]
    found = reweighted(source, target, power)
    # Axes may be mirrored, in both languages at once: what is compared is what stays.
    for one, other in ((0, 1), (0, 0), (1, 1)):
        mapped = [(source, target)[each].numpy() @ found[each].numpy() for each in (one, other)]
        papers = [(source, target)[each].numpy() @ wanted[each] for each in (one, other)]
        assert np.allclose(mapped[0] @ mapped[1].T, papers[0] @ papers[1].T, rtol=1e-3, atol=1e-3)


def test_axes_without_anything_on_them_do_not_blow_up() -> None:
    flat = vectors(50, 4)
    flat[:, 2] = 0
    for map_DD in reweighted(flat, flat @ rotation(4), 0.5):
        assert bool(map_DD.isfinite().all())
        assert float(map_DD.abs().max()) < 100
