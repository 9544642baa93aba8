"""Every model against numpy: each key there, each beside it, each type, on the kernels and on the reference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sw2.base.native import processor_flags
from sw2.domains.indexes import native, reference
from sw2.domains.indexes.key_model import KeyModel
from sw2.domains.indexes.models import MODELS, Pgm, RadixSpline
from sw2.domains.indexes.rmi import Rmi
from sw2.domains.indexes.roots import ROOTS

TYPES = ("int64", "uint64", "float64")
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "pgm": [{"epsilon": 1, "inner_epsilon": 1}, {"epsilon": 15}, {"epsilon": 127, "inner_epsilon": 2}],
    "radix-spline": [{"epsilon": 1}, {"epsilon": 32, "bits": 3}, {"epsilon": 8, "bits": 16}],
    "rmi": [
        {"leaves": 1},
        {},
        {"leaves": 100, "root": "log-cubic"},
        {"leaves": 40, "stages": 3, "middle": 7, "root": "neural"},
        {"leaves": 300, "stages": 3, "root": "log-linear"},
    ],
    "quantised-spline": [{"block": 16}, {}, {"block": 300}],
}
CASES = [(name, each) for name in MODELS for each in SETTINGS.get(name, [{}])]


@pytest.fixture(autouse=True)
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels, unless a test says otherwise; compiled once, in this session's home."""
    monkeypatch.setenv("SW2_NATIVE", "on")


needs_kernels = pytest.mark.skipif(native.why_not() is not None, reason=str(native.why_not()))


def fitted(name: str, keys: np.ndarray, **chosen: Any) -> KeyModel:
    return MODELS[name].fit(keys, replace(MODELS[name].Config(), **chosen))


def edge(dtype: str) -> tuple[Any, Any]:
    """The smallest and the largest number of a type."""
    return (-np.inf, np.inf) if dtype == "float64" else (np.iinfo(dtype).min, np.iinfo(dtype).max)


def sets(dtype: str) -> Iterator[tuple[str, np.ndarray]]:
    """Key sets of a few thousand at most, of the kinds that trouble an index."""
    rng = np.random.default_rng(0)
    low, high = edge(dtype)
    kind = np.dtype(dtype).type

    def made(values: Any) -> np.ndarray:
        return np.sort(np.asarray(values).astype(dtype))

    yield "one", made([7])
    yield "two", made([7, 9])
    yield "equal", made([7] * 100)
    yield "smallest", np.array([low] * 40, dtype)
    yield "largest", np.array([high] * 40, dtype)
    yield "ends", np.array([low] * 3 + [kind(5)] * 30 + [high] * 2, dtype)
    yield "line", made(np.arange(3000) * 7)
    yield "uniform", made(rng.integers(0, 1 << 40, 3000))
    yield "lognormal", made(np.exp(rng.normal(0, 4, 3000)) * 1000)
    yield "steps", made(np.repeat(np.arange(60) * 1000, rng.integers(1, 200, 60)))
    yield "gaps", made(np.concatenate([np.arange(500), (1 << 50) + np.arange(500) * 3, [1 << 60]]))
    if dtype != "float64":
        yield "dense", (np.arange(2000) + (1 << 62)).astype(dtype)  # no two of them are different doubles
        if dtype == "uint64":
            yield "high", (np.arange(1000, dtype=np.uint64) * np.uint64(3)) + np.uint64((1 << 64) - 4000)
    else:
        yield "tiny", np.sort(rng.random(1000) * 1e-310)
        yield (
            "wide",
            np.sort(np.concatenate([-(10.0 ** rng.uniform(-300, 308, 500)), 10.0 ** rng.uniform(-300, 308, 500)])),
        )
        yield "infinite", np.sort(np.concatenate([[-np.inf] * 30, rng.normal(size=100), [np.inf] * 30]))
        yield (
            "far",
            np.sort(np.concatenate([[-np.finfo(float).max] * 20, rng.normal(size=50), [np.finfo(float).max] * 20])),
        )
        yield "zeros", np.array([-1.0, -0.0, 0.0, -0.0, 0.0, 1.0])


