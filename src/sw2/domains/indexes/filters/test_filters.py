"""Filters: nothing is ever denied that was added, rates are kept, and the kernels do what the reference does."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sw2.domains.indexes.filters.data import Learned
from sw2.domains.indexes.filters.keysets import KeySet, of_numbers, of_questions, of_texts, why_not
from sw2.domains.indexes.filters.models import MODELS, BloomFilter, Filter, SandwichedFilter
from sw2.domains.indexes.filters.objective import LearnConfig, classifier, planned
from sw2.domains.indexes.filters.sizes import Field, field_for, sandwich
from sw2.domains.indexes.keys import TEXT, KeyKind
from sw2.parts.metrics.intervals import wilson


@pytest.fixture(autouse=True)
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels, unless a test says otherwise; compiled once, in this session's home."""
    monkeypatch.setenv("SW2_NATIVE", "on")


REASON = why_not()
needs_kernels = pytest.mark.skipif(REASON is not None, reason=str(REASON))

texts = st.lists(st.text(max_size=30), min_size=1, max_size=40)
whole = st.lists(st.integers(-(1 << 63), (1 << 63) - 1), min_size=1, max_size=40)
sets = texts.map(of_texts) | whole.map(lambda numbers: of_numbers(np.array(numbers, np.int64)))


def filters(size: Field) -> list[Filter]:
    """One of each, with weights drawn at random and a threshold in their middle."""
    config = SandwichedFilter.Config(power=6, threshold=0, front=size, back=size)
    sandwiched = SandwichedFilter(config)
    draw = torch.Generator().manual_seed(0)
    sandwiched.weights.copy_(torch.randint(-127, 128, (64,), generator=draw, dtype=torch.int8))
    return [BloomFilter(BloomFilter.Config(field=size)), sandwiched]


# -------------------------------------------------------------------------------------------------- what is promised


