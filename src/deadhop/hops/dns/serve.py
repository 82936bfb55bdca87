"""Which server block answers, and the walk through its plugins in CoreDNS's order (``plugin.cfg``)."""

from __future__ import annotations

import re

import msgspec

from deadhop.hops.dns import plugins
from deadhop.hops.dns.corefile import Corefile, Directive, ServerBlock, Zone
from deadhop.hops.dns.kubernetes import kubernetes
from deadhop.hops.dns.plugins import Client, Served, World
from deadhop.hops.dns.zonefile import file
from deadhop.model.dns import RR

PLUGIN_ORDER = (
    "root metadata geoip cancel tls quic timeouts multisocket reload nsid bufsize bind debug trace ready health pprof "
    "prometheus errors log dnstap local dns64 acl any chaos loadbalance tsig cache rewrite header dnssec autopath "
    "minimal template transfer hosts route53 azure clouddns k8s_external kubernetes file auto secondary etcd loop "
    "forward grpc erratic whoami on sign view"
).split()
"""The order of the default build; the order in the Corefile means nothing."""

_PASSES = frozenset(
    "root metadata geoip cancel tls quic timeouts multisocket reload nsid bufsize bind debug trace ready health pprof "
    "prometheus errors log dnstap loadbalance tsig header dnssec transfer loop on sign minimal cache".split()
)
_UNKNOWN_DATA = frozenset(
    "route53 azure clouddns k8s_external auto secondary etcd grpc erratic whoami".split()
)
CHAIN = 8
"""Aliases that are followed out of a zone file."""
MAX_STEPS = 200
"""Plugins that one question passes; a Corefile with more (rewrites that go on) is not followed further."""


def block_for(corefile: Corefile, qname: str, port: int = 53) -> tuple[ServerBlock, str] | None:
    """The server block with the longest zone that holds the name, among those on the port."""
    held = [
        (block, zone.name)
        for block in corefile.servers
        for zone in block.zones
        if zone.port == port and zone.scheme == "dns" and zone.holds(qname)
    ]
    return max(held, key=lambda pair: len(pair[1]), default=None)


def chain(block: ServerBlock) -> list[Directive]:
    """The block's directives in the order in which CoreDNS runs them; unknown plugins are left out."""
    known = [d for d in block.directives if d.name in PLUGIN_ORDER]
    return sorted(known, key=lambda d: PLUGIN_ORDER.index(d.name))


def serve(
    corefile: Corefile,
    world: World,
    name: str,
    qtype: str = "A",
    client: Client | None = None,
    port: int = 53,
) -> Served:
    """What the server answers to one question. A name that no block holds is REFUSED."""
    asked = name.lower().rstrip(".") + "."
    found = block_for(corefile, asked, port)
    if found is None:
        return Served(rcode="REFUSED", by="server", passed=("no server block holds the name",))
    block, zone = found
    served = _walk(chain(block), block, world, asked, qtype, client or Client(), ())
    served = msgspec.structs.replace(served, zone=served.zone or zone)
    return _out_of_zone(corefile, world, served, qtype, client, port)


def _out_of_zone(
    corefile: Corefile, world: World, served: Served, qtype: str, client: Client | None, port: int
) -> Served:
    """A zone file's CNAME that leads out of its zone is looked up through the server itself (``file/lookup.go``)."""
    last = served.answers[-1] if served.by == "file" and served.answers else None
    if last is None or last.type != "CNAME" or qtype in ("CNAME", "ANY"):
        return served
    target = _dotted(last.data)
    if Zone(served.zone).holds(target) or len(served.answers) > CHAIN:
        return served
    behind = serve(corefile, world, target, qtype, client, port)
    if behind.unknown:
        return msgspec.structs.replace(served, unknown=f"{target} behind the alias: {behind.unknown}")
    return msgspec.structs.replace(served, rcode=behind.rcode, answers=(*served.answers, *behind.answers))


