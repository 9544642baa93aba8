"""Tables of numbers: a CSV file with a header row, or `diabetes`.

An example is {"record": {column: number}, "value": number}. The hash of its content alone says on which side a row
stands, so copies stand together, and no row changes sides when others are added.

Source of `diabetes`: Efron, Hastie, Johnstone and Tibshirani 2004, "Least angle regression", as scikit-learn has it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sw2.base.errors import DataError
from sw2.base.names import pick, unknown
from sw2.base.store import canonical_json, sha256_of_bytes
from sw2.core.data import Data, Example, Rejected, refuse_if_too_many

__all__ = ["TableOptions", "read"]


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """How a table is read.

    Args:
        target: the column to predict; the last when empty.
        test_share: share of the rows held out for judging, in [0, 1).
        split_seed: another number, another division.
    """

    target: str = ""
    test_share: float = 0.2
    split_seed: int = 0


def read(source: str, options: TableOptions) -> Data:
    """The rows at `source`, divided into "train" and "test".

    Raises:
        DataError, UnknownName: when they cannot be read or learned from.
    """
    splits: dict[str, list[Example]] = {"train": [], "test": []}
    rejected = []
    rows = list(_diabetes() if source == "diabetes" else _csv(source))
    for number, row in enumerate(rows, start=1):
        target = options.target or list(row)[-1]
        pick("column", target, row)
        try:
            record = {name: float(cell) for name, cell in row.items()}
            content = canonical_json([options.split_seed, record])
        except (TypeError, ValueError) as error:  # a cell too many or too few; no number; no finite number
            rejected.append(Rejected(f"row {number}", str(error)))
            continue
        side = "test" if int(sha256_of_bytes(content.encode())[:8], 16) / 2**32 < options.test_share else "train"
        splits[side].append({"value": record.pop(target), "record": record})
    refuse_if_too_many(rejected, len(rows), where=source)
    if not splits["train"]:
        raise DataError("There is nothing to learn from.", where=source, wanted="rows below a header", got="none")
    return Data(
        name=Path(source).stem,
        splits={name: split for name, split in splits.items() if split},
        fingerprint=sha256_of_bytes(canonical_json(splits).encode()),
        source="scikit-learn" if source == "diabetes" else source,
        rejected=rejected,
    )


def _csv(source: str) -> Iterator[Mapping[str, Any]]:
    if not Path(source).is_file():
        raise unknown("data set or file", source, ["diabetes"])
    try:
        with open(source, encoding="utf-8-sig", newline="") as file:
            yield from csv.DictReader(file)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError("This is no table.", where=source, wanted="a CSV file in UTF-8", got=error) from error


def _diabetes() -> Iterator[Mapping[str, Any]]:
    from sklearn.datasets import load_diabetes

    bunch = load_diabetes(scaled=False)
    for cells, progression in zip(bunch.data, bunch.target, strict=True):
        yield {**dict(zip(bunch.feature_names, cells, strict=True)), "progression": progression}
