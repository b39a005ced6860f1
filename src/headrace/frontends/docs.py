"""The description of every endpoint (openapi.json, OpenAPI 3.1), and a page made from it for people.

The page needs nothing from elsewhere: no scripts or styles of others, no network. It works without JavaScript.
"""

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from html import escape
from importlib.resources import files
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from headrace import __version__
from headrace.frontends.routes import get

VERBS = ("get", "post", "put", "delete")
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
STYLE = """
:root { color-scheme: light dark; --ink: #1b2733; --soft: #5b6b7a; --line: #d8e0e7; --paper: #fff; --tint: #f3f6f9;
  --get: #0b6bcb; --post: #1a7f4b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4eaf0; --soft: #9fb0c0; --line: #33414e; --paper: #141b22;
  --tint: #1d262f; --get: #6cb6ff; --post: #5fd39a; } }
* { box-sizing: border-box }
body { margin: 0; color: var(--ink); background: var(--paper); font: 16px/1.55 system-ui, sans-serif }
main, header { max-width: 60rem; margin: 0 auto; padding: 0 1.25rem }
header { padding-top: 2.5rem }
h1 { margin: 0; font-size: 2rem } h2 { margin: 2.75rem 0 .25rem; font-size: 1.35rem }
h3 { font-size: 1rem; margin: 1.1rem 0 .3rem }
p { margin: .3rem 0 } .soft { color: var(--soft) }
nav ul { display: flex; flex-wrap: wrap; gap: .4rem 1.2rem; padding: 0; list-style: none }
a { color: var(--get) }
details { border: 1px solid var(--line); border-radius: .5rem; margin: .5rem 0; background: var(--paper) }
summary { cursor: pointer; padding: .55rem .8rem; display: flex; flex-wrap: wrap; gap: .25rem .8rem; align-items: baseline }
summary:hover, details[open] > summary { background: var(--tint); border-radius: .5rem }
:focus-visible { outline: 3px solid var(--get); outline-offset: 2px }
.verb { font: 700 .8rem ui-monospace, monospace; min-width: 3.2rem } .get { color: var(--get) } .post { color: var(--post) }
code, pre { font: .88rem/1.5 ui-monospace, monospace; overflow-wrap: anywhere }
pre { background: var(--tint); border: 1px solid var(--line); border-radius: .4rem; padding: .7rem; overflow-x: auto }
.body { padding: .2rem .9rem .9rem }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0;
  border-bottom: 1px solid var(--line) }
th { font-weight: 600; white-space: nowrap } footer { padding: 3rem 0 2rem }
"""


class Docs:
    """The endpoints. The file is read, and the page written, when somebody first asks."""

    def routes(self) -> list[BaseRoute]:
        """Both of them."""
        return [get("/openapi.json", self.description), get("/docs", self.page)]

    async def description(self, _: Request) -> Response:
        return Response(self._json, headers={"content-type": "application/json"})

    async def page(self, _: Request) -> Response:
        headers = {"content-type": "text/html; charset=utf-8", "content-security-policy": POLICY}
        return Response(self._html, headers=headers)

    @cached_property
    def _json(self) -> bytes:
        return json.dumps(read_description(), separators=(",", ":")).encode()

    @cached_property
    def _html(self) -> bytes:
        return render(read_description()).encode()


def read_description() -> dict[str, Any]:
    """openapi.json, with this version's number."""
    content: dict[str, Any] = json.loads(files("headrace.frontends").joinpath("openapi.json").read_text())
    content["info"]["version"] = __version__
    return content


def render(spec: dict[str, Any]) -> str:
    """The page."""
    info = spec["info"]
    tags = [(tag["name"], tag["description"], "about-" + anchor(tag["name"])) for tag in spec["tags"]]
    menu = "".join(f'<li><a href="#{where}">{escape(name)}</a></li>' for name, _, where in tags)
    sections = "".join(
        f'<section aria-labelledby="{where}"><h2 id="{where}">{escape(name)}</h2>'
        f'<p class="soft">{escape(text)}</p>{"".join(operations(spec, name))}</section>'
        for name, text, where in tags
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(info['title'])}: endpoints</title><style>{STYLE}</style></head><body>"
        f'<header><h1>{escape(info["title"])} <span class="soft">{escape(info["version"])}</span></h1>'
        f"<p>{marked(info['summary'])}</p><p>{marked(info['description'])}</p>"
        f'<nav aria-label="Sections"><ul>{menu}</ul></nav></header><main>{sections}'
        '<footer class="soft">The same for programs: <a href="openapi.json">openapi.json</a> '
        "(OpenAPI 3.1).</footer></main></body></html>"
    )


