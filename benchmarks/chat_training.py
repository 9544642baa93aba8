"""Steps of supervised fine-tuning on `smollm2-135m-instruct`: all weights, adapters, and logits at every place.

    python benchmarks/chat_training.py [--rounds 3] [--rows 4] [--data arithmetic] [--compile]

Rows are packed conversations of a named data set; every way takes the same ones. Those of `arithmetic` are short, those
of `assistant` as long as an order, with many short conversations in a row. Prints tokens per second,
the median of the rounds. "logits everywhere" is what learning costs when the loss is masked after the logits of all
places were computed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from sw2.base.config import replace
from sw2.catalog import catalog
from sw2.core.domain import Request
from sw2.core.gradient import GradientConfig
from sw2.core.objective import Clock, Job
from sw2.core.task import Context
from sw2.domains.language.chat.conversations import ChatOptions
from sw2.domains.language.chat.objective import LearnConfig, learn
from sw2.parts.layers.lora import LoraConfig


def job(rows: int, lora: LoraConfig, data_name: str, compile_it: bool) -> tuple[Any, Any]:
    """The objective and its state before the first step."""
    found = catalog()
    context = Context(confirm=lambda question: True)
    task, start = found.task("chat"), found.program("smollm2-135m-instruct", context)
    data = task.read(data_name, ChatOptions(train=200, validation=0, test=1), context)
    recipe = found.recipe("chat")(Request(data=data, preset="small", parent=start))
    gradient = GradientConfig(
        batch_size=rows,
        precision="auto",
        compile="on" if compile_it else "off",
        optim=recipe.learn_config.gradient.optim,
    )
    objective = learn(LearnConfig(gradient=gradient, lora=lora), found.provider("chat"))
    asked = Job(
        task=task,
        data=data,
        prep=task.adopt(start.prep, data.split("train")),
        model_name="decoder",
        model_class=found.model_class("decoder"),
        model_config=recipe.model_config,
        seed=0,
        device=torch.device("cpu"),
        parents={"start": start},
    )
    return objective, objective.start(replace(asked, choices=objective.choose(asked).values))


def everywhere(state: Any) -> None:
    """Let the loss look at all places, as a mask after the logits would."""
    source = state.lesson.source
    packed: Callable[..., Any] = source.batch

    def batch(*arguments: Any) -> Any:
        found = packed(*arguments)
        targets_BT = torch.full_like(found["tokens"], -1)
        targets_BT.scatter_(1, found["places"], found["targets"])
        return {"tokens": found["tokens"], "documents": found["documents"], "targets": targets_BT}

    source.batch = batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--data", default="arithmetic")
    parser.add_argument("--compile", action="store_true")
    given = parser.parse_args()
    ways = {
        "all weights": LoraConfig(),
        "all weights, logits everywhere": LoraConfig(),
        "adapters of rank 16": LoraConfig(rank=16),
    }
    print(f"{torch.get_num_threads()} threads, {given.rows} rows")
    for name, lora in ways.items():
        objective, state = job(given.rows, lora, given.data, given.compile)
        if "everywhere" in name:
            everywhere(state)
        times = []
        for step in range(given.rounds + 1):
            began = time.perf_counter()
            objective.step(state, Clock(step, 100))
            times.append(time.perf_counter() - began)
        tokens = objective.facts(state)["tokens_per_step"]
        seconds = statistics.median(times[1:])
        print(f"{name:32} {tokens / seconds:8.0f} tokens/s   {seconds:6.2f} s a step")


if __name__ == "__main__":
    main()
