"""The domain keeps sw2's contract, agrees with scikit-learn, beats its baseline, and tells its users' mistakes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sw2_lines import DOMAIN

from sw2.base.errors import DataError, Sw2Error
from sw2.catalog import catalog
from sw2.core.program import Program
from sw2.core.task import Context
from sw2.testing import check_domain, check_program, check_task
from sw2.verbs.train import Order, train

TASK, ENTRY = next(iter(DOMAIN.tasks.items()))


def learned(data: str, out: Path, *settings: str) -> Program:
    return train(catalog(), Order(task=TASK, data=data, settings=settings), out, Context())


def test_the_contract_is_kept(tmp_path: Path) -> None:
    check_domain(catalog(), DOMAIN)
    data, _ = check_task(catalog(), TASK, ENTRY.data, Context())
    program = learned(ENTRY.data, tmp_path / "run")
    check_program(catalog(), program, data.split("test")[0]["record"], tmp_path)
    own, baseline = (next(s for s in program.card.scores if (s["of"] == "program") == mine) for mine in (True, False))
    assert own["value"] < 0.8 * baseline["value"]


def test_it_agrees_with_scikit_learn(tmp_path: Path) -> None:
    data = catalog().task(TASK).read(ENTRY.data, catalog().task(TASK).Options(), Context())
    x, y = ([list(row["record"].values()) for row in data.split("train")], [r["value"] for r in data.split("train")])
    peer = make_pipeline(StandardScaler(), Ridge(alpha=3.0)).fit(x, y)
    program = learned(ENTRY.data, tmp_path / "run", "learn.penalty=3.0")
    test = [row["record"] for row in data.split("test")]
    answers = [answer["value"] for answer in program.map(test)]
    np.testing.assert_allclose(answers, peer.predict([list(row.values()) for row in test]), rtol=1e-5)


def test_bad_rows_are_named_and_bad_records_refused(tmp_path: Path) -> None:
    rows = [f"{i},{2 * i + 1}" for i in range(40)] + ["x,1", "nan,2", "7"]
    (tmp_path / "t.csv").write_text("\n".join(["a,b", *rows]))
    program = learned(str(tmp_path / "t.csv"), tmp_path / "run", "learn.penalty=1e-9")
    assert program.card.data["rejected rows"] == 3
    assert program({"a": 100})["value"] == pytest.approx(201, rel=1e-5)
    with pytest.raises(DataError, match="cannot be used") as told:
        program({"b": 1})
    assert (told.value.where, told.value.got) == ("a", "{'b': 1}")
    (tmp_path / "t.csv").write_text("a,b\n1,2\nx,3\n")
    with pytest.raises(Sw2Error, match="Too many rows"):
        learned(str(tmp_path / "t.csv"), tmp_path / "other")
