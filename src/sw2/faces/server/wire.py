"""What requests may say and what answers say, in OpenAI's forms, held to types and bounds.

Strict: no text for a number, no number beyond its range, no NaN, and no parameter that is not listed here. Parameters
of OpenAI's that only label a request (`user`, `metadata`, …) are taken and have no effect on the answer by their
nature; those that would change it and are not supported are refused where they are used, by name.

Beyond OpenAI's there are `top_k`, `min_p` and `repetition_penalty`, as other servers of open models have them; and in
chats `documents`, which says how the server's documents are used, and the `sources` and `steps` of a message, which may
come back in a conversation and have no effect there; and all of /v1/feedback.

Sources: https://platform.openai.com/docs/api-reference, the sections chat, completions, embeddings and models.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

__all__ = [
    "MOST_CHOICES",
    "Chat",
    "ChatAnswer",
    "ChatChoice",
    "ChatLogprobs",
    "ChatMessage",
    "ChatToken",
    "ChatTopToken",
    "Common",
    "Completion",
    "CompletionAnswer",
    "CompletionChoice",
    "CompletionLogprobs",
    "DocumentsUse",
    "Embeddings",
    "EmbeddingsAnswer",
    "Error",
    "Feedback",
    "FeedbackTaken",
    "FunctionCall",
    "Message",
    "ModelCard",
    "ModelList",
    "NamedTool",
    "Part",
    "PromptDetails",
    "ResponseFormat",
    "Source",
    "Step",
    "StreamOptions",
    "ToolCall",
    "Usage",
    "Vector",
]

MOST_CHOICES: Final = 128
_MOST_MESSAGES: Final = 4096
_MOST_TOOLS: Final = 128
_MOST_TEXTS: Final = 2048


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


def _one_or_many(value: Any) -> str:
    return "a list" if isinstance(value, list) else "a text"


def _truth(value: Any) -> Any:
    if value is not None and not isinstance(value, bool):
        raise PydanticCustomError("literal_error", "Input should be False")
    return value


_False = Annotated[Literal[False], BeforeValidator(_truth)]  # of a Literal alone, 0 would be one
_Stop = Annotated[str, Field(min_length=1, max_length=1000)]
_Stops = Annotated[
    Annotated[_Stop, Tag("a text")] | Annotated[list[_Stop], Field(max_length=16), Tag("a list")],
    Discriminator(_one_or_many),
]
_Label = Annotated[str, Field(max_length=1000)]


class StreamOptions(_Strict):
    """Of a stream: whether its last chunk tells the usage."""

    include_usage: bool = False
    include_obfuscation: _False = False


class Common(_Strict):
    """What a chat and a completion have in common; None for what `sw2 run` would take."""

    model: _Label
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    stop: _Stops | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=2**31)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: (
        Annotated[
            dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], Annotated[float, Field(ge=-100, le=100)]],
            Field(max_length=4096),
        ]
        | None
    ) = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**64)] | None = None
    user: _Label | None = None

    @property
    def stops(self) -> list[str]:
        """The stop strings as a list."""
        return [self.stop] if isinstance(self.stop, str) else list(self.stop or [])


# ---------------------------------------------------------------------------------------------------------------- chat


class Part(_Strict):
    """A part of a message's content; only text is known."""

    type: Literal["text"]
    text: str


class FunctionCall(_Strict):
    """What is called, with its arguments as JSON in a text."""

    name: str
    arguments: str


class ToolCall(_Strict):
    """A call in an assistant's message; its number where it comes as a piece of a stream."""

    index: Annotated[int, Field(ge=0)] | None = None
    id: _Label = ""
    type: Literal["function"] = "function"
    function: FunctionCall


