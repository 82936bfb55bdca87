"""Policies from YAML or JSON: every field is one that the agent enforces, or the file is refused with file and line.

A field that is left out of enforcement silently would open or close something that its author did not mean, so the
schema (``policy_schema.py``) is a whitelist. The values are checked by the core's own validation (``fqdn/``), which words a complaint
as Cilium does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import msgspec
import yaml

from deadhop.agent.policy_schema import SPEC, At, dotted, shape
from deadhop.evidence import safe_yaml
from deadhop.fqdn.options import Version
from deadhop.fqdn.rule_validation import egress_complaint, egress_deny_complaint
from deadhop.fqdn.selectors import FQDNSelector, crd_complaint
from deadhop.hops.policy.cilium import ENTITIES
from deadhop.model.observed.kube import KubeObject, mapping, mappings
from deadhop.model.record import Source

KINDS = ("CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy")
REFUSED_KINDS = {
    "NetworkPolicy": "the agent enforces Cilium policies only",
    "ClusterNetworkPolicy": "the agent enforces Cilium policies only",
}
SUFFIXES = (".yaml", ".yml", ".json")

_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")
_PROTOCOLS = ("TCP", "UDP", "SCTP", "ANY")


class Complaint(msgspec.Struct, frozen=True):
    """Why a policy is refused. ``line`` is 1-based, 0 where the whole file is meant."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}" if self.line else f"{self.file}: {self.text}"


class PolicyRefused(ValueError):
    """At least one policy cannot be enforced as it is written."""

    def __init__(self, complaints: Iterable[Complaint]) -> None:
        self.complaints = tuple(complaints)
        super().__init__("\n".join(map(str, self.complaints)))


def files_of(path: Path) -> list[Path]:
    """The policy files at a path: itself, or those of a folder and its folders, by name."""
    if path.is_dir():
        return sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.is_file())
    return [path]


def load(paths: Iterable[Path], version: Version) -> tuple[KubeObject, ...]:
    """Every Cilium policy of the files. Raises :class:`PolicyRefused` with every complaint at once.

    Objects of kinds that are no policy are passed over, so that a folder may hold an application's manifests.
    """
    found: list[KubeObject] = []
    complaints: list[Complaint] = []
    for path in paths:
        files = files_of(path)
        if not files:
            complaints.append(Complaint(str(path), 0, "no .yaml, .yml or .json file in this folder"))
        for file in files:
            try:
                text = file.read_text()
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                complaints.append(Complaint(str(file), 0, reason))
                continue
            policies, wrong = parse(text, str(file), version)
            found += policies
            complaints += wrong
    seen: dict[str, KubeObject] = {}
    for policy in found:
        other = seen.setdefault(policy.ref, policy)
        if other is not policy:
            text = f"{policy.ref} stands in {other.source} already"
            complaints.append(Complaint(policy.source.file, policy.source.line or 0, text))
    if complaints:
        raise PolicyRefused(complaints)
    return tuple(found)


def parse(text: str, file: str, version: Version) -> tuple[list[KubeObject], list[Complaint]]:
    """The policies of one file and what is wrong with it. Total: any text gives an answer."""
    found: list[KubeObject] = []
    complaints: list[Complaint] = []
    for first, part in safe_yaml.split(text):
        try:
            value = safe_yaml.load(part)
        except safe_yaml.YamlProblem as problem:
            complaints.append(Complaint(file, first + problem.line + 1, str(problem)))
            continue
        for path, item in _objects(value):
            kind = str(item.get("kind") or "")
            wrong = list(_check(item, kind, version)) if kind in KINDS else []
            if kind in REFUSED_KINDS:
                wrong = [(("kind",), f"{kind}: {REFUSED_KINDS[kind]}")]
            lines = _Lines(part)
            complaints += [Complaint(file, first + lines.of((*path, *at)), why) for at, why in wrong]
            if kind in KINDS and not wrong:
                source = Source(file, first + lines.of(path))
                found.append(_policy(item, kind, source))
        if not isinstance(value, dict | None):
            complaints.append(Complaint(file, first + 1, "not a Kubernetes object"))
    return found, complaints


def _policy(item: dict[str, Any], kind: str, source: Source) -> KubeObject:
    meta = mapping(item, "metadata")
    namespace = "" if kind.startswith("CiliumClusterwide") else str(meta.get("namespace") or "default")
    return KubeObject(
        source=source,
        kind=kind,
        name=str(meta.get("name")),
        namespace=namespace,
        api_version=str(item.get("apiVersion") or ""),
        raw=item,
    )


def _objects(value: Any, path: At = ()) -> Iterator[tuple[At, dict[str, Any]]]:
    if isinstance(value, dict):
        if str(value.get("kind") or "").endswith("List") and isinstance(value.get("items"), list):
            for index, item in enumerate(value["items"]):
                yield from _objects(item, (*path, "items", index))
        else:
            yield path, value


