"""Whose configuration a reading is, and of what it holds all."""

from __future__ import annotations

import json

import pytest

from deadhop.model.observed.proxy import ProxyDump, ProxyResource
from deadhop.snapshot.proxies import by_proxy

from . import dumps as d

LISTENERS = json.dumps(d.camel([d.virtual_outbound(), d.sidecar_listener()]), indent=2)
BARE = {"configs": d.config_dump()["configs"][1:]}


def only(*documents: tuple[str, object]) -> ProxyDump:
    found = [r for r in d.records(*documents) if isinstance(r, ProxyDump)]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(
    "command, owner, whole",
    [
        ("istioctl pc listeners caller.web -o json", "web/caller", True),
        ("istioctl proxy-config listener caller -n web -o json", "web/caller", True),
        ("istioctl -n web pc l pod/caller -ojson", "web/caller", True),
        ("istioctl pc listeners caller.web --port 80 -o json", "web/caller", False),
        ("istioctl pc listeners deploy/caller -n web -o json", "", True),
        (
            "kubectl exec -n web caller -c istio-proxy -- pilot-agent request GET config_dump",
            "web/caller",
            False,
        ),
    ],
)
def test_by_the_command(command: str, owner: str, whole: bool) -> None:
    dump = only(("session.txt", f"$ {command}\n{LISTENERS}\n"))
    assert (dump.proxy, "listener" in dump.whole) == (owner, whole)


def test_by_the_bootstraps_node() -> None:
    dump = only(("x.json", d.config_dump()))
    assert (dump.proxy, dump.role, dump.envoy) == ("web/caller", "sidecar", "1.40.0")
    assert set(dump.whole) == {"listener", "route", "cluster", "endpoints"}
    assert dump.time == pytest.approx(1772442000)


def test_by_a_bug_reports_folder() -> None:
    dump = only(("bug-report/proxies/web/caller/config_dump?include_eds", BARE))
    assert dump.proxy == "web/caller"


def test_by_the_files_name() -> None:
    found = d.records(("dumps/caller.config.json", BARE))
    states = by_proxy(
        [r for r in found if isinstance(r, ProxyDump)],
        [r for r in found if isinstance(r, ProxyResource)],
        ["web/caller", "web/call", "shop/orders"],
    )
    assert list(states) == ["web/caller"]


def test_a_mask_and_a_name_pattern_make_it_a_part() -> None:
    for query in ("mask=dynamic_active_clusters", "resource=dynamic_listeners&name_regex=.*80"):
        text = f"$ kubectl exec -n web caller -- curl -s 'localhost:15000/config_dump?{query}'\n{json.dumps(BARE, indent=1)}"
        assert only(("s.txt", text)).whole == ()


def test_a_cut_off_dump_is_a_part() -> None:
    text = json.dumps(d.config_dump(), indent=1)
    assert only(("s.txt", text[: len(text) // 2])).whole == ()


def test_a_dump_of_many_lines_in_a_session_is_read_whole() -> None:
    many = [d.cluster(f"outbound|{n}||x.shop.svc.cluster.local") for n in range(900)]
    text = json.dumps(d.config_dump(clusters=[*many, *d.builtin()]), indent=1)
    assert text.count("\n") > 20_000
    dump = only(("s.txt", f"$ kubectl exec caller -- curl localhost:15000/config_dump\n{text}\n$ date\n"))
    assert "cluster" in dump.whole


def test_states_versions_and_errors() -> None:
    more = [{"name": "bad", "error_state": {"details": "Error adding listener: duplicate", "last_update_attempt": d.UPDATED, "version_info": "v8"}}]  # fmt: skip
    found = [r for r in d.records(("x.json", d.config_dump(more=more))) if isinstance(r, ProxyResource)]
    bad = next(r for r in found if r.state == "rejected")
    assert (bad.kind, bad.name, bad.version, bad.details) == (
        "listener",
        "bad",
        "v8",
        "Error adding listener: duplicate",
    )
    assert {r.version for r in found if r.state == "active"} == {"v7"}


def test_resources_asked_for_one_by_one() -> None:
    kind = "type.googleapis.com/envoy.admin.v3.ListenersConfigDump.DynamicListener"
    one = {
        "@type": kind,
        "name": "0.0.0.0_80",
        "active_state": {"version_info": "v7", "listener": d.sidecar_listener()},
    }
    found = d.records(("x.json", {"configs": [one]}))
    assert [r.name for r in found if isinstance(r, ProxyResource)] == ["0.0.0.0_80"]
    assert only(("x.json", {"configs": [one]})).whole == ()


def test_the_newest_whole_reading_counts() -> None:
    old = d.config_dump(clusters=[d.cluster("outbound|1||old")], updated="2026-03-01T09:00:00Z")
    new = d.config_dump(clusters=[d.cluster("outbound|2||new")], updated="2026-03-02T09:00:00Z")
    assert set(d.proxies(new, old)["web/caller"].clusters) == {"outbound|2||new"}
