"""``cilium-dbg monitor``: drops (``xx drop (Reason) flow …``), trace lines (``-> stack flow …``) and identity lists."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from deadhop.evidence.fields import host_port
from deadhop.evidence.format import Context, LineFormat, Lines, Locate, ValueFormat
from deadhop.model.observed.policy import CiliumEvent, CiliumIdentity, Flow, FlowEnd
from deadhop.model.record import Record

_DROP = re.compile(
    r"^\s*xx drop \((?P<reason>(?:[^()]|\([^()]*\))*)\)(?: to endpoint (?P<ep>\d+))? flow (?P<flow>0x[0-9a-f]+)(?P<rest>.*)$"
)
_TRACE = re.compile(
    r"^\s*(?P<dir>->|<-) (?!Request |Response )(?P<point>stack|endpoint \d+|overlay|network|proxy port \d+|host from flow|\S+)(?: flow (?P<flow>0x[0-9a-f]+))?\s*,?(?P<rest>.*identity.*)$"
)
_IDENTITY = re.compile(r"identity (?P<src>[\w-]+)->(?P<dst>[\w-]+)")
_ADDRESS = re.compile(
    r": (?P<src>\[?[0-9a-fA-F:.]+\]?(?::\d+)?) -> (?P<dst>\[?[0-9a-fA-F:.]+\]?(?::\d+)?)\s*(?P<proto>[a-zA-Z0-9]+)?(?P<flags>.*)$"
)
_STATE = re.compile(r"state (?P<state>\w+)")
_DEV = re.compile(r"ifindex (?P<dev>\S+?),? ")
_JUDGED = re.compile(
    r"[Pp]olicy verdict log: flow (?P<flow>0x[0-9a-f]+)\s+local EP ID (?P<ep>\d+), remote ID (?P<remote>[\w-]+)(?P<words>.*?),\s+action (?P<action>\w+)(?P<rest>.*?),? (?P<src>\[?[0-9a-fA-F.:]+\]?) -> (?P<dst>\[?[0-9a-fA-F.:]+\]?)(?: (?P<proto>\w+))?"
)
_FRAME = re.compile(
    r"identity (?P<src>[\w-]+)->(?P<dst>[\w-]+): (?P<smac>(?:[0-9a-f]{2}:){5}[0-9a-f]{2}) -> (?P<dmac>(?:[0-9a-f]{2}:){5}[0-9a-f]{2})\s*(?P<proto>\w*)"
)
_VERDICTS = {"deny": "DROPPED", "allow": "FORWARDED", "redirect": "REDIRECTED", "audit": "AUDIT"}
_LIST = re.compile(r"^\s*(?P<id>\d{1,10})\s{2,}(?P<label>(?:k8s|cidr|reserved|fqdn|any|container):\S*)\s*$")
_MORE = re.compile(r"^\s{4,}(?P<label>(?:k8s|cidr|reserved|fqdn|any|container):\S*)\s*$")
_MAPS = re.compile(r"^\s*(?P<ip>[0-9a-fA-F.:]+)(?P<len>/\d+)? maps to identity (?:identity=)?(?P<id>\d+)")
_IPCACHE = re.compile(r"^\s*(?P<prefix>[0-9a-fA-F.:]+/\d+)\s+identity=(?P<id>\d+)")


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    line = lines.text[i]
    if match := _JUDGED.search(line):
        event = _verdict(lines, i, context, match)
        direction = "INGRESS" if "ingress" in match["words"] else "EGRESS"
        return i + 1, [event, _flow(event, direction)]
    if match := _DROP.match(line):
        event = _event(lines, i, context, match["rest"], "DROPPED", match["reason"], match["ep"] or "")
        return i + 1, [event, _flow(event, "")] if "olicy denied" in match["reason"] and event.src else [
            event
        ]
    if match := _TRACE.match(line):
        return i + 1, [_event(lines, i, context, match["rest"], "FORWARDED", "", match["point"])]
    if match := _MAPS.match(line):
        bits = match["len"] or ("/128" if ":" in match["ip"] else "/32")
        identity = CiliumIdentity(
            source=lines.source(i), where=context.where, identity=match["id"], prefix=match["ip"] + bits
        )
        return i + 1, [identity]
    if match := _IPCACHE.match(line):
        return i + 1, [
            CiliumIdentity(
                source=lines.source(i), where=context.where, identity=match["id"], prefix=match["prefix"]
            )
        ]
    if match := _LIST.match(line):
        labels = [match["label"]]
        start = i
        i += 1
        while i < len(lines.text) and (more := _MORE.match(lines.text[i])):
            labels.append(more["label"])
            i += 1
        prefix = next((label.partition(":")[2] for label in labels if label.startswith("cidr:")), "")
        return i, [
            CiliumIdentity(
                source=lines.source(start, i - 1),
                where=context.where,
                identity=match["id"],
                labels=tuple(labels),
                prefix=prefix,
            )
        ]
    return i, []


def _verdict(lines: Lines, i: int, context: Context, match: re.Match[str]) -> CiliumEvent:
    """A line of policy verdicts; the local endpoint's identity is not in it, the remote one's is."""
    ingress = "ingress" in match["words"]
    src, sport = host_port(match["src"])
    dst, dport = host_port(match["dst"])
    return CiliumEvent(
        source=lines.source(i),
        where=context.where,
        verdict=_VERDICTS.get(match["action"], match["action"].upper()),
        reason="Policy denied" if match["action"] == "deny" else "",
        src_identity=match["remote"] if ingress else "",
        dst_identity="" if ingress else match["remote"],
        src=src,
        sport=sport,
        dst=dst,
        dport=dport,
        proto=(match["proto"] or "").lower(),
        endpoint=match["ep"],
        text=lines.text[i].strip(),
    )


def _flow(event: CiliumEvent, direction: str) -> Flow:
    """What policy judged, as hubble would tell it: the same verdict, the ends with their identities."""
    return Flow(
        source=event.source,
        where=event.where,
        src=FlowEnd(ip=event.src, port=event.sport, identity=event.src_identity),
        dst=FlowEnd(ip=event.dst, port=event.dport, identity=event.dst_identity),
        event=f"policy-verdict {direction}".strip() if direction else event.reason,
        verdict=event.verdict,
        proto=event.proto.upper(),
        direction=direction,
        drop_reason=event.reason,
    )


def _event(
    lines: Lines, i: int, context: Context, rest: str, verdict: str, reason: str, endpoint: str
) -> CiliumEvent:
    identity, address, state, dev = (
        _IDENTITY.search(rest),
        _ADDRESS.search(rest),
        _STATE.search(rest),
        _DEV.search(rest),
    )
    src, sport = host_port(address["src"]) if address else ("", None)
    dst, dport = host_port(address["dst"]) if address else ("", None)
    proto = (address["proto"] or "").lower() if address else ""
    if frame := _FRAME.search(rest):
        src, sport, dst, dport, proto = frame["smac"], None, frame["dmac"], None, frame["proto"].lower()
    return CiliumEvent(
        source=lines.source(i),
        where=context.where,
        verdict=verdict,
        reason=reason,
        src_identity=identity["src"] if identity else "",
        dst_identity=identity["dst"] if identity else "",
        src=src,
        sport=sport,
        dst=dst,
        dport=dport,
        proto=proto,
        endpoint=endpoint.removeprefix("endpoint "),
        dev=dev["dev"] if dev else "",
        state=state["state"] if state else "",
        text=lines.text[i].strip(),
    )


def _match_identities(value: Any) -> bool:
    rows = value if isinstance(value, list) else [value]
    return bool(rows) and all(
        isinstance(v, dict) and isinstance(v.get("id"), int) and isinstance(v.get("labels"), list) and all(isinstance(x, str) for x in v["labels"])
        for v in rows[:5]
    )  # fmt: skip


def _read_identities(value: Any, locate: Locate, context: Context) -> Iterable[Record]:
    """``identity get`` and ``identity list`` as JSON."""
    for i, row in enumerate(value if isinstance(value, list) else [value]):
        if _match_identities(row):
            labels = tuple(row["labels"])
            prefix = next((x.partition(":")[2] for x in labels if x.startswith("cidr:")), "")
            yield CiliumIdentity(source=locate(str(i)), where=context.where, identity=str(row["id"]), labels=labels, prefix=prefix)  # fmt: skip


FORMATS = (ValueFormat("cilium-identities", _match_identities, _read_identities, priority=20),)
FORMAT = LineFormat(
    "cilium-monitor",
    re.compile(
        r"^\s*(?:xx drop \(|.{0,40}[Pp]olicy verdict log: flow|(?:->|<-) .*identity |\d+\s{2,}(?:k8s|cidr|reserved|fqdn):|[0-9a-fA-F.:]+/\d+\s+identity=|[0-9a-fA-F.:/]+ maps to identity )"
    ),
    _read,
    priority=18,
)
