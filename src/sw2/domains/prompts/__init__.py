"""Prompts: programs that somebody wrote down, for another program that chats.

What is asked: `prompt`, the inputs that the file names in, its answer out; or, of one that converses, a conversation in
and the next message out. Nothing is learned, so there is no model and no recipe: a file is read (docs/prompts.md).

Reading order: `file` (a prompt and its parts), `outputs` (what an answer has to be), `values` (what inputs may be, and
how they are fenced), `templates` (from inputs to messages), `expecting` (is an answer what a test expects?), `cases`
(where tests come from), `writer` (asking the program that a prompt runs on), `task` (judging), `opening` (from a file
to a program). The prompts that come along stand in `shipped/`; what they are worth on small models: README.md.
"""

from sw2.core.domain import Domain, WrittenEntry

__all__ = ["DOMAIN"]

DOMAIN = Domain(
    name="prompts",
    summary="Programs written in a natural language.",
    extra="text",
    runtimes={
        "prompt": "sw2.domains.prompts.writer:PromptWriter",
        "prompt-talk": "sw2.domains.prompts.writer:PromptTalker",
    },
    written={
        "prompt": WrittenEntry(
            task="sw2.domains.prompts.task:PromptTask",
            target="sw2.domains.prompts.opening:open_prompt",
            reads="sw2.domains.prompts.opening:PromptDraft",
            summary="Instructions, inputs, examples and tests, for a program that chats.",
            suffix=".toml",
            begins="+++",
            folder="sw2.domains.prompts.shipped",
            files={
                "extract": "A review to its sentiment, anger, item and brand, as JSON.",
                "topics": "A text to up to five topics, as JSON.",
                "translate": "A text to English, German, French or Spanish.",
                "tone": "A text in the tone of business, of friends, or plain.",
                "proofread": "A text without mistakes of spelling and grammar.",
                "orderbot": "A conversation that ends in an order and its price.",
            },
        )
    },
)
