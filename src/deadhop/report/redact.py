"""Secrets never leave: credentials, cookies, tokens and private keys are replaced in every string of a report."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from deadhop.model.finding import Diagnosis

MARK = "<redacted>"
_PATTERNS = (
    re.compile(
        r"(?i)(\b(?:proxy-)?authorization\b[\"']?\s*[:=,]\s*[\"']?)(?!<)(?:(?:bearer|basic|negotiate|digest)\s+)?[^\s\"',)]+"
    ),
    re.compile(r"(?i)(\b(?:set-)?cookie\b[\"']?\s*[:=,]\s*[\"']?)(?!<)[^\"'\n]+"),
    re.compile(
        r"(?i)(\b(?:x-api-key|api[_-]?key|access[_-]?token|refresh[_-]?token|id[_-]?token|client[_-]?secret|password|passwd|secret[_-]?key)\b[\"']?\s*[:=]\s*[\"']?)(?!<)[^\s\"',&]+"
    ),
    re.compile(r"(?i)(\bbearer\s+)[A-Za-z0-9._~+/=-]{12,}"),
    re.compile(r"()\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
    re.compile(r"()-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)", re.S),
    re.compile(r"()\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    re.compile(r"(://[^/\s:@]+:)[^/\s@]+(?=@)"),
)


def clean(text: str) -> str:
    """``text`` without secrets."""
    for pattern in _PATTERNS:
        text = pattern.sub(lambda m: m.group(1) + MARK, text)
    return text


def redact(diagnosis: Diagnosis) -> Diagnosis:
    """The diagnosis with every string cleaned."""
    return msgspec.convert(_walk(msgspec.to_builtins(diagnosis)), Diagnosis)


def _walk(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value) if len(value) > 7 else value
    if isinstance(value, dict):
        return {key: _walk(below) for key, below in value.items()}
    if isinstance(value, (list, tuple)):
        return [_walk(below) for below in value]
    return value
