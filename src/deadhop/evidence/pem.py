"""What is wrong with a certificate or key, as far as its first bytes tell; never the data itself.

RFC 7468 (the lines that begin a block), Go crypto/tls X509KeyPair (which blocks it takes), RFC 4648 (base64 of them).
"""

from __future__ import annotations

import base64
import binascii
import re

#: base64 of ``-----BEGIN``.
ENCODED = "LS0tLS1CRUdJTi"
_BLOCK = re.compile(r"^-----BEGIN (?P<label>[A-Z0-9 ]+)-----(?P<rest>[^\r\n]*)")
_KEYS = frozenset({"PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "DSA PRIVATE KEY", "EC PARAMETERS"})
_CERTIFICATES = frozenset({"CERTIFICATE", "TRUSTED CERTIFICATE", "X509 CERTIFICATE"})


def fault(field: str, data: str) -> str:
    """What makes ``data`` no valid ``tls.key`` or ``tls.crt``; empty where its beginning shows nothing wrong."""
    data = data.lstrip()
    if data.startswith(ENCODED):
        return f"{field} is encoded twice"
    block = _BLOCK.match(data)
    if block is None:
        return f"{field} holds an escape instead of a line end" if data.startswith("\\n-----BEGIN") else ""
    label = block["label"]
    if label not in (_KEYS if field.endswith("key") else _CERTIFICATES):
        return f"{field} begins with {label}"
    if block["rest"].startswith("\\n"):
        return f"{field} holds escapes instead of line ends"
    if "Proc-Type: 4,ENCRYPTED" in data[:200]:
        return f"{field} is encrypted"
    return ""


def decoded(text: str) -> str:
    """The beginning of what ``text`` encodes; empty where it is no base64."""
    head = re.sub(r"\s", "", text[:400])
    head = head[: len(head) // 4 * 4]
    try:
        return base64.b64decode(head, validate=True).decode("ascii", "replace")
    except (binascii.Error, ValueError):
        return ""
