"""Cloud security groups: ``aws ec2 describe-security-groups`` JSON, Terraform and console notes of one rule a line."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from deadhop.evidence.fields import integer
from deadhop.evidence.format import Context, LineFormat, Lines, Locate, ValueFormat
from deadhop.model.observed.kube import mappings
from deadhop.model.observed.node import PortRange
from deadhop.model.record import Record

_LINE = re.compile(
    r"^\s*(?:(?P<way>[Ii]nbound|[Ii]ngress|[Oo]utbound|[Ee]gress)\W+)?(?:[Aa]llow\W+)?(?P<proto>TCP|UDP|ICMP|All traffic)\b[ /:]+(?P<first>\d+|All)?(?:\s*-\s*(?P<last>\d+))?\W+(?:from|to|source|destination)?\W*(?P<peer>(?:\d{1,3}\.){3}\d{1,3}/\d+|sg-\w+)\s*$"
)


#: What every rule of a group has (EC2 API, IpPermission).
_RULE = {"IpProtocol"}
_ROWS = {"IpRanges", "FromPort", "ToPort", "UserIdGroupPairs"}


def _bare(value: Any) -> list[dict[str, Any]]:
    """The rules of a listing cut down by ``--query``: a list of rules, or of one such list per group."""
    if not isinstance(value, list):
        return []
    flat = [rule for item in value for rule in (item if isinstance(item, list) else [item])]
    return (
        flat
        if flat and all(isinstance(r, dict) and r.keys() >= _RULE and r.keys() & _ROWS for r in flat)
        else []
    )


def _match(value: Any) -> bool:
    if isinstance(value, dict):
        return "SecurityGroups" in value or "IpPermissions" in value
    return bool(_bare(value))


def _read_value(value: Any, locate: Locate, context: Context) -> Iterable[Record]:
    groups = mappings(value, "SecurityGroups") or [
        value if isinstance(value, dict) else {"IpPermissions": _bare(value)}
    ]
    for i, group in enumerate(groups):
        for key, ingress in (("IpPermissions", True), ("IpPermissionsEgress", False)):
            for k, rule in enumerate(mappings(group, key)):
                proto = str(rule.get("IpProtocol", "-1"))
                peers = [
                    str(r.get("CidrIp") or r.get("GroupId") or "")
                    for r in (*mappings(rule, "IpRanges"), *mappings(rule, "UserIdGroupPairs"))
                ]
                yield PortRange(
                    source=locate(f"SecurityGroups/{i}/{key}/{k}"), where=context.where, group=str(group.get("GroupId") or group.get("GroupName") or ""),
                    protocol="all" if proto == "-1" else proto, first=integer(str(rule.get("FromPort", ""))), last=integer(str(rule.get("ToPort", ""))),
                    ingress=ingress, peer=",".join(peers),
                )  # fmt: skip


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    match = _LINE.match(lines.text[i])
    if not match:
        return i, []
    proto = "all" if match["proto"].startswith("All") else match["proto"].lower()
    ingress = not (match["way"] or "").lower().startswith(("out", "eg"))
    first = integer(match["first"]) if match["first"] and match["first"].isdigit() else None
    return i + 1, [
        PortRange(
            source=lines.source(i),
            where=context.where,
            protocol=proto,
            first=first,
            last=integer(match["last"]) or first,
            ingress=ingress,
            peer=match["peer"],
        )
    ]


FORMATS = (
    ValueFormat("security-group", _match, _read_value, priority=30),
    LineFormat(
        "security-group-line",
        re.compile(r"(?:TCP|UDP|ICMP|All traffic)\b.*(?:/\d+|sg-\w+)\s*$"),
        _read,
        priority=55,
    ),
)
