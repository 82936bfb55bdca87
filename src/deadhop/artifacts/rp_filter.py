"""The sysctl drop-in that keeps rp_filter where a CNI needs it, placed so that it really wins.

systemd-sysctl sorts all files by name whatever their folder, an explicit key beats every glob, and a glob that is
set again to the same value keeps its first place (systemd 252, measured).
"""

from __future__ import annotations

from collections.abc import Iterable


def drop_in_name(existing: Iterable[str]) -> str:
    """A file name in /etc/sysctl.d that sorts behind every ``existing`` path."""
    name = "99-zzz-cni-rp-filter.conf"
    last = max((path.rsplit("/", 1)[-1] for path in existing), default="")
    while name <= last:
        name = "99-zzz" + "z" * (len(name.partition("-cni")[0]) - len("99-zzz") + 1) + "-cni-rp-filter.conf"
        if len(name) > 200:
            break
    return f"/etc/sysctl.d/{name}"


def drop_in(pattern: str, existing: Iterable[str], all_too: bool = True) -> str:
    """The commands that write and apply the drop-in for devices of ``pattern`` (``lxc*``)."""
    path = drop_in_name(existing)
    body = [f"net.ipv4.conf.{pattern}.rp_filter = 0"]
    if all_too:
        body.append("net.ipv4.conf.all.rp_filter = 0")
    lines = "\n".join(body)
    return f"cat > {path} <<'EOF'\n{lines}\nEOF\nsystemctl restart systemd-sysctl\n"
