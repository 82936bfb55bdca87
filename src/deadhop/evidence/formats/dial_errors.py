"""Failed dials and lookups in program logs, in the words of their runtime (Go, Java, .NET, Python, Node, libc)."""

from __future__ import annotations

import re

from deadhop.evidence.fields import host_port, is_ip, rfc3339
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.http import DialFailure
from deadhop.model.record import Record

_GO_LOOKUP = re.compile(
    r"(?:dial (?:tcp|udp)[46]?: )?lookup (?P<name>[\w.-]+)(?: on (?P<server>\S+?))?: (?P<what>no such host|server misbehaving|i/o timeout|(?:dnsmessage: )?cannot unmarshal DNS message|read udp \S+: .*|Temporary failure in name resolution|.*connection refused)"
)
_GO_DIAL = re.compile(
    r"dial (?P<proto>tcp|udp)[46]? (?P<to>\[?[\w.:-]+\]?:\d+): (?:connect: )?(?P<what>connection refused|i/o timeout|no route to host|network is unreachable|operation was canceled|connection timed out|connect: \w.*|operation not permitted)"
)
_GO_READ = re.compile(
    r"(?:read|write) (?P<proto>tcp|udp) (?P<local>\S+?)->(?P<to>\S+?): (?:read: |write: )?(?P<what>connection reset by peer|i/o timeout|broken pipe|connection refused|no route to host)"
)
_GO_HTTP = re.compile(
    r"(?:Get|Post|Put|Head) \"?(?P<url>https?://[^\"\s]+?)\"?: (?P<what>EOF|context deadline exceeded|net/http: .*timeout|net/http: TLS handshake timeout|http: server gave HTTP response to HTTPS client|remote error: .*|tls: .*)"
)
_LIBC = re.compile(
    r"(?P<what>Name does not resolve|Temporary failure in name resolution|Name or service not known|nodename nor servname|getaddrinfo (?:ENOTFOUND|EAI_AGAIN)|(?:failed to lookup address information|getaddrinfo(?:(?: for \S+)? failed)?|\[Errno -3\]|Error -3 connecting to \S+|UnknownHostException: [\w.-]+):? (?:Try again|Temporary failure in name resolution)|Resource temporarily unavailable(?= \([\w.-]*[a-z][\w.-]*:\d+\))|UnknownHostException|bad address|Could not resolve host|No such host is known|unknown host)(?:[: ]+['\"]?(?P<name>[A-Za-z0-9][\w.-]*\.[\w.-]+|(?!(?:in|at|on|for|while|when)\b)[a-z0-9][\w-]*))?",
    re.I,
)
_NXDOMAIN = re.compile(
    r"(?:resolv\w*|lookup|lookup of|looking up|getaddrinfo\(host|DNS\b.{0,20})\W+(?:host(?:name)?|name|address(?: of| for)?|peer|node)?\W*(?:\w+@)?(?P<name>[A-Za-z0-9][\w-]*(?:\.[\w-]+)+)\W.{0,40}?\b(?P<what>nxdomain|NXDOMAIN|not found|host not found|timed? ?out|timeout|servfail|SERVFAIL)\b"
)
_UNRESOLVED = re.compile(
    r"(?:could ?n[o']t|could not|cannot|can't|unable to|failed to) (?:resolve|look ?up)\s+(?:(?:the )?(?:host ?name|host|server|broker|address|name|node|peer|domain|endpoint)s?(?: of| for)?\s*:?\s*)?[\"'(]?(?P<name>[A-Za-z0-9][\w-]*(?:\.[\w-]+)+)",
    re.I,
)
_JAVA = re.compile(
    r"(?P<what>Connection refused|Connection timed out|connect timed out|No route to host|Connection reset|Network is unreachable|ECONNREFUSED|ETIMEDOUT|EHOSTUNREACH|ECONNRESET)(?:.*?(?P<to>\d{1,3}(?:\.\d{1,3}){3}:\d+))?",
    re.I,
)
_KERBEROS = re.compile(
    r"Cannot (?:find|contact any) KDC for (?:requested )?realm(?: ['\"]?(?P<realm>[\w.-]+))?", re.I
)
#: kubectl port-forward: the kubelet or socat was refused inside the pod (k8s.io/kubectl portforward.go).
_FORWARD = re.compile(
    r"error forwarding port (?P<port>\d{1,5}) to pod (?P<pod>[\w-]+).*[Cc]onnection refused"
)
_CERT = re.compile(
    r"(?P<what>x509: [^\"]+|certificate (?:verify failed|signed by unknown authority|is valid for[^\"]*|has expired[^\"]*)|Peer's certificate issuer has been marked as not trusted|SSL certificate problem[^\"]*|unable to get local issuer certificate)"
)
_HOST_NAME = re.compile(r"host(?: ?name)? [\"'](?P<name>[\w.-]+)[\"']", re.I)
_URL = re.compile(r"https?://(?P<host>\[[^\]]+\]|[\w.-]+)(?::(?P<port>\d+))?")
_CLASS = (
    ("try again", "lookup-timeout"), ("temporar", "lookup-timeout"), ("nxdomain", "no-such-host"), ("not found", "no-such-host"), ("servfail", "lookup-failed"),
    ("no such host", "no-such-host"), ("enotfound", "no-such-host"), ("does not resolve", "no-such-host"), ("not known", "no-such-host"), ("unknown host", "no-such-host"), ("unknownhost", "no-such-host"),
    ("bad address", "no-such-host"), ("could not resolve", "no-such-host"), ("no such host is known", "no-such-host"), ("nodename", "no-such-host"),
    ("eai_again", "lookup-timeout"), ("misbehaving", "lookup-failed"), ("unmarshal", "lookup-parse"),
    ("refused", "refused"), ("timeout", "timeout"), ("timed out", "timeout"), ("deadline", "timeout"), ("etimedout", "timeout"), ("canceled", "timeout"),
    ("no route", "unreachable"), ("unreachable", "unreachable"), ("ehostunreach", "unreachable"), ("not permitted", "not-permitted"),
    ("reset", "reset"), ("broken pipe", "reset"), ("eof", "reset"), ("https client", "tls"), ("tls", "tls"),
)  # fmt: skip
_PROGRAM = re.compile(r"^(?:\S+ )?(?P<name>[a-z][\w-]+)(?:\[\d+\])?: ")
_START = re.compile(
    r"lookup [\w.-]+|dial (?:tcp|udp)|(?:read|write) (?:tcp|udp) |Get \"?http|Post \"?http|resolve|resolution|service not known|getaddrinfo|UnknownHost|bad address|[Nn]o such host|[Uu]nknown host|"
    r"Connection (?:refused|timed out|reset)|connect timed out|[Nn]o route to host|[Nn]etwork is unreachable|ECONN|ETIMEDOUT|EHOSTUNREACH|error forwarding port|KDC for|x509|certificate|[Tt]ry again|Resource temporarily unavailable \("
)


