"""Text generation: how does this text go on?

Shapes: B rows, T tokens, V vocabulary.

    Data → TextPrep (a byte-level BPE trained on the training documents) → a decoder's logits [B, T, V]
         → {"text": the continuation}

A `Writer` is any program that predicts tokens; `TextWriter` has a decoder, the one in `window` looks at a few words.

Judged in **bits per byte** on held-out documents: the negative log2 probability of all their tokens divided by their
UTF-8 bytes, which does not depend on the tokenizer. Each document begins after `<|endoftext|>`, and each token is
predicted from at least half a context where the document has that much before it. Where a token stands for several
words, what would tell them apart is added (`TokenPrep.spelling_bits`), to the program and to the n-grams alike; the
perplexity per token is without that.

Baselines on the same bytes: an interpolated modified Kneser-Ney 5-gram model on the same tokens, `xz -9e` on the
held-out text alone, and `xz -9e` with the training text as prefix. Chance is 8 bits per byte.
"""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from sw2.base.device import memory_told
from sw2.base.errors import DataError, ProgramError
from sw2.core.capabilities import Convert, Export, Generate, Graph, Shrink
from sw2.core.data import Data, Example, Split
from sw2.core.kinds import Kind
from sw2.core.model import Model
from sw2.core.program import Answer, Program, Runtime
from sw2.core.task import CheckReport, Context, Prep, Score, Shown, Task
from sw2.domains.language import shrinking
from sw2.domains.language.adapters import Adapters, with_adapters
from sw2.domains.language.corpus import CorpusOptions, read, read_brown
from sw2.domains.language.decoder import Decoder
from sw2.domains.language.ngram import NGram, xz_bits
from sw2.domains.language.prep import PrepConfig, TextPrep, TokenPrep
from sw2.domains.language.tokenizer import Tokenizer
from sw2.domains.language.window.network import WordWindow
from sw2.domains.language.window.words import WordConfig, WordPrep
from sw2.parts.decoding.engine import Engine, StepFunction
from sw2.parts.decoding.likelihood import score
from sw2.parts.decoding.sampling import USUAL
from sw2.parts.decoding.text import TextEngine, TokenScore, scores

__all__ = ["TextGeneration", "TextWriter", "Writer"]

_PERPLEXITY: Final = "perplexity per token"
_LONGEST_JUDGED: Final = 2048
_LOGITS_AT_ONCE: Final = 2**27
_ANSWER: Final = 64
"""How many tokens an answer has at most when nobody says otherwise."""


