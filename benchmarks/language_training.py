"""Training speed of the language decoder beside Hugging Face's Trainer, on one machine in the same minutes.

The same network on both sides, of 10.1 M weights (width 320, depth 6, heads 5, hidden 864) or 29.9 M (512, 8, 8, 1408);
vocabulary 8192, tied, 256 tokens per row, the same rows per step, AdamW at a constant rate, random tokens. Each timing
is a process of its own; the variants take turns, because other load on a machine moves any single timing by 15 % and
more. A process prints one line of JSON: tokens per second from the median step after the warm-up (compilation is not
counted). The table gives the median over the rounds and the ratio sw2 / peer, as the median over rounds of the ratio
within a round; and the share of the machine's peak in the format that sw2 computes in, where a token takes
6 · weights + 6 · depth · tokens · width operations (causal attention counted by half) and the peak is the fastest of
some products of 2048 x 2048 matrices, taken in each round.

The peers, `transformers.LlamaForCausalLM` under `transformers.Trainer`:
- fp32: what one gets without setting anything
- bf16: `bf16=True`
- best fp32, best bf16: also `optim="adamw_torch_fused"`, `torch_compile=True` and `attn_implementation="eager"`, the
  fastest of the combinations that were tried on a CPU with bf16 instructions

On a processor that does not multiply bf16 natively a bf16 step takes minutes; those peers are then left out, and said
so.

sw2 is timed under its Trainer, the peers under theirs.

    python benchmarks/language_training.py [--size 10m|30m] [--rounds 3] [--peers NAME,NAME]
        [--peer-python PATH]
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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

__all__ = ["main"]

VOCABULARY, TOKENS, WARM_UP = 8192, 256, 4


@dataclass(frozen=True)
class Size:
    """Of the network, on both sides."""

    width: int
    depth: int
    heads: int
    hidden: int

    @property
    def operations(self) -> float:
        """Per token, forward and backward."""
        block = 4 * self.width**2 + 3 * self.width * self.hidden + 2 * self.width
        weights = VOCABULARY * self.width + self.depth * block + self.width
        return 6.0 * weights + 6.0 * self.depth * TOKENS * self.width


SIZES = {"10m": Size(320, 6, 5, 864), "30m": Size(512, 8, 8, 1408)}
PEERS = {"hf fp32": "fp32", "hf bf16": "bf16", "hf best fp32": "fp32", "hf best bf16": "bf16"}
OURS = "sw2"


def sw2_steps(size: Size, steps: int, rows: int, precision: str) -> list[float]:
    """Seconds of each step of sw2's decoder under `core.trainer.Trainer`, from the begin of one step to the next."""
    from sw2.core.data import Data
    from sw2.core.gradient import Gradient, GradientConfig, Lesson, Loss, Player, Source, State
    from sw2.core.objective import Clock, Job, Metrics
    from sw2.core.program import Net, Program
    from sw2.core.run import Run
    from sw2.core.trainer import Budget, Trainer, TrainerConfig
    from sw2.domains.language.decoder import Decoder
    from sw2.domains.language.prep import PrepConfig, TextPrep
    from sw2.domains.language.task import TextGeneration, TextWriter
    from sw2.domains.language.tokenizer import Tokenizer
    from sw2.parts.optim.build import OptimConfig

    shape = Decoder.Config(
        vocab_size=VOCABULARY,
        context=TOKENS,
        width=size.width,
        depth=size.depth,
        heads=size.heads,
        kv_heads=size.heads,
        hidden=size.hidden,
    )
    # Any tokenizer: the texts are random tokens, as the peer's are.
    prep = TextPrep(Tokenizer.train(["a text"], 257), PrepConfig())
    began: list[float] = []

    class Texts(Source):
        def batch(self, nets: object, step: int, rank: int, size: int) -> dict[str, torch.Tensor]:
            draws = torch.Generator().manual_seed(step)
            text = torch.randint(VOCABULARY, (rows, TOKENS + 1), generator=draws)
            documents = torch.zeros(rows, TOKENS, dtype=torch.int64)
            return {"tokens": text[:, :-1], "targets": text[:, 1:], "documents": documents}

        def steps_per_epoch(self) -> float:
            return 1e9

    class Clocked(Gradient):
        def step(self, state: State, clock: Clock) -> Metrics:
            if clock.total < 1_000_000:  # not the trial steps, which measure
                began.append(time.perf_counter())
            return super().step(state, clock)

    def teach(job: Job) -> Lesson:
        def loss(nets: Mapping[str, Callable], batch: Mapping[str, torch.Tensor]) -> Loss:
            nats_BT = nets["decoder"](batch)["nats"]
            return Loss(nats_BT.sum(), nats_BT.numel())

        return Lesson(
            nets={"decoder": Decoder(shape)},
            players=[Player(name="decoder", nets=("decoder",), loss=loss)],
            source=Texts(),
            validate=None,
            assemble=lambda nets: Program.assemble(
                task=TextGeneration(),
                runtime=TextWriter,
                nets={role: Net("decoder", net) for role, net in nets.items()},
                prep=prep,
                provider={"name": "language", "distribution": "sw2", "version": "0"},
            ),
            items=("tokens", rows * TOKENS),
        )

    optim = OptimConfig(method="adamw", learning_rate=1e-3, weight_decay=0.01)
    objective = Clocked(
        "text-generation",
        GradientConfig(batch_size=rows, precision=precision, compile="on", optim=optim),
        teach,
    )
    job = Job(
        task=TextGeneration(),
        data=Data(name="random tokens", splits={}, fingerprint="0" * 64),
        prep=prep,
        model_name="decoder",
        model_class=Decoder,
        model_config=shape,
        seed=1,
        device=torch.device("cpu"),
    )
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "run", {"run": {"task": "text-generation"}})
        try:
            Trainer(TrainerConfig(evaluations=0)).fit(job, objective, Budget(steps=WARM_UP + steps + 1), run)
        finally:
            run.close()
    return [later - earlier for earlier, later in itertools.pairwise(began)][WARM_UP:]


