"""ztunnel's connection log of Istio's ambient mode: key=value pairs behind tabs, and the same as JSON.

The words of a refusal and the names of the policies that the control plane makes of a PeerAuthentication:
ztunnel src/proxy/metrics.rs, src/rbac.rs; istio pilot/pkg/serviceregistry/kube/controller/ambient/authorization.go
(``istio_converted_static_strict``, ``converted_peer_authentication_NAME``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from deadhop.evidence.fields import host_port, rfc3339
from deadhop.evidence.format import Context, LineFormat, Lines, Locate, ValueFormat
from deadhop.model.observed.message import Message
from deadhop.model.record import Record

_LINE = re.compile(r"\bconnection (?:complete|opened|failed)\b.*\bdst\.addr=")
_PAIR = re.compile(
    r"\b(?P<key>(?:src|dst)\.\w+|direction|error|bytes_(?:sent|recv))=(?:\"(?P<quoted>[^\"]*)\"|(?P<plain>\S+))"
)
_DENIED = re.compile(r"explicitly denied by: (?P<policy>[\w./-]+)")
_STRICT = re.compile(r"/(?:istio_converted_static_strict|(?:istio_)?converted_peer_authentication_\S+)$")
#: The port of HBONE: a connection to it is mutual TLS.
HBONE = 15008
_KEPT = (
    "src.workload",
    "src.namespace",
    "src.identity",
    "dst.workload",
    "dst.namespace",
    "dst.service",
    "direction",
)


def _kind(fields: dict[str, str]) -> tuple[str, str]:
    """The situation, and the policy that a refusal names."""
    error = fields.get("error", "")
    if not error:
        return "ztunnel-connection", ""
    if denied := _DENIED.search(error):
        plain = not fields.get("src.identity") and host_port(fields.get("dst.addr", ""))[1] != HBONE
        strict = bool(_STRICT.search(denied["policy"]))
        return ("plaintext-refused" if strict and plain else "policy-named-denial"), denied["policy"]
    if "allow policies exist, but none allowed" in error:
        return "no-allow-matched", ""
    return "ztunnel-failed", ""


def _message(fields: dict[str, str], text: str, **place: Any) -> Message:
    kind, policy = _kind(fields)
    told = [
        ("client", host_port(fields.get("src.addr", ""))[0]),
        ("server", fields.get("dst.addr", "")),
        ("policy", policy),
    ]
    told += [(k.replace(".", "-"), fields[k]) for k in _KEPT if fields.get(k)]
    told.append(("error", fields.get("error", "")))
    return Message(
        emitter="ztunnel", kind=kind, fields=tuple((k, v) for k, v in told if v), text=text[:500], **place
    )


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    line = lines.text[i]
    if len(line) > 4000 or not _LINE.search(line):
        return i, []
    fields = {m["key"]: m["quoted"] if m["quoted"] is not None else m["plain"] for m in _PAIR.finditer(line)}
    when = rfc3339(line.strip()[:40])
    return i + 1, [_message(fields, line.strip(), source=lines.source(i), where=context.where, time=when)]


def _match(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("dst.addr"), str) and "direction" in value


def _read_json(value: Any, locate: Locate, context: Context) -> Iterable[Record]:
    fields = {str(k): str(v) for k, v in value.items() if isinstance(v, (str, int))}
    when = rfc3339(fields.get("time", ""))
    text = " ".join(f"{k}={v}" for k, v in fields.items())
    yield _message(fields, text, source=locate(), where=context.where, time=when)


FORMATS = (
    LineFormat(
        "ztunnel-access",
        re.compile(r"connection (?:complete|opened|failed)\b.*dst\.addr="),
        _read,
        priority=16,
    ),
    ValueFormat("ztunnel-access-json", _match, _read_json, priority=12),
)
