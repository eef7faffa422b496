"""The page at ``/docs``: the server's own OpenAPI description as plain HTML, without scripts from elsewhere."""

from __future__ import annotations

import json
from html import escape
from typing import Any

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem}"
    "pre{background:#f4f4f4;padding:.8rem;overflow:auto;font-size:13px}code{font-weight:600}"
    "h2{margin-top:2rem;border-top:1px solid #ccc;padding-top:1rem}summary{cursor:pointer}"
)


def docs_page(schema: dict[str, Any]) -> str:
    """Return the page of an OpenAPI description."""
    parts = [
        f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(_text(operation))}</p>{_bodies(operation)}"
        for path, operations in schema["paths"].items()
        for method, operation in operations.items()
    ]
    shapes = "".join(
        f"<details><summary>{escape(name)}</summary><pre>{escape(json.dumps(one, indent=2))}</pre></details>"
        for name, one in schema.get("components", {}).get("schemas", {}).items()
    )
    title = escape(f"{schema['info']['title']} {schema['info']['version']}")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<h1>{title}</h1><p>{escape(schema['info'].get('description', ''))} For programs: "
        f'<a href="openapi.json">openapi.json</a>.</p>{"".join(parts)}<h2>Shapes</h2>{shapes}</html>'
    )


def _text(operation: dict[str, Any]) -> str:
    return str(operation.get("description") or operation.get("summary") or "")


def _bodies(operation: dict[str, Any]) -> str:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    names = [str(one.get("$ref", "")).rpartition("/")[2] for one in [content, *content.get("oneOf", [])]]
    named = ", ".join(escape(name) for name in names if name)
    return f"<p>Takes {named}; see below.</p>" if named else ""
