"""Language: programs that read and write text.

What is asked: `text-generation`, a text in, its continuation out; `chat`, a conversation in, the next message out;
`feature-extraction`, a text in, a vector out.

Shapes: B rows, T tokens, D width, H heads, V vocabulary.

Reading order: `task` (what is asked, judging, writing), `corpus` (where text comes from, what is left out of it, how
sources are mixed), `tokenizer` and `prep`, `decoder` (the network), `families` (whose networks it can be), `formats`
(files of other toolkits), `weights` (named models), `objective` (how it learns) and `starting` (from what), `adapters`,
`presets` (which settings, and why), `ngram` (the baselines), `in_context` (learning from examples in the prompt),
`shapes` and `cluster` (published sizes, and what they take), `shrinking` (fewer bits), `calculator`, `four_grams` (how
much of one text stands in another). Then rooms of their own: `chat` (conversations, in the same order), `preferences`
(which answer is better), `reinforcement` (learning from what answers are worth), `ways` (how `chat` is learned),
`skills` (what an assistant is taught and judged on), `road` (all of it, one stage after the other), `embedding` (texts
as vectors) and `window` (words predicted from the few before them, as in 2003). Measured results, and what did not
work: README.md.
"""

from sw2.core.domain import (
    ChainEntry,
    ClaimEntry,
    DataEntry,
    Domain,
    FormatEntry,
    ModelEntry,
    ObjectiveEntry,
    TaskEntry,
    WeightsEntry,
)

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
            models=("decoder", "bengio"),
            data="python-stdlib",
            estimate="sw2.domains.language.cluster:estimate",
        ),
        "chat": TaskEntry(
            target="sw2.domains.language.chat.task:ChatTask",
            recipe="sw2.domains.language.ways:recipe",
            summary="What is the answer in this conversation?",
            models=("decoder",),
            data="arithmetic",
            objectives=("chat", "dpo", "grpo", "ppo"),
        ),
        "reward-modeling": TaskEntry(
            target="sw2.domains.language.preferences.task:RewardModeling",
            recipe="sw2.domains.language.preferences.presets:reward",
            summary="How good is the answer in this conversation?",
            models=("scorer",),
            data="preferences",
        ),
        "feature-extraction": TaskEntry(
            target="sw2.domains.language.embedding.task:FeatureExtraction",
            summary="Which vector stands for the meaning of this text?",
            models=("text-encoder",),
            data="documentation-search",
        ),
    },
    chains={
        "assistant": ChainEntry(
            target="sw2.domains.language.road:stages",
            task="chat",
            summary="From text to an assistant: reading, conversations, preferences.",
            data="assistant",
            demo_minutes=10.0,
            demo_data="arithmetic",
        )
    },
    models={
        "decoder": ModelEntry(
            target="sw2.domains.language.decoder:Decoder",
            summary="A decoder-only Transformer: GPT-2, BLOOM, LLaMA, Qwen and their like.",
            source="Touvron et al. 2023, arXiv:2302.13971",
            space={
                "model.depth": "2..8",
                "model.hidden": "352, 608, 864, 1280",
                "model.activation": "swiglu, gelu, relu2",
                "model.head_norm": "false, true",
                "learn.gradient.optim.learning_rate": "1e-3..1.6e-2 log",
            },
        ),
        "bengio": ModelEntry(
            target="sw2.domains.language.window.network:WordWindow",
            summary="The first neural language model: a window of words, their vectors, one hidden layer.",
            source="Bengio et al. 2003, JMLR 3:1137-1155",
        ),
        "adapters": ModelEntry(
            target="sw2.domains.language.adapters:Adapters",
            summary="Low-rank changes of a decoder's matrices, beside the program that they change.",
            source="Hu et al. 2021, arXiv:2106.09685",
        ),
        "scorer": ModelEntry(
            target="sw2.domains.language.preferences.scorer:Scorer",
            summary="A decoder that gives a number for every beginning of a text.",
            source="Stiennon et al. 2020, arXiv:2009.01325",
        ),
        "text-encoder": ModelEntry(
            target="sw2.domains.language.embedding.encoder:TextEncoder",
            summary="A bidirectional Transformer whose tokens are averaged to one vector.",
            source="Reimers and Gurevych 2019, arXiv:1908.10084",
        ),
    },
    objectives={
        "next-token": ObjectiveEntry(
            target="sw2.domains.language.objective:learn",
            config="sw2.domains.language.objective:LearnConfig",
            summary="Every next token of packed documents.",
        ),
        "next-word": ObjectiveEntry(
            target="sw2.domains.language.window.objective:learn",
            config="sw2.domains.language.window.objective:LearnConfig",
            summary="Every next word, from the few before it.",
        ),
        "chat": ObjectiveEntry(
            target="sw2.domains.language.chat.objective:learn",
            config="sw2.domains.language.chat.objective:LearnConfig",
            summary="The assistant's tokens of packed conversations.",
        ),
        "reward": ObjectiveEntry(
            target="sw2.domains.language.preferences.objective:learn_reward",
            config="sw2.domains.language.preferences.objective:RewardConfig",
            summary="Of two answers the better one scores higher (Bradley-Terry).",
        ),
        "dpo": ObjectiveEntry(
            target="sw2.domains.language.preferences.objective:learn_dpo",
            config="sw2.domains.language.preferences.objective:DpoConfig",
            summary="Of two answers the better one becomes likelier, against the start.",
        ),
        "grpo": ObjectiveEntry(
            target="sw2.domains.language.reinforcement.objective:learn_grpo",
            config="sw2.domains.language.reinforcement.objective:GrpoConfig",
            summary="Answers that are worth more than others of their group become likelier.",
        ),
        "ppo": ObjectiveEntry(
            target="sw2.domains.language.reinforcement.objective:learn_ppo",
            config="sw2.domains.language.reinforcement.objective:PpoConfig",
            summary="Answers that are worth more than a critic expected become likelier.",
        ),
    },
    runtimes={
        "text-writer": "sw2.domains.language.task:TextWriter",
        "word-writer": "sw2.domains.language.window.writer:WordWriter",
        "chat-writer": "sw2.domains.language.chat.writer:ChatWriter",
        "reward-judge": "sw2.domains.language.preferences.task:RewardJudge",
        "text-embedder": "sw2.domains.language.embedding.embedder:TextEmbedder",
    },
    weights={
        "smollm2-135m-instruct": WeightsEntry(
            target="sw2.domains.language.weights:smollm2",
            task="text-generation",
            summary="A small chat model, 134.5 M parameters in 4 bits.",
            licence="Apache-2.0",
            bytes=98_362_432,
        ),
        "all-minilm-l6-v2": WeightsEntry(
            target="sw2.domains.language.embedding.minilm:minilm",
            task="feature-extraction",
            summary="English texts as 384 numbers, 22.7 M parameters.",
            licence="Apache-2.0",
            bytes=83_500_000,
        ),
    },
    claims={
        "word-senses": ClaimEntry(
            target="sw2.domains.language.embedding.senses:run",
            question="Does a word's vector in its sentence tell its sense, where its single vector cannot?",
            expected="Nearly all senses told right in the sentence, half of them by the single vector.",
            rule="Holds when the 95 % interval (Student's, over words) of the share of sentences that are nearer to "
            "the centroid of the others of their sense than to that of the other sense, by vectors behind the last "
            "block, lies above 0.5; does not hold when it lies below; else undecided.",
            source="Peters et al. 2018, arXiv:1802.05365; Reif et al. 2019, arXiv:1906.02715",
            minutes=2.0,
            full_minutes=3.0,
        ),
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
            architectures=(
                "LlamaForCausalLM",
                "MistralForCausalLM",
                "Qwen2ForCausalLM",
                "Qwen3ForCausalLM",
                "GPT2LMHeadModel",
                "BloomForCausalLM",
            ),
        ),
    },
    data={
        "python-stdlib": DataEntry(
            task="text-generation",
            summary="The standard library of the running Python, tests left out.",
            licence="PSF-2.0",
        ),
        "brown": DataEntry(
            task="text-generation",
            summary="500 texts of American English of 1961, a million words, divided as in Bengio's paper.",
            licence="free to redistribute",
            bytes=2_875_925,
        ),
        "in-context": DataEntry(
            task="text-generation",
            summary="Ten small tasks with 0 to 16 examples in the prompt; for `sw2 eval`.",
            licence="Apache-2.0",
            judge="sw2.domains.language.in_context:InContext",
        ),
        "arithmetic": DataEntry(
            task="chat",
            summary="Sums and short stories, answered with a calculator.",
            licence="Apache-2.0",
        ),
        "documentation": DataEntry(
            task="chat",
            summary="Questions about passages of Python's documentation.",
            licence="PSF-2.0",
        ),
        "records": DataEntry(
            task="chat",
            summary="Texts, and the JSON that stands for them.",
            licence="Apache-2.0",
        ),
        "orderbot": DataEntry(
            task="chat",
            summary="Orders in many turns over random menus.",
            licence="Apache-2.0",
        ),
        "preferences": DataEntry(
            task="reward-modeling",
            summary="Pairs of answers, one of which has a named flaw.",
            licence="PSF-2.0",
        ),
        "assistant": DataEntry(
            task="chat",
            summary="All skills of an assistant, mixed.",
            licence="PSF-2.0",
        ),
        "documentation-search": DataEntry(
            task="feature-extraction",
            summary="Questions that describe documented things, and the passages about them.",
            licence="PSF-2.0",
        ),
    },
)
