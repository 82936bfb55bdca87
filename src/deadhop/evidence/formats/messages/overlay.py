"""Overlay and tunnel daemons: Weave, flannel, tailscale, container runtimes with an MTU option."""

from __future__ import annotations

from deadhop.evidence.formats.messages import catalogue, entry

FORMAT = catalogue(
    "overlay",
    (
        entry(
            "overlay-frame-too-big",
            r"[Dd]ropping too big (?:DF )?(?:\w+ )?frame.*?frame len: ?(?P<length>\d+) ?; ?effective PMTU: ?(?P<mtu>\d+)",
            "weave router/sleeve.go",
        ),
        entry(
            "overlay-frame-too-big",
            r"[Dd]ropping too big (?:DF )?(?:\w+ )?frame \((?P<src>[\d.]+) -> (?P<dst>[\d.]+)\): PMTU= ?(?P<mtu>\d+)",
            "weave router/sleeve.go",
        ),
        entry(
            "effective-mtu",
            r"Effective MTU verified at (?P<mtu>\d+)|Discovered (?:remote )?MAC|Setting MTU to (?P<mtu2>\d+)",
            "weave router/sleeve.go",
        ),
        entry("flannel-subnet", r"FLANNEL_MTU=(?P<mtu>\d+)", "flannel /run/flannel/subnet.env"),
        entry(
            "daemon-mtu",
            r"(?:dockerd|docker daemon|podman system service)\b[^\n]*--mtu[= ](?P<mtu>\d+)",
            "dockerd(8) --mtu",
        ),
        entry("daemon-mtu", r"^\s*(?:-\s*)?[\"']?--mtu[= ](?P<mtu>\d{3,4})[\"']?,?\s*$", "dockerd(8) --mtu"),
        entry(
            "daemon-mtu", r"DOCKER_OPTS=.*--mtu[= ](?P<mtu>\d+)|MTU_VALUE\W+(?P<mtu2>\d+)", "dockerd(8) --mtu"
        ),
        entry(
            "network-mtu-option",
            r"com\.docker\.network\.driver\.mtu[\"']?\s*[:=]\s*[\"']?(?P<mtu>\d+)",
            "Docker bridge driver options",
        ),
        entry("user-network", r"docker network create (?P<args>.*)", "docker network create"),
        entry(
            "underlay-mtu",
            r"(?:network|subnet|VPC|provider|underlay|link)[\w ]{0,20} MTU (?:is|of|:|=) ?(?P<mtu>\d{4,5})|^\s*\|\s*mtu\s*\|\s*(?P<mtu2>\d+)\s*\|",
            "openstack network show, provider documentation",
        ),
        entry(
            "mss-clamp",
            r"TCPMSS (?:clamp to PMTU|set (?P<mss>\d+))|--clamp-mss-to-pmtu|--set-mss (?P<mss2>\d+)",
            "xt_TCPMSS",
        ),
    ),
    priority=38,
)