@settings(deadline=None, max_examples=60)
@given(keys=sets, bits=st.integers(0, 200), hashes=st.integers(1, 9), path=st.sampled_from(["on", "off"]))
def test_no_key_is_denied_whatever_the_sizes(keys: KeySet, bits: int, hashes: int, path: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SW2_NATIVE", path)
        for model in filters(Field(bits=bits, hashes=hashes)):
            model.add(keys)
            assert model.holds(keys).all()


@needs_kernels
@settings(deadline=None, max_examples=60)
@given(keys=sets, others=sets)
def test_the_kernels_do_what_the_reference_does(keys: KeySet, others: KeySet) -> None:
    weights = np.random.default_rng(0).integers(-127, 128, 1 << 9).astype(np.int8)
    made: list[list[np.ndarray]] = []
    for path in ("on", "off"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SW2_NATIVE", path)
            found = [keys.hashes(), keys.scores(weights)]
            for model in filters(field_for(len(keys), 0.1)):
                model.add(keys)
                found += [tensor.numpy() for tensor in model.state_dict().values()]
                found.append(model.holds(others))
            made.append(found)
    for native, plain in zip(*made, strict=True):
        assert np.array_equal(native, plain)


@needs_kernels
@pytest.mark.parametrize("kind", ["texts", "numbers"])
def test_learning_is_that_of_the_reference(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    numbers = random.integers(0, 1 << 40, 200)
    keys = of_numbers(numbers) if kind == "numbers" else of_texts([f"{number:x}" for number in numbers])
    member, order = (random.random(200) < 0.5).astype(np.uint8), random.permutation(200)
    found = []
    for path in ("on", "off"):
        monkeypatch.setenv("SW2_NATIVE", path)
        weights, squares = np.zeros(1 << 8, np.float32), np.ones(1 << 8, np.float32)
        keys.learn(order, member, 32, 0.1, weights, squares)
        found.append(weights)
    assert np.abs(found[0]).max() > 0.1
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-5)


def test_a_text_has_the_features_that_are_said() -> None:
    weights = np.zeros(1 << 12, np.int8)
    gram = (0x9E3779B97F4A7C15 * (ord("a") | ord("b") << 8 | 2 << 56)) % (1 << 64) >> 52
    weights[gram] = 3
    assert of_texts(["ab", "xaby", "abab", "ba", ""]).scores(weights).tolist() == [3, 3, 6, 0, 0]
    weights[0] = 1  # what every text has
    assert of_texts(["ab", ""]).scores(weights).tolist() == [4, 1]


@pytest.mark.parametrize("rate", [0.3, 0.05, 0.004])
def test_a_bloom_filter_has_the_rate_of_its_formula(rate: float) -> None:
    random = np.random.default_rng(2)
    keys, others = (of_numbers(random.integers(0, 1 << 62, count)) for count in (20_000, 200_000))
    model = BloomFilter(BloomFilter.Config(field=field_for(20_000, rate)))
    model.add(keys)
    sure = wilson(int(model.holds(others).sum()), len(others), level=0.9999)
    assert sure.low < rate < sure.high


def test_filters_before_and_behind_do_not_err_together() -> None:
    """What the front takes for a key must be new to the back, else two filters of 10 % pass 10 % and not 1 %."""
    random = np.random.default_rng(3)
    keys, others = (of_numbers(random.integers(0, 1 << 62, count)) for count in (20_000, 200_000))
    size = field_for(20_000, 0.1)
    model = SandwichedFilter(SandwichedFilter.Config(power=6, threshold=1, front=size, back=size))  # all score 0
    model.add(keys)
    sure = wilson(int(model.holds(others).sum()), len(others), level=0.9999)
    assert sure.low < 0.01 < sure.high


# ------------------------------------------------------------------------------------------------------------- sizes


@given(n=st.integers(1, 10**9), rate=st.floats(1e-9, 0.999))
def test_the_bits_are_enough_and_no_more(n: int, rate: float) -> None:
    size = field_for(n, rate)

    def reached(bits: int) -> float:
        return (-math.expm1(-size.hashes * n / bits)) ** size.hashes

    assert reached(size.bits) <= rate * (1 + 1e-9)
    assert size.bits == 1 or reached(size.bits - 1) > rate * (1 - 1e-9)
    assert size.bits >= n * math.log2(1 / rate) - 1, "no filter of Bloom's is below the bound of all filters"


@given(rate=st.floats(1e-6, 0.5), others=st.floats(0, 1), missed=st.floats(0, 1))
def test_a_sandwich_reaches_the_rate_with_the_fewest_bits(rate: float, others: float, missed: float) -> None:
    found = sandwich(rate, others, missed)
    if found is None:
        return
    assert found.front * (others + (1 - others) * found.back) == pytest.approx(rate)
    assert 0 < found.front <= 1
    unit = math.log(2) ** 2

    def bits(back: float) -> float:
        front = min(1.0, rate / (others + (1 - others) * back))
        return (math.log(1 / front) + missed * math.log(1 / back)) / unit

    assert found.bits == pytest.approx(bits(found.back), rel=1e-6, abs=1e-9)
    for back in np.geomspace(1e-9, 1, 50).tolist():
        if rate / (others + (1 - others) * back) <= 1:
            assert found.bits <= bits(back) * (1 + 1e-6) + 1e-9


def test_a_classifier_without_use_is_no_sandwich() -> None:
    assert sandwich(0.01, 1.0, 0.0) is None
    assert sandwich(0.01, 0.0, 1.0) is None
    assert sandwich(0.01, 0.7, 0.5) is None, "it passes more others than keys"


# ---------------------------------------------------------------------------------------------------------- learning


def learned(keys: list[str], others: list[str]) -> Learned:
    half = len(others) // 2
    return Learned(TEXT, of_texts(keys), len(keys), of_texts(others[:half]), of_texts(others[half:]))


def names(count: int, ending: str, seed: int) -> list[str]:
    return [f"{number:08x}{ending}" for number in np.random.default_rng(seed).integers(0, 1 << 32, count)]


@pytest.mark.parametrize("path", ["on", "off"])
def test_a_classifier_tells_what_can_be_told(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SW2_NATIVE", path)
    easy = learned(names(600, ".org", 0), names(1200, ".com", 1))
    plan = planned(easy, classifier(easy, 8, LearnConfig(), 0), 0.01, LearnConfig(), 0)
    assert plan is not None
    assert plan.rates.bits < 3 < field_for(1000, 0.01).bits / 1000
    hopeless = learned(names(600, "", 0), names(1200, "", 1))
    plan = planned(hopeless, classifier(hopeless, 8, LearnConfig(), 0), 0.01, LearnConfig(), 0)
    assert plan is None or plan.stored > field_for(600, 0.01).bits / 8


# -------------------------------------------------------------------------------------------------------------- keys


def test_what_is_no_key_of_the_type_is_not_possible() -> None:
    keys, possible = of_questions([3, 2.5, 1 << 70], KeyKind("uint64"))
    assert possible.tolist() == [True, False, False]
    assert np.array_equal(keys.take(slice(1)).hashes(), of_numbers(np.array([3], np.uint64)).hashes())
    keys, possible = of_questions([-0.0, float("nan")], KeyKind("float64"))
    assert possible.tolist() == [True, False]
    assert np.array_equal(keys.take(slice(1)).hashes(), of_numbers(np.array([0.0])).hashes())


@given(texts=texts, data=st.data())
def test_taking_and_joining_keeps_texts(texts: list[str], data: st.DataObject) -> None:
    keys = of_texts(texts)
    which = np.array(data.draw(st.lists(st.integers(0, len(texts) - 1))), np.int64)
    some = keys.take(which)
    assert [some.text(place) for place in range(len(some))] == [texts[place] for place in which]
    both = some.followed_by(keys)
    assert [both.text(place) for place in range(len(both))] == [texts[place] for place in which] + texts
    assert np.array_equal(both.hashes(), np.concatenate([some.hashes(), keys.hashes()]))


def test_every_model_has_a_config_of_plain_values() -> None:
    for kind in MODELS.values():
        assert dataclasses.is_dataclass(kind.Config)
        assert kind(kind.Config()).holds(of_texts(["a"])).all(), "an empty size denies nothing"


# -------------------------------------------------------------------------------------------------------------- slow


@pytest.mark.slow
@needs_kernels
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", list(MODELS))
def test_none_of_a_hundred_million_is_denied(name: str) -> None:
    count, parts = 10**8, 100
    rate = 0.01

    def part(number: int) -> KeySet:
        steps = np.arange(number * count // parts, (number + 1) * count // parts, dtype=np.uint64)
        return KeySet(steps * np.uint64(0xD1342543DE82EF95))  # an odd number, so all are different

    if name == "bloom-filter":
        model: Filter = BloomFilter(BloomFilter.Config(field=field_for(count, rate)))
    else:
        half = field_for(count, math.sqrt(rate))
        model = SandwichedFilter(SandwichedFilter.Config(power=12, threshold=0, front=half, back=half))
        draw = torch.Generator().manual_seed(0)
        model.weights.copy_(torch.randint(-127, 128, (1 << 12,), generator=draw, dtype=torch.int8))
    for number in range(parts):
        model.add(part(number))
    assert sum(int((~model.holds(part(number))).sum()) for number in range(parts)) == 0
