"""The Corefile: text to structure (CoreDNS manual, "Configuration"; ``coremain`` with Caddy's parser).

A server block is a list of zones and directives; a directive may have a block of its own. Snippets (``(name) {…}``)
are inlined where they are imported; files cannot be, which is a problem to report. Environment variables
(``{$NAME}``) are left as they are written. Nothing here raises: what does not parse becomes a problem with its line.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

DEFAULT_PORT = 53
_PORTS = {"dns": 53, "tls": 853, "grpc": 443, "https": 443, "quic": 853, "doh3": 443}
MAX_DEPTH = 16
MAX_IMPORTED = 10000
_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|(\n)|#[^\n]*|([^\s"#][^\s"]*)|(")', re.S)


class Directive(msgspec.Struct, frozen=True):
    """One plugin with its arguments and the lines of its block."""

    name: str
    args: tuple[str, ...] = ()
    block: tuple[Directive, ...] = ()
    line: int = 0

    def option(self, name: str) -> tuple[str, ...] | None:
        """The arguments of the last line of the block with that name, None where there is none."""
        return next((d.args for d in reversed(self.block) if d.name == name), None)

    def options(self, name: str) -> tuple[tuple[str, ...], ...]:
        return tuple(d.args for d in self.block if d.name == name)


class Zone(msgspec.Struct, frozen=True):
    """One key of a server block: ``scheme://name:port``. ``name`` is canonical."""

    name: str
    port: int = DEFAULT_PORT
    scheme: str = "dns"

    def holds(self, qname: str) -> bool:
        return self.name == "." or qname == self.name or qname.endswith("." + self.name)


class ServerBlock(msgspec.Struct, frozen=True):
    """One server block. Directives stand as written; CoreDNS runs them in its own order."""

    zones: tuple[Zone, ...]
    directives: tuple[Directive, ...] = ()
    line: int = 0

    def all(self, name: str) -> tuple[Directive, ...]:
        return tuple(d for d in self.directives if d.name == name)


class Corefile(msgspec.Struct, frozen=True):
    """A parsed Corefile and what was wrong with it, as (line, text)."""

    servers: tuple[ServerBlock, ...] = ()
    problems: tuple[tuple[int, str], ...] = ()


class _Word(NamedTuple):
    text: str
    line: int
    quoted: bool = False


def _lines(text: str, problems: list[tuple[int, str]]) -> list[list[_Word]]:
    """Words by logical line; braces that open or close a block are words of their own."""
    found: list[list[_Word]] = [[]]
    line = 1
    for match in _TOKEN.finditer(text):
        quoted, newline, bare, stray = match.groups()
        if newline:
            line += 1
            found.append([])
        elif quoted is not None:
            found[-1].append(_Word(quoted.replace('\\"', '"'), line, quoted=True))
            line += quoted.count("\n")
        elif bare is not None:
            found[-1].append(_Word(bare, line))
        elif stray:
            problems.append((line, "a quote that is never closed"))
    return [words for words in found if words]


class _Parser:
    def __init__(self, text: str) -> None:
        self.problems: list[tuple[int, str]] = []
        self.lines = _lines(text, self.problems)
        self.at = 0
        self.imported = 0
        self.snippets: dict[str, tuple[Directive, ...]] = {}

    def block(self, opened: int, depth: int) -> tuple[Directive, ...]:
        """The directives up to the brace that closes the block opened on line ``opened``."""
        found: list[Directive] = []
        while self.at < len(self.lines):
            words = self.lines[self.at]
            self.at += 1
            if self._is_close(words[0]):
                if len(words) > 1:
                    self.problems.append((words[0].line, "words behind a closing brace"))
                return tuple(found)
            found.extend(self.directive(words, depth))
        self.problems.append((opened, "a block that is never closed"))
        return tuple(found)

    @staticmethod
    def _is_close(word: _Word) -> bool:
        return word.text == "}" and not word.quoted

    def directive(self, words: list[_Word], depth: int) -> list[Directive]:
        opens = words[-1].text == "{" and not words[-1].quoted
        args = tuple(word.text for word in (words[1:-1] if opens else words[1:]))
        line = words[0].line
        inner: tuple[Directive, ...] = ()
        if opens:
            if depth >= MAX_DEPTH:
                self.problems.append((line, "blocks nested too deep"))
            inner = self.block(line, depth + 1) if depth < MAX_DEPTH else self._skip()
        if words[0].text == "import":
            name = args[0] if args else ""
            if name not in self.snippets:
                self.problems.append((line, f"import {name}: the text is not here"))
            found = self.snippets.get(name, ())
            self.imported += len(found)
            if self.imported > MAX_IMPORTED:
                self.problems.append((line, "more imported directives than are read"))
                return []
            return list(found)
        return [Directive(words[0].text, args, inner, line)]

    def _skip(self) -> tuple[Directive, ...]:
        depth = 1
        while self.at < len(self.lines) and depth:
            words = self.lines[self.at]
            self.at += 1
            depth += words[-1].text == "{"
            depth -= self._is_close(words[0])
        return ()

    def parse(self) -> Corefile:
        servers: list[ServerBlock] = []
        while self.at < len(self.lines):
            keys: list[_Word] = []
            opened = False
            while self.at < len(self.lines):
                words = self.lines[self.at]
                self.at += 1
                opened = words[-1].text == "{" and not words[-1].quoted
                keys.extend(words[:-1] if opened else words)
                if opened or not keys[-1].text.endswith(","):
                    break
            if not keys:
                self.problems.append((words[0].line, "a server block without a zone"))
                keys = [_Word(".", words[0].line)]
            line = keys[0].line
            if self._is_close(keys[0]):
                self.problems.append((line, "a closing brace without its block"))
                continue
            snippet = re.fullmatch(r"\((.+)\)", keys[0].text)
            if opened:
                directives = self.block(line, 1)
            else:
                # Without braces the rest of the file is the one server block.
                directives = ()
                while self.at < len(self.lines):
                    words = self.lines[self.at]
                    self.at += 1
                    directives += tuple(self.directive(words, 1))
            if snippet:
                self.snippets[snippet[1]] = directives
                continue
            zones = [z for word in keys for z in self.zones(word)]
            servers.append(ServerBlock(tuple(zones), directives, line))
        return Corefile(tuple(servers), tuple(sorted(self.problems)))

    def zones(self, word: _Word) -> list[Zone]:
        found: list[Zone] = []
        for key in filter(None, word.text.split(",")):
            scheme, separator, rest = key.partition("://")
            if not separator:
                scheme, rest = "dns", key
            name, colon, port = rest.rpartition(":")
            if not colon:
                name, port = rest, ""
            if scheme not in _PORTS or (port and not (port.isdecimal() and int(port) < 65536)):
                self.problems.append((word.line, f"not a zone: {key}"))
                continue
            number = int(port) if port else _PORTS[scheme]
            found.extend(Zone(zone, number, scheme) for zone in _zone_names(name))
        return found


def _zone_names(name: str) -> list[str]:
    """The canonical names of a key; an address with a prefix is the reverse zone (on octet or nibble boundaries)."""
    reverse = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)\.(\d+)/(\d+)", name)
    if reverse:
        octets = reverse.groups()[:4]
        kept = min(4, -(-int(reverse[5]) // 8))
        return [".".join([*reversed(octets[:kept]), "in-addr", "arpa"]) + "."]
    lowered = name.lower()
    return [lowered if lowered.endswith(".") else lowered + "."]


def parse_corefile(text: str) -> Corefile:
    """Read a Corefile. Never raises."""
    return _Parser(text.replace("\r\n", "\n")).parse()
