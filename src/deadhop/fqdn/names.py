"""Fully qualified names as Cilium writes them (``pkg/fqdn/dns``)."""

from __future__ import annotations


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