class Message(_Strict):
    """A message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: (
        Annotated[
            Annotated[str, Tag("a text")] | Annotated[list[Part], Field(max_length=1024), Tag("a list")],
            Discriminator(_one_or_many),
        ]
        | None
    ) = None
    name: _Label | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=_MOST_TOOLS)] | None = None
    tool_call_id: _Label | None = None
    refusal: None = None
    audio: None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    sources: Annotated[list[Any], Field(max_length=64, description="As an answer had them.")] | None = None
    steps: Annotated[list[Any], Field(max_length=1024, description="The same.")] | None = None


class _Function(_Strict):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _Tool(_Strict):
    type: Literal["function"]
    function: _Function


class _Named(_Strict):
    name: _Label


class NamedTool(_Strict):
    """The tool that is to be called."""

    type: Literal["function"]
    function: _Named


class _JsonSchema(_Strict):
    name: _Label
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(_Strict):
    """How the answer is to be written; a schema is always kept to, "strict" or not."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: _JsonSchema | None = None


class DocumentsUse(_Strict):
    """How an answer from the server's documents is made."""

    passages: Annotated[int, Field(ge=1, le=12, description="The most passages that the model is given.")] = 2


def _text_or_object(value: Any) -> str:
    return "an object" if isinstance(value, dict) else "a text"


def _truth_or_object(value: Any) -> str:
    return "true or false" if isinstance(value, bool) else "an object"


class Chat(Common):
    """The body of /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=_MOST_MESSAGES)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: Annotated[list[_Tool], Field(max_length=_MOST_TOOLS)] | None = None
    tool_choice: (
        Annotated[
            Annotated[Literal["auto", "none", "required"], Tag("a text")] | Annotated[NamedTool, Tag("an object")],
            Discriminator(_text_or_object),
        ]
        | None
    ) = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    documents: Annotated[
        Annotated[
            Annotated[bool, Tag("true or false")] | Annotated[DocumentsUse, Tag("an object")],
            Discriminator(_truth_or_object),
        ]
        | None,
        Field(description="Whether and how to answer from the server's documents; usually it does where it has any."),
    ] = None
    metadata: dict[str, str] | None = None
    store: _False | None = None
    service_tier: Literal["auto", "default"] | None = None
    safety_identifier: _Label | None = None
    prompt_cache_key: _Label | None = None


class ChatTopToken(_Strict):
    """One of the likeliest tokens in a place."""

    token: str
    logprob: float
    bytes: list[int]


class ChatToken(ChatTopToken):
    """A token of the answer, ln p of it, and the likeliest in its place."""

    top_logprobs: list[ChatTopToken]


class ChatLogprobs(_Strict):
    """How likely the tokens of an answer, or of a piece of it, were."""

    content: list[ChatToken]
    refusal: None = None


class Source(_Strict):
    """Where a document says what an answer says."""

    place: Annotated[str, Field(description="For people, as in 'notes/a.md:12' or 'report.pdf, page 3'.")]
    path: Annotated[str, Field(description="The file, relative to the folder of documents.")]
    unit: Annotated[str, Field(description="What the position counts: line, page, paragraph or message.")]
    position: Annotated[int, Field(ge=1)]
    quote: Annotated[str, Field(description="The sentence there.")]
    score: Annotated[float, Field(ge=0, description="How relevant its passage is to the question, 0 to 1.")]


class Step(_Strict):
    """A call of one of the server's tools, and what came of it."""

    index: Annotated[int, Field(ge=0)]
    name: Annotated[str, Field(description="The tool; 'error' for a call that is not understood.")]
    arguments: Annotated[str, Field(description="As JSON.")]
    result: str


class ChatMessage(_Strict):
    """The assistant's message, or what came to it since the piece before.

    Not OpenAI's are `sources`, in answers from documents, empty where they do not say; and `steps`, where the server
    ran tools on the way.
    """

    role: Literal["assistant"] = "assistant"
    content: str | None = None
    tool_calls: list[ToolCall] | None = None
    refusal: None = None
    sources: list[Source] | None = None
    steps: list[Step] | None = None


class ChatChoice(_Strict):
    """One of the answers: whole under "message", or a piece of it under "delta"."""

    index: int
    message: ChatMessage | None = None
    delta: ChatMessage | None = None
    logprobs: ChatLogprobs | None = None
    finish_reason: Literal["stop", "length", "tool_calls"] | None = None


