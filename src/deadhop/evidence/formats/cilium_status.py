"""``cilium status`` (``cilium-dbg status``): the lines that say how the datapath is set, as the options they mirror.

Layouts of 1.9 to 1.18 (cilium pkg/client FormatStatusResponse): ``Host Routing:`` became part of ``Routing:`` in 1.14.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.policy import CiliumOption
from deadhop.model.record import Record

Options = list[tuple[str, str]]


def _replacement(value: str) -> Options:
    word = value.split()[0].lower()
    return [("kubeProxyReplacement", {"disabled": "false", "false": "false"}.get(word, "strict" if word == "strict" else word))]  # fmt: skip


def _host_routing(value: str) -> Options:
    return [("enable-host-legacy-routing", "true" if value.split()[0].lower() == "legacy" else "false")]


def _routing(value: str) -> Options:
    found: Options = []
    if network := re.search(r"Network: (Native|Tunnel)(?: \[(\w+)\])?", value):
        found.append(("routing-mode", network[1].lower()))
        found += [("tunnel-protocol", network[2])] if network[2] else []
    if host := re.search(r"Host: (BPF|Legacy)", value):
        found += _host_routing(host[1])
    return found


def _masquerading(value: str) -> Options:
    word = value.split()[0].lower()
    found = [("enable-bpf-masquerade", "true" if word == "bpf" else "false")]
    if word == "disabled" or "IPv4: Disabled" in value:
        found.append(("enable-ipv4-masquerade", "false"))
    if cidr := re.search(r"(?<![\d.])(\d{1,3}(?:\.\d{1,3}){3}/\d{1,2})", value):
        found.append(("ipv4-native-routing-cidr", cidr[1]))
    return found


def _encryption(value: str) -> Options:
    word = value.split()[0].lower()
    if word == "disabled":
        return [("encryption.enabled", "false")]
    found = [("encryption.enabled", "true"), ("encryption.type", word)]
    if node := re.search(r"NodeEncryption: (Enabled|Disabled|OptedOut)", value):
        found.append(("encryption.nodeEncryption", "true" if node[1] == "Enabled" else "false"))
    return found


def _host_firewall(value: str) -> Options:
    return [("enable-host-firewall", "true" if value.split()[0].lower() == "enabled" else "false")]


#: The key of a line, what its value begins with, and the options it mirrors.
_LINES: dict[str, tuple[str, Callable[[str], Options]]] = {
    "KubeProxyReplacement": ("True|False|Strict|Partial|Probe|Disabled", _replacement),
    "Host Routing": ("BPF|Legacy", _host_routing),
    "Routing": ("Network:|Host:", _routing),
    "Masquerading": ("BPF|IPTables|Disabled|Unknown", _masquerading),
    "Encryption": ("Wireguard|IPsec|Ztunnel|Disabled", _encryption),
    "Host firewall": ("Enabled|Disabled", _host_firewall),
}
_LINE = re.compile(
    r"^\s*(?:"
    + "|".join(f"(?P<k{n}>{key}):\\s+(?P<v{n}>(?:{first}).*)" for n, (key, (first, _f)) in enumerate(_LINES.items()))
    + r")$"
)  # fmt: skip


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    match = _LINE.match(lines.text[i].rstrip())
    if match is None:
        return i, []
    at = next(n for n in range(len(_LINES)) if match[f"k{n}"])
    options = _LINES[match[f"k{at}"]][1](match[f"v{at}"])
    return i + 1, [
        CiliumOption(source=lines.source(i), where=context.where, key=k, value=v) for k, v in options
    ]


FORMAT = LineFormat("cilium-status", _LINE, _read, priority=40)
