"""The gateway's configuration: a YAML file of declared shape, checked before anything listens.

Times are seconds, sizes bytes. Every error names the file and the line.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from deadhop.evidence.checked_yaml import ShapeError, line_of, loads

Seconds = Annotated[float, Meta(gt=0)]
_TOKEN = re.compile(r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
_HOST = re.compile(r"^(?:\*\.)?[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?$")
#: Fields that the gateway writes itself: a rule for one of them would be a second opinion about framing or routing.
OWN = frozenset(
    "host connection content-length transfer-encoding upgrade te trailer keep-alive proxy-connection via".split()
)


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Tls(_Strict, frozen=True, kw_only=True):
    """Certificate chain and key, PEM files."""

    cert: Path
    key: Path


class Timeouts(_Strict, frozen=True, kw_only=True):
    """``header``: until a request's head is whole; ``idle``: between requests of a client; ``connect``: to an upstream,
    and for a place among its connections; ``response``: from the whole request to the response's head; ``stream``: with
    no byte in either direction; ``drain``: for what is under way when the gateway is told to end."""

    header: Seconds = 10
    idle: Seconds = 75
    connect: Seconds = 5
    response: Seconds = 60
    stream: Seconds = 300
    drain: Seconds = 30


class Limits(_Strict, frozen=True, kw_only=True):
    """``head``: octets of a request's or response's head; ``fields``: header fields; ``connections``: of clients."""

    head: Annotated[int, Meta(ge=512)] = 32768
    fields: Annotated[int, Meta(ge=1)] = 100
    connections: Annotated[int, Meta(ge=1)] = 8192


class Session(_Strict, frozen=True, kw_only=True):
    """``secret``: a file with at least 32 octets that signs the cookies; all replicas share it."""

    secret: Path
    lifetime: Seconds = 8 * 3600
    cookie: str = "deadhop_session"


class Oidc(_Strict, frozen=True, kw_only=True):
    """An external OpenID Connect provider. Without ``client_secret`` the client is public (PKCE alone). ``url`` is the
    gateway's own address as browsers see it; the provider must allow its ``/_gateway/callback``."""

    issuer: str
    client_id: str
    url: str
    client_secret: Path | None = None
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    groups_claim: str = "groups"
    ca: Path | None = None


class Auth(_Strict, frozen=True, kw_only=True):
    """``bearer``: a file of ``TOKEN SUBJECT [GROUP,GROUP]`` lines, for tests and machines."""

    session: Session | None = None
    oidc: Oidc | None = None
    bearer: Path | None = None


class Upstream(_Strict, frozen=True, kw_only=True):
    """``mesh``: whether a sidecar stands before it (left out: it is taken to, where the name is a cluster's Service).
    ``connections`` is the most at one time."""

    url: str
    mesh: bool | None = None
    ca: Path | None = None
    connections: Annotated[int, Meta(ge=1)] = 512

    @property
    def tls(self) -> bool:
        return self.url.lower().startswith("https://")

    @property
    def address(self) -> tuple[str, int]:
        """The name and port that are dialled."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or (443 if self.tls else 80)

    @property
    def authority(self) -> str:
        """What ``Host`` says of it: without the scheme's own port (RFC 9110 §4.2.3)."""
        host, port = self.address
        shown = f"[{host}]" if ":" in host else host
        return shown if port == (443 if self.tls else 80) else f"{shown}:{port}"

    @property
    def meshed(self) -> bool:
        if self.mesh is not None:
            return self.mesh
        host = self.address[0].rstrip(".")
        return host.endswith((".svc", ".svc.cluster.local")) or bool(
            re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)?", host)
            and host != "localhost"
            and not host.replace(".", "").isdigit()
        )


class Taken(_Strict, frozen=True, kw_only=True):
    """A header value that is not written here: the content of a file (a mounted Secret, read at start), or a part of the
    authenticated identity; of that the header is absent where nobody is known."""

    file: Path | None = None
    identity: Literal["subject", "email", "name", "groups"] | None = None


class Route(_Strict, frozen=True, kw_only=True):
    """``host``: exact, ``*.suffix`` or left out for any; ``path``: a prefix of whole segments. ``require``: ``nobody``,
    ``anyone`` authenticated, or the groups of which one is needed."""

    upstream: str
    host: str = "*"
    path: str = "/"
    host_header: Literal["upstream", "preserve"] = "upstream"
    strip: tuple[str, ...] = ()
    set: dict[str, str | Taken] = {}
    require: Literal["nobody", "anyone"] | tuple[str, ...] = "nobody"

    @property
    def name(self) -> str:
        return f"{self.host}{self.path}"


class Config(_Strict, frozen=True, kw_only=True):
    """The whole file. ``trust``: networks of proxies in front whose X-Forwarded-* and Forwarded are believed."""

    routes: tuple[Route, ...]
    upstreams: dict[str, Upstream]
    listen: str | tuple[str, ...] = "127.0.0.1:8080"
    tls: Tls | None = None
    admin: str = "127.0.0.1:9901"
    trust: tuple[str, ...] = ()
    access_log: str = "-"
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    auth: Auth = Auth()

    @property
    def listeners(self) -> tuple[str, ...]:
        return (self.listen,) if isinstance(self.listen, str) else self.listen


def read(path: Path) -> Config:
    """The configuration in a file, paths taken relative to it. Raises :class:`ShapeError` and :class:`OSError`."""
    return parse(path.read_text(errors="replace"), str(path), path.parent)


