"""Fine-tuning, preferring and trying answers beside trl: the same model and data, in turns on one machine.

    pip install trl                                        here, or elsewhere and --peer-python PATH
    python benchmarks/trl_training.py [--rounds 3] [--steps 4] [--ways sft dpo grpo]

The model is `smollm2-135m-instruct`, written out as a Hugging Face folder for the peer; all weights learn, by AdamW, in
the same precision where both have it. Conversations are those of the data set `assistant` (a sixth of them orders of
a thousand tokens, the others of 150 to 250), given to trl as tokens and labels; pairs are those of `preferences` and
questions those of `records`, given as text and messages. Each timing is a process of its own, and sides take turns. A
step is timed from its beginning to the next one's; the first two are left out.

    sft     tokens of conversations (padding aside) a second. sw2 packs them into rows that do not see each other, and
            reads once what several begin with; trl packs with flash attention alone, that is, on a GPU; here it pads
            the conversations of a batch
    dpo     pairs a second, the reference model's share included on both sides; sw2 packs as many as fit into a row as
            long as the longest needs, trl takes 4
    grpo    answers a second: 2 questions a step with 8 answers of at most 64 tokens each, drawn, rewarded, held to the
            reference model and learned from once

The peer's variants: as it comes (bf16, and each block computed again in the backward pass); without computing anything
again; and, when asked for by --peers, compiled too, which pays for each new length of a batch.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

MODEL = "smollm2-135m-instruct"
CONVERSATIONS, PAIRS = 8, 4
AT_ONCE = 2
"""Conversations that trl computes at once, adding gradients up: 8 of up to 1,500 tokens took more than 20 GB."""
GROUP, ANSWERS, LONGEST = 8, 16, 64
VARIANTS: Mapping[str, Mapping[str, bool]] = {
    "trl": {},
    "trl best": {"bf16": True, "gradient_checkpointing": False},
    "trl best, compiled": {"bf16": True, "gradient_checkpointing": False, "torch_compile": True},
}
LEFT_OUT = 2


# ----------------------------------------------------------------------------------------------------------------- sw2


def prepare(folder: Path) -> None:
    """Write the model, the conversations and the pairs for both sides."""
    from sw2.catalog import catalog
    from sw2.core.task import Context
    from sw2.domains.language.chat.conversations import ChatOptions
    from sw2.domains.language.chat.template import ChatTemplate
    from sw2.domains.language.preferences.pairs import last_answer
    from sw2.verbs.export import export

    context = Context(confirm=lambda question: True)
    start = catalog().program(MODEL, context)
    export(start, folder / "model", "huggingface")
    for way, data, count in (("sft", "assistant", 200), ("dpo", "preferences", 200), ("grpo", "records", 200)):
        task = catalog().task("chat")
        read = task.read(data, ChatOptions(train=count, validation=0, test=1), context)
        examples = list(read.split("train"))
        template = ChatTemplate.of(task.adopt(start.prep, examples))  # type: ignore[arg-type]
        with open(folder / f"{way}.jsonl", "w") as ours, open(folder / f"{way}-tokens.jsonl", "w") as theirs:
            for example in examples:
                if way == "sft":
                    row = template.marked(example["messages"], example["tools"])[0]
                    tokens: dict[str, Any] = {"input_ids": row.tokens, "assistant_masks": list(map(int, row.written))}
                elif way == "grpo":
                    tokens = {"prompt": example["messages"][:-1]}
                else:
                    worse = {**example, "messages": [*example["messages"][:-1], example["rejected"]]}
                    better, rejected = last_answer(template, example), last_answer(template, worse)
                    tokens = {
                        "prompt_ids": better.tokens[: better.begins].tolist(),
                        "chosen_ids": better.tokens[better.begins :].tolist(),
                        "rejected_ids": rejected.tokens[rejected.begins :].tolist(),
                    }
                said = {key: example[key] for key in ("messages", "tools", "rejected", "check") if example.get(key)}
                ours.write(json.dumps(said) + "\n")
                theirs.write(json.dumps(tokens) + "\n")


def ours(way: str, folder: Path, steps: int) -> dict[str, Any]:
    """Seconds of steps, and what one learns from."""
    import torch

    from sw2.base.config import replace
    from sw2.catalog import catalog
    from sw2.core.domain import Request
    from sw2.core.objective import Clock, Job
    from sw2.core.task import Context
    from sw2.domains.language.chat.conversations import ChatOptions

    found = catalog()
    context = Context(confirm=lambda question: True)
    task, start = found.task("chat"), found.program(MODEL, context)
    options = ChatOptions(validation_share=0.0, test_share=0.0)
    data = task.read(str(folder / f"{way}.jsonl"), options, context)
    name = "chat" if way == "sft" else way
    recipe = found.recipe("chat")(Request(data=data, preset="small", parent=start, objective=name))
    config: Any = recipe.learn_config
    rows = {"sft": 2, "dpo": 1, "grpo": ANSWERS}[way]
    config = replace(
        config, gradient=replace(config.gradient, batch_size=rows, compile="off" if way == "grpo" else "on")
    )
    if way == "grpo":
        config = replace(
            config,
            rollouts=replace(config.rollouts, group=GROUP, max_tokens=LONGEST),
            reward=replace(config.reward, check=0.0, function="trl_training:odd"),
        )
    objective: Any = found.objective(name, config, "chat")
    job = Job(
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
    state = objective.start(replace(job, choices=objective.choose(job).values))
    seconds, counts = [], []
    source = state.lesson.source
    plain: Callable[..., Any] = source.batch

    def counted(*given: Any) -> Any:
        batch = plain(*given)
        counts.append({"sft": conversation_tokens, "dpo": pairs, "grpo": lambda batch: ANSWERS}[way](batch))
        return batch

    source.batch = counted
    for step in range(steps + LEFT_OUT):
        began = time.perf_counter()
        objective.step(state, Clock(step, 100))
        seconds.append(time.perf_counter() - began)
    return {"seconds": seconds, "counts": counts[-len(seconds) :]}


def conversation_tokens(batch: Mapping[str, Any]) -> int:
    """How many tokens the conversations of a batch have, those that several have in common counted for each."""
    total = int((batch["documents"] >= 0).sum())
    if "branches" not in batch:
        return total
    for documents, branches in zip(batch["documents"], batch["branches"], strict=True):
        for document in documents[documents >= 0].unique():
            mine = branches[documents == document]
            total += int((mine == 0).sum()) * (len(mine[mine > 0].unique()) - 1)
    return total


def odd(messages: Any, example: Any = None) -> float:
    """What an answer is worth: nothing of sense, but unlike within nearly every group."""
    del example
    return float(len(messages[-1]["content"]) % 2)


def pairs(batch: Mapping[str, Any]) -> int:
    """How many pairs the rows of a batch hold."""
    return int(batch["known"].sum())


# ----------------------------------------------------------------------------------------------------------------- trl


def theirs(way: str, folder: Path, steps: int, variant: str) -> dict[str, Any]:
    """The same under trl's trainers."""
    import datasets
    import transformers

    rows = [json.loads(line) for line in (folder / f"{way}-tokens.jsonl").read_text().splitlines()]
    model = transformers.AutoModelForCausalLM.from_pretrained(folder / "model", dtype="float32")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "model")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    began: list[float] = []

    class Clock(transformers.TrainerCallback):
        def on_step_begin(self, *given: Any, **more: Any) -> None:
            began.append(time.perf_counter())

        def on_train_end(self, *given: Any, **more: Any) -> None:
            began.append(time.perf_counter())

    size = {"sft": AT_ONCE, "dpo": PAIRS, "grpo": ANSWERS}[way]
    parts = CONVERSATIONS // AT_ONCE if way == "sft" else 1
    usual: dict[str, Any] = {
        "output_dir": str(folder / "out"),
        "per_device_train_batch_size": size,
        "gradient_accumulation_steps": parts,
        "max_steps": steps + LEFT_OUT,
        "learning_rate": 2e-4,
        "save_strategy": "no",
        "report_to": [],
        "logging_steps": 1000,
        "use_cpu": True,
        "disable_tqdm": True,
        **VARIANTS[variant],
    }
    counts: list[int] = []
    if way == "sft":
        from trl import SFTConfig, SFTTrainer

        trainer = SFTTrainer(
            model=model,
            args=SFTConfig(max_length=2048, packing=False, assistant_only_loss=False, **usual),
            train_dataset=datasets.Dataset.from_list(
                [
                    {
                        "input_ids": row["input_ids"],
                        "labels": [
                            token if mine else -100
                            for token, mine in zip(row["input_ids"], row["assistant_masks"], strict=True)
                        ],
                    }
                    for row in rows
                ]
            ),
            processing_class=tokenizer,
            callbacks=[Clock()],
        )
        plain = trainer.data_collator

        def counted(examples: Any) -> Any:
            counts.append(sum(len(example["input_ids"]) for example in examples))
            return plain(examples)

        trainer.data_collator = counted
    elif way == "grpo":
        from trl import GRPOConfig, GRPOTrainer

        def reward(completions: Any, **more: Any) -> list[float]:
            del more
            return [odd(completion) for completion in completions]

        trainer = GRPOTrainer(
            model=model,
            reward_funcs=reward,
            args=GRPOConfig(num_generations=GROUP, max_completion_length=LONGEST, beta=0.04, **usual),
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=tokenizer,
            callbacks=[Clock()],
        )
    else:
        from trl import DPOConfig, DPOTrainer

        def text(ids: list[int]) -> str:
            said: str = tokenizer.decode(ids)
            return said

        trainer = DPOTrainer(
            model=model,
            args=DPOConfig(max_length=2048, beta=0.1, **usual),
            train_dataset=datasets.Dataset.from_list(
                [{name: text(row[f"{name}_ids"]) for name in ("prompt", "chosen", "rejected")} for row in rows]
            ),
            processing_class=tokenizer,
            callbacks=[Clock()],
        )
    trainer.train()
    seconds = [end - start for start, end in itertools.pairwise(began)]
    found = [sum(counts[begin : begin + parts]) for begin in range(0, len(counts), parts)]
    return {"seconds": seconds, "counts": found[: len(seconds)] if counts else [size] * len(seconds)}


