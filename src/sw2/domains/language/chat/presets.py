"""Settings for chat: from the data and one dial to every number, each with its reason.

From nothing the shapes are those of language models (`language.presets`); from a program, its own.
"""

from __future__ import annotations

from dataclasses import replace

from sw2.core.data import Example
from sw2.core.domain import Recipe, Request
from sw2.core.gradient import GradientConfig
from sw2.domains.language import presets
from sw2.domains.language.chat.objective import LearnConfig
from sw2.domains.language.chat.template import ChatTemplate
from sw2.domains.language.decoder import parameter_count
from sw2.domains.language.prep import TextPrep
from sw2.parts.optim.build import OptimConfig
from sw2.parts.optim.schedule import ScheduleConfig

__all__ = ["is_large", "recipe"]

_CONTEXTS = {"tiny": 256, "small": 512, "full": 1024}
# Tokens a step: small networks learn more from many steps.
_TOKENS = {"tiny": 1024, "small": 2048, "full": 8192}
_MOST_CONTEXT = 2048
_STEP_CONTEXT = 128
# Characters of a token at least, by the size of the vocabulary: conversations are full of names and numbers.
_CHARACTERS = {"tiny": 1.8, "small": 2.4, "full": 2.7}
_CHARACTERS_OF_A_START = 3.0


def recipe(request: Request) -> Recipe:
    """Every setting for `request`."""
    base = presets.recipe(request)
    start = request.parent
    model, reasons, held = base.model_config, dict(base.reasons), 0
    characters = _CHARACTERS[request.preset] if start is None else _CHARACTERS_OF_A_START
    longest = max(_tokens(example, characters) for split in request.data.splits.values() for example in split)
    if start is None:
        whole = -(-longest // _STEP_CONTEXT) * _STEP_CONTEXT
        model = replace(model, context=min(_MOST_CONTEXT, max(_CONTEXTS[request.preset], whole)))
        reasons["model.context"] = f"{model.context} tokens, of which the longest conversation takes about {longest}"
        optim = base.learn_config.gradient.optim
    else:
        large = is_large(request)
        optim = OptimConfig(
            method="adamw",
            learning_rate=2e-4 if large else 1e-3,
            weight_decay=0.01,
            betas=(0.9, 0.99),
            schedule=ScheduleConfig(warmup=0.05),
        )
        reasons["learn.gradient.optim.learning_rate"] = (
            f"{optim.learning_rate:g} for {'a large' if large else 'a small'} network that knows much already"
        )
        reasons["prep"] = _template_reason(start.prep)
        if large:
            held = model.depth // 3
            reasons["learn.held"] = (
                f"{held} of {model.depth} blocks stay as they are: a step is cheaper, and taught as much when measured"
            )
    if start is not None and model.context > _MOST_CONTEXT:
        model = replace(model, context=_MOST_CONTEXT)
        reasons["model.context"] = f"{_MOST_CONTEXT} tokens, the start reads more: what is kept for a text takes memory"
    row = min(model.context, longest)
    batch = max(1, round(_TOKENS[request.preset] / row))
    reasons["learn.gradient.batch_size"] = f"{batch} rows of about {row} tokens, as the longest conversation needs"
    return replace(
        base,
        model_config=model,
        objective="chat",
        learn_config=LearnConfig(
            gradient=GradientConfig(batch_size=batch, compile=base.learn_config.gradient.compile, optim=optim),
            held=held,
        ),
        reasons=reasons,
    )


def is_large(request: Request) -> bool:
    """Whether the start, if there is one, is a network of those that have read much: it wants smaller steps."""
    start = request.parent
    if start is None:
        return False
    model = presets.recipe(request).model_config
    known = replace(model, vocab_size=start.prep.tokenizer.vocab_size) if isinstance(start.prep, TextPrep) else model
    return parameter_count(known) > 50e6


def _template_reason(prep: object) -> str:
    if not isinstance(prep, TextPrep) or not prep.controls.chat_template:
        return "the start has no chat template, so it gets ours"
    if ChatTemplate.of(prep).knows_tools:
        return "the start's own chat template"
    return "the start's own chat template, or ours where conversations use tools, which it does not know"


def _tokens(example: Example, characters: float) -> int:
    """About how many tokens a conversation takes."""
    texts = [str(message["content"]) + str(message.get("tool_calls") or "") for message in example["messages"]]
    texts += map(str, example["tools"])
    return int(sum(map(len, texts)) / characters) + 8 * len(texts)
