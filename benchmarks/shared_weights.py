"""Do shared weights tell which cell is good, and does a search that trusts them find a better one?

    python benchmarks/shared_weights.py [--steps 300] [--seeds 10] [--table shared_weights.jsonl] [--only table]

Of the model `cells` a space of 81: three operations at each of three nodes, and which place the third node takes.
Pictures are Fashion-MNIST at 14x14, 5,000 to learn from and 2,500 to validate on, all of its training split.

    table       every cell is learned once, alone, with a pause at a ninth and a third of its steps, and scored at each
    together    for each seed all cells are learned with shared weights as long as four of them alone, and then all are
                scored with those weights; the controller draws 32 times, as in `sw2 search --strategy shared`

Both go into one file as they come, so that a run that was stopped goes on. Printed are

- Kendall's tau-b between the accuracy with shared weights and that alone, over all cells: of each seed, and the mean of
  the seeds with the 95 % interval of a bootstrap that draws cells anew.
- The noise: cells whose second and third node take the first are the same network when the two are exchanged, but for
  the first weights and the order of batches' rounding; how far such twins are apart alone, and Kendall's tau over all
  cells if each score were off by so much.
- Regret at equal budget, seven lengths of a trial, over the seeds: the accuracy of the best cell less that of the cell
  which the search ends with, both alone. `shared` learns together for four lengths and tries the best three of what its
  controller drew; `shared, evenly` the best three of as many even draws, so that the difference is the controller;
  `random three` is three trials and nothing before them. All others are the code of `search_regret.py`.
- What learning together takes beside four cells alone, by the clock.

What it does not show: large spaces, where shared weights matter more and nobody can make the table.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kendalltau
from search_regret import LENGTHS, Row, cells, report, table, taken

from sw2.base.seed import numpy_generator
from sw2.catalog import catalog
from sw2.core.data import Data, Example
from sw2.core.space import Space, parse_space
from sw2.core.task import Context
from sw2.core.trainer import Budget
from sw2.parts.metrics.intervals import bootstrap
from sw2.parts.prep.pictures import read_picture
from sw2.verbs.sharing import learn_together, sharable
from sw2.verbs.strategies import STRATEGIES, SharedWeights
from sw2.verbs.train import Order, set_up

OPERATIONS = "conv3x3, separable5x5, max3x3"
SPACE = {
    "model.cell.first": OPERATIONS,
    "model.cell.second": OPERATIONS,
    "model.cell.third": OPERATIONS,
    "model.cell.third_from": "0, 1, 2",
}
SETTINGS = (
    *("learn.gradient.precision=fp32", "model.stem_halves=0"),
    *("trainer.evaluations=0", "trainer.health=off", "trainer.checkpoint_seconds=1e9"),
)
DRAWN = 32


@dataclass(frozen=True)
class Together:
    """What one seed brought: the first score of each cell with shared weights, which cells were drawn, and seconds."""

    scores: Mapping[str, float]
    drawn: Sequence[str]
    seconds: float


def pictures(order: Order, train: int, validation: int) -> Data:
    """So many pictures of the training split for each, halved once; no others."""
    data = set_up(catalog(), order, Context()).data
    every = data.split("train")
    chosen = numpy_generator(0, "shared weights").permutation(len(every))
    parts = {"train": chosen[:train], "validation": chosen[train : train + validation]}
    return replace(data, splits={name: [halved(every[int(i)]) for i in part] for name, part in parts.items()})


def halved(example: Example) -> Example:
    """Each 2x2 pixels as their mean."""
    picture_HWC = read_picture(example["image"], 1)
    blocks = picture_HWC.reshape(14, 2, 14, 2, 1)
    return {**example, "image": blocks.mean((1, 3)).round().astype(np.uint8)}


def together(order: Order, seen: Data, space: Space, seeds: int, path: Path) -> list[Together]:
    """Of each seed, read from `path` as far as they are there."""
    steps = int(SharedWeights.together * vars(order.budget)["steps"])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    kept = {row["seed"]: row for row in lines if "seed" in row and row["steps"] == steps}
    for seed in range(seeds):
        if seed in kept:
            continue
        asked, began = replace(order, seed=seed, budget=Budget(steps=steps)), time.monotonic()
        setup = set_up(catalog(), asked, Context(), known=seen)
        with tempfile.TemporaryDirectory() as folder:
            shared = sharable(catalog(), setup, space)
            family = learn_together(catalog(), asked, space, shared, seen, Path(folder) / "run", Context())
        seconds = time.monotonic() - began
        scores = {
            json.dumps(values): family.judged(values, setup.task, seen.split("validation"), Context())[0][1]
            for values in cells(space)
        }
        drawn = [json.dumps(values) for values in family.drawn(DRAWN, seed)]
        kept[seed] = {"seed": seed, "steps": steps, "scores": scores, "drawn": drawn, "seconds": seconds}
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(kept[seed]) + "\n")
        print(f"together, seed {seed}: {min(scores.values()):.4f} to {max(scores.values()):.4f}", flush=True)
    return [Together(kept[seed]["scores"], kept[seed]["drawn"], kept[seed]["seconds"]) for seed in range(seeds)]


def twin(name: str) -> str:
    """The same network with its second and third node exchanged; itself where that is another one, or no other."""
    values = json.loads(name)
    if values["model.cell.third_from"] == 1:
        second, third = values["model.cell.third"], values["model.cell.second"]
        values |= {"model.cell.second": second, "model.cell.third": third}
    return json.dumps(values)


def mean_tau(columns_NS: Any) -> float:
    """The mean of Kendall's tau between the first column and each other one."""
    alone_N, *shared_SN = np.asarray(columns_NS).T
    return float(np.mean([kendalltau(alone_N, each_N).statistic for each_N in shared_SN]))


