"""The format of skill.yaml, version 1: one model of pydantic's a section. `headrace schema` prints it for editors.

Only form is said here, of `fallback` in fallback_yaml.py; skill_checks.py looks at what the sections say of each other
and of the files beside them.
"""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from headrace.repository.fallback_yaml import FallbackSection
from headrace.repository.section import Duration, Name, Number, Section

FORMAT = 1
INPUT_KINDS = ("tokenizer", "image", "bytes", "record", "value", "tensor")
PRIORITIES = {"high": 1, "normal": 2, "low": 3}


def kind_of(value: Any) -> str | None:
    """Which kind of value stands where several may: its tag begins with a bar, which no key does."""
    if isinstance(value, str):
        return "|text"
    if isinstance(value, list):
        return "|list"
    return "|number" if isinstance(value, int | float) and not isinstance(value, bool) else None


def feature_of(value: Any) -> str | None:
    if isinstance(value, dict):
        keys = [key for key in ("number", "categories") if key in value]
        return f"|{keys[0]}_feature" if len(keys) == 1 else None
    return {"|text": "|plain", "|list": "|list"}.get(kind_of(value) or "")


def input_of(value: Any) -> str | None:
    keys = [key for key in INPUT_KINDS if key in value] if isinstance(value, dict) else []
    return f"|{keys[0]}" if len(keys) == 1 else None


Numbers = Annotated[
    Annotated[Number, Tag("|number")] | Annotated[list[Number], Field(min_length=1), Tag("|list")],
    Discriminator(kind_of),
]


class Objective(Section):
    """What is promised of the skill."""

    latency_p99_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Milliseconds within which 99 of 100 requests should be answered."""

    priority: Literal["high", "normal", "low"] = "normal"
    """Who goes first where skills compete for the machine."""


Level = Annotated[str, Field(pattern="^[1-9][0-9]{0,3}$")]
"""A priority level; keys are text, in YAML as in JSON."""


class Share(Section):
    """Its part of the machine, and whose of its requests go first."""

    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1
    """Its part of the cores beside other skills that want them, in relation to their weights."""

    priorities: dict[Level, Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] | None] = Field(
        default={}, examples=[{"1": 0.5, "2": None}], json_schema_extra={"additionalProperties": False}
    )
    """Priority level that requests may name, 1 first → the part of the skill's device time within which they go before all
    later ones, as in 0.5; null: of what is left, in this order."""

    default_priority: int | None = Field(default=None, ge=1)
    """Level of requests that name none; the last if left out."""


class Memory(Section):
    """When its models are in memory, where there is not enough for all; variants are, each for itself."""

    pin: bool = False
    """true: loaded at start, and never made to leave for others."""

    preload: bool | None = None
    """true: loaded at start, before others; false: only when it is asked for; at start if there is room, if left out."""

    idle: Duration | None = Field(default=None, examples=["10m"])
    """How long nobody asks for it until it leaves, as in 30s, 10m or 6h; as the server has it if left out."""


class TextTensors(Section):
    """The model's names for what a tokenizer gives, where they are not the usual ones."""

    ids: Name | None = None
    """Input for the tokens' numbers; input_ids if left out."""

    mask: Name | None = None
    """Input that is 1 for a token and 0 for padding; attention_mask if left out."""

    types: Name | None = None
    """Input for the tokens' segments; token_type_ids if left out."""


class TextInput(Section):
    """Text that a tokenizer turns into tokens."""

    tokenizer: Name = Field(examples=["tokenizer.json"])
    """File of a Hugging Face tokenizer, beside skill.yaml."""

    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Tokens of one text, special ones included; the tokenizer's own limit if left out."""

    too_long: Literal["error", "cut"] = "error"
    """What becomes of a longer text."""

    tensors: TextTensors = TextTensors()
    """The model's names for tokens, mask and types."""


