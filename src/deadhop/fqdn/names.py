"""Fully qualified names as Cilium writes them (``pkg/fqdn/dns``)."""

from __future__ import annotations

import re

_PRESENTED = re.compile(r"([^\\])|\\(?:([0-9]{3})|(.))", re.S)


def is_fqdn(name: str) -> bool:
    r"""True where ``name`` ends in a dot that is not escaped.

    A dot behind an odd number of backslashes belongs to the last label: ``a\.`` is not fully qualified,
    ``a\\.`` is.
    """
    if not name.endswith("."):
        return False
    body = name[:-1]
    return (len(body) - len(body.rstrip("\\"))) % 2 == 0


def fqdn(name: str) -> str:
    """The canonical form: lower case, with the final dot. The empty name is the root."""
    lowered = name.lower()
    return lowered if is_fqdn(lowered) else lowered + "."


_AS_SUCH = frozenset(" '@;()\"\\.")


def from_presentation(name: str) -> str:
    """A name as the proxy's DNS library prints it (``UnpackDomainName``), from its usual presentation.

    A blank and a quote are escaped by a backslash and not by their number, a dollar sign not at all.
    """
    if "\\" not in name and "'" not in name:
        return name
    made = []
    for plain, number, char in _PRESENTED.findall(name):
        byte = int(number) if number else ord(char or plain)
        if not 32 <= byte <= 126:
            made.append(f"\\{byte:03d}")
        elif chr(byte) in _AS_SUCH and plain != ".":
            made.append(f"\\{chr(byte)}")
        else:
            made.append(chr(byte))
    return "".join(made)