def _class(what: str) -> str:
    lowered = what.lower()
    return next((name for words, name in _CLASS if words in lowered), "other")


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    line = lines.text[i].strip()
    if len(line) > 4000:
        return i, []
    record = _failure(line)
    if record is None:
        return i, []
    target, host, ip, port, proto, error, resolver = record
    program = _PROGRAM.match(line)
    return i + 1, [
        DialFailure(
            source=lines.source(i),
            where=context.where,
            time=_time(line),
            target=target,
            host=host,
            ip=ip,
            port=port,
            proto=proto,
            error=error,
            resolver=resolver,
            program=program["name"] if program else ("reverse-proxy" if _PROXY.search(line) else ""),
            text=line[:500],
        )
    ]


#: What Go's httputil.ReverseProxy writes of an upstream that it cannot dial.
_PROXY = re.compile(r"http: proxy error: dial ")


def _time(line: str) -> float | None:
    """The time that a log line begins with: RFC 3339, Go's ``2006/01/02 15:04:05``, klog's ``E0102 15:04:05``."""
    head = line.lstrip("[ ")[:40]
    if match := re.match(r"(\d{4})/(\d\d)/(\d\d) (\S+)", head):
        return rfc3339(f"{match[1]}-{match[2]}-{match[3]} {match[4]}")
    if match := re.match(r"[IWEF](\d\d)(\d\d) (\d\d:\d\d:\d\d(?:\.\d+)?)", head):
        return rfc3339(f"1970-{match[1]}-{match[2]} {match[3]}")
    return rfc3339(head)