class ImageSteps(Section):
    """From an image file to the model's pixels."""

    size: list[Annotated[int, Field(ge=1, le=65536)]] | None = Field(
        default=None, min_length=2, max_length=2, examples=[[224, 224]]
    )
    """Height and width of what the model gets."""

    resize: Literal["shortest", "stretch", "fit", "none"] = "shortest"
    """shortest: the shorter side to the size, the rest cropped; stretch: both sides; fit: the longer side, then padded."""

    resize_to: list[Annotated[int, Field(ge=1, le=65536)]] | None = Field(
        default=None, min_length=2, max_length=2, examples=[[256, 256]]
    )
    """Height and width it is resized to before it is cropped to the size; the size itself if left out."""

    crop: Literal["center", "none"] | None = None
    """Which part stays where the image is larger than the size; the middle if left out."""

    filter: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    """How pixels between pixels are computed."""

    mode: Literal["RGB", "BGR", "L"] = "RGB"
    """Channels and their order; L is grey."""

    layout: Literal["NCHW", "NHWC"] = "NCHW"
    """Whether the channels come before height and width."""

    scale: Number | None = Field(default=None, examples=[0.00392156862])
    """What pixels of 0 to 255 are multiplied with."""

    mean: Numbers | None = None
    """What is subtracted after that, one number or one a channel."""

    std: Numbers | None = None
    """What is divided by at last, one number or one a channel."""

    datatype: Literal["FP32", "UINT8"] | None = None
    """Of the pixels; UINT8 if left out and nothing is scaled, else FP32."""

    max_pixels: int = Field(default=50_000_000, ge=1)
    """A larger image is refused before it is decoded."""

    reduced: bool = False
    """Decode a JPEG much larger than needed at half its size or less: some four times faster for 12 megapixels, and the
    pixels differ a little, so the answers may too."""


class ImageInput(Section):
    """An image file."""

    image: ImageSteps = Field(examples=[{"size": [224, 224]}])
    """How its pixels are prepared."""

    to: Name | None = None
    """The model input that gets it; may be left out if it has this name, or is the only one."""


class ByteSteps(Section):
    """Which of a file's bytes the model gets, as numbers of its own datatype."""

    head: int = Field(default=0, ge=0)
    """How many from the beginning."""

    tail: int = Field(default=0, ge=0)
    """How many from the end, behind those of the beginning."""

    pad: int = 0
    """What stands in place of bytes that a short file lacks."""

    strip: bool = False
    """Whether white space around the content is left out first."""

    block: Annotated[int, Field(ge=1)] | None = None
    """How far from either end white space is looked for; four times as many bytes as are taken, if left out."""


class ByteInput(Section):
    """A file's first and last bytes."""

    bytes: ByteSteps = Field(examples=[{"head": 1024}])
    """How many from where."""

    to: Name | None = None
    """The model input that gets them; may be left out if it has this name, or is the only one."""


class NumberRange(Section):
    """More of a feature that is a number."""

    default: Number | None = None
    """What it is where a record does not say."""


class NumberFeature(Section):
    """A number."""

    number: NumberRange = Field(examples=[{"default": 0}])
    """What more is known of it; may be empty."""


class CategoryFeature(Section):
    """One of several words."""

    categories: list[Name] = Field(min_length=1, examples=[["own", "rent"]])
    """The words; the model gets the index."""

    default: str | None = None
    """What it is where a record does not say."""


Feature = Annotated[
    Annotated[Literal["number"], Tag("|plain")]
    | Annotated[list[Name], Field(min_length=1), Tag("|list")]
    | Annotated[NumberFeature, Tag("|number_feature")]
    | Annotated[CategoryFeature, Tag("|categories_feature")],
    Discriminator(feature_of),
]


class RecordInput(Section):
    """A record of named features, one vector in this order; or one column each, where the model has inputs of these names."""

    record: dict[str, Feature] = Field(min_length=1, examples=[{"age": "number", "housing": ["own", "rent"]}])
    """Feature → number, or a list of categories."""

    to: Name | None = None
    """The model input that gets the vector; may be left out if it has this name, or is the only one."""


class ValueInput(Section):
    """A value that is handed to before() of transform.py."""

    value: Literal["text", "bytes", "number", "json", "image"]
    """What callers send."""


class TensorInput(Section):
    """Nested lists of numbers, as the model input of this name takes them."""

    tensor: Literal[True]
    """Always true; inputs that are not mentioned are tensors, too."""


