"""The bodies that the skills API takes, and the items in them: JSON, forms with files, or a file by itself."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from headrace.errors import InvalidRequest, UnsupportedMediaType
from headrace.frontends.skill_items import Content, Item, Reader

JSON_TYPES = frozenset({"", "application/json", "text/json", "application/x-www-form-urlencoded"})
"""curl's -d says that it sends a form, whatever it sends."""
FORM = "multipart/form-data"
ITEMS = "items"
MOST_PARTS = 1000
MOST_KEYS = 1 << 18
"""Of a body's JSON, and as many objects, counted by their colons and braces: to make more would hold up the loop."""
FILE_KINDS = ("image", "bytes")

_top = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_many = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode


class Body(NamedTuple):
    """What a request asks: one item, or many to be answered as a list."""

    items: list[Item]
    is_many: bool


def media_type(content_type: bytes) -> str:
    """Without its parameters."""
    return content_type.partition(b";")[0].strip().lower().decode("latin-1")


def is_json(kind: str) -> bool:
    return kind in JSON_TYPES or kind.endswith("+json")


def read_body(skill: str, content_type: bytes, content: bytes, readers: Mapping[str, Reader]) -> Body:
    """The items of a body.

    Raises:
        InvalidRequest: it cannot be read.
        UnsupportedMediaType: it is of a kind that the skill does not take.
    """
    kind = media_type(content_type)
    if is_json(kind):
        return read_json(content, readers)
    if kind == FORM:
        return Body([read_form(content_type, content)], is_many=False)
    if (name := only_input(kind, readers.values())) is None:
        raise UnsupportedMediaType(skill, kind, accepted(readers.values()))
    return Body([{name: Content(content)}], is_many=False)


def read_json(content: bytes, readers: Mapping[str, Reader]) -> Body:
    """{"text": "..."} or {"items": [{"text": "..."}, ...]}."""
    for mark, what in ((b"{", "objects"), (b":", "keys")):
        if len(content) > MOST_KEYS and content.count(mark) > MOST_KEYS:
            raise InvalidRequest(
                f"the body's JSON has more than {MOST_KEYS} {what}: send it in several requests, or as a form"
            )
    try:
        top = _top(content)
        if ITEMS not in top or ITEMS in readers:
            return Body([top], is_many=False)
        if len(top) > 1:
            others = ", ".join(f"'{name}'" for name in top if name != ITEMS)
            raise InvalidRequest(f"beside 'items' there can be nothing, and there is {others}")
        return Body(list(_many(top[ITEMS])), is_many=True)
    except RecursionError as exc:
        raise InvalidRequest("the body's JSON is nested too deep") from exc
    except msgspec.ValidationError as exc:
        raise InvalidRequest(
            'the body should be an object as {"input": value, ...}, or {"items": [{"input": value, ...}, ...]}'
        ) from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise InvalidRequest(f"the body cannot be read as JSON: {exc}") from exc


def only_input(kind: str, readers: Iterable[Reader]) -> str | None:
    """The input that a body of this kind is for: there is nothing else to send, and it takes the kind."""
    needed = [each for each in readers if not each.is_optional]
    if len(needed) != 1:
        return None
    (only,) = needed
    fits = {
        "text": kind == "text/plain",
        "image": kind.startswith("image/") or kind == "application/octet-stream",
        "bytes": True,
    }
    return only.name if fits.get(only.kind, False) else None


def accepted(readers: Iterable[Reader]) -> str:
    """The kinds of bodies that a skill takes, in words."""
    kinds = ["application/json", FORM]
    needed = [each for each in readers if not each.is_optional]
    if len(needed) == 1:
        also = {
            "text": ["text/plain"],
            "image": ["image/*", "application/octet-stream"],
            "bytes": ["any file"],
        }
        kinds += also.get(needed[0].kind, [])
    return f"{', '.join(kinds[:-1])} or {kinds[-1]}"


class Form:
    """The parts of a form by name, while a parser calls what it finds; the first mistake ends that."""

    def __init__(self) -> None:
        # The mutable state: the parts that are complete, and the one that is being read.
        self.item: dict[str, Content] = {}
        self._headers: dict[bytes, bytes] = {}
        self._field = self._value = b""
        self._content: list[bytes] = []

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_field,
            "on_header_value": self._on_value,
            "on_header_end": self._end_header,
            "on_part_data": self._on_data,
            "on_part_end": self._end,
        }

    def _begin(self) -> None:
        self._headers, self._content = {}, []

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._content.append(data[start:end])

    def _end(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"name", b"").decode(errors="replace")
        if not name:
            raise InvalidRequest("a part of the form has no name")
        if name in self.item:
            raise InvalidRequest(f"the form has '{name}' twice")
        if len(self.item) >= MOST_PARTS:
            raise InvalidRequest(f"the form has more than {MOST_PARTS} parts")
        self.item[name] = Content(b"".join(self._content))


def read_form(content_type: bytes, content: bytes) -> Item:
    """A form's parts by name.

    Raises:
        InvalidRequest: it cannot be read.
    """
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise InvalidRequest("the form's content-type names no boundary: let the client write the header")
    form = Form()
    try:
        parser = MultipartParser(boundary, form.callbacks())
        parser.write(content)
        parser.finalize()
    except MultipartParseError as exc:
        raise InvalidRequest(f"the form cannot be read: {exc}") from exc
    if not form.item and content.strip():
        raise InvalidRequest(
            "the form ends within its first part, or has another boundary than its header says"
        )
    return form.item
