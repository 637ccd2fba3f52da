"""The API's reference as one page of HTML, made of the OpenAPI document: no script, nothing from elsewhere."""

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

#: Nothing but the page's own style may be loaded or run.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
code, pre { font: 14px/1.4 ui-monospace, monospace; background: #f4f4f4; }
pre { padding: .7rem; overflow-x: auto; }
details { border: 1px solid #ccc; border-radius: .3rem; margin: .5rem 0; padding: .5rem 1rem; }
summary { cursor: pointer; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; border-top: 1px solid #ddd; padding: .3rem .5rem; }
"""
Document = Mapping[str, Any]


def page(document: Document) -> str:
    """The whole page."""
    return "".join(_page(document))


def _page(document: Document) -> Iterator[str]:
    title = f"{document['info']['title']} {document['info']['version']}"
    yield f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
    yield f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>"
    about = escape(document["info"].get("description", ""))
    yield f"<p>{about} For programs: <a href=openapi.json>openapi.json</a>.</p>"
    by_tag: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            by_tag.setdefault(operation["tags"][0], []).append("".join(_operation(method, path, operation)))
    for tag, operations in by_tag.items():
        yield f"<h2>{escape(tag)}</h2>" + "".join(operations)
    yield "<h2>What goes in and out</h2>"
    for name, schema in sorted(document["components"]["schemas"].items()):
        yield from _schema(name, schema)
    yield "</body></html>"


def _operation(method: str, path: str, operation: Document) -> Iterator[str]:
    described = escape(operation.get("description", ""))
    yield f'<details id="{escape(operation["operationId"])}"><summary><code>{method.upper()} {escape(path)}</code> '
    yield f"{described.split(chr(10))[0]}</summary><p>{described}</p>"
    if operation.get("parameters"):
        yield "<table><tr><th>parameter</th><th>in</th><th></th></tr>"
        for parameter in operation["parameters"]:
            yield _row(parameter["name"], parameter["in"], parameter.get("description", ""))
        yield "</table>"
    for media_type, body in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<p>Body: {_link(body.get('schema', {}))} as <code>{escape(media_type)}</code></p>"
    yield "<table><tr><th>answer</th><th></th><th></th></tr>"
    for status, response in sorted(operation["responses"].items()):
        content: Document = next(iter(response.get("content", {}).values()), {})
        yield _row(status, response.get("description", ""), _link(content.get("schema", {})), is_html=True)
    yield "</table></details>"


def _schema(name: str, schema: Document) -> Iterator[str]:
    yield f'<details id="{escape(name)}"><summary><code>{escape(name)}</code> '
    yield f"{escape(schema.get('description', ''))}</summary>"
    for value in schema.get("enum", ()):
        yield f"<code>{escape(str(value))}</code> "
    if schema.get("properties"):
        yield "<table><tr><th>field</th><th>type</th><th></th></tr>"
        for field, about in schema["properties"].items():
            words = about.get("description", "") + (" (required)" if field in schema.get("required", ()) else "")
            yield f"<tr><td><code>{escape(field)}</code></td><td>{_link(about)}</td><td>{escape(words)}</td></tr>"
        yield "</table>"
    for example in schema.get("examples", ()):
        yield f"<pre>{escape(json.dumps(example, indent=2))}</pre>"
    yield "</details>"


def _row(name: str, kind: str, words: str, *, is_html: bool = False) -> str:
    shown = words if is_html else escape(words)
    return f"<tr><td><code>{escape(name)}</code></td><td>{escape(kind)}</td><td>{shown}</td></tr>"


def _link(schema: Document) -> str:
    """A type in words, linked to where it is described."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_link(each) for each in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_link(schema.get('items', {}))}"
    return escape(str(schema.get("format", schema.get("type", "any"))))
