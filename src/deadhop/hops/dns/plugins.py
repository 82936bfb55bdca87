"""What each CoreDNS plugin answers, by itself. A plugin says ``None`` where it hands the question to the next one.

From the plugins' READMEs and code (CoreDNS 1.11): ``hosts``, ``template``, ``forward``, ``cache``,
``acl``. A plugin that answers from data that is not here (a zone file, etcd) makes the answer unknown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_network

import msgspec

from deadhop.hops.dns.corefile import Directive, Zone
from deadhop.model.dns import RR

HOSTS_TTL = 3600
TEMPLATE_TTL = 3600
"""What miekg/dns gives a record without a TTL."""
LOCAL_TTL = 604800
LOCAL_ZONES = tuple(
    Zone(z) for z in ("localhost.", "0.in-addr.arpa.", "127.in-addr.arpa.", "255.in-addr.arpa.")
)
ANY_TTL = 8482
CACHE_MIN_TTL = 5
"""plugin/pkg/dnsutil MinimalDefaultTTL."""
_NESTED_REPEAT = re.compile(r"\([^()]*[*+}][^()]*\)[*+{]")
MAX_REGEX = 300


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks. ``namespace`` is its pod's, for autopath; empty where not known."""

    ip: str = ""
    namespace: str = ""
    transport: str = "udp"
    edns_size: int | None = None


class KubeService(msgspec.Struct, frozen=True, kw_only=True):
    """A Service as DNS sees it. Headless ones have ``endpoints`` as (hostname, address); ``ports`` (name, proto, port)."""

    namespace: str
    name: str
    cluster_ips: tuple[str, ...] = ()
    endpoints: tuple[tuple[str, str], ...] = ()
    ports: tuple[tuple[str, str, int], ...] = ()
    external_name: str = ""
    publish: bool = True


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """An answer and who gave it. ``rcode`` empty means that what is here cannot say; ``unknown`` says why.

    ``passed`` are the plugins that the question went through, with what they did; ``upstream`` is where a forward
    sent it.
    """

    rcode: str = ""
    answers: tuple[RR, ...] = ()
    by: str = ""
    zone: str = ""
    authoritative: bool = False
    passed: tuple[str, ...] = ()
    upstream: tuple[str, ...] = ()
    upstream_transport: str = ""
    unknown: str = ""


Upstream = Callable[[str, str], Served | None]
"""What the world outside answers to (name, type); None where it is not known."""


class World(msgspec.Struct, frozen=True, kw_only=True):
    """What CoreDNS answers from. ``files`` maps paths to text (hosts files); ``services`` None means not known."""

    services: tuple[KubeService, ...] | None = None
    pods: tuple[tuple[str, str], ...] = ()
    files: Mapping[str, str] = msgspec.field(default_factory=dict)
    upstream: Upstream | None = None
    node_search: tuple[str, ...] = ()


def zones_of(directive: Directive, block: tuple[Zone, ...], skip: int = 0) -> tuple[Zone, ...]:
    """The zones a plugin serves: its arguments, or those of the server block."""
    named = [arg for arg in directive.args[skip:] if not arg.startswith("/")]
    return tuple(Zone(a.lower().rstrip(".") + "." if a != "." else ".") for a in named) or block


def held_by(qname: str, zones: tuple[Zone, ...]) -> str:
    """The longest zone that holds the name, empty where none does."""
    return max((z.name for z in zones if z.holds(qname)), key=len, default="")


def falls_through(directive: Directive, qname: str) -> bool:
    """Whether ``fallthrough [ZONES]`` hands on a name that the plugin does not have."""
    zones = directive.option("fallthrough")
    if zones is None:
        return False
    return not zones or any(Zone(z.lower().rstrip(".") + ".").holds(qname) for z in zones)


def ttl_of(directive: Directive, default: int) -> int:
    given = directive.option("ttl")
    return int(given[0]) if given and given[0].isdecimal() and len(given[0]) < 6 else default


def safe_search(pattern: str, text: str) -> re.Match[str] | str | None:
    """A regular expression from a Corefile on a name; a complaint where it is not run (foreign input)."""
    if len(pattern) > MAX_REGEX or _NESTED_REPEAT.search(pattern):
        return f"the expression {pattern[:40]!r} is not run"
    try:
        return re.search(pattern.replace("$", r"\Z"), text)
    except re.error as error:
        return f"the expression {pattern[:40]!r} does not compile: {error}"


