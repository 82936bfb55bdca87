"""systemd-networkd, systemd-udevd and their files ([Link] and networkd.conf)."""

from __future__ import annotations

from deadhop.evidence.formats.messages import catalogue, entry

_NETWORKD = "systemd src/network"

FORMAT = catalogue(
    "networkd",
    (
        entry("networkd-restart", r"systemd\[1\]: (?P<what>Re(?:start|load)(?:ing|ed)|Start(?:ing|ed)|Stopp(?:ing|ed)) (?:systemd-networkd\.service - )?Network (?:Service|Configuration)", _NETWORKD),
        entry("networkd-restart", r"systemd-networkd\[\d+\]: (?P<what>Enumeration completed|Reloading|Reconfiguring)", _NETWORKD),
        entry("networkd-rule", r"systemd-networkd\[\d+\]:.*(?P<what>[Rr]emov\w+|[Ff]orgetting|[Dd]ropp?\w+)(?: \w+)? routing policy rule", _NETWORKD + "/networkd-routing-policy-rule.c"),
        entry("networkd-dhcp", r"systemd-networkd\[\d+\]: (?P<dev>[\w.@-]+): DHCPv[46] (?P<what>address|lease)", _NETWORKD + "/networkd-dhcp4.c"),
        entry("networkd-link", r"systemd-networkd\[\d+\]: (?P<dev>[\w.@-]+): (?P<what>Lost carrier|Gained carrier|Link DOWN|Link UP|Configured|Re-?configuring|Gained IPv6LL)", _NETWORKD + "/networkd-link.c"),
        entry("networkd-setting", r"^\s*(?:[-#+;>]+\s*)?(?P<key>ManageForeign(?:RoutingPolicyRules|Routes|NextHops))\s*=\s*(?P<value>yes|no|true|false|1|0)\b", "networkd.conf(5)"),
        entry("udev-mac", r"(?:systemd-udevd|udevd)\S*:.*?(?P<what>[Cc]ould not generate persistent MAC)(?: address)? (?:for (?P<dev>[\w.@-]+))?", "systemd src/udev/net/link-config.c"),
        entry("udev-mac", r"(?P<dev>[\w.@-]{1,64}): (?P<what>Could not generate persistent MAC|Failed to (?:set|get) (?:MAC|hardware) address)", "systemd src/udev/net/link-config.c"),
        entry("udev-mac", r"(?:systemd-udevd|udevd)\S*:.*(?P<dev>(?:veth|cali|lxc|eni|azv|gke)[\w.@-]*): (?P<what>(?:[Ss]etting|[Aa]pplying|[Uu]sing|[Cc]onfiguring).*(?:MAC|hardware address)).*", "systemd src/udev/net/link-config.c"),
        entry("link-file", r"^\s*(?P<key>MACAddressPolicy)\s*=\s*(?P<value>persistent|random|none)\b", "systemd.link(5)"),
    ),
    priority=19,
)  # fmt: skip