class PromptDetails(_Strict):
    """How much of the prompt was known already and did not have to be read."""

    cached_tokens: int


class Usage(_Strict):
    """How many tokens were read and written, over all choices."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class ChatAnswer(_Strict):
    """The answer to a chat, or a chunk of its stream."""

    id: str
    object: Literal["chat.completion", "chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage | None = None


# --------------------------------------------------------------------------------------------------------- completions


def _kind_of_prompt(value: Any) -> str:
    if not isinstance(value, list):
        return "a text"
    first = value[0] if value else ""
    return "some tokens" if isinstance(first, int) else "lists of tokens" if isinstance(first, list) else "some texts"


_Token = Annotated[int, Field(ge=0, lt=2**31)]
_Tokens = Annotated[list[_Token], Field(min_length=1, max_length=2**20)]
_Prompt = Annotated[
    Annotated[str, Tag("a text")]
    | Annotated[list[str], Field(min_length=1, max_length=MOST_CHOICES), Tag("some texts")]
    | Annotated[_Tokens, Tag("some tokens")]
    | Annotated[list[_Tokens], Field(min_length=1, max_length=MOST_CHOICES), Tag("lists of tokens")],
    Discriminator(_kind_of_prompt),
]


class Completion(Common):
    """The body of /v1/completions."""

    prompt: _Prompt
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    best_of: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    echo: _False | None = None
    suffix: Literal[""] | None = None

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts as a list."""
        many = _kind_of_prompt(self.prompt) in ("some texts", "lists of tokens")
        return list(self.prompt) if many else [self.prompt]  # type: ignore[arg-type,list-item]


class CompletionLogprobs(_Strict):
    """How likely the tokens were; `text_offset` counts characters from the beginning of the continuation."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(_Strict):
    """One of the continuations, or a piece of it."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: Literal["stop", "length"] | None = None


class CompletionAnswer(_Strict):
    """The continuations, or a chunk of their stream."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None


# ------------------------------------------------------------------------------------------------ embeddings and models


class Embeddings(_Strict):
    """The body of /v1/embeddings."""

    model: _Label
    input: Annotated[
        Annotated[str, Field(min_length=1), Tag("a text")]
        | Annotated[
            list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=_MOST_TEXTS), Tag("a list")
        ],
        Discriminator(_one_or_many),
    ]
    encoding_format: Literal["float", "base64"] | None = None
    user: _Label | None = None


class Vector(_Strict):
    """A vector, as numbers or as little-endian float32 in base64."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingsAnswer(_Strict):
    """The vectors in the order of the texts. There is no usage: what embeds need not have tokens."""

    object: Literal["list"]
    model: str
    data: list[Vector]


class Feedback(_Strict):
    """The body of /v1/feedback: what an answer is worth."""

    id: Annotated[_Label, Field(description="Of the answer.", examples=["chatcmpl-0123456789abcdef01234567"])]
    choice: Annotated[int, Field(ge=0, lt=MOST_CHOICES, description="Which of its choices.")] = 0
    thumb: Literal["up", "down"] | None = None
    why: Annotated[str, Field(max_length=10_000, description="What is right or wrong with it.")] | None = None
    edit: Annotated[str, Field(max_length=100_000, description="What it should have been.")] | None = None


class FeedbackTaken(_Strict):
    """It was written down."""

    object: Literal["feedback"]
    id: str
    choice: int


class ModelCard(_Strict):
    """A program that is served; `task`, `capabilities` and `context` (tokens) are not OpenAI's."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    task: str
    capabilities: list[str]
    context: int | None = None


class ModelList(_Strict):
    """What is served."""

    object: Literal["list"]
    data: list[ModelCard]


class _Fault(_Strict):
    message: str
    type: str
    param: str | None
    code: str | None


class Error(_Strict):
    """Any error."""

    error: _Fault
