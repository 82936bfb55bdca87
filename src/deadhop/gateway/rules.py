"""A route's header rules, compiled once: what is fixed, what comes from files, what from the identity."""

from __future__ import annotations

from deadhop.evidence.checked_yaml import ShapeError
from deadhop.gateway.auth.identity import Identity
from deadhop.gateway.config import Route, Upstream, printable
from deadhop.gateway.outbound import Rules


def compile_rules(route: Route, upstream: Upstream) -> Rules:
    """Raises :class:`ShapeError` where a file's content is no header value."""
    fixed: list[tuple[bytes, bytes]] = []
    identity: list[tuple[bytes, str]] = []
    secret: set[bytes] = set()
    for name, value in route.set.items():
        key = name.encode()
        if isinstance(value, str):
            fixed.append((key, value.encode()))
        elif value.file is not None:
            text = value.file.read_text(errors="replace").strip()
            if not text or not printable(text):
                raise ShapeError(f"{value.file}: not one line of printable text, which a header value is")
            fixed.append((key, text.encode()))
            secret.add(key.lower())
        elif value.identity is not None:
            identity.append((key, value.identity))
    names = (*route.strip, *route.set)
    return Rules(
        authority=upstream.authority.encode("idna" if not upstream.authority.isascii() else "ascii"),
        preserve=route.host_header == "preserve",
        managed=frozenset(n.lower().replace("_", "-").encode() for n in names),
        fixed=tuple(fixed),
        identity=tuple(identity),
        secret=frozenset(secret),
    )


def identity_fields(rules: Rules, who: Identity | None) -> list[tuple[bytes, bytes]]:
    """The fields that tell the upstream who asks; none where nobody is authenticated."""
    if who is None:
        return []
    return [(name, value) for name, part in rules.identity if (value := who.field(part))]
