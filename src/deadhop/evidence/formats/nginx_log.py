"""nginx's error and access logs, plain and of ingress-nginx.

An error line becomes a message whose kind names the situation, with ``client``, ``server``, ``request``, ``upstream``
and ``host`` as fields; a failed connect is a failed dial as well (ngx_http_upstream.c, ngx_proxy_protocol.c).
"""

from __future__ import annotations

import re

from deadhop.evidence.fields import host_port, is_ip, rfc3339
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.http import DialFailure
from deadhop.model.observed.message import Message
from deadhop.model.record import Record

_ERROR = re.compile(
    r"(?:(?P<time>\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) )?\[(?P<level>emerg|alert|crit|error|warn|notice|info)\] (?:\d+#\d+: )?(?:\*\d+ )?(?P<text>.*)$"
)
_FIELD = re.compile(
    r", (?P<key>client|server|request|upstream|host|referrer|subrequest): (?:\"(?P<q>[^\"]*)\"?|(?P<v>[^,\s]+))"
)
_KINDS = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("broken-proxy-header", r"broken header: \"(?P<header>.*?)\" while reading PROXY protocol"),
        ("upstream-header-too-big", r"upstream sent too big header while reading response header"),
        ("http2-frame-too-large", r"upstream sent too large http2 frame: (?P<size>\d+)"),
        ("http2-upstream-error", r"upstream sent (?:unexpected |invalid |unknown |unsupported )?http2 (?P<what>[^,]*)|upstream rejected request with error"),
        ("upstream-no-valid-header", r"upstream sent (?:no valid|invalid|unsupported) (?:HTTP/1\.\d )?header"),
        ("upstream-duplicate-header", r"upstream sent duplicate header line: \"(?P<name>[\w-]+): (?P<value>[^\"]*)\""),
        ("upstream-closed-early", r"upstream prematurely closed connection while reading (?P<what>response header|upstream|chunked)"),
        ("upstream-reset", r"(?:recv|readv|writev|send)\(\) failed \((?P<errno>104|32): [^)]*\) while (?P<what>reading response header from upstream|reading upstream|sending request to upstream)"),
        ("upstream-connect-failed", r"connect\(\)[^(]*failed \((?P<errno>\d+): (?P<why>[^)]*)\) while connecting to upstream"),
        ("upstream-timeout", r"upstream timed out \(110: [^)]*\) while (?P<what>connecting to|reading response header from|reading|sending request to) upstream"),
        ("upstream-not-tls", r"SSL_do_handshake\(\) failed \(SSL: error:[^)]*(?:wrong version number|unknown protocol|packet length too long|http request)[^)]*\) while SSL handshaking to upstream"),
        ("upstream-tls-failed", r"SSL_do_handshake\(\) failed \((?P<why>[^)]*)\) while SSL handshaking to upstream|upstream SSL certificate (?P<w2>verify error[^,]*|does not match \"[^\"]*\")"),
        ("plain-http-to-https-port", r"client sent plain HTTP request to HTTPS port"),
        ("client-not-tls", r"SSL_do_handshake\(\) failed \(SSL: error:[^)]*(?:http request|wrong version number|unsupported protocol|unknown protocol)[^)]*\) while SSL handshaking, client"),
        ("client-closed", r"client (?P<how>prematurely closed connection|closed (?:keepalive )?connection|\S+ closed (?:keepalive )?connection)|(?:epoll_wait\(\) reported that )?client prematurely closed"),
        ("peer-closed-in-handshake", r"peer closed connection in SSL handshake|SSL_do_handshake\(\) failed \((?P<errno>104|0): [^)]*\) while SSL handshaking"),
        ("certificate-unreadable", r"(?:cannot load certificate(?: key)?|SSL_CTX_use_(?:certificate|PrivateKey)\w*|PEM_read_bio_\w+)[^(]*(?:\"(?P<path>[^\"]*)\")?[^(]*(?:\(\"?[^\"]*\"?\) )?failed[^(]*\((?P<why>.*)\)|cannot load certificate[^:]*:.*(?P<w2>no start line|key values mismatch|bad base64|BIO_new_file).*"),
        ("no-live-upstreams", r"no live upstreams while connecting to upstream"),
        ("upstream-not-resolved", r"(?:host not found in upstream \"(?P<name>[^\"]+)\"|(?P<n2>[\w.-]+) could not be resolved \((?P<code>\d+): (?P<why>[^)]*)\))"),
        ("invalid-host", r"client sent (?:invalid host header|HTTP/1\.1 request without \"Host\" header)"),
        ("header-client-too-large", r"client sent too (?:long header line|large request)"),
        ("no-active-endpoint", r"[Ss]ervice \"(?P<service>[^\"]+)\" does not have any active Endpoint"),
    )
)  # fmt: skip
_ACCESS = re.compile(
    r"^\S*?(?P<client>[\da-fA-FxX*.:]{3,45})(?:, [\d., ]+)? - (?:\[[^\]]*\] - )?\S+ \[(?P<time>[^\]]+)\] \"(?P<request>[^\"]*)\" (?P<status>\d{3}) (?P<bytes>\d+|-)(?: \"(?P<referer>[^\"]*)\" \"(?P<agent>[^\"]*)\")?(?P<rest>.*)$"
)
_REST = re.compile(
    r"(?P<length>\d+) (?P<seconds>[\d.]+) \[(?P<backend>[^\]]*)\] \[[^\]]*\] (?P<upstream>[\d.:, a-fA-F\[\]-]+?) (?P<sent>[\d, -]+?) (?P<took>[\d., -]+?) (?P<upstream_status>[\d, -]+?)(?: \w+)?$"
)
_START = re.compile(
    r"\[(?:emerg|alert|crit|error|warn|notice|info)\] |\"[^\"]*\" \d{3} (?:\d+|-)|while connecting to upstream|while reading response header from upstream|while reading PROXY protocol|while SSL handshaking|reading client request|broken header: \""
)
_BARE = re.compile(
    r"while (?:connecting to upstream|reading response header from upstream|reading PROXY protocol|SSL handshaking|reading upstream|reading client request)|upstream sent too|does not have any active Endpoint"
)
_CONNECT = {"111": "refused", "113": "unreachable", "110": "timeout", "101": "unreachable", "99": "other"}


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    line = lines.text[i].strip()
    if len(line) > 6000:
        return i, []
    end = i + 1
    if 'broken header: "' in line and "while reading PROXY" not in line:
        # The header is logged as it came, line ends and all (ngx_proxy_protocol_read).
        for k in range(i + 1, min(i + 40, len(lines.text))):
            if "while reading PROXY protocol" in lines.text[k]:
                line = " ".join(part.strip() for part in lines.text[i : k + 1])[:6000]
                end = k + 1
                break
    if match := _ACCESS.match(line):
        return i + 1, [_access(lines, i, context, match)]
    match = _ERROR.search(line)
    if match is None and not _BARE.search(line):
        return i, []
    text = match["text"] if match else line
    for kind, pattern in _KINDS:
        if found := pattern.search(text):
            fields = {k.rstrip("2"): v for k, v in found.groupdict().items() if v is not None}
            fields |= {
                m["key"]: (m["q"] if m["q"] is not None else m["v"]).rstrip(",")
                for m in _FIELD.finditer(text)
            }
            when = rfc3339(match["time"].replace("/", "-")) if match and match["time"] else None
            message = Message(
                source=lines.source(i), where=context.where, time=when, emitter="nginx", kind=kind,
                fields=tuple(fields.items()), text=line[:500],
            )  # fmt: skip
            return end, [message, *_dial(message, kind)]
    return i, []


