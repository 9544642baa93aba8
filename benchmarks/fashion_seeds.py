"""Fashion-MNIST from scratch, ten minutes a seed, three seeds: median test accuracy beside logistic regression.

Bar: at least 0.925. Usage: python benchmarks/fashion_seeds.py [MINUTES [SEEDS]]; consents to fetching the data.
"""

from __future__ import annotations

import statistics
import sys
import tempfile

import sw2


def main() -> None:
    """Print a row per seed and the median."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    seeds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    values = []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            program = sw2.train(
                "image-classification", "fashion-mnist", minutes=minutes, seed=seed, out=f"{folder}/run", install=True
            )
        row = {score["of"]: score["value"] for score in program.card.scores if score["name"] == "accuracy"}
        card = program.card
        print(
            f"seed {seed}: " + ", ".join(f"{name} {value:.4f}" for name, value in row.items()),
            f"{card.facts['steps']} steps,",
            f"planned {card.planned['minutes']:.2f} took {card.measured['minutes']:.2f} min",
            flush=True,
        )
        values.append(row["program"])
    print(f"median of {seeds}: {statistics.median(values):.4f} (from {min(values):.4f} to {max(values):.4f})")


if __name__ == "__main__":
    main()
