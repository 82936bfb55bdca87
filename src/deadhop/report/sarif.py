"""SARIF 2.1.0, for code hosts and CI: one result per finding, located at its first line of evidence."""

from __future__ import annotations

from typing import Any

import msgspec

from deadhop import __version__
from deadhop.model.finding import Diagnosis, EvidenceLine, Finding

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def render(diagnosis: Diagnosis, **_options: Any) -> str:
    rules = {f.cause: {"id": f.cause, "shortDescription": {"text": f.title}} for f in diagnosis.findings}
    run = {
        "tool": {"driver": {"name": "deadhop", "version": __version__, "rules": list(rules.values())}},
        "results": [_result(f) for f in diagnosis.findings],
        "properties": {"verdict": diagnosis.verdict},
    }
    return (
        msgspec.json.format(
            msgspec.json.encode({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}), indent=1
        ).decode()
        + "\n"
    )


def _result(finding: Finding) -> dict[str, Any]:
    level = "note" if finding.severity == "benign" else "error" if finding.confidence >= 0.85 else "warning"
    return {
        "ruleId": finding.cause,
        "level": level,
        "message": {"text": f"{finding.title} (at {finding.subject})"},
        "locations": [_location(line) for line in finding.evidence[:1]],
        "relatedLocations": [
            {**_location(line), "message": {"text": line.text}} for line in finding.evidence[1:20]
        ],
        "properties": {"confidence": finding.confidence, "fixes": [f.title for f in finding.fixes]},
    }


def _location(line: EvidenceLine) -> dict[str, Any]:
    file, colon, number = line.source.rpartition(":")
    if not colon or not number.isdigit():
        return {"physicalLocation": {"artifactLocation": {"uri": line.source}}}
    return {"physicalLocation": {"artifactLocation": {"uri": file}, "region": {"startLine": int(number)}}}
