"""Planned against measured: minutes and peak memory of runs by --steps, three sizes, both domains.

Bar: within 20 %. Each run is a fresh process, as a user's is. Usage: python benchmarks/planned_measured.py
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile

# (task, data, preset, steps, settings): from seconds to minutes.
RUNS = [
    ("image-classification", "digits", "tiny", 600, []),
    ("image-classification", "digits", "small", 600, []),
    ("image-classification", "digits", "full", 200, []),
    ("text-generation", "python-stdlib", "tiny", 600, []),
    ("text-generation", "python-stdlib", "small", 40, []),
    ("text-generation", "python-stdlib", "full", 12, ["trainer.evaluations=2"]),
]


def main() -> None:
    """Print a row per run."""
    print(f"{'run':<44}{'minutes':>24}{'peak memory, MB':>28}")
    worst = 0.0
    for task, data, preset, steps, settings in RUNS:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "sw2.faces.cli", "train", task, data, "--preset", preset]
            command += ["--steps", str(steps), "--out", f"{folder}/run", "--json"]
            command += [word for setting in settings for word in ("--set", setting)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        card = json.loads(done.stdout)["card"]
        cells = []
        for key, factor in (("minutes", 1.0), ("peak_memory", 1e-6)):
            planned, measured = card["planned"][key] * factor, card["measured"][key] * factor
            off = planned / measured - 1
            worst = max(worst, abs(off))
            cells.append(f"{planned:8.2f} {measured:8.2f} {off:+7.1%}")
        print(f"{task + ' ' + preset:<44}{cells[0]:>24}{cells[1]:>28}", flush=True)
    print(f"largest difference {worst:.1%}")


if __name__ == "__main__":
    main()
