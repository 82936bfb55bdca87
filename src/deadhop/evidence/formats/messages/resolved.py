"""systemd-resolved's log (src/resolve)."""

from __future__ import annotations

from deadhop.evidence.formats.messages import catalogue, entry

FORMAT = catalogue(
    "systemd-resolved",
    (
        entry("stub-refuses-source", r"Got packet on unexpected (?:IP range|\(i\.e\. non-localhost\) IP range|interface), (?:refusing|ignoring)", "src/resolve/resolved-dns-stub.c"),
        entry("resolved-degraded", r"Using degraded feature set (?P<set>\S+) (?:\([^)]*\) )?(?:instead of \S+ )?for DNS server (?P<server>[\da-fA-F.:]+)", "src/resolve/resolved-dns-server.c"),
    ),
)  # fmt: skip
