"""The containers of ``kubectl describe pod``: names, images and ports, at the places where a manifest has them.

A block begins with a name two blanks in, its fields stand four in (kubectl pkg/describe, describeContainers). ``Port`` or
``Ports`` list container ports, ``Host Port`` or ``Host Ports`` the node's in the same order, 0 where there is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

_NAME = re.compile(r"^  (?P<name>[a-z0-9][a-z0-9-]*):\s*$")
_FIELD = re.compile(r"^    (?P<key>Image|(?:Host )?Ports?):\s+(?P<value>\S.*?)\s*$")
_PORT = re.compile(r"^(?P<number>\d{1,5})/(?P<proto>TCP|UDP|SCTP)(?: \((?P<name>[\w-]+)\))?$")


def containers(rows: Iterable[str]) -> list[dict[str, Any]]:
    """The container blocks in ``rows``."""
    found: list[tuple[str, dict[str, str]]] = []
    for row in rows:
        if named := _NAME.match(row):
            found.append((named["name"], {}))
        elif found and (field := _FIELD.match(row)):
            found[-1][1].setdefault(field["key"].rstrip("s"), field["value"])
    return [_container(name, fields) for name, fields in found]


def _container(name: str, fields: dict[str, str]) -> dict[str, Any]:
    made: dict[str, Any] = {"name": name}
    if "Image" in fields:
        made["image"] = fields["Image"]
    ports: list[dict[str, Any]] = []
    hosts = [_PORT.match(p) for p in fields.get("Host Port", "").split(", ")]
    for k, text in enumerate(fields.get("Port", "").split(", ")):
        if match := _PORT.match(text):
            port: dict[str, Any] = {"containerPort": int(match["number"]), "protocol": match["proto"]}
            port |= {"name": match["name"]} if match["name"] else {}
            host = hosts[k] if k < len(hosts) else None
            ports.append(port | ({"hostPort": int(host["number"])} if host and int(host["number"]) else {}))
    return made | ({"ports": ports} if ports else {})
