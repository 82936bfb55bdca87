"""State that a transcript shows as JSON, and hosts files: the same records as from a namespace's folder."""

from __future__ import annotations

from deadhop.evidence import read_bytes
from deadhop.model.net import Address, Link, Listing, Route, Rule, Sysctl
from deadhop.model.netfilter import NftRuleset
from deadhop.model.observed.dns import HostsEntry

TRANSCRIPT = """\
$ ip -j rule
[{"priority":0,"src":"all","table":"local"},{"priority":9,"src":"10.0.0.0","srclen":24,"table":"7"}]
$ ip -6 -j rule
[{"priority":0,"src":"all","table":"local"}]
$ ip -j route
[{"dst":"default","gateway":"10.0.0.1","dev":"eth0","flags":[]},{"dst":"fd00::/64","dev":"eth0","flags":[]}]
$ ip -j addr show eth0
[{"ifindex":3,"ifname":"eth0","mtu":1450,"flags":["UP"],"addr_info":[{"family":"inet","local":"10.0.0.5","prefixlen":24,"scope":"global"}]}]
$ nft -j list ruleset
{"nftables":[{"metainfo":{"json_schema_version":1}},{"table":{"family":"inet","name":"t","handle":1}}]}
$ cat /etc/hosts
127.0.0.1 localhost
10.0.0.7 db.local db   # by hand
"""


def of(kind: type, text: str = TRANSCRIPT) -> list:  # type: ignore[type-arg]
    return [r for r in read_bytes("session.txt", text.encode()).records if isinstance(r, kind)]


def test_rules_have_the_family_of_their_command() -> None:
    assert [(r.family, r.priority, r.src) for r in of(Rule)] == [
        (4, 0, "all"),
        (4, 9, "10.0.0.0/24"),
        (6, 0, "all"),
    ]


def test_routes_and_devices() -> None:
    assert [(r.family, r.dst) for r in of(Route)] == [(4, "default"), (6, "fd00::/64")]
    assert [(link.ifname, link.mtu) for link in of(Link)] == [("eth0", 1450)]
    assert [a.local for a in of(Address)] == ["10.0.0.5"]
    assert {"rules4", "rules6", "routes4"} <= {listing.what for listing in of(Listing)}


def test_sources_are_lines_of_the_transcript() -> None:
    assert [r.source.line for r in of(Rule)] == [2, 2, 4]


def test_ruleset() -> None:
    assert [t.name for r in of(NftRuleset) for t in r.tables] == ["t"]


def test_hosts_file() -> None:
    assert [(h.address, h.names) for h in of(HostsEntry)] == [
        ("127.0.0.1", ("localhost",)),
        ("10.0.0.7", ("db.local", "db")),
    ]


def test_addresses_beside_words_are_no_hosts_file() -> None:
    assert of(HostsEntry, "10.0.0.7 answered\n10.0.0.8 did not\n") == []


def test_a_devices_setting_cut_down_to_its_own_name() -> None:
    shapes = {
        "# cd /proc/sys/net/ipv4/conf && grep . */rp_filter\nall/rp_filter:1\nlxc1a/rp_filter:0\n",
        "# grep . /proc/sys/net/ipv4/conf/*/rp_filter | cut -d/ -f7-\nall/rp_filter:1\nlxc1a/rp_filter:0\n",
        "# sysctl -a | grep '\\.rp_filter' | sed 's/net.ipv4.conf.//'\nall.rp_filter = 1\nlxc1a.rp_filter = 0\n",
        "# for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo $f $(cat $f); done | sed 's#.*conf/##'\n"
        "all/rp_filter 1\nlxc1a/rp_filter 0\n",
        "# head /proc/sys/net/ipv4/conf/{all,lxc1a}/rp_filter\n==> /proc/sys/net/ipv4/conf/all/rp_filter <==\n1\n\n"
        "==> /proc/sys/net/ipv4/conf/lxc1a/rp_filter <==\n0\n",
        "# find /proc/sys/net/ipv4/conf -name rp_filter -print -exec cat {} \\;\n"
        "/proc/sys/net/ipv4/conf/all/rp_filter\n1\n/proc/sys/net/ipv4/conf/lxc1a/rp_filter\n0\n",
    }
    for text in shapes:
        assert [(s.key, s.value) for s in of(Sysctl, text)] == [
            ("net.ipv4.conf.all.rp_filter", "1"),
            ("net.ipv4.conf.lxc1a.rp_filter", "0"),
        ], text
