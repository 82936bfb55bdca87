"""What the gateway keeps in a browser: signed (HMAC-SHA256 as a JWT), with an end, for one use each."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from deadhop.evidence.checked_yaml import ShapeError

ALGORITHM = "HS256"
LEAST_SECRET = 32


class Cookies:
    """Signs and reads cookies. ``secure`` where browsers reach the gateway by https."""

    def __init__(self, secret: Path, name: str, secure: bool) -> None:
        octets = secret.read_bytes().strip()
        if len(octets) < LEAST_SECRET:
            raise ShapeError(f"{secret}: {len(octets)} octets; a signing secret needs {LEAST_SECRET} or more")
        self._key = OctKey.import_key(octets)
        # A __Host- cookie cannot be planted by a neighbouring subdomain (RFC 6265bis §4.1.3.2).
        self._secure, self.name = secure, ("__Host-" if secure else "") + name

    def signed(self, use: str, claims: Mapping[str, Any], seconds: float) -> str:
        now = int(time.time())
        whole = {**claims, "use": use, "iat": now, "exp": now + int(seconds)}
        return jwt.encode({"alg": ALGORITHM}, whole, self._key, algorithms=[ALGORITHM])

    def opened(self, use: str, value: str) -> dict[str, Any] | None:
        """The claims of a value that was signed here for this use and has not ended."""
        try:
            claims = jwt.decode(value, self._key, algorithms=[ALGORITHM]).claims
        except (JoseError, ValueError, TypeError):
            return None
        good = claims.get("use") == use and isinstance(claims.get("exp"), int) and claims["exp"] > time.time()
        return claims if good else None

    def set(self, name: str, value: str, seconds: float) -> tuple[bytes, bytes]:
        """Set-Cookie; with no ``seconds`` the cookie goes."""
        text = f"{name}={value}; Path=/; Max-Age={int(seconds)}; HttpOnly; SameSite=Lax"
        return b"Set-Cookie", (text + ("; Secure" if self._secure else "")).encode()


def read(fields: list[tuple[bytes, bytes]], name: str) -> str:
    """A request's cookie; empty where there is none, or more than one of the name."""
    found = [
        value.strip()
        for field, line in fields
        if field == b"cookie"
        for part in line.decode("latin-1").split(";")
        for key, _, value in [part.strip().partition("=")]
        if key == name
    ]
    return found[0] if len(found) == 1 else ""
