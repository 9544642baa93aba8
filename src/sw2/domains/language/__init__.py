"""Language: programs that read and write text.

What is asked: `text-generation`, a text in, its continuation out.

Shapes: B rows, T tokens, D width, H heads, V vocabulary.

Reading order: `task` (what is asked, judging, writing), `corpus` (where text comes from), `tokenizer`, `decoder` (the
network), `objective` (how it learns), `presets` (which settings, and why), `ngram` (the baselines). Measured results,
and what did not work: README.md.
"""

from sw2.core.domain import DataEntry, Domain, ModelEntry, ObjectiveEntry, TaskEntry

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
        )
    },
    models={
        "decoder": ModelEntry(
            target="sw2.domains.language.decoder:Decoder",
            summary="A decoder-only Transformer of the LLaMA family.",
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
    runtimes={"text-writer": "sw2.domains.language.task:TextWriter"},
    data={
        "python-stdlib": DataEntry(
            task="text-generation",
            summary="The standard library of the running Python, tests left out.",
            licence="PSF-2.0",
        )
    },
)
