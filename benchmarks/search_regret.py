"""Strategies of `sw2 search` at equal budget, by their regret against a table of every combination.

    python benchmarks/search_regret.py [--steps 180] [--seeds 10] [--table search_regret.jsonl]

Each of the 64 combinations of a space on the digits is learned once, with a pause at a ninth and a third of its steps,
and scored on the validation split (a fifth of the pictures that are not for tests) at each. Rows are kept in a file as
they come, so that a run that was stopped goes on. Then every strategy searches that table with ten seeds: it is the
code of `sw2 search`, only that a turn looks its score up. All have the same budget, seven trials of full length (27
trials for halving). Regret is the accuracy of the best combination less that of the one taken, both at full length;
ties are broken by log loss, as in a search.

Not here: weights that networks share (`shared_weights.py`).

What it does not show: other budgets, other data, spaces too large for a table.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sw2.catalog import catalog
from sw2.core.data import Data
from sw2.core.space import Choice, Space, parse_space, settings_of
from sw2.core.task import Context
from sw2.core.trainer import Budget
from sw2.verbs.strategies import STRATEGIES, Outcome, best_of
from sw2.verbs.train import Order, fit, set_up

SPACE = {
    "learn.gradient.optim.learning_rate": "0.0005, 0.002, 0.008, 0.032",
    "learn.gradient.optim.method": "adamw, muon",
    "learn.gradient.optim.weight_decay": "0.0, 0.05",
    "learn.label_smoothing": "0.0, 0.1",
    "model.widths": "[8, 16, 32], [16, 32, 64]",
}
SHARES = (1 / 9, 1 / 3, 1.0)
LENGTHS = 7
TRIALS = {"halving": 27}
SETTINGS = (
    *("learn.gradient.precision=fp32", "data.validation_share=0.2", "learn.gradient.average_decay=0.9"),
    *("trainer.evaluations=0", "trainer.health=off", "trainer.checkpoint_seconds=1e9"),
)

Row = dict[float, list[tuple[str, float, str]]]


def cells(space: Space) -> list[dict[str, Any]]:
    choices = [values.values for values in space.entries.values() if isinstance(values, Choice)]
    return [dict(zip(space.entries, each, strict=True)) for each in itertools.product(*choices)]


def learned(order: Order, seen: Data, values: Mapping[str, Any], folder: Path) -> Row:
    order = replace(order, settings=(*order.settings, *settings_of(values)))
    found: Row = {}
    for share in SHARES:
        program = fit(catalog(), order, seen, folder / "run", Context(), share=share).program
        scores = catalog().task(order.task).judge(program, seen.split("validation"), Context())
        found[share] = [(each.name, each.value, each.better) for each in scores]
    return found


def table(order: Order, seen: Data, space: Space, path: Path) -> dict[str, Row]:
    """The scores of every combination at each share, by its JSON; read from `path` as far as they are there."""
    lines = path.read_text().splitlines() if path.exists() else []
    kept = {
        row["cell"]: row
        for row in map(json.loads, lines)
        if "cell" in row and row["steps"] == vars(order.budget)["steps"]
    }
    rows: dict[str, Row] = {}
    for number, values in enumerate(every := cells(space), start=1):
        name = json.dumps(values)
        if name not in kept:
            began = time.monotonic()
            with tempfile.TemporaryDirectory() as folder:
                found = learned(order, seen, values, Path(folder))
            kept[name] = {
                "cell": name,
                "steps": vars(order.budget)["steps"],
                "scores": list(found.values()),
                "seconds": time.monotonic() - began,
            }
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(kept[name]) + "\n")
            print(f"{number} of {len(every)}: {found[1.0][0][1]:.4f} {name}", flush=True)
        scores = [[(each[0], each[1], each[2]) for each in at] for at in kept[name]["scores"]]
        rows[name] = dict(zip(SHARES, scores, strict=True))
    return rows


def taken(strategy: str, space: Space, rows: Mapping[str, Row], seed: int) -> Outcome:
    """What a search of the table ends with."""
    kind = STRATEGIES[strategy]
    trials = TRIALS.get(strategy, LENGTHS)
    assert abs(kind.lengths(trials) - LENGTHS) < 0.01, f"{strategy} has another budget"
    plan, done = kind(space, trials, seed), list[Outcome]()
    while (turn := plan.next(done)) is not None:
        share = min(SHARES, key=lambda each: abs(each - turn.share))
        done.append(Outcome(turn=turn, scores=rows[json.dumps(dict(turn.values))][share], minutes=0.0))
    best = best_of(done)
    assert best is not None
    return best


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=180)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--table", type=Path, default=Path("search_regret.jsonl"))
    given = parser.parse_args(arguments)
    order = Order(
        task="image-classification",
        data="digits",
        budget=Budget(steps=given.steps),
        preset="tiny",
        settings=SETTINGS,
    )
    setup = set_up(catalog(), order, Context())
    seen = replace(setup.data, splits={name: setup.data.split(name) for name in ("train", "validation")})
    space = parse_space(SPACE, setup.sections)
    rows = table(order, seen, space, given.table)
    ends = sorted((row[1.0][0][1] for row in rows.values()), reverse=True)
    print(
        f"\n{len(rows)} combinations of {given.steps} steps; accuracy on the validation split: best {ends[0]:.4f}, ",
        end="",
    )
    print(f"median {statistics.median(ends):.4f}, worst {ends[-1]:.4f}")
    report(
        {
            name: [ends[0] - taken(name, space, rows, seed).scores[0][1] for seed in range(given.seeds)]
            for name, kind in STRATEGIES.items()
            if not kind.together
        }
    )


def report(regrets: Mapping[str, Sequence[float]]) -> None:
    """Print the regret of each strategy, with one value a seed, beside that of random."""
    chance = statistics.median(regrets["random"])
    print(f"{'strategy':<14}  {'regret':>8}  {'mean':>8}  {'worst':>8}  beside random")
    for name, found in regrets.items():
        better = sum(ours < theirs for ours, theirs in zip(found, regrets["random"], strict=True))
        worse = sum(ours > theirs for ours, theirs in zip(found, regrets["random"], strict=True))
        middle = statistics.median(found)
        ratio = f"{middle / chance:.2f} times" if chance else "–"
        print(
            f"{name:<14}  {middle:>8.4f}  {statistics.mean(found):>8.4f}  {max(found):>8.4f}  "
            f"{ratio}; better in {better}, worse in {worse} of {len(found)}"
        )


if __name__ == "__main__":
    main()
