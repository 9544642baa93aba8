"""A language model of Python's standard library, ten minutes: bits per byte on held-out files beside three baselines.

Bar: below a Kneser-Ney 5-gram model on the same tokens, `xz -9e` alone, and `xz -9e` after the training text.
Usage: python benchmarks/stdlib_language.py [MINUTES]
"""

from __future__ import annotations

import sys
import tempfile

import sw2


def main() -> None:
    """Print every score."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    with tempfile.TemporaryDirectory() as folder:
        program = sw2.train("text-generation", "python-stdlib", minutes=minutes, out=f"{folder}/run")
    for score in program.card.scores:
        print(f"{score['of']:<34}{score['name']:<22}{score['value']:.4f}")
    card = program.card
    print(
        f"{card.facts['steps']} steps of {card.facts['tokens_per_step']} tokens, {card.facts['parameters']} parameters"
    )
    print(f"planned {card.planned['minutes']:.2f} min, took {card.measured['minutes']:.2f} min")


if __name__ == "__main__":
    main()
