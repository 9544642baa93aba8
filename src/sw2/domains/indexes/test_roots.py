"""Roots of a recursive model index: what each is, that it rises, and that the best is taken."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sw2.base.errors import UsageError
from sw2.domains.indexes import reference
from sw2.domains.indexes.rmi import Rmi
from sw2.domains.indexes.roots import ROOTS, Root, RootName, fitted_root

LINES = 1 << 10


def lognormal(count: int) -> np.ndarray:
    drawn = np.exp(2 * np.random.default_rng(0).normal(size=count)) * 1e9
    return np.sort(drawn.astype(np.int64))


def uniform(count: int) -> np.ndarray:
    return np.sort(np.random.default_rng(1).integers(0, 1 << 60, count))


def parts(root: Root, keys: np.ndarray, queries: np.ndarray) -> np.ndarray:
    u = reference.scaled(reference.distances(queries, keys[:1]), root.table, logarithmic=root.logarithmic)
    return reference.risen(u, root.table, root.hidden)


def halvings(keys: np.ndarray, **chosen: Any) -> float:
    """The mean of log2 of the windows of all keys."""
    _, width = Rmi.fit(keys, Rmi.Config(leaves=LINES, **chosen)).windows(keys, keys)
    return float(np.log2(1 + width).mean())


def test_lognormal_keys_need_a_root_that_bends() -> None:
    """A line leaves most lines of the next stage without keys; with as many bytes others save five halvings."""
    keys = lognormal(200_000)
    straight = halvings(keys, root="linear")
    assert fitted_root(keys, "measured", LINES).name not in ("linear", "radix")
    assert halvings(keys) < straight - 4
    assert halvings(keys, root="neural") < straight - 4
    assert halvings(keys, root="log-linear") < straight - 3
    assert halvings(keys, root="cubic") < straight - 1
    # Three stages give each line of the middle as many leaves as its keys need, whatever the root.
    assert halvings(keys, stages=3, root="linear") < straight - 3


def test_even_keys_need_no_more_than_a_line() -> None:
    keys = uniform(200_000)
    assert fitted_root(keys, "measured", LINES).name == "linear"
    best = min(halvings(keys, root=root) for root in ROOTS)
    assert halvings(keys) < best + 0.25


@pytest.mark.parametrize("name", ROOTS)
@pytest.mark.parametrize(
    "make", [lognormal, uniform, lambda count: np.sort(np.random.default_rng(2).normal(size=count))]
)
def test_every_root_rises(name: RootName, make: Any) -> None:
    keys = make(20_000)
    risen = parts(fitted_root(keys, name, LINES), keys, keys)
    assert (np.diff(risen) > -1e-9).all()
    assert np.isfinite(risen).all()


@settings(max_examples=60, deadline=None)
@given(keys=st.lists(st.floats(allow_nan=False), min_size=1, max_size=40), name=st.sampled_from(ROOTS))
def test_any_keys_have_a_root(keys: list[float], name: RootName) -> None:
    made = np.sort(np.array(keys))
    root = fitted_root(made, name, 7)
    assert np.isfinite(root.table).all()
    assert np.isfinite(root.hidden).all()
    assert len(root.hidden) <= 32
    assert root.table[:2].tolist() == root.times(7)[0][:2].tolist()


def test_a_line_is_that_of_least_squares() -> None:
    keys = uniform(5000)
    found = parts(fitted_root(keys, "linear", LINES), keys, keys)
    wanted = np.polynomial.Polynomial.fit(keys.astype(float), np.arange(5000) / 5000, 1)(keys.astype(float))
    assert np.allclose(found, wanted, atol=1e-9)


def test_a_cubic_is_that_of_least_squares_where_that_rises() -> None:
    keys = (np.sqrt(np.arange(1, 5001) / 5000) * 1e15).astype(np.int64)  # places go with the square
    found = parts(fitted_root(keys, "cubic", LINES), keys, keys)
    wanted = np.polynomial.Polynomial.fit(keys.astype(float), np.arange(5000) / 5000, 3)(keys.astype(float))
    assert np.allclose(found, wanted, atol=1e-6)


def test_a_network_learns_kinks_and_is_better_than_a_line() -> None:
    """Three pieces of 1000 keys: a network of ReLU can be exactly these, and nearly is."""
    keys = np.concatenate([np.arange(1000) * 10, 10_000 + np.arange(1000) * 1000, 1_010_000 + np.arange(1000) * 50])
    off = {
        name: float(np.abs(parts(fitted_root(keys, name, LINES), keys, keys) - np.arange(3000) / 3000).mean())
        for name in ROOTS
    }
    assert off["neural"] < 0.002
    assert min(off["linear"], off["cubic"]) > 10 * off["neural"]


def test_a_radix_divides_the_distance_evenly() -> None:
    keys = np.sort(np.append(lognormal(1000), [0, 1 << 50]))
    asked = np.arange(1024, dtype=np.int64) << 40
    assert np.array_equal(np.floor(parts(fitted_root(keys, "radix", LINES), keys, asked) * 1024), np.arange(1024))


def test_the_logarithm_is_nearly_one() -> None:
    numbers = 10.0 ** np.linspace(-300, 300, 10_000)
    found = reference.logarithm(numbers) / 2.0**52 - 1023
    assert np.abs(found - np.log2(numbers)).max() < 0.0861
    assert reference.logarithm(np.array([0.0, -0.0])).tolist() == [0, 0]


@pytest.mark.parametrize("wrong", [{"stages": 4}, {"middle": 3}, {"stages": 3, "middle": -1}, {"leaves": -1}])
def test_settings_that_cannot_be(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="model"):
        Rmi.Config(**wrong)  # type: ignore[arg-type]