class _Lines:
    """The line (1-based) at which a path of a document stands, found only when somebody asks."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.root: yaml.Node | None = None

    def of(self, path: At) -> int:
        if self.root is None:
            try:
                self.root = yaml.compose(self.text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
            except yaml.YAMLError:
                return 1
        node, line = self.root, self.root.start_mark.line if self.root else 0
        for step in path:
            if isinstance(node, yaml.MappingNode):
                pair = next(((k, v) for k, v in node.value if k.value == step), None)
                if pair is None:
                    break
                line, node = pair[0].start_mark.line, pair[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                line = node.start_mark.line
            else:
                break
        return int(line) + 1


def _check(item: dict[str, Any], kind: str, version: Version) -> Iterator[tuple[At, str]]:
    api = str(item.get("apiVersion") or "")
    if not api.startswith("cilium.io/"):
        yield ("apiVersion",), f'{kind} has apiVersion "cilium.io/v2", not "{api}"'
    if not isinstance(mapping(item, "metadata").get("name"), str):
        yield ("metadata",), "metadata.name is missing"
    for key in item:
        if key not in ("apiVersion", "kind", "metadata", "spec", "specs", "status"):
            yield (str(key),), f"unknown field {key}"
    specs: list[tuple[At, Any]] = [(("spec",), item["spec"])] if item.get("spec") is not None else []
    if isinstance(item.get("specs"), list):
        specs += [(("specs", n), spec) for n, spec in enumerate(item["specs"])]
    if not specs:
        yield (), "the policy has no spec"
    for path, spec in specs:
        wrong = list(shape(spec, SPEC, path))
        yield from wrong
        if not wrong:
            yield from _values(spec, path, version)


def _values(spec: dict[str, Any], path: At, version: Version) -> Iterator[tuple[At, str]]:
    if not isinstance(spec.get("endpointSelector"), dict):
        yield path, f"{dotted(path)}.endpointSelector is missing"
    yield from _selector(spec.get("endpointSelector"), (*path, "endpointSelector"))
    for key in ("egress", "egressDeny"):
        for number, rule in enumerate(mappings(spec, key)):
            yield from _rule(rule, (*path, key, number), version)


def _rule(rule: dict[str, Any], path: At, version: Version) -> Iterator[tuple[At, str]]:
    deny = "egressDeny" in path
    unknown = list(_unknown(rule, path))
    yield from unknown
    if unknown:
        return
    whole = (egress_deny_complaint(rule) if deny else "") or egress_complaint(rule, version)
    if whole:
        yield path, f"{dotted(path)}: {whole}"
        return
    for number, item in enumerate(mappings(rule, "toFQDNs")):
        where: At = (*path, "toFQDNs", number)
        if complaint := crd_complaint(FQDNSelector.read(item), version):
            yield where, f"{dotted(where)}: {complaint}"
    for number, selector in enumerate(mappings(rule, "toEndpoints")):
        yield from _selector(selector, (*path, "toEndpoints", number))
    blocks = [((*path, "toCIDR", n), c, ()) for n, c in enumerate(rule.get("toCIDR") or ())]
    blocks += [
        ((*path, "toCIDRSet", n), b.get("cidr"), b.get("except") or ())
        for n, b in enumerate(mappings(rule, "toCIDRSet"))
    ]
    for at, cidr, excepts in blocks:
        yield from _block(cidr, excepts, at)
    for number, item in enumerate(mappings(rule, "toPorts")):
        yield from _ports(item, rule, (*path, "toPorts", number), version, deny=deny)


def _unknown(rule: dict[str, Any], path: At) -> Iterator[tuple[At, str]]:
    """Words that name nothing here, each where it stands."""
    for number, entity in enumerate(rule.get("toEntities") or ()):
        if entity not in ENTITIES and entity not in ("all", "cluster", "none"):
            at: At = (*path, "toEntities", number)
            yield at, f'{dotted(at)}: unknown entity "{entity}"'
    for number, item in enumerate(mappings(rule, "toPorts")):
        for place, port in enumerate(mappings(item, "ports")):
            where: At = (*path, "toPorts", number, "ports", place)
            if str(port.get("protocol") or "ANY").upper() not in _PROTOCOLS:
                yield where, f"{dotted(where)}: protocol {port['protocol']} is not supported"


def _block(cidr: Any, excepts: Iterable[Any], at: At) -> Iterator[tuple[At, str]]:
    try:
        whole = ip_network(str(cidr), strict=False)
        for hole in excepts:
            inner = ip_network(str(hole), strict=False)
            if inner.version != whole.version or not inner.subnet_of(whole):  # type: ignore[arg-type]
                yield (
                    at,
                    f"{dotted(at)}: allow CIDR prefix {cidr} does not contain exclude CIDR prefix {hole}",
                )
    except ValueError as error:
        yield at, f"{dotted(at)}: unable to parse CIDR: {error}"


def _ports(
    item: dict[str, Any], rule: dict[str, Any], path: At, version: Version, *, deny: bool
) -> Iterator[tuple[At, str]]:
    for number, port in enumerate(mappings(item, "ports")):
        where: At = (*path, "ports", number)
        if not str(port.get("port", "")).isdecimal():
            yield where, f"{dotted(where)}: named ports are not supported: a namespace names no port"
    rules = mapping(item, "rules").get("dns")
    if rules is None:
        return
    if deny:
        yield path, f"{dotted(path)}: Layer 7 rules are not supported in a deny rule"
    if rule.get("toFQDNs"):
        yield (
            path,
            f"{dotted(path)}: rules.dns beside toFQDNs is not supported: select the DNS server otherwise",
        )
    for number, entry in enumerate(mappings(rules)):
        at: At = (*path, "rules", "dns", number)
        if complaint := crd_complaint(FQDNSelector.read(entry), version):
            yield at, f"{dotted(at)}: {complaint}"


def _selector(selector: Any, path: At) -> Iterator[tuple[At, str]]:
    for number, expression in enumerate(mappings(selector, "matchExpressions")):
        operator = expression.get("operator")
        at: At = (*path, "matchExpressions", number)
        if operator not in _OPERATORS:
            yield at, f'{dotted(at)}: "{operator}" is not a valid label selector operator'
        elif not expression.get("key"):
            yield at, f"{dotted(at)}: key is missing"
        elif operator in ("In", "NotIn") and not expression.get("values"):
            yield at, f"{dotted(at)}: values are missing"