def noise(alone: Mapping[str, float]) -> None:
    """Print how far twins are apart, and what that alone would do to the order of the cells."""
    gaps = [alone[name] - alone[twin(name)] for name in alone if name < twin(name)]
    spread = float(np.sqrt(np.mean(np.square(gaps)) / 2))
    scores_N, draw = np.array(list(alone.values())), numpy_generator(0, "noise")
    taus = [kendalltau(scores_N, scores_N + draw.normal(0, spread, len(scores_N))).statistic for _ in range(200)]
    print(
        f"twins: {len(gaps)} pairs, one score is off by {spread:.4f} (standard deviation); "
        f"tau between the table and the table with so much noise {np.mean(taus):.3f}"
    )


def best_of_three(names: Sequence[str], alone: Mapping[str, float]) -> float:
    return max(alone[name] for name in names[: LENGTHS - int(SharedWeights.together)])


def regrets(
    space: Space, rows: Mapping[str, Row], alone: Mapping[str, float], found: Sequence[Together]
) -> dict[str, list[float]]:
    """Of each strategy one value a seed."""
    best = max(alone.values())
    made = {
        name: [best - taken(name, space, rows, seed).scores[0][1] for seed in range(len(found))]
        for name, kind in STRATEGIES.items()
        if not kind.together
    }
    for name in ("shared", "shared, evenly", "random three"):
        made[name] = []
    for seed, each in enumerate(found):
        draw = numpy_generator(seed, "evenly")
        names = list(alone)
        even = [names[int(i)] for i in draw.permutation(len(names))[: len(each.drawn)]]
        for name, few in (("shared", each.drawn), ("shared, evenly", even)):
            made[name].append(best - best_of_three(sorted(few, key=lambda cell: -each.scores[cell]), alone))
        made["random three"].append(best - best_of_three(even, alone))
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--train", type=int, default=5000, help="pictures to learn from")
    parser.add_argument("--validation", type=int, default=2500, help="and to score on; another number, another --table")
    parser.add_argument("--table", type=Path, default=Path("shared_weights.jsonl"))
    parser.add_argument("--only", choices=["table"], help="stop when the table is made")
    given = parser.parse_args(arguments)
    order = Order(
        task="image-classification",
        data="fashion-mnist",
        model="cells",
        budget=Budget(steps=given.steps),
        preset="tiny",
        settings=SETTINGS,
    )
    seen = pictures(order, given.train, given.validation)
    space = parse_space(SPACE, set_up(catalog(), order, Context(), known=seen).sections)
    rows = table(order, seen, space, given.table)
    alone = {name: row[1.0][0][1] for name, row in rows.items()}
    print(f"\n{len(rows)} cells of {given.steps} steps; accuracy alone: best {max(alone.values()):.4f}, ", end="")
    print(f"median {statistics.median(alone.values()):.4f}, worst {min(alone.values()):.4f}")
    noise(alone)
    if given.only == "table":
        return
    found = together(order, seen, space, given.seeds, given.table)
    columns = [[alone[name], *(each.scores[name] for each in found)] for name in alone]
    taus = [mean_tau([(row[0], row[number]) for row in columns]) for number in range(1, len(found) + 1)]
    whole = bootstrap(columns, mean_tau, seed=0, resamples=1000)
    print(
        f"Kendall's tau, shared and alone: mean {whole.value:.3f}, 95 % {whole.low:.3f} to {whole.high:.3f}; ", end=""
    )
    print("of each seed " + ", ".join(f"{tau:.3f}" for tau in taus))
    seconds = [json.loads(line)["seconds"] for line in given.table.read_text().splitlines() if '"cell"' in line]
    ratio = statistics.median(each.seconds for each in found) / statistics.median(seconds) / SharedWeights.together
    print(f"learning together takes {ratio:.2f} times as long as four cells alone of as many steps\n")
    report(regrets(space, rows, alone, found))


if __name__ == "__main__":
    main()
