"""An OpenAPI document as a page for people: plain HTML, addressed relatively. Its one script, `web/docs.js`,
searches; all the rest works without."""

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
        '<form id="search" role="search" hidden><label class="unseen" for="words">Search this page</label>',
        '<input id="words" type="search" placeholder="Search: path, parameter, error" autocomplete="off">',
        '<output id="found" for="words"></output></form>',
        '<p><a href="openapi.json">openapi.json</a> <a href="asyncapi.json">asyncapi.json</a></p></header>',
        f'<nav aria-label="Contents">{"".join(_contents(document, tags))}</nav><main>',
        f"<p>{_prose(about['summary'])} {_prose(about['description'])}</p>",
        *chain.from_iterable(_section(document, tag) for tag in tags),
        '<details class="group" id="schemas" open><summary><h2>Shapes</h2></summary>',
        *chain.from_iterable(_shape(*item) for item in document["components"]["schemas"].items()),
        "</details></main>",
    ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(about['title'])}: the HTTP API</title>"
        '<link rel="icon" href="icon.svg"><link rel="stylesheet" href="docs.css">'
        '<script type="module" src="docs.js"></script>\n' + "\n".join(body) + "\n"
    )


def _of_tag(document: Json, tag: str) -> Iterator[tuple[str, str, Json]]:
    """The operations of a tag: method, path, operation."""
    for path, methods in document["paths"].items():
        for method in _METHODS:
            if method in methods and tag in methods[method]["tags"]:
                yield method.upper(), path, methods[method]


def _contents(document: Json, tags: list[Json]) -> Iterator[str]:
    for tag in tags:
        yield f"<details open><summary>{escape(tag['name'])}</summary><ul>"
        for method, path, operation in _of_tag(document, tag["name"]):
            yield f'<li><a href="#{operation["operationId"]}"><b>{method}</b> {_breakable(path)}</a></li>'
        yield "</ul></details>"
    yield "<details><summary>Shapes</summary><ul>"
    for name in map(escape, document["components"]["schemas"]):
        yield f'<li><a href="#schema-{name}">{name}</a></li>'
    yield "</ul></details>"


def _section(document: Json, tag: Json) -> Iterator[str]:
    name = escape(tag["name"])
    yield f'<details class="group" id="{_anchor(tag["name"])}" open><summary><h2>{name}</h2></summary>'
    yield f"<p>{_prose(tag['description'])}</p>"
    for method, path, operation in _of_tag(document, tag["name"]):
        yield from _operation(document, method, path, operation)
    yield "</details>"


def _operation(document: Json, method: str, path: str, operation: Json) -> Iterator[str]:
    yield f'<details class="one" id="{operation["operationId"]}"><summary>'
    yield f'<h3><b class="{method.lower()}">{method}</b> <code>{escape(path)}</code></h3>'
    yield f"<span>{_prose(operation['summary'])}</span></summary>"
    if not operation["security"]:
        yield "<p>Open to everybody.</p>"
    sent = [_parameter(_resolved(document, parameter)) for parameter in operation["parameters"]]
    if "requestBody" in operation:
        must = "" if operation["requestBody"]["required"] else " <i>optional</i>"
        sent.append([f"The body{must}", "body", _content(operation["requestBody"]), ""])
    yield _table(sent, "Parameter", "In", "Type", "Meaning")
    answers = (
        [f"<code>{status}</code>", _content(response), _prose(response["description"])]
        for status, response in operation["responses"].items()
    )
    yield _table(answers, "Answer", "Shape", "Meaning")
    yield "</details>"


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
    yield f'<details class="one" id="schema-{escape(name)}"><summary><h3><code>{escape(name)}</code></h3>'
    yield f"<span>{_prose(schema.get('description', ''))}</span></summary>"
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
        *("Field", "Type", "Meaning"),
    )
    yield "</details>"


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
    head = "".join(f'<th scope="col">{title}</th>' for title in heads)
    body = "</tr><tr>".join(lines)
    return f"<table><thead><tr>{head}</tr></thead><tbody><tr>{body}</tr></tbody></table>"


def _prose(text: str) -> str:
    """Text in which what stands in backticks is code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))


def _breakable(path: str) -> str:
    """Where it is too long for its line, it breaks before a slash."""
    return escape(path).replace("/", "<wbr>/")


def _anchor(tag: str) -> str:
    return "tag-" + "".join(char if char.isalnum() else "-" for char in tag)