def operations(spec: dict[str, Any], tag: str) -> Iterator[str]:
    """Each endpoint of a section, folded."""
    for path, item in spec["paths"].items():
        for verb in VERBS:
            if verb in item and tag in item[verb]["tags"]:
                yield operation(spec, path, verb, item[verb])


def operation(spec: dict[str, Any], path: str, verb: str, said: dict[str, Any]) -> str:
    parts = [f"<p>{marked(said['description'])}</p>" if "description" in said else ""]
    parameters = [resolved(spec, each) for each in said.get("parameters", [])]
    if parameters:
        rows = [(f"{each['name']}", each["in"], marked(each.get("description", ""))) for each in parameters]
        parts.append("<h3>Parameters</h3>" + table(("Name", "In", "Meaning"), rows))
    if "requestBody" in said:
        parts.append("<h3>Body</h3>" + contents(spec, said["requestBody"]["content"]))
    parts.append("<h3>Answers</h3>")
    for status, each in said["responses"].items():
        answer = resolved(spec, each)
        parts.append(f"<p><code>{status}</code> {marked(answer['description'])}</p>")
        if status.startswith("2"):
            parts.append(contents(spec, answer.get("content", {})))
    return (
        f'<details id="{escape(said["operationId"])}"><summary><span class="verb {verb}">{verb.upper()}</span>'
        f'<code>{escape(path)}</code><span class="soft">{escape(said["summary"])}</span></summary>'
        f'<div class="body">{"".join(parts)}</div></details>'
    )


def contents(spec: dict[str, Any], content: Mapping[str, Any]) -> str:
    """Bodies by media type: an example where there is one, and the fields."""
    shown = []
    for kind, body in content.items():
        shown.append(f"<p><code>{escape(kind)}</code></p>")
        if isinstance(example := body.get("example"), dict | list):
            shown.append(f"<pre>{escape(json.dumps(example, indent=2))}</pre>")
        rows = list(fields(spec, body["schema"]))
        if rows:
            shown.append(table(("Field", "Type", "Meaning"), rows))
    return "".join(shown)


def fields(spec: dict[str, Any], schema: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """The fields of an object and of the objects in it, by their paths."""
    schema = resolved(spec, schema)
    if schema.get("type") == "array" and "items" in schema:
        yield from fields(spec, schema["items"], f"{prefix}[]")
    for name, each in schema.get("properties", {}).items():
        said = resolved(spec, each)
        path = f"{prefix}.{name}" if prefix else name
        need = "" if name in schema.get("required", ()) else "optional. "
        yield path, kind_of(spec, said), marked((need + said.get("description", "")).strip())
        yield from fields(spec, said, path)


def kind_of(spec: dict[str, Any], schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join("null" if value is None else str(value) for value in schema["enum"])
    kind = schema.get("type", "anything")
    name = " or ".join(kind) if isinstance(kind, list) else str(kind)
    if kind == "array" and "items" in schema:
        return f"array of {kind_of(spec, resolved(spec, schema['items']))}"
    return name


def resolved(spec: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    """What a reference refers to."""
    while "$ref" in said:
        found: Any = spec
        for step in said["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        said = found
    return said


def table(head: tuple[str, ...], rows: list[tuple[str, str, str]]) -> str:
    """The first two columns are plain, the last is HTML."""
    titles = "".join(f'<th scope="col">{each}</th>' for each in head)
    lines = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(kind)}</td><td>{text}</td></tr>"
        for name, kind, text in rows
    )
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table>"


def marked(text: str) -> str:
    """Text with `code` in it."""
    pieces = escape(text).split("`")
    return "".join(f"<code>{each}</code>" if at % 2 else each for at, each in enumerate(pieces))


def anchor(name: str) -> str:
    return name.lower().replace(" ", "-")
