"""An OpenAPI document as a page for people: plain HTML, without scripts, addressed relatively."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from itertools import chain
from typing import Any

from protocol.components import Json

__all__ = ["page"]

_METHODS = ("get", "post", "put", "patch", "delete")


def page(document: Json) -> str:
    """The page. What it is addressed by: `#{operationId}`, `#tag-{tag}` and `#schema-{name}`."""
    about, tags = document["info"], [tag for tag in document["tags"] if any(_of_tag(document, tag["name"]))]
    body = [
        f"<header><h1>{escape(about['title'])} <small>{escape(about['version'])}</small></h1>",
        f"<p>{_prose(about['summary'])}</p><p>{_prose(about['description'])}</p>",
        '<p>For programs: <a href="openapi.json">openapi.json</a>,',
        '<a href="asyncapi.json">asyncapi.json</a>.</p>',
        f"</header><nav><ul>{''.join(_contents(document, tags))}</ul></nav><main>",
        *chain.from_iterable(_section(document, tag) for tag in tags),
        '<section id="schemas"><h2>Shapes</h2>',
        *chain.from_iterable(_shape(*item) for item in document["components"]["schemas"].items()),
        "</section></main>",
    ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(about['title'])}: the HTTP API</title>"
        '<link rel="icon" href="icon.svg"><link rel="stylesheet" href="docs.css">\n' + "\n".join(body) + "\n"
    )


def _of_tag(document: Json, tag: str) -> Iterator[tuple[str, str, Json]]:
    """The operations of a tag: method, path, operation."""
    for path, methods in document["paths"].items():
        for method in _METHODS:
            if method in methods and tag in methods[method]["tags"]:
                yield method.upper(), path, methods[method]


def _contents(document: Json, tags: list[Json]) -> Iterator[str]:
    for tag in tags:
        yield f'<li><a href="#{_anchor(tag["name"])}">{escape(tag["name"])}</a><ul>'
        for method, path, operation in _of_tag(document, tag["name"]):
            yield f'<li><a href="#{operation["operationId"]}"><b>{method}</b> {escape(path)}</a></li>'
        yield "</ul></li>"
    yield '<li><a href="#schemas">Shapes</a></li>'


def _section(document: Json, tag: Json) -> Iterator[str]:
    yield f'<section id="{_anchor(tag["name"])}"><h2>{escape(tag["name"])}</h2>'
    yield f"<p>{_prose(tag['description'])}</p>"
    for method, path, operation in _of_tag(document, tag["name"]):
        yield from _operation(document, method, path, operation)
    yield "</section>"


def _operation(document: Json, method: str, path: str, operation: Json) -> Iterator[str]:
    anchor = operation["operationId"]
    yield f'<article id="{anchor}"><h3><a href="#{anchor}"><b class="{method.lower()}">{method}</b> '
    yield f"<code>{escape(path)}</code></a></h3><p>{_prose(operation['summary'])}</p>"
    if not operation["security"]:
        yield "<p>Open to everybody.</p>"
    if parameters := [_resolved(document, parameter) for parameter in operation["parameters"]]:
        yield "<h4>Parameters</h4>"
        yield _table((_parameter(parameter) for parameter in parameters), "name", "in", "type", "")
    if "requestBody" in operation:
        yield f"<h4>Body{'' if operation['requestBody']['required'] else ', if any'}</h4>"
        yield f"<p>{_content(operation['requestBody'])}</p>"
    yield "<h4>Answers</h4>"
    yield _table(
        (
            [f"<code>{status}</code>", _content(response), _prose(response["description"])]
            for status, response in operation["responses"].items()
        ),
        *("status", "shape", ""),
    )
    yield "</article>"


def _resolved(document: Json, parameter: Json) -> Json:
    """A parameter, or the shared one that it refers to."""
    name = parameter.get("$ref", "").rpartition("/")[2]
    found: Json = document["components"]["parameters"][name] if name else parameter
    return found


def _parameter(parameter: Json) -> list[str]:
    schema = parameter["schema"]
    must = "" if parameter["required"] else " <i>optional</i>"
    about = parameter.get("description") or schema.get("description", "")
    return [f"<code>{escape(parameter['name'])}</code>{must}", parameter["in"], _type(schema), _prose(about)]


def _content(holder: Json) -> str:
    """The media types of a body, and its shapes."""
    return ", ".join(
        f"{_type(_data(content['schema']))} <small>{escape(media)}</small>"
        for media, content in holder["content"].items()
    )


def _data(schema: Json) -> Json:
    """What is told: of an event its data."""
    data: Json = schema.get("properties", {}).get("data", schema)
    found: Json = data.get("contentSchema", schema)
    return found


def _shape(name: str, schema: Json) -> Iterator[str]:
    yield f'<article id="schema-{escape(name)}"><h3><a href="#schema-{escape(name)}">{escape(name)}</a></h3>'
    yield f"<p>{_prose(schema.get('description', ''))}</p>"
    required = schema.get("required", ())
    yield _table(
        (
            [
                f"<code>{escape(field)}</code>{'' if field in required else ' <i>optional</i>'}",
                _type(kind),
                _prose(kind.get("description", "")),
            ]
            for field, kind in schema.get("properties", {}).items()
        ),
        *("field", "type", ""),
    )
    yield "</article>"


# ── Words ───────────────────────────────────────────────────────────────────────────────────────────────────


def _type(schema: Json) -> str:
    """What a value may be, in short."""
    match schema:
        case {"$ref": str(ref)}:
            name = escape(ref.rpartition("/")[2])
            return f'<a href="#schema-{name}">{name}</a>'
        case {"anyOf": choices} | {"oneOf": choices}:
            return " or ".join(map(_type, choices))
        case {"enum": values}:
            return " or ".join(f"<code>{escape(_literal(value))}</code>" for value in values)
        case {"type": "array", "items": items}:
            return f"list of {_type(items)}"
        case {"type": list(kinds)}:
            return " or ".join(map(escape, kinds))
        case {"type": kind, "minimum": low, "maximum": high}:
            return f"{escape(kind)}, {low}–{high}"
        case {"type": kind}:
            return escape(kind)
        case _:
            return "anything"


def _literal(value: Any) -> str:
    return value if isinstance(value, str) else str(value).lower()


def _table(rows: Iterable[list[str]], *heads: str) -> str:
    """`rows` hold HTML; nothing at all without a row."""
    lines = ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
    if not lines:
        return ""
    head = "".join(f"<th>{title}</th>" for title in heads)
    return f"<table><tr>{head}</tr><tr>{'</tr><tr>'.join(lines)}</tr></table>"


def _prose(text: str) -> str:
    """Text in which what stands in backticks is code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))


def _anchor(tag: str) -> str:
    return "tag-" + "".join(char if char.isalnum() else "-" for char in tag)
