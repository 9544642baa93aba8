"""lm-eval's numbers for one program by three ways: its model "sw2", sw2 without lm-eval, and its model "hf".

    pip install "lm-eval[hf]"
    python benchmarks/lm_eval_parity.py smollm2-135m-instruct

Three tasks of lm-eval are made from texts at hand, without a hub: choices by likelihood, perplexity of whole texts and
greedy answers. The Hugging Face folder is written by sw2's export, so agreement with transformers covers the export,
the tokenizer and the scoring. Prints the largest difference of a log-likelihood in nats, and how many answers differ.

A whole text stands behind the token that stands between documents; "hf" is told the same one, which it would otherwise
take from the tokenizer's bos_token (SmolLM2-Instruct's is <|im_start|>). For a tokenizer that puts a token before each
text, "hf" also counts how likely that token is after itself. sw2 does not, so "texts" differ for such programs.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import lm_eval
from lm_eval.tasks import TaskManager

import sw2
from sw2.core.capabilities import Generate
from sw2.faces import lm_eval as face
from sw2.verbs.harness import Harness

CHOICES = [
    ("The opposite of hot is", ["cold", "warm", "wet"], 0),
    ("The plural of mouse is", ["mouses", "mice", "mouse"], 1),
    ("The day after Monday is", ["Sunday", "Friday", "Tuesday"], 2),
    ("def add(a, b):\n    return", ["a + b", "a - b", "None"], 0),
]
TEXTS = [
    "People write the examples; optimisation finds the program.",
    "The quick brown fox jumps over the lazy dog, and the naïve façades stand in the rain. " * 6,
]


def _tasks(folder: Path) -> list[str]:
    """Write three tasks and their data; return their names."""
    rows = [{"question": q, "choices": c, "answer": a} for q, c, a in CHOICES]
    (folder / "choices.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    common = {"dataset_path": "json", "test_split": "test"}
    tasks = {
        "sw2_choices": {
            "output_type": "multiple_choice",
            "doc_to_text": "{{question}}",
            "doc_to_choice": "{{choices}}",
            "doc_to_target": "{{answer}}",
            "metric_list": [{"metric": "acc"}],
        },
        "sw2_texts": {
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "{{text}}",
            "metric_list": [{"metric": "bits_per_byte"}],
        },
        "sw2_answers": {
            "output_type": "generate_until",
            "doc_to_text": "{{question}}",
            "doc_to_target": "{{choices[answer]}}",
            "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8, "do_sample": False},
            "metric_list": [{"metric": "exact_match"}],
        },
    }
    for name, task in tasks.items():
        file = folder / ("texts.jsonl" if name == "sw2_texts" else "choices.jsonl")
        document = {"task": name, **common, "dataset_kwargs": {"data_files": {"test": str(file)}}, **task}
        (folder / f"{name}.yaml").write_text(json.dumps(document))  # JSON is YAML
    return list(tasks)


def _samples(model: Any, arguments: dict[str, Any] | None, folder: Path, names: list[str]) -> dict[str, Any]:
    found = lm_eval.simple_evaluate(
        model=model,
        model_args=arguments,
        tasks=names,
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        bootstrap_iters=0,
        log_samples=True,
    )
    samples = {name: sorted(found["samples"][name], key=lambda each: each["doc_id"]) for name in names}
    return {
        "choices": [float(r[0][0]) for each in samples["sw2_choices"] for r in each["resps"]],
        "texts": [_number(each["resps"]) for each in samples["sw2_texts"]],
        "answers": [each["resps"][0][0] for each in samples["sw2_answers"]],
        "asked": {
            "choices": [tuple(asked) for each in samples["sw2_choices"] for asked in _arguments(each)],
            "texts": [_arguments(each)[0][0] for each in samples["sw2_texts"]],
            "answers": [tuple(_arguments(each)[0]) for each in samples["sw2_answers"]],
        },
    }


def _arguments(sample: dict[str, Any]) -> list[list[Any]]:
    asked = sample["arguments"]
    rows = asked.values() if isinstance(asked, dict) else asked
    return [list(row.values()) if isinstance(row, dict) else list(row) for row in rows]


def _number(value: Any) -> float:
    while isinstance(value, list | tuple):
        value = value[0]
    return float(value)


def main() -> None:
    parser = argparse.ArgumentParser(description="lm-eval's numbers by three ways.")
    parser.add_argument("program")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    program = sw2.load(options.program)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        names = _tasks(folder)
        ours = _samples(face.model()(program=options.program), None, folder, names)
        writer = program.capability(Generate)
        harness = Harness(writer)
        itself = {
            "choices": [logprob for logprob, _ in harness.loglikelihoods(ours["asked"]["choices"])],
            "texts": harness.rolling(ours["asked"]["texts"]),
            "answers": harness.texts(ours["asked"]["answers"]),
        }
        exported = folder / "exported"
        exported.mkdir()
        program.runtime.convert("huggingface", exported)
        arguments = {"pretrained": str(exported), "dtype": "float32", "device": "cpu"}
        theirs = _samples("hf", arguments | {"prefix_token_id": writer.encode_prompt("")[0]}, folder, names)
    rows = {}
    for name, other in (("sw2 itself", itself), ("transformers", theirs)):
        rows[name] = {
            **{
                kind: max(abs(a - b) for a, b in zip(ours[kind], other[kind], strict=True))
                for kind in ("choices", "texts")
            },
            "answers that differ": sum(a != b for a, b in zip(ours["answers"], other["answers"], strict=True)),
        }
    if options.json:
        print(json.dumps(rows))
        return
    for name, row in rows.items():
        print(
            f"{name:<14}"
            + ", ".join(
                f"{key} {value:.2e}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
            )
        )


if __name__ == "__main__":
    main()
