"""``istioctl proxy-config secret``: the certificates that a proxy holds, and those that it still waits for.

A resource is ``kubernetes://NAME`` (read in the workload's namespace) or ``kubernetes-gateway://NAMESPACE/NAME``
(Gateway API). ``WARMING`` is a secret that was asked for and not delivered; its row may lack the type.

Sources: istioctl/pkg/writer/envoy/configdump (secret.go), pilot/pkg/model/credentials (resource.go).
"""

from __future__ import annotations

import re

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.message import Message
from deadhop.model.record import Record

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
    resource = _RESOURCE.match(row["name"])
    if resource is None:
        return i + 1, []  # the mesh's own certificates
    namespace = resource["namespace"] or _namespace(context.command.argv if context.command else ())
    secret = f"{namespace}/{resource['name']}" if namespace else resource["name"]
    fields = (("secret", secret), ("state", row["state"]), ("resource", row["name"]))
    return i + 1, [
        Message(source=lines.source(i), where=context.where, emitter="istioctl", kind="proxy-secret", fields=fields, text=lines.text[i].strip()[:300])
    ]  # fmt: skip


def _namespace(argv: tuple[str, ...]) -> str:
    """The namespace of the proxy that was asked: ``-n NAMESPACE``, or the end of ``POD.NAMESPACE``."""
    for k, word in enumerate(argv):
        if word in ("-n", "--namespace") and k + 1 < len(argv):
            return argv[k + 1]
        if word.startswith("--namespace="):
            return word.partition("=")[2]
    plain = [w for w in argv[1:] if "." in w and not w.startswith("-")]
    return plain[-1].rpartition(".")[2] if plain and argv[0].endswith("istioctl") else ""


FORMAT = LineFormat("istioctl-secret", re.compile(r"RESOURCE NAME\s+TYPE\s+STATUS|\b(?:ACTIVE|WARMING)\s+(?:true|false)\b"), _read, priority=18)  # fmt: skip
