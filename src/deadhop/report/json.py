"""The JSON report: the stable contract for scripts, and its schema, generated from the model."""

from __future__ import annotations

from typing import Any

import msgspec

from deadhop.model.finding import Diagnosis


def render(diagnosis: Diagnosis, **_options: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(diagnosis), indent=1).decode()


def schema() -> str:
    """The JSON Schema of the report."""
    made = msgspec.json.schema(Diagnosis)
    made["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    made["title"] = "deadhop diagnosis"
    return msgspec.json.format(msgspec.json.encode(made), indent=1).decode() + "\n"
