"""Small lines of node tools: iptables' backend warnings, rule changes of ``ip monitor``, a file below /proc/sys that is missing."""

from __future__ import annotations

from deadhop.evidence.formats.messages import catalogue, entry

FORMATS = (
    catalogue(
        "iptables",
        (
            entry("other-backend", r"^\s*#? ?[Ww]arning: (?P<tool>ip6?tables(?:-legacy|-nft)?) tables present, use (?P<use>ip6?tables(?:-legacy|-nft)?(?:-save)?) to see them", "iptables xtables-nft"),
            entry("backend", r"^\s*(?P<tool>ip6?tables(?:-save)?) v(?P<version>[\d.]+)(?: \((?P<backend>nf_tables|legacy)\))?\s*$", "iptables --version; before 1.8 there is the legacy backend alone"),
            entry("no-chain", r"iptables(?:\S*)?: No chain/target/match by that name|^Error: No such file or directory(?:; did you mean .*)?$|Chain '(?P<chain>[\w.-]+)' does not exist", "iptables"),
        ),
        priority=16,
    ),
    catalogue(
        "ip-monitor",
        (
            entry("rule-deleted", r"^\s*(?:\[[\dT:.-]+\]\s*)?(?:\[RULE\])?Deleted\s+(?P<pref>\d+):\s+(?:not )?from (?P<from>\S+)(?: to (?P<to>\S+))?.*?lookup (?P<table>\S+)", "ip-monitor(8)"),
            entry("rule-added", r"^\s*(?:\[[\dT:.-]+\]\s*)?\[RULE\](?P<pref>\d+):\s+(?:not )?from (?P<from>\S+)(?: to (?P<to>\S+))?.*?lookup (?P<table>\S+)", "ip-monitor(8)"),
            entry("route-deleted", r"^\s*(?:\[[\dT:.-]+\]\s*)?(?:\[ROUTE\])?Deleted\s+(?:local |unicast |blackhole )?(?P<dst>default|[\d.]+(?:/\d+)?|[\da-f:]+(?:/\d+)?)\s.*?dev (?P<dev>\S+)", "ip-monitor(8)"),
        ),
        priority=16,
    ),
    catalogue(
        "init",
        (
            entry("sysctl-missing", r"(?:cannot stat|can't open|can't create|open|stat|cannot (?:create|open)|[Nn]o such file[^/]*) ?'?\"?(?P<path>/proc/sys/[\w/.-]+)['\"]?(?::|,)? ?(?:[Nn]o such file or directory|nonexistent directory)", "procps sysctl, busybox, Go os.PathError"),
            entry("sysctl-missing", r"(?P<path>/proc/sys/[\w/.-]+)['\"]?: (?:cannot create: )?(?:[Nn]o such file or directory|nonexistent directory)", "sh"),
            entry("sysctl-missing", r"sysctl: (?:error: )?(?:unknown key|'?(?P<path>net\.[\w./-]+)'? is an unknown key)(?: '(?P<path2>[\w./-]+)')?", "procps, busybox sysctl"),
            entry("sysctl-denied", r"(?:open|permission denied on key|setting key) ?'?\"?(?P<path>(?:/proc/sys/|net\.)[\w/.-]+)['\"]?(?::|,)? ?(?:permission denied|read-only file system|Read-only file system|Permission denied)", "procps sysctl"),
        ),
        priority=17,
    ),
    catalogue(
        "jvm",
        (entry("jvm-dns-cache", r"^\s*(?:-D)?(?:networkaddress\.cache\.ttl|sun\.net\.inetaddr\.ttl)\s*[=:]\s*(?P<ttl>-?\d+)\s*$|\s-Dsun\.net\.inetaddr\.ttl=(?P<ttl2>-?\d+)\b", "JDK conf/security/java.security, sun.net.InetAddressCachePolicy"),),
        priority=17,
    ),
)  # fmt: skip