Parts = tuple[str, str, str, int | None, str, str, str]


def _failure(line: str) -> Parts | None:
    if match := _GO_LOOKUP.search(line):
        return (
            match["name"],
            match["name"],
            "",
            None,
            "udp",
            _lookup_class(match["what"]),
            match["server"] or "",
        )
    for pattern in (_GO_DIAL, _GO_READ):
        if match := pattern.search(line):
            host, port = host_port(match["to"])
            named = _URL.search(line)
            return (
                match["to"],
                named["host"] if named else ("" if is_ip(host) else host),
                host if is_ip(host) else "",
                port,
                match["proto"],
                _class(match["what"]),
                "",
            )
    if match := _GO_HTTP.search(line):
        url = _URL.search(match["url"])
        host = url["host"] if url else ""
        return (
            match["url"],
            host,
            host if is_ip(host) else "",
            int(url["port"]) if url and url["port"] else None,
            "tcp",
            _class(match["what"]),
            "",
        )
    if match := _FORWARD.search(line):
        return f"{match['pod']}:{match['port']}", "", "", int(match["port"]), "tcp", "refused", ""
    if _prose(line):
        return None
    if match := _KERBEROS.search(line):
        return match["realm"] or "", match["realm"] or "", "", None, "udp", "no-kdc", ""
    if match := _CERT.search(line):
        url = _URL.search(line)
        return url[0] if url else "", url["host"] if url else "", "", None, "tcp", "certificate", ""
    if (match := _UNRESOLVED.search(line)) and _logged(line):
        name = match["name"]
        return name, name, "", None, "udp", "lookup-timeout" if "timed out" in line else "no-such-host", ""
    if (match := _NXDOMAIN.search(line)) and _logged(line):
        name = match["name"]
        return name, name, "", None, "udp", _lookup_class(match["what"]), ""
    if (match := _LIBC.search(line)) and _logged(line):
        quoted = _HOST_NAME.search(line)
        url = _URL.search(line)
        place = quoted["name"] if quoted else url["host"] if url else ""
        name = match["name"] or ("" if is_ip(place) else place)
        return name, name, "", None, "udp", _class(match["what"]), ""
    if (match := _JAVA.search(line)) and _logged(line):
        host, port = host_port(match["to"]) if match["to"] else ("", None)
        url = _URL.search(line)
        return (
            match["to"] or (url[0] if url else ""),
            url["host"] if url else "",
            host,
            port,
            "tcp",
            _class(match["what"]),
            "",
        )
    return None


def _prose(line: str) -> bool:
    """Whether the line is a sentence or several: many plain words, capital to full stop, no shape of a log."""
    words = line.split()
    plain = sum(1 for w in words if re.fullmatch(r"[A-Za-z’'(]+[,.;:)]?", w))
    return (
        len(words) > 14
        and plain * 4 > len(words) * 3
        and not re.search(r"^\S*\d\d:\d\d|[{}]|^\w+\[\d+\]|^(?:[\w./-]+:? )?(?:error|fatal): ", line)
    )


def _logged(line: str) -> bool:
    """Whether the line reads like a program's output and not like a sentence about one."""
    return bool(
        re.search(
            r"^\S+: |Exception|[Ee]rror|ERR|\bE\d{4}|fatal|failed|could not translate|^\s*at |\d\d:\d\d:\d\d|^\w+: ",
            line,
        )
    ) and not line.endswith(("!", "?"))


def _lookup_class(what: str) -> str:
    name = _class(what)
    return "lookup-timeout" if name == "timeout" else name


FORMAT = LineFormat("dial-errors", _START, _read, priority=60)
