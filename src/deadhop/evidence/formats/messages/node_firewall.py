"""Node firewalls: firewalld and ufw as their tools, units and logs show them; VPN clients that lock DNS."""

from __future__ import annotations

from deadhop.evidence.formats.messages import catalogue, entry

FORMAT = catalogue(
    "node-firewall",
    (
        entry("firewall-running", r"^\s*(?:●|\*)\s+(?P<unit>firewalld|ufw|iptables|nftables|csf|susefirewall2|shorewall)\.service\b", "systemctl status"),
        entry("firewall-running", r"^\s*(?P<unit>firewalld|ufw|iptables|nftables|csf)\.service\s+loaded\s+active", "systemctl list-units"),
        entry("firewall-running", r"^\s*Status: active\s*$", "ufw status"),
        entry("firewall-running", r"(?P<unit>firewalld)\[\d+\]: (?:WARNING|ERROR|INFO|NOTICE)", "firewalld log"),
        entry("firewall-running", r"systemd\[1\]: (?:Started|Starting|Restarted|Reloaded) (?:(?P<unit>firewalld|ufw|iptables)\.service - |(?=firewalld|Uncomplicated))(?:.*(?:dynamic firewall daemon|firewall|IPv4))", "systemd journal"),
        entry("firewall-rewritten", r"systemd\[1\]: (?:Stopp(?:ing|ed)|Start(?:ing|ed)|Reload(?:ing|ed)) (?P<unit>firewalld|ufw|iptables|nftables|netfilter-persistent|csf|shorewall)\.service\b", "systemd journal"),
        entry("firewall-rewritten", r"(?P<unit>netfilter-persistent)\[\d+\]: run-parts: executing \S+ (?P<what>flush|start|stop|restart|reload)\b", "iptables-persistent, netfilter-persistent(8)"),
        entry("firewall-port-warning", r"[Ff]irewalld is active, please ensure ports \[(?P<ports>[\d ]+)\] are open", "kubeadm preflight"),
        entry("firewall-zone", r"^(?P<zone>public|trusted|internal|external|dmz|home|work|drop|block|nm-shared|docker|libvirt|kubernetes|k8s)(?: \((?P<flags>active|default|default, active|[^)]*)\))\s*$", "firewall-cmd --list-all"),
        entry("firewall-zone-line", r"^\s+(?P<key>interfaces|sources|services|ports|target|masquerade|forward|rich rules):(?:\s+(?P<value>\S.*?))?\s*$", "firewall-cmd --list-all"),
        entry("ufw-default", r"^\s*Default: (?P<incoming>\w+) \(incoming\), (?P<outgoing>\w+) \(outgoing\), (?P<routed>\w+) \(routed\)", "ufw status verbose"),
        entry("ufw-default", r"^\s*DEFAULT_FORWARD_POLICY=\"?(?P<routed>DROP|REJECT|ACCEPT)", "/etc/default/ufw"),
        entry("firewalld-rpfilter", r"^\s*IPv6_rpfilter\s*=\s*(?P<value>yes|no|strict|loose\S*)", "firewalld.conf(5)"),
        entry("firewalld-backend", r"^\s*FirewallBackend\s*=\s*(?P<value>nftables|iptables)", "firewalld.conf(5)"),
        entry("nixos-rpfilter", r"^\s*(?:networking\.)?firewall\.checkReversePath\s*=\s*(?P<value>true|false|\"(?:strict|loose)\")", "NixOS networking.firewall"),
        entry("vpn-up", r"(?P<client>nordvpnd?|mullvad(?:-daemon)?|expressvpnd?|protonvpn|openvpn|warp-svc|pangpa|GlobalProtect|vpnagentd|tailscaled)(?:\[\d+\])?: .*(?:[Cc]onnected|[Ff]irewall|[Kk]ill ?switch|DNS|[Ii]nitialization Sequence Completed)", "VPN clients"),
        entry("vpn-status", r"^\s*(?:Status|Tunnel status|Connection|Kill Switch|Lockdown mode|Firewall|DNS): (?P<value>Connected|enabled|Always-on)\b", "nordvpn status, mullvad status"),
    ),
    priority=21,
)  # fmt: skip