class Writer(Runtime, Generate):
    """Writes on from a prompt, with a network that maps tokens [B, T] to the logits of each next one [B, T, V]."""

    net: Decoder | WordWindow
    prep: TokenPrep
    _engine: TextEngine | None = None

    @abstractmethod
    def step_function(self, slots: int) -> StepFunction:
        """Return the network with a memory of `slots` texts."""

    @abstractmethod
    def reader(self) -> Decoder | WordWindow:
        """Return the network for reading many long rows."""

    @property
    def context(self) -> int:
        return int(self.net.config.context)

    def text_engine(self, slots: int) -> TextEngine:
        if self._engine is None or self._engine.slots < slots:
            ends = [self.prep.tokenizer.control[token] for token in self.prep.controls.ends]
            self._engine = TextEngine(Engine(self.step_function(slots)), self.prep.tokenizer, ends)
        return self._engine

    def encode_prompt(self, prompt: str) -> list[int]:
        tokenizer, begins = self.prep.tokenizer, self.prep.controls.begins
        tokens = tokenizer.encode(prompt)
        if begins or not tokens:
            tokens = [tokenizer.control[begins or self.prep.controls.document], *tokens]
        return tokens

    def score(
        self, pairs: Sequence[tuple[str | Sequence[int], str | Sequence[int]]], *, top: int = 0
    ) -> list[list[TokenScore]]:
        tokens = [
            (
                self.encode_prompt(prompt) if isinstance(prompt, str) else prompt,
                self.prep.tokenizer.encode(more) if isinstance(more, str) else more,
            )
            for prompt, more in pairs
        ]
        found = score(
            lambda tokens_BT: self.net({"tokens": tokens_BT})["logits"],
            tokens,
            context=self.context,
            top=top,
        )
        return [scores(each, self.prep.tokenizer) for each in found]

    def answer(self, inputs: Sequence[Any]) -> list[Answer]:
        """Write on from each text; from one that fills the context, from its end."""
        most = self.context
        prompts = [self.encode_prompt(text)[-(most - min(_ANSWER, most // 2)) :] for text in inputs]
        texts = [""] * len(inputs)
        for number, piece in self.generate_many(prompts, [USUAL] * len(inputs), max_tokens=_ANSWER):
            texts[number] += piece.text
        return [{"text": text} for text in texts]

    def nats(self, documents: Sequence[np.ndarray], *, stride: int | None = None) -> float:
        """The sum of `nats_of_tokens`."""
        return sum(float(nats_T.sum()) for nats_T in self.nats_of_tokens(documents, stride=stride))

    def nats_of_tokens(self, documents: Sequence[np.ndarray], *, stride: int | None = None) -> list[np.ndarray]:
        """-ln p of each token after the first of each document, seen with at least `context - stride` before it.

        A context beyond 2,048 tokens counts as 2,048 here: judging would take hours.

        Args:
            documents: tokens, int32 [T] each, the first one being context only.
            stride: how far the window moves; half the context by default.

        Returns:
            float64 [T - 1] for each document.
        """
        context = min(self.context, _LONGEST_JUDGED)
        stride = stride or context // 2
        windows = []
        for number, tokens in enumerate(documents):
            done = 1  # tokens[:done] are predicted (or, the first, given)
            while done < len(tokens):
                first = done == 1
                end = min(len(tokens), done + (context if first else stride))
                windows.append((number, max(0, end - context - 1), done, end))
                done = end
        windows.sort(key=lambda window: window[3] - window[1])
        net = self.reader()  # once, not for every window
        found = [np.zeros(max(0, len(tokens) - 1)) for tokens in documents]
        with torch.inference_mode():
            while windows:
                # Long ones first, at most so many at once that their logits stay below half a gigabyte.
                width = windows[-1][3] - windows[-1][1] - 1
                rows = max(1, min(16, _LOGITS_AT_ONCE // (width * self.net.config.vocab_size)))
                windows, part = windows[:-rows], windows[-rows:]
                batch = {
                    "tokens": torch.zeros(len(part), width, dtype=torch.int64),
                    "targets": torch.full((len(part), width), -1, dtype=torch.int64),
                }
                for row, (number, begin, done, end) in enumerate(part):
                    known = torch.from_numpy(documents[number][begin:end].astype(np.int64))
                    batch["tokens"][row, : end - begin - 1] = known[:-1]
                    batch["targets"][row, done - begin - 1 : end - begin - 1] = known[done - begin :]
                nats_BT = net(batch)["nats"].double().numpy()
                for row, (number, begin, done, end) in enumerate(part):
                    found[number][done - 1 : end - 1] = nats_BT[row, done - begin - 1 : end - begin - 1]
        return found


class TextWriter(Writer, Export, Convert, Shrink):
    """Writes on from a prompt with a decoder."""

    name = "text-writer"
    Prep = TextPrep

    net: Decoder
    prep: TextPrep

    def __init__(self, nets: Mapping[str, Model], prep: TextPrep, uses: Mapping[str, Program]) -> None:
        if "adapters" in nets:
            base, adapters = uses["base"].runtime, nets["adapters"]
            assert isinstance(base, TextWriter)
            assert isinstance(adapters, Adapters)
            net: Model = with_adapters(base.net, adapters).eval().requires_grad_(False)
        else:
            net = nets["decoder"]
        assert isinstance(net, Decoder)
        if prep.tokenizer.vocab_size > net.config.vocab_size:
            raise ProgramError(
                "The tokenizer has more tokens than the network.",
                wanted=f"at most the {net.config.vocab_size} rows of the embedding",
                got=f"{prep.tokenizer.vocab_size} tokens",
                do="Use the tokenizer that came with these weights.",
            )
        self.net, self.prep = net, prep

    def step_function(self, slots: int) -> StepFunction:
        context, channels = self.context, self.net.config.attention.channels
        texts = f"{slots} {'text' if slots == 1 else 'texts'} of {context} tokens"
        # The tables of positions alone; the cache fills as texts grow.
        with memory_told(texts, 8 * context * channels, "Choose a model with a shorter context."):
            return self.net.cached_step(slots)

    def reader(self) -> Decoder:
        return self.net.unpacked()

    def conversions(self) -> Mapping[str, str]:
        from sw2.domains.language.formats.writing import FORMATS

        return {name: each.summary for name, each in FORMATS.items()}

    def convert(self, format_name: str, into: Path) -> tuple[int, float]:
        from sw2.domains.language.formats.writing import convert

        return convert(self.net, self.prep, format_name, into)

    def ways_to_shrink(self, bits: int) -> Mapping[str, str]:
        shrinking.check(self.net, bits)
        return shrinking.methods(bits)

    def shrink(self, bits: int, method: str, train: Split, seed: int) -> Mapping[str, Model]:
        context = self.net.config.context
        rows = functools.partial(shrinking.calibration_rows, self.prep.documents, train, context, seed)
        return {"decoder": shrinking.shrink(self.net, 4 if bits == 4 else 8, method, rows)}

    def graph(self) -> Graph:
        context, vocabulary = self.net.config.context, self.net.config.vocab_size
        draw = torch.Generator().manual_seed(0)

        def tokens(rows: int, length: int) -> torch.Tensor:
            return torch.randint(0, vocabulary, (rows, length), generator=draw)

        return Graph(
            module=_FromTokens(self.net.unpacked()).eval(),
            inputs={"tokens": tokens(2, 11)},
            dynamic={"tokens": {0: "batch", 1: "length"}},
            outputs=("logits",),
            # From one token to the whole context, most of them short: long ones take long.
            samples=[(tokens(1 + i % 3, 1 + (context - 1) * i**3 // 99**3),) for i in range(100)],
            assets={"tokenizer.json": self.prep.tokenizer.to_json().encode()},
            example=_EXAMPLE.replace("CONTEXT", str(context)),
        )


_EXAMPLE = """\
# pip install onnxruntime numpy tokenizers
import sys
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

session = onnxruntime.InferenceSession("model.onnx")
tokenizer = Tokenizer.from_file("tokenizer.json")
tokenizer.encode_special_tokens = True  # a prompt is text and holds no control tokens
end = tokenizer.token_to_id("<|endoftext|>")
for prompt in sys.argv[1:]:
    tokens = [end, *tokenizer.encode(prompt).ids]
    for _ in range(64):
        (logits,) = session.run(None, {"tokens": np.array([tokens[-CONTEXT:]], np.int64)})
        tokens.append(int(logits[0, -1].argmax()))  # the likeliest goes on
        if tokens[-1] == end:
            break
    print(tokenizer.decode(tokens))
"""


class _FromTokens(torch.nn.Module):
    """The decoder for exporters: token ids int64 [B, T] to logits float32 [B, T, V]."""

    def __init__(self, net: Decoder) -> None:
        super().__init__()
        self.net = net

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.net({"tokens": tokens})["logits"]


class TextGeneration(Task):
    """The task at the top of this file."""

    name = "text-generation"
    inputs = {"text": Kind("text")}
    outputs = {"text": Kind("text")}
    metric = "bits per byte"
    runtime = TextWriter.name
    Options = CorpusOptions

    def read(self, source: str, options: CorpusOptions, context: Context) -> Data:
        if source == "brown" and not Path(source).exists():
            return read_brown(options, context)
        return read(source, options)

    def question(self, example: Example) -> str:
        return str(example["text"][:200])

    def check(self, data: Data) -> CheckReport:
        facts = {
            name: f"{len(split)} documents, {data.facts[f'{name} bytes'] / 1e6:.2f} MB"
            for name, split in data.splits.items()
        }
        for name, source in data.facts.get("sources", {}).items():
            said = [
                f"{source['documents']} documents, {source['bytes'] / 1e6:.2f} MB to learn from",
                f"share {source['share']:.4g}" if source["share"] is not None else "",
                f"{source['epochs']:g} epochs intended" if source["epochs"] is not None else "",
            ]
            facts[f"source {name}"] = ", ".join(filter(None, said))
        notes = [f"skipped {row.where}: {row.why}" for row in data.rejected[:20]]
        if copies := data.facts["equal documents dropped"]:
            notes.append(f"{copies} documents were copies of others and dropped before the documents were divided")
        for source, reasons in data.facts.get("left out", {}).items():
            for why, counted in reasons.items():
                more = ", …" if counted["documents"] > len(counted["examples"]) else ""
                notes.append(
                    f"{f'{source}: ' if source else ''}left out as {why}: {counted['documents']} documents, "
                    f"{counted['bytes'] / 1e6:.2f} MB ({', '.join(counted['examples'])}{more})"
                )
        if (overlap := data.facts.get("contamination")) and overlap["held-out documents"]:
            notes.append(
                f"{overlap['share']:.2%} of the held-out runs of 13 words {overlap['verdict']}, in "
                f"{overlap['held-out documents']} held-out documents: {', '.join(overlap['examples'])}"
            )
        return CheckReport(facts=facts, notes=[*data.facts.get("notes", ()), *notes])

    def prepare(self, train: Split, config: PrepConfig | WordConfig) -> TokenPrep:
        texts = (example["text"] for example in train)
        if isinstance(config, WordConfig):
            return WordPrep.of(texts, config)
        return TextPrep(Tokenizer.train(texts, config.vocab_size, single_digits=config.digits == "single"), config)

    def show(self, example: Example, prep: Prep) -> list[list[Shown]]:
        assert isinstance(prep, TokenPrep)
        return [[Shown(prep.controls.document, False), Shown(str(example["text"]), True)]]

    def baselines(self, data: Data, prep: Prep, context: Context) -> Sequence[Score]:
        assert isinstance(prep, TokenPrep)
        whole, test = data.split("train"), data.split("test")
        train = _part(whole)
        of = "the training text" if len(train) == len(whole) else f"{len(train)} of {len(whole)} training documents"
        size = sum(len(example["text"].encode()) for example in test)
        tokenizer = prep.tokenizer
        context.say("fitting a Kneser-Ney 5-gram model on the same tokens")
        ngram = NGram(
            (document[1:] for document in prep.documents(train)),
            vocab_size=tokenizer.vocab_size,
            end_of_text=tokenizer.end_of_text,
        )
        chances = ngram.chances(document[1:] for document in prep.documents(test))
        spelling = prep.spelling_bits(example["text"] for example in test)
        context.say("compressing with xz")
        xz = xz_bits(_bytes(train), [example["text"].encode() for example in test])
        counted = "Kneser-Ney 5-gram, same tokens" + ("" if len(train) == len(whole) else f", {of}")
        bits = {
            counted: float(-np.log2(chances).sum()) + spelling,
            f"xz -9e after {of}": xz.primed,
            "xz -9e alone": xz.alone,
            "chance": 8.0 * size,
        }
        return [
            *(
                Score(name=self.metric, value=value / size, better="lower", examples=len(test), of=name)
                for name, value in bits.items()
            ),
            Score(
                name=_PERPLEXITY,
                value=float(np.exp(-np.log(chances).mean())),
                better="lower",
                examples=len(chances),
                of=counted,
            ),
        ]

    def judge(self, program: Program, held_out: Split, context: Context) -> Sequence[Score]:
        writer = program.capability(Writer)  # type: ignore[type-abstract]
        documents = list(writer.prep.documents(held_out))
        sizes = [len(example["text"].encode()) for example in held_out]
        if not sum(sizes):
            raise DataError("There is no text to judge on.", wanted="at least one byte", got="none")
        sources = _sources(held_out)
        parts = {name: writer.nats([documents[number] for number in numbers]) for name, numbers in sources.items()}
        spelling = {
            name: writer.prep.spelling_bits(held_out[number]["text"] for number in numbers)
            for name, numbers in sources.items()
        }
        nats = sum(parts.values())
        tokens = sum(len(document) - 1 for document in documents)
        prompts = [example["text"][:120] for example in held_out[:3]]
        samples = [
            {"prompt": prompt, "text": answer["text"]}
            for prompt, answer in zip(prompts, writer.answer(prompts), strict=True)
        ]
        told = sum(spelling.values())
        bits = (nats / np.log(2) + told) / sum(sizes)
        details: dict[str, Any] = {"samples": samples, "bytes": sum(sizes), "tokens": tokens}
        if told:
            details["of these to tell words apart that one token stands for"] = told / sum(sizes)
        if len(sources) > 1:
            details["by source"] = {
                name: (parts[name] / np.log(2) + spelling[name]) / sum(sizes[number] for number in numbers)
                for name, numbers in sources.items()
            }
        return [
            Score(name=self.metric, value=float(bits), better="lower", examples=len(documents), details=details),
            Score(name=_PERPLEXITY, value=float(np.exp(nats / tokens)), better="lower", examples=tokens),
        ]


_BASELINE_BYTES: Final = 2**26


def _part(train: Split) -> Split:
    """Training documents of at most 64 MB, evenly from all of them: baselines that learn from more take hours."""
    size = sum(len(example["text"].encode()) for example in train[:: max(1, len(train) // 1000)])
    size *= max(1, len(train) // 1000)
    return train[:: -(-size // _BASELINE_BYTES)]


def _sources(examples: Split) -> dict[str, list[int]]:
    """The numbers of the examples of each source of a mixture; of other data all of them under ""."""
    found: dict[str, list[int]] = {}
    for number, example in enumerate(examples):
        found.setdefault(example.get("source", ""), []).append(number)
    return found


def _bytes(examples: Split) -> bytes:
    return b"".join(example["text"].encode() for example in examples)
