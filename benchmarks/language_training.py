"""Training speed of the language decoder beside Hugging Face's Trainer, on one machine in the same minutes.

The same network on both sides: 10.1 M weights (width 320, depth 6, heads 5, hidden 864, vocabulary 8192, tied), 256
tokens per row, the same rows per step, AdamW at a constant rate, random tokens. Each timing is a process of its own;
the variants take turns, because other load on a machine moves any single timing by 15 % and more. A process prints one
line of JSON: tokens per second from the median step after the warm-up (compilation is not counted). The table gives
the median over the rounds and the ratio sw2 / peer, as the median over rounds of the ratio within a round.

The peers, `transformers.LlamaForCausalLM` under `transformers.Trainer`:
- fp32: what one gets without setting anything
- bf16: `bf16=True`
- best fp32, best bf16: also `optim="adamw_torch_fused"`, `torch_compile=True` and `attn_implementation="eager"`, the
  fastest of the combinations that were tried on a CPU with bf16 instructions

On a processor that does not multiply bf16 natively a bf16 step takes minutes; those peers are then left out, and said
so.

    python benchmarks/language_training.py [--rounds 3] [--steps 30] [--rows 8] [--peer-python PATH]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

__all__ = ["main"]

VOCABULARY, TOKENS, WIDTH, DEPTH, HEADS, HIDDEN = 8192, 256, 320, 6, 5, 864
WARM_UP = 4
PEERS = {"hf fp32": "fp32", "hf bf16": "bf16", "hf best fp32": "fp32", "hf best bf16": "bf16"}
OURS = "sw2"


def sw2_steps(steps: int, rows: int, precision: str) -> list[float]:
    """Seconds of each step of sw2's decoder in a plain loop: fused AdamW, compiled, bf16 autocast or fp32."""
    from sw2.base.device import keep_freed_memory
    from sw2.domains.language.decoder import Decoder

    keep_freed_memory()
    model = Decoder(
        Decoder.Config(
            vocab_size=VOCABULARY,
            context=TOKENS,
            width=WIDTH,
            depth=DEPTH,
            heads=HEADS,
            kv_heads=HEADS,
            hidden=HIDDEN,
        )
    )
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    compiled = torch.compile(model, dynamic=False)
    draws = torch.Generator().manual_seed(1)
    seconds = []
    for _ in range(WARM_UP + steps):
        began = time.perf_counter()
        text = torch.randint(VOCABULARY, (rows, TOKENS + 1), generator=draws)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            nats = compiled({"tokens": text[:, :-1].contiguous(), "targets": text[:, 1:].contiguous()})["nats"]
        nats.mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - began)
    return seconds[WARM_UP:]


def peer_steps(steps: int, rows: int, variant: str) -> list[float]:
    """Seconds of each step of `transformers.Trainer`."""
    import transformers
    from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

    transformers.logging.set_verbosity_error()
    best = "best" in variant
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=WIDTH,
            num_hidden_layers=DEPTH,
            num_attention_heads=HEADS,
            num_key_value_heads=HEADS,
            intermediate_size=HIDDEN,
            max_position_embeddings=TOKENS,
            tie_word_embeddings=True,
            **({"attn_implementation": "eager"} if best else {}),
        )
    )
    draws = torch.Generator().manual_seed(1)
    # One token more than sw2's rows would be unfair: the labels are shifted inside, so 256 go in and 255 are scored.
    texts = torch.randint(VOCABULARY, (rows * (WARM_UP + steps + 1), TOKENS), generator=draws)

    class Clock(TrainerCallback):
        began: list[float] = []

        def on_step_begin(self, *_: object, **__: object) -> None:
            self.began.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            use_cpu=True,
            max_steps=WARM_UP + steps + 1,
            per_device_train_batch_size=rows,
            learning_rate=1e-3,
            lr_scheduler_type="constant",
            weight_decay=0.01,
            bf16=PEERS[variant] == "bf16",
            optim="adamw_torch_fused" if best else "adamw_torch",
            torch_compile=best,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        data = [{"input_ids": row, "labels": row} for row in texts]
        Trainer(model=model, args=arguments, train_dataset=data, callbacks=[Clock()]).train()
    began = Clock.began
    return [later - earlier for earlier, later in itertools.pairwise(began)][WARM_UP:]


def native_bf16() -> bool:
    """Whether sw2's own measurement prefers bf16 on this CPU."""
    from sw2.base.device import choose_precision

    return choose_precision(torch.device("cpu")).name == "bf16"


def timed(python: str, variant: str, options: argparse.Namespace, precision: str) -> float:
    """Tokens per second of one variant in a process of its own."""
    source = str(Path(__file__).resolve().parents[1] / "src")
    search = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    command = [python, __file__, "--variant", variant, "--precision", precision]
    command += ["--steps", str(options.steps), "--rows", str(options.rows)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": search}, check=False
    )
    if done.returncode:
        sys.exit(f"{variant} failed:\n{done.stderr[-3000:]}")
    line = json.loads(done.stdout.strip().splitlines()[-1])
    print(f"  {variant:<14}{line['tokens_per_second']:>8.0f} tokens/s", file=sys.stderr, flush=True)
    return float(line["tokens_per_second"])


def main() -> None:
    """Run the variants in turns and print the table; with --variant, be one of the timed processes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--peer-python", default=sys.executable, help="an interpreter that has transformers")
    parser.add_argument("--variant", choices=[OURS, *PEERS], help=argparse.SUPPRESS)
    parser.add_argument("--precision", choices=["bf16", "fp32"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.variant:
        measure: Callable[[], list[float]] = (
            (lambda: sw2_steps(options.steps, options.rows, options.precision))
            if options.variant == OURS
            else (lambda: peer_steps(options.steps, options.rows, options.variant))
        )
        speed = options.rows * TOKENS / statistics.median(measure())
        print(json.dumps({"variant": options.variant, "tokens_per_second": speed}))
        return

    bf16 = native_bf16()
    peers = [name for name, precision in PEERS.items() if bf16 or precision == "fp32"]
    if not bf16:
        print("This CPU does not multiply bf16 natively: the bf16 peers are left out, sw2 trains in fp32.")
    speeds: dict[str, list[float]] = {name: [] for name in (OURS, *peers)}
    for number in range(options.rounds):
        # Every other round backwards, so that no variant is always the first.
        for name in list(speeds)[:: 1 if number % 2 == 0 else -1]:
            python = sys.executable if name == OURS else options.peer_python
            speeds[name].append(timed(python, name, options, "bf16" if bf16 else "fp32"))
    print(
        f"{options.rounds} rounds, {options.steps} steps, {options.rows} x {TOKENS} tokens, torch {torch.__version__}"
    )
    print(f"{'':<14}{'tokens/s':>10}{'lowest':>9}{'highest':>9}{'sw2 / it':>10}")
    for name, found in speeds.items():
        ratio = statistics.median(ours / peer for ours, peer in zip(speeds[OURS], found, strict=True))
        print(f"{name:<14}{statistics.median(found):>10.0f}{min(found):>9.0f}{max(found):>9.0f}{ratio:>9.2f}x")


if __name__ == "__main__":
    main()