def hosts(
    directive: Directive, block: tuple[Zone, ...], world: World, qname: str, qtype: str
) -> Served | None:
    """``hosts [FILE [ZONES…]]`` with inline lines. A name that is not in it is SERVFAIL unless it falls through."""
    file = directive.args[0] if directive.args else "/etc/hosts"
    if not held_by(qname, zones_of(directive, block, skip=1)):
        return None
    lines = [(d.name, *d.args) for d in directive.block]
    text = world.files.get(file)
    if text is not None:
        lines += [tuple(line.partition("#")[0].split()) for line in text.splitlines()]
    addresses: list[str] = []
    reverse: list[str] = []
    listed = False
    for line in lines:
        try:
            address = ip_address(line[0])
        except (ValueError, IndexError):
            continue
        names = [name.lower().rstrip(".") + "." for name in line[1:]]
        if address.reverse_pointer + "." == qname:
            reverse += names
        if qname in names:
            listed = True
            if (qtype, address.version) in (("A", 4), ("AAAA", 6)):
                addresses.append(str(address))
    ttl = ttl_of(directive, HOSTS_TTL)
    if qtype in ("A", "AAAA") and addresses:
        rrs = tuple(RR(qname, ttl, qtype, a) for a in addresses)
        return Served(rcode="NOERROR", answers=rrs, by="hosts", authoritative=True)
    if qtype == "PTR" and reverse:
        rrs = tuple(RR(qname, ttl, "PTR", name) for name in reverse)
        return Served(rcode="NOERROR", answers=rrs, by="hosts", authoritative=True)
    if qtype == "PTR":
        return None
    if listed:
        return Served(rcode="NOERROR", by="hosts", authoritative=True)
    if text is None and (directive.args or not directive.block):
        return Served(by="hosts", unknown=f"the hosts file {file} is not here")
    return None if falls_through(directive, qname) else Served(rcode="SERVFAIL", by="hosts")


def template(directive: Directive, block: tuple[Zone, ...], qname: str, qtype: str) -> Served | None:
    """``template CLASS TYPE [ZONES…]`` with ``match``, ``answer``, ``rcode`` and ``fallthrough``."""
    if len(directive.args) < 2 or directive.args[0].upper() not in ("IN", "ANY"):
        return None
    if directive.args[1].upper() not in (qtype, "ANY"):
        return None
    if not held_by(qname, zones_of(directive, block, skip=2)):
        return None
    patterns = [args[0] for args in directive.options("match") if args] or [".*"]
    for pattern in patterns:
        match = safe_search(pattern, qname)
        if isinstance(match, str):
            return Served(by="template", unknown=match)
        if match is None:
            continue
        rcode = (directive.option("rcode") or ("NOERROR",))[0].upper()
        texts = [" ".join(args) for args in directive.options("answer")]
        answers = []
        for text in texts:
            rr = _template_record(text, qname, qtype, match)
            if rr is None:
                return Served(by="template", unknown=f"the template {text[:60]!r} is not evaluated")
            answers.append(rr)
        return Served(rcode=rcode, answers=tuple(answers), by="template", authoritative=True)
    # The plugin returns an rcode and writes nothing; the server answers SERVFAIL for it.
    return None if falls_through(directive, qname) else Served(rcode="SERVFAIL", by="template")


def _template_record(text: str, qname: str, qtype: str, match: re.Match[str]) -> RR | None:
    text = re.sub(r"\{\{\s*\.Name\s*\}\}", lambda _: qname, text)
    text = re.sub(r"\{\{\s*\.Type\s*\}\}", lambda _: qtype, text)
    text = re.sub(r"\{\{\s*\.Group\.(\w+)\s*\}\}", lambda m: match.groupdict().get(m[1]) or "", text)
    groups = (match[0], *match.groups())
    text = re.sub(
        r"\{\{\s*index \.Match (\d{1,2})\s*\}\}",
        lambda m: (groups[int(m[1])] or "") if int(m[1]) < len(groups) else "",
        text,
    )
    found = re.fullmatch(r"(\S+)\s+(?:(\d{1,9})\s+)?(?:IN\s+)?([A-Z]+)\s+(.+)", text.strip())
    if "{{" in text or not found:
        return None
    return RR(found[1].lower(), int(found[2] or TEMPLATE_TTL), found[3], found[4])