def _walk(
    rest: list[Directive],
    block: ServerBlock,
    world: World,
    qname: str,
    qtype: str,
    client: Client,
    passed: tuple[str, ...],
) -> Served:
    if len(passed) > MAX_STEPS:
        return Served(unknown="the chain of plugins is too long to follow")
    for place, directive in enumerate(rest):
        after = rest[place + 1 :]
        served: Served | None = None
        match directive.name:
            case "cache":
                inner = _walk(after, block, world, qname, qtype, client, (*passed, "cache"))
                return plugins.cap_ttls(directive, block.zones, qname, inner)
            case "rewrite":
                inner_walk = _rewrite(directive, after, block, world, qname, qtype, client, passed)
                if inner_walk is not None:
                    return inner_walk
            case "autopath":
                inner_walk = _autopath(directive, after, block, world, qname, qtype, client, passed)
                if inner_walk is not None:
                    return inner_walk
            case "acl":
                refused = plugins.refused_by_acl(directive, block.zones, client, qname, qtype)
                if refused is not None:
                    rcode = "TIMEOUT" if refused == "drop" else refused
                    served = Served(rcode=rcode, by="acl")
            case "any":
                served = plugins.refuse_any(qname, qtype)
            case "local":
                served = plugins.local(qname, qtype)
            case "hosts":
                served = plugins.hosts(directive, block.zones, world, qname, qtype)
            case "kubernetes":
                served = kubernetes(directive, block.zones, world, qname, qtype)
            case "template":
                served = plugins.template(directive, block.zones, qname, qtype)
            case "forward":
                served = plugins.forward(directive, world, qname, qtype, client.transport)
            case "file":
                served = file(directive, block.zones, world, qname, qtype, _root(block))
            case name if name in _UNKNOWN_DATA:
                if plugins.held_by(qname, plugins.zones_of(directive, block.zones)):
                    served = Served(by=name, unknown=f"what the plugin {name} holds is not here")
            case name if name not in _PASSES:
                served = Served(by=name, unknown=f"the plugin {name} is not modelled")
        if served is not None:
            return msgspec.structs.replace(served, passed=(*passed, directive.name))
        passed = (*passed, directive.name)
    return Served(rcode="SERVFAIL", by="server", passed=(*passed, "no plugin answers"))


def _root(block: ServerBlock) -> str:
    """The folder of relative paths in the block (``root``)."""
    return next((d.args[0] for d in block.all("root") if d.args), "")


def _rewritten(directive: Directive, qname: str, qtype: str) -> tuple[str, str] | str | None:
    """(name, type) after the rule, a complaint where it cannot be evaluated, None where it does not apply."""
    words = [w for w in directive.args if w not in ("stop", "continue")]
    if words and words[0] not in ("name", "type", "class", "edns0", "ttl", "rcode", "cname"):
        words = ["name", *words]
    if words[:1] == ["type"] and len(words) == 3:
        return (qname, words[2].upper()) if words[1].upper() == qtype else None
    if words[:1] != ["name"]:
        return None
    kind = (
        words[1]
        if len(words) > 3 and words[1] in ("exact", "prefix", "suffix", "substring", "regex")
        else "exact"
    )
    old, new = words[2 if words[1] == kind else 1 :][:2] if len(words) >= 3 else ("", "")
    if kind == "exact":
        return (_dotted(new), qtype) if qname == _dotted(old) else None
    if kind == "prefix":
        return (new + qname.removeprefix(old), qtype) if old and qname.startswith(old) else None
    if kind == "suffix":
        hit = old and qname.rstrip(".").endswith(old.rstrip("."))
        return (_dotted(qname.rstrip(".").removesuffix(old.rstrip(".")) + new), qtype) if hit else None
    if kind == "substring":
        return (qname.replace(old, new), qtype) if old and old in qname else None
    match = plugins.safe_search(old, qname)
    if match is None or isinstance(match, str):
        return match
    return _dotted(_filled(match, new)), qtype


def _filled(match: re.Match[str], new: str) -> str:
    """``{N}`` replaced by the groups of the match."""
    groups = (match[0], *match.groups())
    return re.sub(r"\{(\d)\}", lambda m: (groups[int(m[1])] or "") if int(m[1]) < len(groups) else "", new)


def _dotted(name: str) -> str:
    return name.lower().rstrip(".") + "."


