"""Request bodies as vLLM, Cohere and Jina clients send them; unknown fields are ignored."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from serving.contents import CohereInput, MediaInput, Message
from serving.errors import APIError, missing

INT64 = {"ge": -(2**63), "le": 2**63 - 1}
Int = Annotated[int, Field(**INT64)]
Token = Annotated[int, Field(ge=0, le=2**63 - 1)]
EncodingFormat = Literal["float", "base64", "bytes", "bytes_only"]
EmbedDtype = Literal["float32", "float16", "bfloat16", "fp8_e4m3", "fp8_e5m2"]
Endianness = Literal["native", "big", "little"]
TaskName = Literal["embed", "classify", "token_embed", "token_classify", "sparse"]
TaskNames = Annotated[str, Field(pattern=r"^\w+(&\w+)+$")]  # several tasks of one forward
NOT_A_TASK = {
    "encode": "`encode` task was removed; use `token_embed` or `token_classify` instead.",
    "score": "`score` task was removed; use `classify` instead.",
    "plugin": (
        "No IOProcessor plugin installed. Please refer to the documentation and to the "
        "'prithvi_geospatial_mae_io_processor' offline inference example for more details."
    ),
}
TEMPLATE = "This example is {}."
ONE_INPUT = "Exactly one of texts, images, or inputs must be provided, and it must be non-empty"


Conversation = list[Message]
Plain = list[Int] | list[list[Int]] | str | list[str]
Input = Plain | Conversation | list[Conversation] | list[MediaInput]


def one_of(body: Any, *names: str) -> Any:
    """`body` if it has one of the fields."""
    if isinstance(body, dict) and not any(name in body for name in names):
        raise missing(body, names[0])
    return body


class Common(BaseModel):
    """Fields of every pooling request."""

    model: str | None = None
    user: str | None = None
    truncate_prompt_tokens: Annotated[int, Field(ge=-1, le=2**63 - 1)] | None = None
    truncation_side: Literal["left", "right"] | None = None
    padding: Literal["max_length", "do_not_pad"] | None = None
    request_id: str | None = None
    priority: Int = 0
    mm_processor_kwargs: dict[str, Any] | None = None
    cache_salt: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    use_activation: bool | None = None


class Prompts(Common):
    """`input` (texts or token ids) or `messages` (chat), and how to render and encode them."""

    input: Input = None  # type: ignore[assignment]
    messages: Conversation | list[Conversation] = None  # type: ignore[assignment]
    modality: Literal["text", "image"] | None = Field(
        default=None, description="image: the input is of URLs of images (infinity)"
    )
    add_special_tokens: bool | None = None
    add_generation_prompt: bool = False
    continue_final_message: bool = False
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    media_io_kwargs: dict[str, dict[str, Any]] | None = None
    prompt_name: str | None = None
    input_type: str | None = Field(default=None, description="query, document, ...: the prompt")
    softmax: bool | None = Field(default=None, description="the oldest name of use_activation")
    normalize: bool | None = Field(default=None, description="an older name of use_activation")

    @model_validator(mode="before")
    @classmethod
    def _required(cls, body: Any) -> Any:
        if isinstance(body, dict) and {"input", "messages"} <= body.keys():
            if body["input"] is not None:
                raise APIError(400, "Give either input or messages, not both", "messages")
            return {name: value for name, value in body.items() if name != "input"}
        return one_of(body, "input", "messages")

    @model_validator(mode="after")
    def _old_names(self):
        if self.use_activation is None:
            self.use_activation = self.softmax if self.normalize is None else self.normalize
        return self


class Encoded(BaseModel):
    """How vectors are written."""

    encoding_format: EncodingFormat = "float"
    embed_dtype: EmbedDtype = "float32"
    endianness: Endianness = "native"


class LateChunking(BaseModel):
    """Mean-pool every `chunk_size` tokens of a document that was encoded whole."""

    model_config = ConfigDict(extra="forbid")

    chunk_size: Annotated[int, Field(strict=True, ge=1, le=2**63 - 1)]


class EmbeddingRequest(Prompts, Encoded):
    """POST /v1/embeddings."""

    task: str | None = Field(default=None, description="one of the model's own adapters")
    dimensions: Int | None = None
    late_chunking_params: LateChunking | None = None
    truncate: bool | Literal["NONE", "START", "END"] | None = Field(
        default=None, description="cut what is too long: at its end, or START (NIM, Jina)"
    )

    @model_validator(mode="after")
    def _cut(self):
        if self.truncate not in (None, False, "NONE") and self.truncate_prompt_tokens is None:
            self.truncate_prompt_tokens = -1
            self.truncation_side = "left" if self.truncate == "START" else self.truncation_side
        return self


class PoolingRequest(Prompts, Encoded):
    """POST /pooling: any task of the model."""

    task: TaskName | TaskNames | None = None
    dimensions: Int | None = None
    late_chunking_params: LateChunking | None = None

    @model_validator(mode="before")
    @classmethod
    def _known_task(cls, body: Any) -> Any:
        task = body.get("task") if isinstance(body, dict) else None
        if isinstance(task, str) and task in NOT_A_TASK:
            raise APIError(400, NOT_A_TASK[task], "task")
        return body


class Hypotheses(BaseModel):
    """How labels of a request are judged (see `jaxpool.scoring.zero_shot`)."""

    hypothesis_template: str = Field(default=TEMPLATE, description="a sentence about a label, {}")
    multi_label: bool = Field(default=False, description="each label is true or not by itself")


class ClassifyRequest(Prompts, Hypotheses):
    """POST /classify."""

    labels: list[str] | None = Field(default=None, description="classes of the request's own")
    threshold: float = Field(default=0.5, description="the least probability of an entity")
    nested: bool = Field(default=False, description="entities may lie within others")


class Parts(BaseModel):
    """A score input as content parts."""

    content: list[dict[str, Any]]


Text = str | Parts
Texts = Text | list[Text]


class Scoring(Common):
    """Fields of score and rerank requests."""

    max_tokens_per_query: Int = 0
    max_tokens_per_doc: Int = 0
    instruction: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    weights: list[float] | None = Field(
        default=None,
        description="of dense, sparse and token vectors' scores, where a model has all three",
    )


class ScoreRequest(Scoring):
    """POST /score: the two sides under any of vLLM's four pairs of names."""

    queries: Texts | None = None
    documents: Texts | None = None
    items: Texts | None = None
    data_1: Texts | None = None
    data_2: Texts | None = None
    text_1: Texts | None = None
    text_2: Texts | None = None

    @model_validator(mode="before")
    @classmethod
    def _required(cls, body: Any) -> Any:
        if not isinstance(body, dict) or any(
            body.get(one) is not None and body.get(two) is not None for one, two in PAIRS
        ):
            return body
        known = next((pair for pair in PAIRS if set(pair) & set(body)), PAIRS[0])
        raise missing(body, *(name for name in known if body.get(name) is None))

    def sides(self) -> tuple[Texts, Texts]:
        """The first pair of names that is given."""
        found = ((getattr(self, one), getattr(self, two)) for one, two in PAIRS)
        return next(pair for pair in found if None not in pair)


