"""Dashboards against Grafana's own JSON Schemas (grafana/grafana-foundation-sdk, Apache-2.0).

The schemas are not part of the project; the folder that holds them is given. They reject mistyped
keys, so they find what Grafana would silently ignore.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema

from .lint import Json, panels_of


def violations(dashboard: Json, folder: Path) -> list[str]:
    """What the schemas in ``folder`` say against a dashboard, its panels and its queries.

    Raises:
        FileNotFoundError: a schema is missing.
    """
    found = _against(dashboard, _schema(folder, "dashboard"), "dashboard")
    for panel in panels_of(dashboard):
        place = f"panel {panel.get('title')!r}"
        whole = _schema(folder, str(panel["type"]).replace("-", ""))
        parts = {
            "Options": panel.get("options"),
            "FieldConfig": panel.get("fieldConfig", {}).get("defaults", {}).get("custom"),
        }
        for part, content in parts.items():
            if content is not None and part in whole["definitions"]:
                schema = {"$ref": f"#/definitions/{part}", "definitions": whole["definitions"]}
                found += _against(content, schema, f"{place}, {part}")
        for target in panel.get("targets", ()):
            found += _against(target, _schema(folder, "prometheus"), f"{place}, query")
    return found


def _schema(folder: Path, kind: str) -> dict[str, Any]:
    text = (folder / f"{kind}.jsonschema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    # Two fields may hold anything in Grafana's own definition; the generated schema wants objects
    # there, while every dashboard has a name in one and a number or text in the other.
    definitions = schema.get("definitions", {})
    for part, key in (("MatcherConfig", "options"), ("DynamicConfigValue", "value")):
        if part in definitions:
            definitions[part]["properties"][key].pop("type", None)
    return schema


def _against(content: Any, schema: Mapping[str, Any], place: str) -> list[str]:
    validator = jsonschema.Draft7Validator(schema)
    return [
        f"{place}, {'/'.join(str(p) for p in error.absolute_path) or 'top'}: {error.message[:300]}"
        for error in validator.iter_errors(content)
    ]