def questions(keys: np.ndarray) -> np.ndarray:
    """Every key, the numbers beside it, middles of gaps, and both ends of the type."""
    low, high = edge(str(keys.dtype))
    if keys.dtype == np.float64:
        with np.errstate(over="ignore", invalid="ignore"):
            beside = [np.nextafter(keys, np.inf), np.nextafter(keys, -np.inf), keys[:-1] / 2 + keys[1:] / 2]
        extra = np.array([low, high, np.nan, 0.0, -0.0, 5e-324, -5e-324, 1.7e308, -1.7e308])
        found = np.concatenate([keys, *beside, extra])
        return found
    one = keys.dtype.type(1)
    beside = [keys[keys < high] + one, keys[keys > low] - one, keys[:-1] + (keys[1:] - keys[:-1]) // keys.dtype.type(2)]
    return np.concatenate([keys, *beside, np.array([low, high, 0, 1], keys.dtype)])


WAYS = [pytest.param("kernels", marks=needs_kernels), "reference"]


def turn_to(way: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Choose the way; returns how many keys of a set it has time for."""
    monkeypatch.setenv("SW2_NATIVE", "on" if way == "kernels" else "off")
    return 10_000 if way == "kernels" else 300


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("name", "chosen"), CASES)
@pytest.mark.parametrize("way", WAYS)
def test_no_answer_is_wrong(
    name: str, chosen: dict[str, Any], dtype: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = turn_to(way, monkeypatch)
    for called, keys in sets(dtype):
        asked = questions(keys := keys[:most])
        assert np.array_equal(fitted(name, keys, **chosen).locate(keys, asked), np.searchsorted(keys, asked)), called


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("epsilon", [1, 5, 64])
@pytest.mark.parametrize("way", WAYS)
def test_epsilon_holds_for_every_question(dtype: str, epsilon: int, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of PGM: the window of 2 epsilon + 2 places holds the answer, before anything is proven or moved."""
    most = turn_to(way, monkeypatch)
    for called, keys in sets(dtype):
        asked = questions(keys := keys[:most])
        asked = asked[asked == asked]
        low, width = fitted("pgm", keys, epsilon=epsilon).windows(keys, asked)
        answers = np.searchsorted(keys, asked)
        assert (width <= 2 * epsilon + 1).all(), called
        assert ((low <= answers) & (answers <= low + width)).all(), called


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("block", [16, 48, 300])
@pytest.mark.parametrize("way", WAYS)
def test_marks_hold_every_answer(dtype: str, block: int, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the quantised spline: the window holds the answer, and is one block or two where keys lie evenly."""
    most = turn_to(way, monkeypatch)
    for called, keys in sets(dtype):
        asked = questions(keys := keys[:most])
        asked = asked[asked == asked]
        low, width = fitted("quantised-spline", keys, block=block).windows(keys, asked)
        answers = np.searchsorted(keys, asked)
        assert ((low <= answers) & (answers <= low + width)).all(), called
        if called in ("line", "uniform", "dense"):
            assert (width <= 2 * block).all(), called


def test_a_mark_says_where_its_block_ends() -> None:
    keys = np.arange(5000, dtype=np.int64) * 1000
    model = fitted("quantised-spline", keys, block=16)
    assert model.config.groups == 10
    assert model.table("base").tolist() == list(range(0, 5_000_000, 512_000))
    # The last key of a group is 511,000 behind its first: 19 bits, of which 3 are left out.
    assert model.table("dropped").tolist() == [3] * 10
    assert model.table("mark")[:3].tolist() == [2000, 4000, 6000]
    assert model.table("mark")[30:33].tolist() == [62_000, 64_000, 2000]
    assert model.table("mark")[-7:].tolist() == [0xFFFF] * 7  # the last group has 25 blocks


@pytest.mark.parametrize(
    ("values", "scale"), [(np.linspace(0, 1e15, 100_000), "linear"), (np.geomspace(1, 1e15, 100_000), "logarithmic")]
)
def test_the_scale_that_divides_better(values: Any, scale: str) -> None:
    keys = values.astype(np.int64)
    model = fitted("quantised-spline", keys)
    assert model.config.scale == scale
    assert model.config.entries <= model.config.groups
    # On the other scale a cell of evenly growing logarithms holds nearly all groups; here the fullest has a few.
    assert np.diff(model.table("radix").astype(np.int64)).max() <= 8


@needs_kernels
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("radix-spline", {"epsilon": 8}),
        ("rmi", {"leaves": 1}),
        *(("rmi", {"leaves": 50, "root": root}) for root in ROOTS),
        *(("rmi", {"leaves": 50, "stages": 3, "middle": 5, "root": root}) for root in ROOTS),
    ],
)
def test_a_measured_error_holds_for_every_key(name: str, chosen: dict[str, Any], dtype: str) -> None:
    for called, keys in sets(dtype):
        low, width = fitted(name, keys, **chosen).windows(keys, keys)
        answers = np.searchsorted(keys, keys)
        assert ((low <= answers) & (answers <= low + width)).all(), called


@needs_kernels
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("pgm", {"epsilon": 4}),
        ("radix-spline", {"epsilon": 4}),
        ("rmi", {"leaves": 9, "root": "log-neural"}),
        ("rmi", {"leaves": 20, "stages": 3, "middle": 4, "root": "linear"}),
    ],
)
def test_kernels_and_reference_fit_the_same(
    name: str, chosen: dict[str, Any], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for called, keys in sets(dtype):
        if (dtype, called) in {("float64", "tiny"), ("float64", "far"), ("float64", "wide")} and name == "rmi":
            continue  # slopes that no double can tell
        keys = keys[:400]
        turn_to("kernels", monkeypatch)
        one = fitted(name, keys, **chosen)
        turn_to("reference", monkeypatch)
        other = fitted(name, keys, **chosen)
        assert one.config == other.config, called
        for table, kind in one.tables.items():
            if kind == "float64":
                assert np.allclose(one.table(table), other.table(table), rtol=1e-9, atol=1e-6), (called, table)
            else:
                assert np.array_equal(one.table(table), other.table(table)), (called, table)


@pytest.mark.parametrize("path", sorted(native.PATHS))
@pytest.mark.parametrize(
    ("name", "chosen"),
    [("pgm", {}), ("quantised-spline", {}), ("rmi", {"root": "log-neural", "stages": 3})],
)
@needs_kernels
def test_every_path_of_instructions_answers_the_same(path: str, name: str, chosen: dict[str, Any]) -> None:
    if not native._NEEDS[path] <= processor_flags():
        pytest.skip(f"this processor has no {path}")
    for dtype in TYPES:
        for _, keys in sets(dtype):
            asked, model = questions(keys), fitted(name, keys, **chosen)
            answers, function = np.empty(len(asked), np.int64), f"locate_{model.function}"
            native.call(function, keys, len(keys), asked, len(asked), answers, *model.arguments(), path=path)
            assert np.array_equal(answers, np.searchsorted(keys, asked))


def test_the_fewest_lines() -> None:
    """O'Rourke's lines against trying every cut: on short sets no other division has fewer."""
    rng = np.random.default_rng(1)
    for _ in range(10):
        keys = np.sort(rng.choice(100, 20, replace=False)).astype(np.int64)
        points = reference.points_of(keys)
        count = len(fitted("pgm", keys, epsilon=2).table("first"))
        best = [0] + [len(points)] * len(points)
        for end in range(1, len(points) + 1):
            for start in range(end):
                if best[start] + 1 < best[end] and _one_line(points[start:end], 2):
                    best[end] = best[start] + 1
        # The top level is part of the table where one level does not fit a window; here it does.
        assert count == best[-1]


def _one_line(points: reference.Points, epsilon: int) -> bool:
    """Whether some line passes within epsilon of all points: no pair of gates speaks against another."""
    least, most = Fraction(-(10**9)), Fraction(10**9)
    for i, (x1, y1) in enumerate(points):
        for x2, y2 in points[i + 1 :]:
            run = int(x2) - int(x1)
            least = max(least, Fraction(y2 - y1 - 2 * epsilon, run))
            most = min(most, Fraction(y2 - y1 + 2 * epsilon, run))
    return least <= most


@pytest.mark.parametrize("name", sorted(MODELS))
@needs_kernels
def test_a_wrong_model_answers_right(name: str) -> None:
    """Tables full of noise cost time and nothing else. An Eytzinger order holds the keys, so not that one."""
    if name == "eytzinger":
        pytest.skip("what it holds is the keys")
    rng = np.random.default_rng(2)
    keys = np.sort(rng.integers(-(1 << 40), 1 << 40, 5000))
    model, asked = fitted(name, keys), questions(keys)
    for table, dtype in model.tables.items():
        if dtype == "float64":
            spoiled = rng.normal(size=len(model.table(table))) * 1e4
            spoiled[::7] = np.nan
            setattr(model, table, torch.from_numpy(spoiled))
    assert np.array_equal(model.locate(keys, asked), np.searchsorted(keys, asked))
    if name == "quantised-spline":
        model.mark.copy_(torch.from_numpy(rng.integers(-(1 << 15), 1 << 15, len(model.mark), np.int16)))
        model.dropped.copy_(torch.from_numpy(rng.integers(0, 256, len(model.dropped), np.uint8)))
        assert np.array_equal(model.locate(keys, asked), np.searchsorted(keys, asked))
    if isinstance(model, Rmi):  # one of three stages, whose middle points anywhere
        model = fitted(name, keys, leaves=500, stages=3)
        model.begin.copy_(torch.from_numpy(rng.integers(-(1 << 31), 1 << 31, len(model.begin), np.int32)))
        assert np.array_equal(model.locate(keys, asked), np.searchsorted(keys, asked))
        assert np.array_equal(model._searched(keys, asked), np.searchsorted(keys, asked))
    # A model of other keys, too.
    other = MODELS[name].fit(np.sort(rng.integers(0, 1000, 5000)), MODELS[name].Config())
    assert np.array_equal(other.locate(keys, asked), np.searchsorted(keys, asked))


def test_tables_survive_their_tensors() -> None:
    for dtype in TYPES:
        keys = np.sort(np.random.default_rng(3).integers(0, 1 << 50, 2000)).astype(dtype)
        for name in MODELS:
            model = fitted(name, keys)
            again = MODELS[name](model.config)
            again.load_state_dict(model.state_dict())
            assert np.array_equal(again.locate(keys, keys), np.searchsorted(keys, keys))
            assert again.beyond() == model.beyond()
            bits = torch.from_numpy(keys.view(np.int64))
            low, width = model.windows(keys, keys)
            windows = again({"keys": bits, "queries": bits})
            assert np.array_equal(windows["low"].numpy(), low)
            assert np.array_equal(windows["width"].numpy(), width)


def _numbers(dtype: str) -> st.SearchStrategy[Any]:
    if dtype == "float64":
        return st.floats(allow_nan=False)
    low, high = edge(dtype)
    return st.one_of(st.integers(int(low), int(high)), st.integers(0, 50))


@settings(max_examples=150, deadline=None)
@given(data=st.data(), dtype=st.sampled_from(TYPES), epsilon=st.integers(1, 4))
def test_any_keys_any_questions(data: st.DataObject, dtype: str, epsilon: int) -> None:
    keys = np.sort(np.array(data.draw(st.lists(_numbers(dtype), min_size=1, max_size=80)), dtype))
    asked = np.concatenate([np.array(data.draw(st.lists(_numbers(dtype), max_size=20)), dtype), questions(keys)])
    wanted = np.searchsorted(keys, asked)
    models = [fitted(name, keys) for name in MODELS]
    models += [
        Pgm.fit(keys, Pgm.Config(epsilon=epsilon, inner_epsilon=1)),
        RadixSpline.fit(keys, RadixSpline.Config(epsilon=epsilon, bits=5)),
        Rmi.fit(keys, Rmi.Config(leaves=epsilon, stages=3, root="cubic")),
    ]
    for model in models:
        assert np.array_equal(model.locate(keys, asked), wanted), model.config
    low, width = models[-3].windows(keys, asked[asked == asked])
    answers = wanted[asked == asked]
    assert ((low <= answers) & (answers <= low + width)).all()


@pytest.mark.slow
@needs_kernels
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_hundred_million_look_ups(name: str) -> None:
    """Half of them keys that are there; of eight models together more than 10^9, each against numpy."""
    rng = np.random.default_rng(4)
    for keys in (
        np.sort(rng.integers(-(1 << 62), 1 << 62, 2_000_000)),
        np.sort((np.exp(rng.normal(0, 2, 2_000_000)) * 1e9).astype(np.uint64)),
        np.sort(rng.normal(size=2_000_000)),
        np.repeat(np.arange(2_000, dtype=np.int64) * 1_000_003, 1_000),
    ):
        model = fitted(name, keys)
        for _ in range(32):
            asked = keys[rng.integers(0, len(keys), 1_000_000)]
            if keys.dtype == np.float64:
                asked[::2] = np.nextafter(asked[::2], np.inf)
            else:
                asked[::2] += keys.dtype.type(1)
            asked.sort()  # numpy answers a sorted batch ten times as fast
            wanted = np.searchsorted(keys, asked)
            order = rng.permutation(len(asked))
            assert np.array_equal(model.locate(keys, asked[order]), wanted[order])
