"""What all requests to the skills API share: which version one means, what reads its items and writes its answers."""

from typing import NamedTuple
from weakref import WeakKeyDictionary

import msgspec

from headrace.errors import UnknownVariant, UnknownVersion
from headrace.frontends.desk import Codec, Desk
from headrace.frontends.skill_answers import AnswerWriter
from headrace.frontends.skill_items import ItemReader
from headrace.lifecycle.catalog import Catalog
from headrace.lifecycle.version import ModelVersion
from headrace.messages import ModelSpec
from headrace.routing.entry import Entry

_encode = msgspec.json.Encoder().encode


class SkillCodec(NamedTuple):
    """A version's entry, and what reads its items and writes its answers; under one spec of what it takes."""

    spec: ModelSpec
    entry: Entry
    of_model: Codec
    reader: ItemReader
    writer: AnswerWriter
    head: bytes


class SkillDesk:
    """Takes requests for skills in. Lives on the loop."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        # The mutable state: what was worked out once.
        self._codecs: WeakKeyDictionary[ModelVersion, SkillCodec] = WeakKeyDictionary()

    def find(self, name: str, variant: str | None, version: str | None) -> ModelVersion:
        """The version a request means.

        Raises:
            NotFound: there is no such skill, variant or version.
            NotReady: there is, and it cannot answer now.
        """
        return self.desk.catalog.find(self.name(name, variant), version)

    def name(self, name: str, variant: str | None) -> str:
        """What the skill, or its variant, is served as.

        Raises:
            NotFound: there is no such skill, or it has no such variant.
        """
        return name if variant is None else name_of(self.desk.catalog, name, variant)

    def codec(self, version: ModelVersion) -> SkillCodec:
        """The reader and writer under the version's present spec."""
        of_model = self.desk.codec(version)
        entry = of_model.entry
        codec = self._codecs.get(version)
        if codec is None or codec.spec is not entry.spec or codec.entry is not entry:
            spec, config = entry.spec, version.source.config
            codec = SkillCodec(
                spec,
                entry,
                of_model,
                ItemReader(spec, config.steps),
                AnswerWriter(spec, config.steps),
                head_of(version),
            )
            self._codecs[version] = codec
        return codec


def head_of(version: ModelVersion) -> bytes:
    """What an answer says of who gave it, up to the answer itself."""
    source = version.source
    head = {
        "skill": base_name(version),
        "variant": source.config.variant or None,
        "version": source.version,
    }
    return _encode(head)[:-1]


def is_first(version: ModelVersion) -> bool:
    """Whether it is what answers under its skill's name, and no other variant."""
    config = version.source.config
    return not config.variants or config.variant == config.variants[0]


def base_name(version: ModelVersion) -> str:
    """The skill a variant belongs to."""
    name = version.source.name
    return name if is_first(version) else name.removesuffix(f".{version.source.config.variant}")


def name_of(catalog: Catalog, name: str, variant: str) -> str:
    """What a variant is served as.

    Raises:
        NotFound: there is no such skill, or it has no such variant.
    """
    versions = catalog.versions(name)
    if not versions:
        raise UnknownVersion(name, None)
    skill, variants = base_name(versions[-1]), versions[-1].source.config.variants
    if variant not in variants:
        raise UnknownVariant(skill, variant, ", ".join(variants))
    return skill if variant == variants[0] else f"{skill}.{variant}"
