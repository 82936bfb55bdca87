"""Authentication: a bearer token of a file, or a session that an OpenID Connect provider began.

``admit`` gives the identity (None where nobody is and nobody need be), or the answer in the upstream's place.
"""

from __future__ import annotations

from hmac import compare_digest
from typing import TYPE_CHECKING

from deadhop.evidence.checked_yaml import ShapeError
from deadhop.gateway.auth.identity import Identity, Reply
from deadhop.gateway.config import Config, Route
from deadhop.gateway.inbound import Head
from deadhop.gateway.outbound import Sender

if TYPE_CHECKING:
    from deadhop.gateway.auth.login import Login

__all__ = ["Authenticator", "Identity", "Reply", "authenticator"]

OWN_PATH = "/_gateway/"


class Authenticator:
    """The ways to be known, in order: bearer token, session."""

    def __init__(self, config: Config) -> None:
        self._bearer = _tokens(config) if config.auth.bearer else []
        self._login: Login | None = None
        if config.auth.oidc:
            from deadhop.gateway.auth.login import Login

            self._login = Login(config)
        #: What the names of the gateway's own cookies begin with; they go no further.
        self.cookie = self._login.cookie if self._login else ""

    async def admit(
        self, head: Head, path: str, sender: Sender, route: Route | None
    ) -> Identity | Reply | None:
        """Who asks, or what to answer."""
        if self._login and path.startswith(OWN_PATH) and self._login.mine(head):
            return await self._login.answer(head, path)
        who = self._by_token(head) or (self._login.session(head) if self._login else None)
        if route is None or route.require == "nobody":
            return who
        if who is None:
            return await self._challenge(head, sender)
        if route.require != "anyone" and not set(route.require) & set(who.groups):
            needed = " or ".join(route.require)
            return Reply(403, "forbidden", f"{who.subject} is in none of the groups {needed}\n".encode())
        return who

    async def _challenge(self, head: Head, sender: Sender) -> Reply:
        accepts = b",".join(v for n, v in head.fields if n == b"accept")
        if self._login and head.method in (b"GET", b"HEAD") and b"text/html" in accepts:
            return await self._login.begin(head, sender)
        return Reply(
            401,
            "unauthenticated",
            b"authentication is needed\n",
            ((b"WWW-Authenticate", b'Bearer realm="deadhop"'),),
        )

    def _by_token(self, head: Head) -> Identity | None:
        given = [v for n, v in head.fields if n == b"authorization"]
        if len(given) != 1 or not self._bearer or given[0][:7].lower() != b"bearer ":
            return None
        token = given[0][7:].strip()
        found = None
        for known, who in self._bearer:  # every one is compared: the time says nothing about which
            if compare_digest(known, token):
                found = who
        return found

    async def close(self) -> None:
        if self._login:
            await self._login.close()


def authenticator(config: Config) -> Authenticator | None:
    """None where the configuration has no authentication. Raises :class:`ShapeError`."""
    return Authenticator(config) if config.auth.bearer or config.auth.oidc else None


def _tokens(config: Config) -> list[tuple[bytes, Identity]]:
    assert config.auth.bearer is not None
    found = []
    for number, line in enumerate(config.auth.bearer.read_text(errors="replace").splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) not in (2, 3):
            raise ShapeError(f"{config.auth.bearer}:{number}: a line is TOKEN SUBJECT [GROUP,GROUP]")
        groups = tuple(words[2].split(",")) if len(words) == 3 else ()
        found.append(
            (words[0].encode(), Identity(words[1], groups=groups, spent=frozenset({b"authorization"})))
        )
    return found
