"""Who asks: the result of authentication."""

from __future__ import annotations

from typing import NamedTuple


class Identity(NamedTuple):
    """``subject`` is the provider's stable id. ``spent``: request fields that were for the gateway and stay here."""

    subject: str
    email: str = ""
    name: str = ""
    groups: tuple[str, ...] = ()
    spent: frozenset[bytes] = frozenset()

    def field(self, part: str) -> bytes:
        """One part as a header value: control characters cannot stand in one, other text is UTF-8."""
        value = ",".join(g for g in self.groups if "," not in g) if part == "groups" else getattr(self, part)
        return "".join(c for c in value if c >= " " and c != "\x7f").strip().encode()


class Reply(NamedTuple):
    """An answer that authentication gives in the upstream's place."""

    status: int
    reason: str
    body: bytes = b""
    fields: tuple[tuple[bytes, bytes], ...] = ()
