"""The page that shows the HTTP API to people."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from gateway.agents.echo import EchoAgent
from gateway.app import gateway_app
from gateway.docs import page
from gateway.stores.memory import MemoryStore

DOCUMENT = gateway_app(agents={"echo": EchoAgent()}, store=MemoryStore()).openapi
VOID = ("meta", "link", "input", "wbr", "html")


class Reader(HTMLParser):
    """What a page says, where it leads, and whether its tags are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("href", "src"):
                self.links.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


READER = Reader(page(DOCUMENT))


def test_every_operation_and_every_shape_has_its_place() -> None:
    operations = {
        operation["operationId"] for methods in DOCUMENT["paths"].values() for operation in methods.values()
    }
    assert operations <= set(READER.ids)
    assert {f"schema-{name}" for name in DOCUMENT["components"]["schemas"]} <= set(READER.ids)
    assert len(READER.ids) == len(set(READER.ids))


def test_every_path_summary_and_error_is_in_it() -> None:
    for path, methods in DOCUMENT["paths"].items():
        for operation in methods.values():
            assert path in READER.text
            assert operation["summary"].replace("`", "") in READER.text
            for response in operation["responses"].values():
                assert all(code in READER.text for code in response.get("x-codes", ()))


def test_its_links_lead_somewhere_and_nowhere_else() -> None:
    within = {link[1:] for link in READER.links if link.startswith("#")}
    assert within <= set(READER.ids)
    others = {link for link in READER.links if not link.startswith("#")}
    assert others == {"openapi.json", "asyncapi.json", "docs.css", "docs.js", "icon.svg"}


def test_it_is_well_formed_and_holds_no_script_or_style_of_its_own() -> None:
    assert READER.open == []
    assert re.findall("<script.*?</script>", page(DOCUMENT)) == [
        '<script type="module" src="docs.js"></script>'
    ]
    assert not re.search(r"\son\w+=|style=|<style", page(DOCUMENT))


def test_every_table_has_one_row_of_headers_and_none_is_empty() -> None:
    tables = re.findall("<table>.*?</table>", page(DOCUMENT))
    assert len(tables) > 100
    for table in tables:
        head, body = re.fullmatch("<table><thead>(.*)</thead><tbody>(.*)</tbody></table>", table).groups()  # type: ignore[union-attr]
        titles = re.findall('<th scope="col">([^<]+)</th>', head)
        assert head == "<tr>" + "".join(f'<th scope="col">{title}</th>' for title in titles) + "</tr>"
        assert {row.count("<td>") for row in body.split("</tr>") if row} == {len(titles)}


def test_what_it_is_told_is_text_and_never_html() -> None:
    schema = {"type": "object", "properties": {"<f>": {"enum": ["<e>"], "description": "`<d>`"}}}
    parameter = {"name": "<n>", "in": "query", "required": True, "schema": {}, "description": "<p>"}
    operation = {
        "tags": ["<t>"],
        "summary": "<s>",
        "operationId": "x",
        "parameters": [parameter],
        "responses": {
            "200": {"description": "<r>", "content": {"text/<m>": {"schema": {"$ref": "#/<c>"}}}},
        },
        "security": [],
    }
    document = {
        "info": {"title": "<b>", "version": "<v>", "summary": "", "description": "<a>"},
        "tags": [{"name": "<t>", "description": "<td>"}],
        "paths": {"/<u>": {"get": operation}},
        "components": {"schemas": {"<c>": schema}, "parameters": {}},
    }
    told = Reader(page(document))
    assert told.open == []
    for word in ("f", "e", "d", "t", "s", "n", "p", "r", "m", "c", "b", "v", "a", "td", "u"):
        assert f"<{word}>" in told.text