# --------------------------------------------------------------------------------------------------------------- table


def pace(python: str, side: str, way: str, folder: Path, steps: int) -> float | None:
    """Tokens or pairs a second over the steps that count, in a process of its own; None where it failed."""
    command = [
        python,
        str(Path(__file__).resolve()),
        "--one",
        side,
        "--ways",
        way,
        "--folder",
        str(folder),
        "--steps",
        str(steps),
    ]
    # From here, so that the reward is found by name.
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent)
    if done.returncode:
        print(f"{side}, {way}: failed\n{done.stderr[-1500:]}", file=sys.stderr)
        return None
    found = json.loads(done.stdout.splitlines()[-1])
    return float(sum(found["counts"][LEFT_OUT:]) / sum(found["seconds"][LEFT_OUT:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--ways", nargs="+", default=["sft", "dpo", "grpo"], choices=["sft", "dpo", "grpo"])
    parser.add_argument("--peers", nargs="+", default=["trl", "trl best"], choices=list(VARIANTS))
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        way = given.ways[0]
        one = (
            ours(way, given.folder, given.steps)
            if given.one == "sw2"
            else theirs(way, given.folder, given.steps, given.one)
        )
        print(json.dumps(one))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare(folder)
        for way in given.ways:
            rounds: list[dict[str, float]] = []
            for _ in range(given.rounds):
                rounds.append({})
                for side in ("sw2", *given.peers):
                    python = sys.executable if side == "sw2" else given.peer_python
                    found = pace(python, side, way, folder, given.steps)
                    if found is not None:
                        rounds[-1][side] = found
            unit = {"sft": "tokens/s", "dpo": "pairs/s", "grpo": "answers/s"}[way]
            for side in ("sw2", *given.peers):
                paces = [paced[side] for paced in rounds if side in paced]
                ratios = [paced["sw2"] / paced[side] for paced in rounds if {"sw2", side} <= paced.keys()]
                ratio = f"sw2 is {statistics.median(ratios):.2f} times as fast" if side != "sw2" and ratios else ""
                if paces:
                    print(f"{way:<5}{side:<20}{statistics.median(paces):>9.2f} {unit:<10}{ratio}", flush=True)


if __name__ == "__main__":
    main()
