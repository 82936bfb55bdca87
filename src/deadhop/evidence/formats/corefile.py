"""A Corefile, or a piece of one, standing in a text. Only its extent is found here; the DNS hop parses it."""

from __future__ import annotations

import re

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.dns import CorefileText
from deadhop.model.record import Record

#: The plugins of CoreDNS's own build (plugin.cfg); a bare line must begin with one of them.
PLUGINS = frozenset(
    """acl any auto autopath azure bind bufsize cache cancel chaos clouddns debug dns64 dnssec dnstap erratic errors
    etcd file forward geoip grpc header health hosts import k8s_external kubernetes loadbalance local log loop
    metadata minimal multisocket nomad nsid pprof prometheus quic ready reload rewrite root route53 secondary sign
    template timeouts tls trace transfer tsig view whoami proxy federation upstream stubzones""".split()
)
_BLOCK = re.compile(
    r"^\s*(?:(?:dns|tls|https|grpc|quic)://)?(?:[\w.*-]*\.|\.|[\w.-]+|\([\w-]+\))(?::\d+)?(?:[\s,]+\S+)*\s*\{\s*$"
)
_PLUGIN = re.compile(r"^\s*(?P<name>[a-z0-9_]+)(?:\s+[^{}]*)?(?P<open>\{)?\s*$")
_START = re.compile(r"\{\s*$|^\s*(forward|template|rewrite|autopath|proxy|hosts|cache|kubernetes)\s+\S")


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    text = lines.text
    line = text[i]
    plugin = _PLUGIN.match(line)
    if plugin and plugin["name"] in PLUGINS:
        if not plugin["open"] and not re.match(r"^\s*(forward|proxy|rewrite|autopath)\s+\S+\s+\S", line):
            return i, []
    elif not _BLOCK.match(line) or not _looks_inside(text, i):
        return i, []
    start = i
    depth = 0
    while i < len(text) and i - start < 2000:
        depth += text[i].count("{") - text[i].count("}")
        i += 1
        if depth <= 0:
            following = text[i] if i < len(text) else ""
            match = _PLUGIN.match(following)
            if following.strip() and match and match["name"] in PLUGINS:
                continue
            break
    record = CorefileText(
        source=lines.source(start, i - 1), where=context.where, text="\n".join(text[start:i])
    )
    return i, [record]


def _looks_inside(text: list[str], i: int) -> bool:
    """Whether one of the lines behind the opening brace is a plugin."""
    for line in text[i + 1 : i + 8]:
        match = _PLUGIN.match(line)
        if match and match["name"] in PLUGINS:
            return True
    return False


FORMAT = LineFormat("corefile", _START, _read, priority=40)
