"""Language: programs that read and write text.

What is asked: `text-generation`, a text in, its continuation out.

Shapes: B rows, T tokens, D width, H heads, V vocabulary.

Reading order: `task` (what is asked, judging, writing), `corpus` (where text comes from, what is left out of it, how
sources are mixed), `tokenizer`, `chat` (conversations as tokens), `decoder` (the network), `families` (whose networks
it can be), `formats` (files of other toolkits), `weights` (named models), `objective` (how it learns), `presets` (which
settings, and why), `ngram` (the baselines), `in_context` (learning from examples in the prompt), `shapes` and `cluster`
(published sizes, and what they take), `shrinking` (fewer bits), `calculator`, `skills` (what an assistant is taught and
judged on). Measured results, and what did not work: README.md.
"""

from sw2.core.domain import DataEntry, Domain, FormatEntry, ModelEntry, ObjectiveEntry, TaskEntry, WeightsEntry

__all__ = ["DOMAIN"]

DOMAIN = Domain(
    name="language",
    summary="Programs that read and write text.",
    extra="text",
    tasks={
        "text-generation": TaskEntry(
            target="sw2.domains.language.task:TextGeneration",
            recipe="sw2.domains.language.presets:recipe",
            summary="How does this text go on?",
            models=("decoder",),
            data="python-stdlib",
            demo_minutes=4.0,
            estimate="sw2.domains.language.cluster:estimate",
        )
    },
    models={
        "decoder": ModelEntry(
            target="sw2.domains.language.decoder:Decoder",
            summary="A decoder-only Transformer: GPT-2, BLOOM, LLaMA, Qwen and their like.",
            source="Touvron et al. 2023, arXiv:2302.13971",
        )
    },
    objectives={
        "next-token": ObjectiveEntry(
            target="sw2.domains.language.objective:learn",
            config="sw2.domains.language.objective:LearnConfig",
            summary="Every next token of packed documents.",
        )
    },
    runtimes={
        "text-writer": "sw2.domains.language.task:TextWriter",
        "chat-writer": "sw2.domains.language.chat.writer:ChatWriter",
    },
    weights={
        "smollm2-135m-instruct": WeightsEntry(
            target="sw2.domains.language.weights:smollm2",
            task="text-generation",
            summary="A small chat model, 134.5 M parameters in 4 bits.",
            licence="Apache-2.0",
            bytes=98_362_432,
        )
    },
    formats={
        "gguf": FormatEntry(
            target="sw2.domains.language.formats.opening:open_gguf",
            summary="A language model in one file, as llama.cpp has it.",
            suffix=".gguf",
        ),
        "huggingface": FormatEntry(
            target="sw2.domains.language.formats.opening:open_folder",
            summary="A language model in a folder, as transformers has it.",
            file="config.json",
        ),
    },
    data={
        "python-stdlib": DataEntry(
            task="text-generation",
            summary="The standard library of the running Python, tests left out.",
            licence="PSF-2.0",
        ),
        "in-context": DataEntry(
            task="text-generation",
            summary="Ten small tasks with 0 to 16 examples in the prompt; for `sw2 eval`.",
            licence="Apache-2.0",
            judge="sw2.domains.language.in_context:InContext",
        ),
    },
)