def _dial(message: Message, kind: str) -> list[Record]:
    if kind not in ("upstream-connect-failed", "upstream-timeout"):
        return []
    if kind == "upstream-timeout" and message.field("what") != "connecting to":
        return []
    target = message.field("upstream").partition("://")[2].partition("/")[0]
    host, port = host_port(target)
    error = "timeout" if kind == "upstream-timeout" else _CONNECT.get(message.field("errno"), "other")
    return [
        DialFailure(
            source=message.source, where=message.where, time=message.time, target=target, host="" if is_ip(host) else host,
            ip=host if is_ip(host) else "", port=port, error=error, program="nginx", text=message.text,
        )
    ]  # fmt: skip


def _access(lines: Lines, i: int, context: Context, match: re.Match[str]) -> Message:
    method, _, rest = match["request"].partition(" ")
    path, _, protocol = rest.rpartition(" ")
    fields = {
        "client": match["client"], "method": method, "path": path, "protocol": protocol, "status": match["status"],
        "agent": match["agent"] or "", "request": match["request"], "bytes": match["bytes"],
    }  # fmt: skip
    if found := _REST.search(match["rest"] or ""):
        fields |= {k: (v or "").strip() for k, v in found.groupdict().items()}
    kept = tuple((k, v) for k, v in fields.items() if v or k == "request")
    return Message(source=lines.source(i), where=context.where, emitter="nginx", kind="access", fields=kept, text=lines.text[i].strip()[:500])  # fmt: skip


FORMAT = LineFormat("nginx-log", _START, _read, priority=20)
