"""What to label next: implicit gradients against written-out ones, ties, determinism, and a picture classifier."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sw2.base.errors import DataError, ProgramError, UsageError
from sw2.catalog import catalog
from sw2.core.capabilities import Classified, Classify
from sw2.core.data import Data
from sw2.core.task import Context
from sw2.core.trainer import Budget
from sw2.domains.vision.data import digits
from sw2.verbs.choose import WAYS, choose, in_order, next_labels
from sw2.verbs.train import Order, fit

Image = pytest.importorskip("PIL.Image")


def said(seed: int, count: int, labels: int = 3, width: int = 4) -> Classified:
    random = np.random.default_rng(seed)
    p_NK = random.dirichlet(np.ones(labels), count).astype(np.float32)
    return Classified(probabilities=p_NK, features=random.normal(size=(count, width)).astype(np.float32))


@pytest.mark.parametrize("way", WAYS)
@given(st.integers(0, 99), st.integers(1, 12), st.integers(1, 15))
def test_each_example_is_chosen_once(way: str, seed: int, among: int, count: int) -> None:
    given_ = said(seed, among)
    chosen = choose(given_, count, seed, way)
    assert len(chosen) == len(set(chosen)) == min(count, among)
    assert set(chosen) <= set(range(among))
    assert choose(given_, count, seed, way) == chosen


@given(st.integers(0, 99), st.integers(1, 140), st.integers(1, 120))
def test_an_order_has_all_and_begins_with_what_is_chosen(seed: int, among: int, first: int) -> None:
    given_ = said(seed, among)
    order = in_order(given_, seed, first)
    assert sorted(order) == list(range(among))
    assert order[:50] == choose(given_, 50, seed)


def test_gradients_are_those_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chances of the second choice are the squared distances of (p - e) ⊗ h from the first one's."""
    given_ = said(0, 30)
    e_NK = np.eye(3)[given_.probabilities.argmax(1)]
    g_NG = ((given_.probabilities - e_NK)[:, :, None] * given_.features[:, None, :]).reshape(30, -1)
    first = int((g_NG**2).sum(1).argmax())
    away_N = ((g_NG - g_NG[first]) ** 2).sum(1)
    counts = np.zeros(30)
    for seed in range(3000):
        one, two = choose(given_, 2, seed, "gradients")
        assert one == first
        counts[two] += 1
    expected = 3000 * away_N / away_N.sum()
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected.max())


def test_a_program_that_is_sure_of_everything_still_gets_a_choice() -> None:
    sure = Classified(probabilities=np.eye(2, dtype=np.float32)[[0, 1, 0, 1]], features=np.ones((4, 3), np.float32))
    assert sorted(choose(sure, 4, 0)) == [0, 1, 2, 3]
    assert sorted(choose(sure, 4, 0, "gradients")) == [0, 1, 2, 3]
    zero = Classified(probabilities=sure.probabilities, features=np.zeros((4, 3), np.float32))
    assert sorted(choose(zero, 4, 0)) == [0, 1, 2, 3]


def test_an_unsure_example_is_preferred_to_sure_ones_and_to_its_twin() -> None:
    p_NK = np.array([[0.999, 0.001]] * 50 + [[0.5, 0.5]] * 2 + [[0.001, 0.999]] * 50, np.float32)
    h_ND = np.ones((102, 2), np.float32)
    h_ND[52:] = [1, -1]
    for way in ("gradients", "both"):
        picked = [choose(Classified(probabilities=p_NK, features=h_ND), 2, seed, way) for seed in range(50)]
        assert all(one in (50, 51) for one, _ in picked)
        assert sum(two in (50, 51) for _, two in picked) < 5
    assert choose(Classified(probabilities=p_NK, features=h_ND), 2, 0, "margin") == [50, 51]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("next")
    data: Data = digits()
    order = Order(
        task="image-classification", data="digits", budget=Budget(steps=5), preset="tiny",
        settings=["learn.gradient.precision=fp32", "trainer.evaluations=0", "trainer.health=off"],
    )  # fmt: skip
    return fit(catalog(), order, data, folder / "run", Context()).program


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    root = tmp_path / "pool"
    for number, example in enumerate(digits().split("train")[:12]):
        path = root / f"box{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(example["image"]).save(path)
    (root / "copy.png").write_bytes((root / "box0/0.png").read_bytes())
    return root


def test_pictures_are_chosen_from_a_folder(program, pool: Path) -> None:  # type: ignore[no-untyped-def]
    found = next_labels(program, str(pool), 5, Context(seed=3))
    assert found == next_labels(program, str(pool), 5, Context(seed=3))
    assert (found.column, found.among, len(found.chosen)) == ("image", 12, 5)
    assert found.notes == ["1 copies of others were left out"]
    for each in found.chosen:
        assert Path(each.place).is_file()
        answer = program(Path(each.place))
        assert (answer["label"], pytest.approx(each.probability, rel=1e-4)) == (
            each.guess,
            answer["probabilities"][each.guess],
        )
    assert len(next_labels(program, str(pool), 100, Context()).chosen) == 12


def test_features_are_what_the_last_layer_gets(program) -> None:  # type: ignore[no-untyped-def]
    import torch

    inputs = [example["image"] for example in digits().split("train")[:7]]
    found = program.capability(Classify).classify(inputs)
    head = program.nets["classifier"].module.head
    again = torch.softmax(head(torch.from_numpy(found.features)), 1).numpy()
    np.testing.assert_allclose(again, found.probabilities, rtol=1e-4, atol=1e-6)


def test_a_table_of_pictures_needs_no_labels(program, pool: Path) -> None:  # type: ignore[no-untyped-def]
    table = pool.parent / "list.csv"
    table.write_text("image,note\npool/box0/0.png,x\npool/box1/1.png,y\n")
    assert len(next_labels(program, str(table), 5, Context()).chosen) == 2
    table.write_text("picture\npool/box0/0.png\n")
    with pytest.raises(DataError, match="no column 'image'") as caught:
        next_labels(program, str(table), 5, Context())
    assert caught.value.wanted == "the columns image"
    assert len(next_labels(program, str(table), 5, Context(), settings=["data.image=picture"]).chosen) == 1


def test_what_cannot_be_chosen_from_is_told(program, tmp_path: Path, make_program) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no pictures here"):
        next_labels(program, str(tmp_path / "empty"), 5, Context())
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(DataError, match="no pictures here") as caught:
        next_labels(program, str(tmp_path), 5, Context())
    assert "notes.txt" in str(caught.value.got)
    with pytest.raises(UsageError, match="data set or file"):
        next_labels(program, str(tmp_path / "nowhere"), 5, Context())
    from sw2.core.card import Card

    with pytest.raises((UsageError, ProgramError), match="one label each"):
        next_labels(make_program(Card()), "digits", 5, Context())