def peer_steps(size: Size, steps: int, rows: int, variant: str) -> list[float]:
    """Seconds of each step of `transformers.Trainer`."""
    import transformers
    from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

    transformers.logging.set_verbosity_error()
    best = "best" in variant
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=size.width,
            num_hidden_layers=size.depth,
            num_attention_heads=size.heads,
            num_key_value_heads=size.heads,
            intermediate_size=size.hidden,
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


def peak(dtype: torch.dtype) -> float:
    """The fastest of twenty products of 2048 x 2048 matrices, in operations per second."""
    left, right = (torch.ones(2048, 2048, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(20):
        began = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - began)
    return 2 * 2048**3 / min(seconds)


def timed(python: str, variant: str, options: argparse.Namespace, precision: str) -> float:
    """Tokens per second of one variant in a process of its own."""
    source = str(Path(__file__).resolve().parents[1] / "src")
    search = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    command = [python, __file__, "--variant", variant, "--precision", precision]
    command += ["--size", options.size, "--steps", str(options.steps), "--rows", str(options.rows)]
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
    parser.add_argument("--size", choices=list(SIZES), default="10m")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--peers", default=",".join(PEERS), help="which, with commas between")
    parser.add_argument("--peer-python", default=sys.executable, help="an interpreter that has transformers")
    parser.add_argument("--variant", choices=[OURS, *PEERS], help=argparse.SUPPRESS)
    parser.add_argument("--precision", choices=["bf16", "fp32"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = SIZES[options.size]
    if options.variant:
        measure: Callable[[], list[float]] = (
            (lambda: sw2_steps(size, options.steps, options.rows, options.precision))
            if options.variant == OURS
            else (lambda: peer_steps(size, options.steps, options.rows, options.variant))
        )
        speed = options.rows * TOKENS / statistics.median(measure())
        print(json.dumps({"variant": options.variant, "tokens_per_second": speed}))
        return

    bf16 = native_bf16()
    peers = [name for name in options.peers.split(",") if bf16 or PEERS[name] == "fp32"]
    if not bf16:
        print("This CPU does not multiply bf16 natively: the bf16 peers are left out, sw2 trains in fp32.")
    speeds: dict[str, list[float]] = {name: [] for name in (OURS, *peers)}
    peaks = []
    for number in range(options.rounds):
        peaks.append(peak(torch.bfloat16 if bf16 else torch.float32))
        # Every other round backwards, so that no variant is always the first.
        for name in list(speeds)[:: 1 if number % 2 == 0 else -1]:
            python = sys.executable if name == OURS else options.peer_python
            speeds[name].append(timed(python, name, options, "bf16" if bf16 else "fp32"))
    limit = statistics.median(peaks)
    print(
        f"{options.size}: {options.rounds} rounds, {options.steps} steps, {options.rows} x {TOKENS} tokens,"
        f" torch {torch.__version__}, peak {limit / 1e9:.0f} billion operations/s"
    )
    print(f"{'':<14}{'tokens/s':>10}{'lowest':>9}{'highest':>9}{'sw2 / it':>10}{'of the peak':>13}")
    for name, found in speeds.items():
        ratio = statistics.median(ours / peer for ours, peer in zip(speeds[OURS], found, strict=True))
        speed = statistics.median(found)
        share = speed * size.operations / limit
        print(f"{name:<14}{speed:>10.0f}{min(found):>9.0f}{max(found):>9.0f}{ratio:>9.2f}x{share:>13.2f}")


if __name__ == "__main__":
    main()
