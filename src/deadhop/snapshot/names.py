"""Names of Services: what a host name in a URL or a Host header means inside a cluster."""

from __future__ import annotations

import re
from typing import NamedTuple

from deadhop.evidence.fields import host_port, is_ip


class ServiceName(NamedTuple):
    """``namespace`` is empty where the name does not carry one."""

    service: str
    namespace: str


def service_name(host: str) -> ServiceName | None:
    """The Service that ``host`` (with or without a port) names, or None for an address or an outside name.

    ``svc``, ``svc.ns``, ``svc.ns.svc`` and ``svc.ns.svc.DOMAIN`` are Service names; a name of two labels counts as
    one only if its last label is no top-level domain in common use.
    """
    name, _port = host_port(host)
    name = name.rstrip(".").lower()
    if not name or is_ip(name):
        return None
    labels = name.split(".")
    if not all(re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", label) for label in labels):
        return None
    if len(labels) >= 3 and labels[2] == "svc":
        return ServiceName(labels[0], labels[1])
    if len(labels) >= 4 and labels[3] == "svc":
        return ServiceName(labels[1], labels[2])
    if len(labels) == 1:
        return ServiceName(labels[0], "")
    if len(labels) == 2 and labels[1] not in _TOP_LEVEL and len(labels[1]) > 2:
        return ServiceName(labels[0], labels[1])
    return None


_TOP_LEVEL = frozenset(
    "com net org io dev app cloud info biz edu gov mil int local internal lan home corp test example invalid localhost arpa hidden intra site online store tech ai".split()
)


def same_service(host: str, other: str) -> bool:
    """Whether two hosts name the same Service, as far as both say."""
    a, b = service_name(host), service_name(other)
    if a is None or b is None:
        return host_port(host)[0].rstrip(".").lower() == host_port(other)[0].rstrip(".").lower()
    return a.service == b.service and (not a.namespace or not b.namespace or a.namespace == b.namespace)
