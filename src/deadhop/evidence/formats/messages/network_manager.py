"""Host network managers that take an interface for their own: NetworkManager, dhclient, dhcpcd, wicked."""

from __future__ import annotations

from deadhop.evidence.formats.messages import catalogue, entry

_DEVICE = "NetworkManager src/core/devices/nm-device.c"

FORMAT = catalogue(
    "network-manager",
    (
        entry("nm-device-state", r"\(?(?P<dev>[\w.@-]{1,64})\)?: (?:device )?state change: (?P<before>[\w-]+) -> (?P<state>[\w-]+)", _DEVICE),
        entry("nm-device-state", r"^device state change: (?P<before>[\w-]+) -> (?P<state>[\w-]+) \(reason", _DEVICE),
        entry("nm-activation", r"device \((?P<dev>[\w.@-]+)\): Activation: (?:starting connection '(?P<connection>[^']+)'|successful)", _DEVICE),
        entry("nm-activation", r"Activation \((?P<dev>[\w.@-]+)\) (?:starting connection '(?P<connection>[^']+)'|successful|Stage \d)", _DEVICE),
        entry("nm-activation", r"^\s*\((?P<dev>[\w.@-]+)\) starting connection '(?P<connection>[^']+)'", _DEVICE),
        entry("nm-auto-activating", r"Auto-activating connection '(?P<connection>[^']+)'", "NetworkManager src/core/nm-policy.c"),
        entry("nm-dhcp", r"NetworkManager\[\d+\]:.* dhcp[46] \((?P<dev>[\w.@-]+)\):?\s+(?:activation|state changed|option|address|canceled|beginning)", _DEVICE),
        entry("nm-route", r"NetworkManager\[\d+\]:.*platform: route.*(?P<what>removed|deleted|added)", "NetworkManager src/libnm-platform"),
        entry("nm-new-device", r"manager: \((?P<dev>[\w.@-]+)\): new (?P<type>\w+) device", "NetworkManager src/core/nm-manager.c"),
        entry("nm-log", r"NetworkManager\[\d+\]: <\w+>\s+\((?P<dev>[\w.@-]+)\):\s*$", _DEVICE),
        entry("nm-device", r"^\s*(?P<dev>[\w.@-]+)\s+(?P<type>ethernet|bridge|veth|tun|vxlan|iptunnel|vlan|dummy|wireguard|loopback|geneve)\s+(?P<state>connected(?: \(externally\))?|connecting(?: \([^)]*\))?|disconnected|unmanaged|unavailable)\s+(?P<connection>\S.*?)\s*$", "nmcli(1) device"),
        entry("nm-unmanaged", r"^\s*unmanaged-devices\s*=\s*(?P<devices>\S.*)$", "NetworkManager.conf(5)"),
        entry("dhcp-client", r"(?:dhclient(?:\[\d+\])?: )?(?P<what>DHCPDISCOVER|DHCPREQUEST) (?:for \S+ )?on (?P<dev>[\w.@-]+) to", "dhclient"),
        entry("dhcp-client", r"dhcpcd(?:\[\d+\])?: (?P<dev>[\w.@-]+): (?P<what>carrier acquired|IAID|soliciting|adding address|leased|probing|using IPv4LL|adding default route|adding route|no IPv6 Routers|waiting for carrier)", "dhcpcd"),
        entry("dhcp-client", r"wickedd\S*: (?P<dev>[\w.@-]+): (?P<what>Request to acquire|Committed|configuration changed|address)", "wicked"),
    ),
    priority=19,
)  # fmt: skip