def _rewrite(
    directive: Directive,
    after: list[Directive],
    block: ServerBlock,
    world: World,
    qname: str,
    qtype: str,
    client: Client,
    passed: tuple[str, ...],
) -> Served | None:
    """The rest of the chain for the rewritten question, its answer put back under the name asked for."""
    changed = _rewritten(directive, qname, qtype)
    if changed is None or changed == (qname, qtype):
        return None
    if isinstance(changed, str):
        return Served(by="rewrite", unknown=changed, passed=(*passed, "rewrite"))
    name, rtype = changed
    if len(name) > 254:
        return Served(by="rewrite", unknown="the rewritten name is too long", passed=(*passed, "rewrite"))
    rest = after if "continue" in directive.args else [d for d in after if d.name != "rewrite"]
    inner = _walk(rest, block, world, name, rtype, client, (*passed, f"rewrite to {name}"))
    return msgspec.structs.replace(inner, answers=_named_back(directive, inner.answers, name, qname))


def _named_back(directive: Directive, answers: tuple[RR, ...], name: str, qname: str) -> tuple[RR, ...]:
    """The answer as the client gets it: only ``exact`` rules and those with ``answer auto`` put the name back.

    Without it a prefix, suffix, substring or regex rule leaves the rewritten owner in the answer, which stub
    resolvers pass over. ``answer name FROM TO`` is a regular expression of its own.
    """
    words = list(directive.args)
    at = words.index("answer") if "answer" in words else len(words)
    exact = not any(kind in words[:3] for kind in ("prefix", "suffix", "substring", "regex"))
    if exact or words[at + 1 : at + 2] == ["auto"]:
        return tuple(msgspec.structs.replace(rr, name=qname) if rr.name == name else rr for rr in answers)
    rules = words[at + 1 :]
    if rules[:1] == ["name"] and len(rules) >= 3:
        return tuple(
            msgspec.structs.replace(rr, name=_substituted(rules[1], rules[2], rr.name)) for rr in answers
        )
    return answers


def _substituted(pattern: str, new: str, name: str) -> str:
    match = plugins.safe_search(pattern, name)
    if match is None or isinstance(match, str):
        return name
    return _dotted(_filled(match, new))


def _search_path(directive: Directive, block: ServerBlock, world: World, client: Client) -> list[str] | str:
    """The search path by which autopath works, the bare name last; a complaint where its file is not here."""
    source = directive.args[-1] if directive.args else ""
    if not source.startswith("@"):
        text = world.files.get(source)
        if text is None:
            return f"the file {source} is not here"
        listed = [line.split()[1:] for line in text.splitlines() if line.split()[:1] == ["search"]]
        return [*map(_dotted, listed[-1]), "."] if listed and listed[-1] else []
    zones = [z for d in block.all("kubernetes") for z in plugins.zones_of(d, block.zones)]
    zone = next((z.name for z in zones if not z.name.endswith(".arpa.")), "")
    if not zone or not client.namespace:
        return []
    return [f"{client.namespace}.svc.{zone}", f"svc.{zone}", zone, *map(_dotted, world.node_search), "."]


def _autopath(
    directive: Directive,
    after: list[Directive],
    block: ServerBlock,
    world: World,
    qname: str,
    qtype: str,
    client: Client,
    passed: tuple[str, ...],
) -> Served | None:
    """``autopath [ZONE…] @kubernetes|RESOLV-CONF``: the first search expansion is answered with the first name that
    exists, by a CNAME."""
    named = plugins.zones_of(Directive("autopath", directive.args[:-1]), block.zones)
    if qtype not in ("A", "AAAA") or not plugins.held_by(qname, named):
        return None
    search = _search_path(directive, block, world, client)
    if isinstance(search, str):
        return Served(by="autopath", unknown=search, passed=(*passed, "autopath"))
    if not search or not qname.endswith("." + search[0]):
        return None
    base = qname.removesuffix(search[0])
    first: Served | None = None
    for domain in search:
        candidate = base if domain == "." else base + domain
        inner = _walk(after, block, world, candidate, qtype, client, (*passed, f"autopath {candidate}"))
        first = first or inner
        if inner.unknown:
            return inner
        if inner.rcode == "NOERROR" and inner.answers:
            answers = inner.answers
            if candidate != qname:
                answers = (RR(qname, answers[0].ttl, "CNAME", candidate), *answers)
            return msgspec.structs.replace(inner, answers=answers)
    return first
