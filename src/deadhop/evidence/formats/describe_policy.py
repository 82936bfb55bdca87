"""``kubectl describe networkpolicy``, whole or what grep left of it (kubectl pkg/describe, printNetworkPolicySpecTo)."""

from __future__ import annotations

import re
from typing import Any

from deadhop.evidence.asked import operands
from deadhop.evidence.fields import integer
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.evidence.formats.kubectl_table import asked_namespace
from deadhop.evidence.kinds import kind_of
from deadhop.model.observed.kube import NetworkPolicy
from deadhop.model.record import Record

Rule = dict[str, Any]
_LINE = re.compile(
    r"^\s*(?:(?P<section>Allowing (?P<dir>ingress|egress) traffic):|(?P<off>Not affecting (?:ingress|egress) traffic)|To Port(?: Range)?:\s*(?P<port>.*)|(?:From|To):\s*(?P<peer>.*)"
    r"|(?P<key>NamespaceSelector|PodSelector|IPBlock|CIDR|Except|Policy Types|Spec|Name|Namespace|Labels|Annotations|Created on):\s*(?P<value>.*)|(?P<rule>-{4,})|(?P<none><none> \(Selected pods are isolated .*))$"
)
_SPEC = re.compile(r"^\s*(?:Allowing|Not affecting) (?:ingress|egress) traffic:?\s*$")
_TERM = re.compile(r"(?P<key>[\w./-]+) (?P<op>in|notin) \((?P<values>[^)]*)\)|(?P<k>[\w./-]+)=(?P<v>[^,]*)|(?P<not>!)?(?P<bare>[\w./-]+)")  # fmt: skip
_AHEAD = 30


def selector(text: str) -> Rule:
    """A selector as metav1.FormatLabelSelector prints it."""
    labels: dict[str, str] = {}
    expressions: list[Rule] = []
    for term in _TERM.finditer("" if text.startswith("<none>") else text):
        if term["k"]:
            labels[term["k"]] = term["v"]
        elif term["key"]:
            operator = "In" if term["op"] == "in" else "NotIn"
            expressions.append({"key": term["key"], "operator": operator, "values": [v.strip() for v in term["values"].split(",")]})  # fmt: skip
        elif term["bare"]:
            expressions.append({"key": term["bare"], "operator": "DoesNotExist" if term["not"] else "Exists"})
    return {k: v for k, v in (("matchLabels", labels), ("matchExpressions", expressions)) if v}


def _port(text: str) -> Rule | None:
    match = re.match(r"(?P<port>[\w-]+?)(?:-(?P<end>\d+))?/(?P<proto>\w+)", text)
    if match is None:
        return None
    number = integer(match["port"])
    made: Rule = {"port": match["port"] if number is None else number, "protocol": match["proto"]}
    if match["end"] and number is not None:
        made["endPort"] = int(match["end"])
    return made


class _Policy:
    """The spec while its lines are read."""

    def __init__(self) -> None:
        self.spec: Rule = {}
        self.fields: dict[str, str] = {}
        self.direction = ""
        self.rule: Rule = {}
        self.peer: Rule | None = None
        self.types: list[str] = []

    def take(self, match: re.Match[str]) -> None:
        if match["dir"]:
            self.direction = match["dir"]
            self.types.append(self.direction.capitalize())
            self.spec.setdefault(self.direction, [])
            self.rule, self.peer = {}, None
        elif match["rule"]:
            self.rule, self.peer = {}, None
        elif match["off"] or match["none"]:
            self.direction, self.peer = "" if match["off"] else self.direction, None
        elif match["port"] is not None:
            self._into().setdefault("ports", [])
            if port := _port(match["port"]):
                self._into()["ports"].append(port)
        elif match["peer"] is not None:
            self.peer = {}
            key = "from" if self.direction == "ingress" else "to"
            if not match["peer"].startswith("<any>"):
                self._into().setdefault(key, []).append(self.peer)
            else:
                self._into()
        elif match["key"]:
            self._field(match["key"], match["value"].strip())

    def _into(self) -> Rule:
        """The rule that is being read, in its place."""
        if not self.rule:
            self.rule = {"ports": []}
            self.spec.setdefault(self.direction or "ingress", []).append(self.rule)
        return self.rule

    def _field(self, key: str, value: str) -> None:
        if key == "NamespaceSelector" and self.peer is not None:
            self.peer["namespaceSelector"] = selector(value)
        elif key == "PodSelector" and self.peer is not None:
            self.peer["podSelector"] = selector(value)
        elif key == "PodSelector":
            self.spec["podSelector"] = selector(value)
        elif key == "CIDR" and self.peer is not None:
            self.peer["ipBlock"] = {"cidr": value}
        elif key == "Except" and self.peer is not None and "ipBlock" in self.peer:
            self.peer["ipBlock"]["except"] = [v.strip() for v in value.split(",") if v.strip()]
        elif key == "Policy Types":
            self.types = [v.strip() for v in value.split(",")]
        else:
            self.fields.setdefault(key, value)


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    start, policy = i, _Policy()
    ahead = lines.text[i : i + _AHEAD]
    stop = next((k for k, line in enumerate(ahead) if not line.strip() or (k and line.startswith("Name:"))), len(ahead))  # fmt: skip
    if not any(_SPEC.match(line) for line in ahead[:stop]):
        return i, []
    while i < len(lines.text) and lines.text[i].strip():
        line = lines.text[i]
        if i > start and line.startswith("Name:"):
            break
        match = _LINE.match(line)
        if match is None and not line[:1].isspace():
            break
        if match:
            policy.take(match)
        i += 1
    if not policy.types:
        return start, []
    argv = context.command.argv if context.command else ()
    words = operands(argv, "describe")
    asked = words[1] if len(words) == 2 and kind_of(words[0]) == "NetworkPolicy" else ""
    spec = {"podSelector": {}, **policy.spec, "policyTypes": policy.types}
    return i, [
        NetworkPolicy(
            source=lines.source(start, i - 1),
            where=context.where,
            kind="NetworkPolicy",
            name=policy.fields.get("Name", "") or asked,
            namespace=policy.fields.get("Namespace", "") or asked_namespace(context),
            raw={"kind": "NetworkPolicy", "spec": spec},
        )
    ]


FORMAT = LineFormat(
    "describe-networkpolicy",
    re.compile(
        r"^(?:Name:\s+\S|Spec:\s*$)|^\s*PodSelector:\s|^\s*(?:Allowing|Not affecting) (?:ingress|egress) traffic"
    ),
    _read,
    priority=27,
)
