"""Digits, one minute each, five divisions: mean test accuracy beside logistic regression on the same pictures.

Bar: at least 0.98. Usage: python benchmarks/digits_splits.py [MINUTES]
"""

from __future__ import annotations

import statistics
import sys
import tempfile

import sw2


def main() -> None:
    """Print a row per division and the means."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    found: dict[str, list[float]] = {}
    for split in range(5):
        with tempfile.TemporaryDirectory() as folder:
            program = sw2.train(
                "image-classification",
                "digits",
                minutes=minutes,
                settings={"data.split_seed": split},
                seed=split,
                out=f"{folder}/run",
            )
        row = {score["of"]: score["value"] for score in program.card.scores if score["name"] == "accuracy"}
        took = program.card.measured["minutes"]
        print(
            f"division {split}: " + ", ".join(f"{n} {v:.4f}" for n, v in row.items()) + f", {took:.2f} min", flush=True
        )
        for name, value in row.items():
            found.setdefault(name, []).append(value)
    for name, values in found.items():
        print(f"mean of 5: {name} {statistics.mean(values):.4f} (from {min(values):.4f} to {max(values):.4f})")


if __name__ == "__main__":
    main()