Input = Annotated[
    Annotated[TextInput, Tag("|tokenizer")]
    | Annotated[ImageInput, Tag("|image")]
    | Annotated[ByteInput, Tag("|bytes")]
    | Annotated[RecordInput, Tag("|record")]
    | Annotated[ValueInput, Tag("|value")]
    | Annotated[TensorInput, Tag("|tensor")],
    Discriminator(input_of),
]

Labels = Annotated[
    Annotated[Name, Tag("|text")] | Annotated[list[Name], Field(min_length=1), Tag("|list")],
    Discriminator(kind_of),
]


class Output(Section):
    """What callers get of one model output: labels, an embedding, or the numbers as they are."""

    source: Name | None = Field(default=None, alias="from")
    """The model output; may be left out if it has this name, or is the only one."""

    labels: Labels | None = None
    """What the numbers of the last axis stand for: a file with one label a line, or a list."""

    softmax: bool = False
    """Whether the numbers are turned into probabilities of which one is right."""

    sigmoid: bool = False
    """Whether each number is turned into a probability of its own: several labels may be right."""

    top_k: Annotated[int, Field(ge=1)] | None = None
    """How many labels are told, best first; one if left out, and with sigmoid all of them."""

    threshold: Number | None = None
    """Labels with a lower score are left out."""

    otherwise: Name | None = None
    """The label where none is left."""

    pool: Literal["mean", "first", "max"] | None = None
    """How one vector is made of those of all tokens."""

    normalize: bool = False
    """Whether the vector is given length 1."""


class Variant(Section):
    """Another model for the same skill, or the same one run in another way."""

    model: Name | None = Field(default=None, examples=["model.onnx"])
    """File beside skill.yaml, or in each version's folder; the folder's own model if left out."""

    backend: Name | None = None
    """Runtime; told by the file's name if left out."""

    instances: int | None = Field(default=None, ge=1)
    """Sessions at once; measured if left out."""

    threads: int | None = Field(default=None, ge=1)
    """Threads a session computes with; measured if left out."""

    max_batch_size: int | None = Field(default=None, ge=0)
    """Rows a run may have; 0 keeps rows of different requests apart."""


class Example(Section):
    """A golden input, and maybe its answer."""

    input: dict[str, Any]
    """By input name, as callers send it; files by their names beside skill.yaml."""

    answer: dict[str, Any] | None = None
    """By output name."""


class Transform(Section):
    """Limits of transform.py."""

    timeout_ms: float = Field(default=1000, gt=0, le=3_600_000)
    """Milliseconds one item may take before its process is ended."""


class SkillFile(Section):
    """A skill: what callers send, which model it goes to, and what they get."""

    format: Literal[1] = 1
    """Version of this format."""

    description: str = ""
    """What it does, in a sentence."""

    objective: Objective = Objective()
    """What is promised of it."""

    share: Share = Share()
    """Who gets the machine when not everybody can have it."""

    memory: Memory = Memory()
    """When it is in memory, where there is not enough for all."""

    inputs: dict[Name, Input] = {}
    """What callers send, by the names they use; model inputs that nobody mentions are tensors."""

    outputs: dict[Name, Output] = {}
    """What callers get, by the names they read; all outputs of the model as they are, if empty."""

    variants: dict[Name, Variant] = {}
    """Models for the same skill; the first answers, others are asked for as SKILL.VARIANT."""

    padding: dict[Name, Number] = {}
    """Model input → value that its shorter rows may be filled up with, if a run confirms that answers stay the same."""

    examples: list[Example] = []
    """Golden inputs: what the skill is measured with, and shown by."""

    transform: Transform | None = None
    """Limits of transform.py, if there is one."""

    fallback: FallbackSection | None = None
    """What answers where the skill cannot; nothing does if left out."""

    degrade: Literal["allowed", "none"] = "allowed"
    """none: callers get the skill's own answer or an error, and never a lesser one."""

    idempotent: bool = True
    """false: a request that may have been run is not run again, since a run does more than answer."""

    finite_outputs: bool = False
    """true: NaN or an infinite number in an output is a failure of that row."""


def json_schema() -> dict[str, Any]:
    """The format as a JSON Schema (draft 2020-12)."""
    schema = SkillFile.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "skill.yaml"}
