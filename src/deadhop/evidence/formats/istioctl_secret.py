"""``istioctl proxy-config secret``, its table and its JSON (Envoy's SecretsConfigDump): the certificates that a proxy holds, and those that it still waits for.

A resource is ``kubernetes://NAME`` (read in the workload's namespace) or ``kubernetes-gateway://NAMESPACE/NAME``
(Gateway API). ``WARMING`` is a secret that was asked for and not delivered; its row may lack the type.

Sources: istioctl/pkg/writer/envoy/configdump (secret.go), pilot/pkg/model/credentials (resource.go).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from deadhop.evidence.asked import option
from deadhop.evidence.format import Context, LineFormat, Lines, Locate, ValueFormat
from deadhop.model.observed.message import Message
from deadhop.model.record import Record, Source

_HEAD = re.compile(r"^\s*(?:NAME\s{2,})?RESOURCE NAME\s+TYPE\s+STATUS\s+VALID CERT\b")
_ROW = re.compile(
    r"^\s*(?P<name>default|ROOTCA|(?:kubernetes(?:-gateway)?|file-cert|file-root|invalid|configmap)://?\S+)\s+(?:(?P<type>Cert Chain|CA|Cert|Unknown)\s+)?(?P<state>ACTIVE|WARMING)\s+(?P<valid>true|false)\b"
)
_RESOURCE = re.compile(
    r"^kubernetes(?:-gateway)?://(?:(?P<namespace>[\w.-]+)/)?(?P<name>[\w.-]+?)(?:-cacert)?$"
)


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    if _HEAD.match(lines.text[i]):
        return i + 1, []
    row = _ROW.match(lines.text[i])
    if row is None:
        return i, []
    return i + 1, _held(row["name"], row["state"], lines.source(i), context, lines.text[i].strip()[:300])


def _held(name: str, state: str, source: Source, context: Context, text: str) -> list[Record]:
    """One resource of a proxy; nothing for the mesh's own certificates."""
    resource = _RESOURCE.match(name)
    if resource is None:
        return []
    namespace = resource["namespace"] or _namespace(context.command.argv if context.command else ())
    secret = f"{namespace}/{resource['name']}" if namespace else resource["name"]
    fields = (("secret", secret), ("state", state), ("resource", name))
    return [Message(source=source, where=context.where, emitter="istioctl", kind="proxy-secret", fields=fields, text=text)]  # fmt: skip


_LISTS = {"dynamicActiveSecrets": "ACTIVE", "dynamicWarmingSecrets": "WARMING"}


def _match(value: Any) -> bool:
    return isinstance(value, dict) and any(isinstance(value.get(key), list) for key in _LISTS)


def _read_dump(value: Any, locate: Locate, context: Context) -> Iterable[Record]:
    for key, state in _LISTS.items():
        for k, one in enumerate(value.get(key) or ()):
            if isinstance(one, dict) and isinstance(name := one.get("name"), str):
                yield from _held(name, state, locate(f"{key}/{k}"), context, f"{name} {state}"[:300])


def _namespace(argv: tuple[str, ...]) -> str:
    """The namespace of the proxy that was asked: ``-n NAMESPACE``, or the end of ``POD.NAMESPACE``."""
    if named := option(argv, "-n", "--namespace"):
        return named
    plain = [w for w in argv[1:] if "." in w and not w.startswith("-")]
    return plain[-1].rpartition(".")[2] if plain and argv[0].endswith("istioctl") else ""


FORMATS = (ValueFormat("istioctl-secret-dump", _match, _read_dump, priority=18),)
FORMAT = LineFormat("istioctl-secret", re.compile(r"RESOURCE NAME\s+TYPE\s+STATUS|\b(?:ACTIVE|WARMING)\s+(?:true|false)\b"), _read, priority=18)  # fmt: skip