def parse(text: str, file: str, folder: Path = Path()) -> Config:
    """The configuration of a text. Raises :class:`ShapeError`."""
    config = loads(text, file, Config)
    wrong = [f"{file}:{line_of(text, place)}: {said}" for place, said in _check(config)]
    if wrong:
        raise ShapeError("\n".join(wrong))
    located = _located(config, folder)
    assert isinstance(located, Config)
    missing = [f"{file}: no such file: {p}" for p in _files(located) if not p.is_file()]
    if missing:
        raise ShapeError("\n".join(missing))
    return located


def endpoint(text: str) -> tuple[str, int]:
    """``HOST:PORT`` or ``[ADDRESS]:PORT``. Raises :class:`ValueError`."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{text!r} is not ADDRESS:PORT")
    return host.strip("[]"), int(port)


def warnings(config: Config) -> Iterator[str]:
    """What is allowed and likely to hurt."""
    for route in config.routes:
        upstream = config.upstreams[route.upstream]
        if route.host_header == "preserve" and upstream.meshed:
            yield (
                f"route {route.name}: host_header: preserve sends the client's Host to {upstream.address[0]}, which stands in a mesh: "
                "sidecars route by Host, and an outside name leaves as plain text (503 UC under STRICT). "
                "Leave it out, or say mesh: false on the upstream; deadhop gateway check shows where it goes."
            )


def _check(config: Config) -> Iterator[tuple[str, str]]:
    if not config.routes:
        yield ".routes", "there is no route"
    for number, text in enumerate(config.listeners):
        place = ".listen" if isinstance(config.listen, str) else f".listen[{number}]"
        yield from _endpoint(text, place)
    yield from _endpoint(config.admin, ".admin")
    for number, text in enumerate(config.trust):
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            yield f".trust[{number}]", str(error)
    for name, upstream in config.upstreams.items():
        yield from _url(upstream.url, f".upstreams.{name}.url")
    seen: set[str] = set()
    for number, route in enumerate(config.routes):
        place = f".routes[{number}]"
        if route.upstream not in config.upstreams:
            yield f"{place}.upstream", f"there is no upstream {route.upstream!r}"
        if route.name.lower() in seen:
            yield place, f"a second route for {route.name}"
        seen.add(route.name.lower())
        if route.host != "*" and not _HOST.match(route.host):
            yield f"{place}.host", f"{route.host!r} is neither a host name, *.suffix nor *"
        if not route.path.startswith("/") or "?" in route.path or "%" in route.path or ".." in route.path:
            yield f"{place}.path", f"{route.path!r}: a prefix begins with / and has no %, .. or query"
        for kind, names in (("strip", route.strip), ("set", tuple(route.set))):
            for name in names:
                if not _TOKEN.match(name):
                    yield f"{place}.{kind}", f"{name!r} is no header name"
                elif name.lower() in OWN:
                    yield f"{place}.{kind}", f"the gateway writes {name} itself (host_header decides Host)"
        for name, value in route.set.items():
            if isinstance(value, Taken):
                if (value.file is None) == (value.identity is None):
                    yield f"{place}.set.{name}", "one of file and identity"
            elif not printable(value):
                yield f"{place}.set.{name}", "a header value holds no control characters"
        if route.require != "nobody" and not (config.auth.oidc or config.auth.bearer):
            yield f"{place}.require", "needs auth: an OpenID Connect provider or a bearer file"
    if config.auth.oidc:
        if not config.auth.session:
            yield ".auth.oidc", "sessions need auth.session.secret, a file with 32 octets or more"
        issuer = urlsplit(config.auth.oidc.issuer)
        if issuer.scheme == "http" and issuer.hostname not in ("127.0.0.1", "::1", "localhost"):
            yield ".auth.oidc.issuer", "a provider is reached by https; plain http is for loopback"
        for key in ("issuer", "url"):
            yield from _url(getattr(config.auth.oidc, key), f".auth.oidc.{key}", path=key == "issuer")


def printable(value: str) -> bool:
    """May the text stand in a header field (RFC 9110 §5.5, without obs-text)?"""
    return all(" " <= c <= "~" or c == "\t" for c in value)


def _endpoint(text: str, place: str) -> Iterator[tuple[str, str]]:
    try:
        endpoint(text)
    except ValueError as error:
        yield place, str(error)


def _url(text: str, place: str, path: bool = False) -> Iterator[tuple[str, str]]:
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:
        good = False
    if not good:
        yield place, f"{text!r} is not http(s)://HOST[:PORT]"
    elif parts.username or parts.query or parts.fragment or (not path and parts.path not in ("", "/")):
        yield place, f"{text!r}: scheme, host and port, nothing else"


def _located(value: object, folder: Path) -> object:
    """The same configuration with every path below ``folder``."""
    if isinstance(value, Path):
        return folder / value
    if isinstance(value, msgspec.Struct):
        fields = {f: _located(getattr(value, f), folder) for f in value.__struct_fields__}
        return msgspec.structs.replace(value, **fields)
    if isinstance(value, dict):
        return {k: _located(v, folder) for k, v in value.items()}
    if isinstance(value, tuple):
        return tuple(_located(v, folder) for v in value)
    return value


def _files(value: object) -> Iterator[Path]:
    if isinstance(value, Path):
        yield value
    elif isinstance(value, msgspec.Struct):
        for f in value.__struct_fields__:
            yield from _files(getattr(value, f))
    elif isinstance(value, dict):
        for v in value.values():
            yield from _files(v)
    elif isinstance(value, tuple):
        for v in value:
            yield from _files(v)
