"""Where YAML begins and ends in a text, and what can be saved of a document that lost its shape."""

from __future__ import annotations

import re
from typing import Any

from deadhop.evidence import flat_yaml, prompt, safe_yaml

_TOP = (
    "apiVersion|kind|metadata|spec|status|data|items|ports|selector|subsets|endpoints|rules|ingress|egress|"
    "podSelector|endpointSelector|policyTypes|env|containers|initContainers|template|annotations|labels|servers|"
    "hosts|http|tls|trafficPolicy|subset|mtls|dnsPolicy|dnsConfig|hostNetwork|readinessProbe|livenessProbe|"
    "machine|meshConfig|tunnel|resources|address|addresses|clusterIP|clusterIPs"
)
_STARTS = re.compile(rf"^(\s*)(?:- )?(?:{_TOP})\s*:(\s|$)")
_KEY = re.compile(r"^\s*(?:- +)*[\"']?[A-Za-z_.$/{][\w./@{{}}$-]*[\"']?\s*:(?:\s|$)")
_ITEM = re.compile(r"^\s*-(\s|$)")
_LOG = re.compile(r"^\s*(\d{4}-\d\d-\d\d[T ]|\[\w+\]\s|[A-Z][a-z]{2} +\d+ \d\d:|\d\d:\d\d:\d\d)")


#: Go's errors begin with a package's name, which may look like a key: "http: server gave HTTP response to …".
_GO_ERROR = re.compile(r"^\s*(?:http|tls|address): [A-Za-z]+ [A-Za-z]+ ")


def yaml_starts(line: str) -> bool:
    """Whether a line is the beginning of a manifest or of a well-known part of one."""
    return _STARTS.match(line) is not None and not _GO_ERROR.match(line)


def yaml_maybe(text: list[str], i: int) -> bool:
    """Whether a line and the next could be YAML of any kind: two keys, or a key with something below it."""
    line = text[i]
    if not _KEY.match(line) or _LOG.match(line):
        return False
    following = text[i + 1] if i + 1 < len(text) else ""
    return bool(_KEY.match(following) or _ITEM.match(following)) or line.rstrip().endswith(("}", "]"))


def yaml_end(text: list[str], i: int) -> int:
    """The index behind the YAML that begins at ``i``, by indentation and by the shape of lines."""
    base = _indent(text[i])
    end = j = i + 1
    block_scalar = text[i].rstrip().endswith(("|", "|-", ">", ">-", "|+"))
    while j < len(text):
        line = text[j]
        if not line.strip():
            j += 1
            continue
        indent = _indent(line)
        if line.startswith("---"):
            block_scalar = False
        elif indent < base:
            break
        elif indent == base:
            if line.lstrip().startswith("#") or not (
                _KEY.match(line) or _ITEM.match(line) or (line.strip() in "}]")
            ):
                if not line.lstrip().startswith("#") or prompt.parse(line):
                    break
            elif _LOG.match(line):
                break
            block_scalar = line.rstrip().endswith(("|", "|-", ">", ">-", "|+"))
        elif not block_scalar and indent <= base and prompt.parse(line):
            break
        j += 1
        end = j
    return end


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def salvage(text: str, line: int) -> Any:
    """What decodes of a document that is broken at ``line``: the part before it."""
    lines = text.split("\n")
    for cut in (line, line - 1, line + 1):
        if 0 < cut <= len(lines):
            try:
                value = safe_yaml.load("\n".join(lines[:cut]))
            except safe_yaml.YamlProblem:
                continue
            if isinstance(value, dict):
                return value
    return None


def rebuild_flat(text: str, value: Any) -> Any:
    """The document with its structure restored where the paste lost every indentation; else ``value``."""
    lines = [line for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")]
    if len(lines) < 3 or any(line[:1] == " " for line in lines):
        return value
    if isinstance(value, dict) and any(isinstance(v, dict) for v in value.values()):
        return value
    return flat_yaml.rebuild(lines) or value
