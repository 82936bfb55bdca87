"""nginx configuration: ``server``, ``upstream`` and ``location`` blocks, whole or in pieces.

Every ``proxy_pass`` (``grpc_pass``) becomes a record with the headers and settings in force there: those of the
location, else those of the block around it (``proxy_set_header`` is inherited only where the level sets none).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import msgspec

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.http import NginxProxy
from deadhop.model.record import Record, Source

_BLOCK = re.compile(
    r"^(?P<name>http|stream|server|upstream|location|if|map|events)\b\s*(?P<rest>[^{;]*)\{\s*(?P<more>.*)$"
)
_DIRECTIVE = re.compile(r"(?P<name>[a-z][a-z0-9_]+)\s+(?P<value>(?:\"[^\"]*\"|'[^']*'|[^;{}\"'])+);")
_KNOWN = re.compile(
    r"^\s*(?:proxy_|grpc_|fastcgi_|server_name\b|listen\b|resolver\b|set \$|keepalive\b|ssl_|upstream \S+ ?\{|location\s+\S.*\{|server\s*\{|server\s+[\w.:-]+(?:\s+\w[^;]*)?;|client_|real_ip|add_header|return \d|rewrite |root |index |http2|include |error_log|access_log|large_client|auth_request|allow |deny |try_files |more_set|zone |least_conn|ip_hash|max_fails)"
)
_START = re.compile(
    r"^\s*(?:(?:proxy|grpc)_(?:pass|set_header|http_version|buffer\w*)\s|upstream\s+[\w.-]+\s*\{|location\s+(?:[=~*^]+\s+)?\S+\s*\{|server\s*\{|resolver\s+[\d\w.]+.*;)"
)


@dataclass
class _Level:
    kind: str = ""
    name: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    settings: list[tuple[str, str]] = field(default_factory=list)
    variables: list[tuple[str, str]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    passed: tuple[str, int] | None = None
    first: int = 0


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    text = lines.text
    start = end = i
    base = _Level(first=i)
    stack = [base]
    upstreams: dict[str, list[str]] = {}
    found: list[tuple[list[_Level], int]] = []
    blank = 0
    while i < len(text) and i < start + 4000:
        line = re.sub(r"(?:^|\s)#(?!\{).*$", "", text[i]).strip()
        if not line:
            blank += 1
            if len(stack) == 1 and blank > 1 and not text[i].strip():
                break
            i += 1
            continue
        rest = line
        mine = False
        if match := _BLOCK.match(rest):
            stack.append(_Level(match["name"], match["rest"].strip(), first=i))
            if match["name"] == "upstream":
                upstreams.setdefault(match["rest"].strip(), [])
            rest, mine = match["more"], True
        elif not (_KNOWN.match(line) or len(stack) > 1 or line.startswith("}")):
            break
        for directive in _DIRECTIVE.finditer(rest):
            mine = True
            _apply(stack[-1], directive["name"], directive["value"].strip(), i, upstreams)
        for _ in range(rest.count("}") - rest.count("${")):
            mine = True
            if len(stack) > 1:
                closed = stack.pop()
                if closed.passed:
                    found.append(([*stack, closed], i))
        if not mine and len(stack) == 1 and not (line.startswith("...") or line == "…"):
            break
        blank = 0
        i += 1
        end = i
    while stack:
        if stack[-1].passed:
            found.append((list(stack), end - 1))
        stack.pop()
    bare = _bare(lines, start, end, base, context) if not (found or upstreams) else []
    if end == start or not (found or upstreams or bare):
        return start, []
    if bare:
        return end, bare
    records = [_record(lines, levels, last, upstreams, context) for levels, last in found]
    if not records:
        records = [
            NginxProxy(
                source=lines.source(start, end - 1),
                where=context.where,
                upstream_name=name,
                upstream=tuple(servers),
            )
            for name, servers in upstreams.items()
            if servers
        ]
    return (end, list(records)) if records else (start, [])


def _bare(lines: Lines, start: int, end: int, base: _Level, context: Context) -> list[Record]:
    """Header settings that stand alone, as in an annotation's snippet, and sizes of buffers."""
    if not base.headers and not any(name.startswith("proxy_buffer") for name, _value in base.settings):
        return []
    return [NginxProxy(source=lines.source(start, end - 1), where=context.where, headers=tuple(base.headers), settings=tuple(base.settings))]  # fmt: skip


def snippet(text: str, source: Source) -> list[NginxProxy]:
    """What a snippet of configuration (an annotation of ingress-nginx) says, all with one source."""
    lines = Lines(source.file, text.split("\n"), source.line or 1)
    i, found = 0, []
    while i < len(lines.text):
        after, records = _read(lines, i, Context(source.file)) if _START.search(lines.text[i]) else (i, [])
        found += [msgspec.structs.replace(r, source=source) for r in records if isinstance(r, NginxProxy)]
        i = max(after, i + 1)
    return found


def _apply(level: _Level, name: str, value: str, i: int, upstreams: dict[str, list[str]]) -> None:
    plain = value.strip("\"'")
    if name in ("proxy_pass", "grpc_pass", "fastcgi_pass", "uwsgi_pass"):
        level.passed = (plain, i)
        level.settings.append(("pass", name))
    elif name in ("proxy_set_header", "grpc_set_header"):
        key, _, told = value.partition(" ")
        level.headers.append((key.strip("\"'"), told.strip().strip("\"'")))
    elif name == "set" and value.startswith("$"):
        key, _, told = value[1:].partition(" ")
        level.variables.append((key, told.strip().strip("\"'")))
    elif name == "server_name":
        level.names += plain.split()
    elif name == "server" and level.kind == "upstream":
        upstreams[level.name].append(plain.split()[0] if plain.split() else plain)
    else:
        level.settings.append((name, plain))


def _record(
    lines: Lines, levels: list[_Level], last: int, upstreams: dict[str, list[str]], context: Context
) -> Record:
    own = levels[-1]
    assert own.passed
    passed = own.passed[0]
    variables = tuple(v for level in levels for v in level.variables)
    told = passed
    for name, value in variables:
        told = told.replace(f"${{{name}}}", value).replace(f"${name}", value)
    name = told.partition("://")[2].partition("/")[0] or told
    headers = next((level.headers for level in reversed(levels) if level.headers), [])
    return NginxProxy(
        source=lines.source(own.first, last),
        where=context.where,
        location=next((level.name for level in reversed(levels) if level.kind == "location"), ""),
        server_names=tuple(n for level in levels for n in level.names),
        proxy_pass=passed,
        upstream_name=name if name in upstreams else "",
        upstream=tuple(upstreams.get(name, ())),
        headers=tuple(headers),
        settings=tuple(s for level in levels for s in level.settings),
        variables=variables,
    )


FORMAT = LineFormat("nginx-conf", _START, _read, priority=23)