PAIRS = (
    ("queries", "documents"),
    ("queries", "items"),
    ("data_1", "data_2"),
    ("text_1", "text_2"),
)


def plain(value: Any) -> Any:
    """Documents as Jina's and Cohere's clients write them: `{"text": ...}`, `{"image": ...}`."""
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, dict) and isinstance(value.get("image"), str):
        return {"content": MediaInput(image=value["image"], text=value.get("text")).parts}
    return value["text"] if isinstance(value, dict) and "text" in value else value


class RerankRequest(Scoring):
    """POST /rerank (Jina, Cohere)."""

    query: Annotated[Text, BeforeValidator(plain)]
    documents: Annotated[Texts, BeforeValidator(plain)]
    top_n: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0


class CohereEmbedRequest(BaseModel):
    """POST /v2/embed (Cohere)."""

    model: str | None = None
    input_type: str | None = None
    texts: list[str] | None = None
    images: list[str] | None = None
    inputs: list[CohereInput] | None = None
    output_dimension: Int | None = None
    embedding_types: (
        list[Literal["float", "int8", "uint8", "binary", "ubinary", "base64"]] | None
    ) = None
    truncate: Literal["NONE", "START", "END"] = "END"
    max_tokens: Int | None = None
    priority: Int = 0

    @model_validator(mode="after")
    def _one_input(self):
        given = [x for x in (self.texts, self.images, self.inputs) if x is not None]
        if len(given) != 1 or not given[0]:
            raise ValueError(ONE_INPUT)
        return self


class TokenizeRequest(BaseModel):
    """POST /tokenize: a text or a conversation."""

    model: str | None = None
    prompt: str | None = None
    messages: Conversation | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = False
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _required(cls, body: Any) -> Any:
        return one_of(body, "prompt", "messages")


class DetokenizeRequest(BaseModel):
    """POST /detokenize."""

    model: str | None = None
    tokens: list[Token]