def forward(directive: Directive, world: World, qname: str, qtype: str, transport: str) -> Served | None:
    """``forward FROM TO…``: where it goes, over which transport, and what comes back."""
    if not directive.args:
        return None
    base = directive.args[0].lower().rstrip(".") + "." if directive.args[0] != "." else "."
    if not Zone(base).holds(qname):
        return None
    excepted = [name for args in directive.options("except") for name in args]
    if any(Zone(e.lower().rstrip(".") + ".").holds(qname) for e in excepted):
        return None
    over = transport
    if directive.option("force_tcp") is not None:
        over = "tcp"
    elif directive.option("prefer_udp") is not None:
        over = "udp"
    served = world.upstream(qname, qtype) if world.upstream is not None else None
    if served is None:
        served = Served(unknown="what the upstream answers is not here")
    return msgspec.structs.replace(
        served,
        by="forward",
        zone=base,
        upstream=directive.args[1:],
        upstream_transport=over,
        authoritative=False,
    )


def cap_ttls(directive: Directive, block: tuple[Zone, ...], qname: str, served: Served) -> Served:
    """``cache [TTL] [ZONES…]``: every record leaves with the smallest TTL of the answer, between MINTTL and TTL.

    3600 s at most for answers, 1800 s for denials, 5 s at least (``ResponseWriter.WriteMsg``, ``computeTTL``). A chain that ends
    without the type asked for counts as an answer (``response.Typify``); the TTL of a denial's SOA is not known here.
    """
    numbers = [arg for arg in directive.args[:1] if arg.isdecimal() and len(arg) < 9]
    if not served.answers or not held_by(qname, zones_of(directive, block, skip=len(numbers))):
        return served
    denial = served.rcode == "NXDOMAIN"
    limit = int(numbers[0]) if numbers else (1800 if denial else 3600)
    least = CACHE_MIN_TTL
    option = directive.option("denial" if denial else "success") or ()
    given = [int(word) for word in option if word.isdecimal() and len(word) < 9]
    if len(given) > 1:
        limit = given[1]
    if len(given) > 2:
        least = given[2]
    ttl = min(max(min(rr.ttl for rr in served.answers), least), limit)
    answers = tuple(msgspec.structs.replace(rr, ttl=ttl) for rr in served.answers)
    return msgspec.structs.replace(served, answers=answers)


def local(qname: str, qtype: str) -> Served | None:
    """``local``: localhost, names below it by a search list, and the reverse zones of RFC 6303."""
    address = {"A": "127.0.0.1", "AAAA": "::1"}.get(qtype)
    if qname.startswith("localhost."):
        if qname == "localhost." and qtype in ("NS", "SOA"):
            return Served(by="local", unknown=f"the {qtype} record that local makes up is not modelled")
        answers = (RR(qname, LOCAL_TTL, qtype, address),) if address else ()
        return Served(rcode="NOERROR", answers=answers, by="local", authoritative=True)
    if qname == "1.0.0.127.in-addr.arpa.":
        answers = (RR(qname, LOCAL_TTL, "PTR", "localhost."),) if qtype == "PTR" else ()
        return Served(rcode="NOERROR", answers=answers, by="local", authoritative=True)
    zone = held_by(qname, LOCAL_ZONES)
    if not zone:
        return None
    return Served(rcode="NOERROR" if qname == zone else "NXDOMAIN", by="local", authoritative=True)


def refuse_any(qname: str, qtype: str) -> Served | None:
    """``any``: the minimal answer of RFC 8482 to a question for ANY."""
    if qtype != "ANY":
        return None
    record = RR(qname, ANY_TTL, "HINFO", '"ANY obsoleted" "See RFC 8482"')
    return Served(rcode="NOERROR", answers=(record,), by="any")


def refused_by_acl(
    directive: Directive, block: tuple[Zone, ...], client: Client, qname: str, qtype: str
) -> str | None:
    """``acl``: the rcode or ``drop`` that the first matching rule gives, None where the question passes."""
    if not held_by(qname, zones_of(directive, block)):
        return None
    for rule in directive.block:
        words = list(rule.args)
        types = words[words.index("type") + 1 :] if "type" in words else ["*"]
        types = types[: types.index("net")] if "net" in types else types
        nets = words[words.index("net") + 1 :] if "net" in words else ["*"]
        nets = nets[: nets.index("type")] if "type" in nets else nets
        if "*" not in types and qtype not in types:
            continue
        if "*" not in nets and not any(_in_network(client.ip, net) for net in nets):
            continue
        return {"block": "REFUSED", "filter": "NOERROR", "drop": "drop"}.get(rule.name)
    return None


def _in_network(ip: str, net: str) -> bool:
    try:
        address, network = ip_address(ip), ip_network(net, strict=False)
    except ValueError:
        return False
    return address.version == network.version and address in network
