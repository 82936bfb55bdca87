"""How long a learned address lives: cache, zombies, the two GCs, restart."""

from __future__ import annotations

import json

import pytest

from deadhop.fqdn.cache import DNSCache
from deadhop.fqdn.clock import ZERO, from_rfc3339, rfc3339_milli, rfc3339_nano, stamp_milli
from deadhop.fqdn.gc import Endpoint, cache_clean, conntrack_gc, dns_gc, next_conntrack_interval, restore
from deadhop.fqdn.identity import NameManager
from deadhop.fqdn.options import (
    LATEST,
    V1_11,
    V1_12,
    V1_13,
    V1_16,
    V1_17,
    V1_18,
    V1_19,
    VERSIONS,
    Options,
    Version,
)
from deadhop.fqdn.selectors import FQDNSelector
from deadhop.fqdn.zombies import WARN_MAX_DEFERRED, WARN_PER_HOST, DNSZombieMappings, Zombie

NAME = "s3.example.com."


def alive(zombies: DNSZombieMappings) -> set[str]:
    return {zombie.ip for zombie in zombies.dump_alive()}


def test_each_address_keeps_the_entry_that_expires_last() -> None:
    cache = DNSCache()
    for ttl in range(1, 5):
        cache.update(0, "test.com", [f"1.1.1.{ttl}", f"2.2.2.{ttl}"], ttl)
        cache.update(0, "test.com", [f"1.1.1.{ttl}"], ttl // 2)
    for now in range(1, 5):
        wanted = [f"{net}.{ttl}" for net in ("1.1.1", "2.2.2") for ttl in range(now, 5)]
        assert cache.lookup("test.com", now) == wanted


def test_update_says_new_extended_or_nothing() -> None:
    cache = DNSCache(1)
    assert cache.update(0, NAME, ["1.2.3.4"], 100) == (True, True)
    assert cache.update(0, NAME, ["1.2.3.4", "1.2.3.5"], 100) == (True, True)
    assert cache.update(0, NAME, ["1.2.3.4", "1.2.3.5"], 101) == (True, False)
    assert cache.update(0, NAME, ["1.2.3.4", "1.2.3.5"], 101) == (False, False)
    assert cache.update(0, NAME, ["1.2.3.4"], 1) == (False, False)


def test_lookups_use_the_time_of_the_last_gc() -> None:
    cache = DNSCache()
    assert cache.gc(100) == []
    cache.update(0, NAME, ["1.1.1.1"], 10)
    assert cache.lookup(NAME) == ["1.1.1.1"]
    assert cache.last_cleanup == 10
    cache.update(0, NAME, ["2.2.2.2"], 60)
    assert cache.gc(30) == [NAME]
    assert cache.lookup(NAME) == ["2.2.2.2"]
    cache.update(0, NAME, ["3.3.3.3"], 5)
    assert cache.last_cleanup == 5
    assert cache.lookup(NAME) == ["2.2.2.2", "3.3.3.3"]
    assert cache.gc(30) == [NAME]


def test_gc_may_end_a_second_late_and_so_expire_early() -> None:
    cache = DNSCache()
    cache.update(0.9, NAME, ["1.1.1.1"], 10)
    cache.update(0, NAME, ["2.2.2.2"], 5)
    cache.gc(10.2)
    assert cache.last_cleanup == 11
    assert cache.lookup(NAME) == []


def test_ttl_zero_lives_until_the_next_gc() -> None:
    cache = DNSCache()
    cache.update(5, NAME, ["1.1.1.1"], 0)
    assert cache.lookup(NAME) == ["1.1.1.1"]
    zombies = DNSZombieMappings(LATEST)
    assert cache.gc(60, zombies) == [NAME]
    assert zombies.dump() == [Zombie("1.1.1.1", (NAME,), ZERO, 60)]


def test_force_expire() -> None:
    cache = DNSCache()
    for number in (1, 2, 3):
        cache.update(0, f"test{number}.com", ["1.1.1.1", f"2.2.2.{number}"], 5)
    assert cache.force_expire(1, lambda name: name == "notatest.com") == []
    assert cache.force_expire(None) == []
    assert cache.force_expire(1, lambda name: name == "test1.com") == ["test1.com"]
    assert cache.lookup_ip("1.1.1.1") == ["test2.com", "test3.com"]
    assert cache.force_expire(1) == ["test2.com", "test3.com"]
    assert (cache.forward, cache.reverse, cache.dump()) == ({}, {}, [])


def test_over_the_limit_goes_what_expires_first_with_its_future_expiry() -> None:
    cache = DNSCache(100, 5)
    zombies = DNSZombieMappings(LATEST, 10, 5)
    for number in range(1, 21):
        cache.update(number - 20, "test.com", [f"1.1.1.{number}"], 0)
    assert len(cache.lookup("test.com")) == 20
    assert cache.gc(0, zombies) == ["test.com"]
    assert cache.lookup("test.com") == [f"1.1.1.{n}" for n in range(16, 21)]
    assert {z.ip: z.delete_pending_at for z in zombies.dump()}["1.1.1.15"] == 95
    swept = zombies.gc()
    assert {z.ip for z in swept.alive} == {f"1.1.1.{n}" for n in range(11, 16)}
    assert len(swept.dead) == 10


def test_no_limit_flags_nothing() -> None:
    cache = DNSCache()
    cache.update(0, NAME, [f"1.1.1.{n}" for n in range(5)], 9)
    assert cache.cleanup_over_limit() == ([], [])
    limited = DNSCache(0, 5)
    limited.over_limit["gone."] = None
    assert limited.cleanup_over_limit() == ([], [])


def test_a_wild_clock_costs_no_time() -> None:
    cache = DNSCache()
    cache.update(-6e10, NAME, ["1.1.1.1"], 1)
    assert cache.gc(1.7e9) == [NAME]


def test_saved_json() -> None:
    cache = DNSCache()
    cache.update(1.5, NAME, ["1.1.1.1", "2001:db8::1"], 0)
    saved = json.loads(cache.to_json())
    assert saved == [
        {
            "fqdn": NAME,
            "lookup-time": "1970-01-01T00:00:01.5Z",
            "expiration-time": "1970-01-01T00:00:01.5Z",
            "ips": ["1.1.1.1", "2001:db8::1"],
        }
    ]
    again = DNSCache()
    assert again.load_json(json.dumps([*saved, {"fqdn": "x."}, 7, {**saved[0], "ips": ["nonsense"]}])) != []
    assert again.lookup(NAME) == ["1.1.1.1", "2001:db8::1"]


@pytest.mark.parametrize("version", VERSIONS)
def test_conntrack_passes_before_death(version: Version) -> None:
    zombies = DNSZombieMappings(version)
    zombies.upsert(0, "1.1.1.1", NAME)
    zombies.set_ct_gc_time(1)
    assert ("1.1.1.1" in alive(zombies)) is (version >= V1_16)
    zombies.set_ct_gc_time(2)
    assert not alive(zombies)


@pytest.mark.parametrize("version", VERSIONS)
def test_idle_grace_extends_the_due_time_since_1_16(version: Version) -> None:
    zombies = DNSZombieMappings(version, idle_grace=60)
    zombies.upsert(0, "1.1.1.1", NAME)
    for start in (10, 20, 60):
        zombies.set_ct_gc_time(start)
    assert ("1.1.1.1" in alive(zombies)) is (version >= V1_16)
    zombies.set_ct_gc_time(61)
    assert not alive(zombies)


@pytest.mark.parametrize("version", VERSIONS)
def test_new_zombies_count_as_seen_by_the_last_pass_since_1_17(version: Version) -> None:
    zombies = DNSZombieMappings(version)
    zombies.set_ct_gc_time(7)
    zombies.upsert(3, "1.1.1.1", NAME)
    assert zombies.dump()[0].alive_at == (7 if version >= V1_17 else ZERO)
    zombies.set_ct_gc_time(9)
    zombies.upsert(4, "1.1.1.1", "b.", NAME)
    assert zombies.dump() == [Zombie("1.1.1.1", (NAME, "b."), 9 if version >= V1_17 else ZERO, 4)]


def test_an_upsert_does_not_reset_the_revision() -> None:
    zombies = DNSZombieMappings(V1_16)
    zombies.upsert(0, "1.1.1.1", NAME)
    zombies.set_ct_gc_time(1)
    zombies.upsert(1, "1.1.1.1", NAME)
    zombies.set_ct_gc_time(2)
    assert not alive(zombies)


def test_one_open_connection_keeps_all_addresses_of_its_names() -> None:
    zombies = DNSZombieMappings(LATEST)
    for ip, name in (("1.1.1.1", "test.com"), ("1.1.1.2", "test.com"), ("3.3.3.3", "pizza.com")):
        zombies.upsert(0, ip, name)
    zombies.set_ct_gc_time(300)
    zombies.mark_alive(302, "1.1.1.2")
    zombies.set_ct_gc_time(301)
    swept = zombies.gc()
    assert {z.ip for z in swept.alive} == {"1.1.1.1", "1.1.1.2"}
    assert {z.ip for z in swept.dead} == {"3.3.3.3"}
    assert "3.3.3.3" not in zombies


def limited(version: Version) -> set[str]:
    zombies = DNSZombieMappings(version, per_host_limit=2)
    for number in range(1, 5):
        zombies.upsert(number, f"1.1.1.{number}", NAME)
    zombies.set_ct_gc_time(100)
    zombies.mark_alive(200, "1.1.1.1")
    zombies.set_ct_gc_time(200)
    return {z.ip for z in zombies.gc().alive}


def test_per_name_limit_on_zombies_by_version() -> None:
    assert limited(V1_11) == {"1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"}
    assert limited(V1_12) == limited(V1_11)
    assert limited(V1_13) == {"1.1.1.1", "1.1.1.4"}
    assert limited(LATEST) == {"1.1.1.1", "1.1.1.4"}


def test_an_address_evicted_for_one_name_is_not_alive_for_another() -> None:
    zombies = DNSZombieMappings(LATEST, per_host_limit=1)
    zombies.upsert(0, "1.1.1.1", "test.com")
    zombies.upsert(0, "2.2.2.2", "somethingelse.com", "test.com")
    zombies.upsert(0, "3.3.3.3", "anothertest.com")
    swept = zombies.gc()
    assert {z.ip for z in swept.alive} == {"2.2.2.2", "3.3.3.3"}
    assert [z.ip for z in swept.dead] == ["1.1.1.1"]


def test_deferred_deletes_and_their_warning() -> None:
    zombies = DNSZombieMappings(LATEST, 2)
    zombies.upsert(0, "1.1.1.1", "a.")
    zombies.upsert(1, "2.2.2.2", "b.")
    zombies.upsert(2, "3.3.3.3", "c.")
    swept = zombies.gc()
    assert [z.ip for z in swept.dead] == ["1.1.1.1"]
    assert swept.warnings == ()
    zombies.upsert(0, "1.1.1.1", "a.")
    zombies.mark_alive(4, "1.1.1.1")
    zombies.mark_alive(4, "2.2.2.2")
    zombies.set_ct_gc_time(4)
    assert [z.ip for z in zombies.gc().dead] == ["3.3.3.3"]
    none = DNSZombieMappings(LATEST, 0)
    none.set_ct_gc_time(1)
    none.upsert(0, "1.1.1.1", "a.")
    none.mark_alive(5, "1.1.1.1")
    assert none.gc().warnings == (WARN_MAX_DEFERRED,)
    crowded = DNSZombieMappings(LATEST, 10, 1)
    for ip in ("1.1.1.1", "1.1.1.2"):
        crowded.upsert(0, ip, "a.")
        crowded.mark_alive(5, ip)
    assert crowded.gc().warnings == (WARN_PER_HOST,)


def test_force_expire_of_zombies() -> None:
    zombies = DNSZombieMappings(LATEST)
    zombies.upsert(5, "1.1.1.1", "a.", "b.")
    assert zombies.force_expire(4) == []
    assert zombies.force_expire(5, lambda name: name == "a.") == ["a."]
    zombies.force_expire_by_name_ip(9, "b.", ["2.2.2.2"])
    assert "1.1.1.1" in zombies
    zombies.force_expire_by_name_ip(9, "b.", ["1.1.1.1"])
    assert len(zombies) == 0


def test_a_restart_takes_two_passes_before_any_deletion() -> None:
    zombies = DNSZombieMappings(LATEST)
    zombies.set_ct_gc_time(1)
    zombies.upsert(0, "1.1.1.1", NAME)
    saved = json.loads(zombies.to_json())
    assert saved["deletes"]["1.1.1.1"]["delete-pending-at"] == "1970-01-01T00:00:00Z"
    again = DNSZombieMappings(LATEST)
    assert again.load({**saved, "x": 1}) == []
    again.set_ct_gc_time(5)
    assert alive(again) == {"1.1.1.1"}
    again.set_ct_gc_time(6)
    assert not alive(again)
    assert again.load({"deletes": {"1.1.1.1": {"names": 3}}}) != []


OPTIONS = Options(min_ttl=0, max_ips_per_hostname=50)


def learn(manager: NameManager, endpoint: Endpoint, now: float, ip: str, ttl: int = 30) -> None:
    endpoint.history.update(now, NAME, [ip], ttl)
    manager.update(now, NAME, [ip], ttl, endpoint.history)


@pytest.mark.parametrize("version", VERSIONS)
def test_lookup_then_connection_then_gone(version: Version) -> None:
    manager, endpoint = NameManager(version), Endpoint(1, version, OPTIONS)
    manager.register(FQDNSelector(match_name="s3.example.com"))
    learn(manager, endpoint, 0, "1.1.1.1")
    learn(manager, endpoint, 40, "2.2.2.2")
    dns_gc(manager, [endpoint], 60)
    assert manager.cache.lookup(NAME) == ["1.1.1.1", "2.2.2.2"]
    assert [z.ip for z in endpoint.zombies.dump()] == ["1.1.1.1"]
    conntrack_gc([endpoint], [(1, "1.1.1.1")], 100)
    dns_gc(manager, [endpoint], 120)
    assert manager.cache.lookup(NAME) == ["1.1.1.1", "2.2.2.2"]
    conntrack_gc([endpoint], [], 130, complete=False)
    for start in (140, 150, 160):
        conntrack_gc([endpoint], [], start)
    result = dns_gc(manager, [endpoint], 180)
    assert result.names == [NAME]
    assert result.log_fields == {"lenEntries": 1, "entries": NAME}
    assert manager.cache.lookup(NAME) == []
    assert manager.ipcache() == {}


def test_leak_sweep_since_1_18_5() -> None:
    for version in (*VERSIONS, Version(1, 18, 5)):
        manager = NameManager(version)
        manager.update(0, NAME, ["1.1.1.1"], 30)
        dns_gc(manager, [], 60)
        assert bool(manager.cache.forward) is (version < Version(1, 18, 5)), version


def test_gc_adds_no_pair_since_1_19() -> None:
    for version in (V1_18, V1_19):
        manager, endpoint = NameManager(version), Endpoint(1, version, OPTIONS)
        learn(manager, endpoint, 0, "1.1.1.1", 10)
        endpoint.history.update(1, NAME, ["3.3.3.3"], 600)
        dns_gc(manager, [endpoint], 60)
        assert ("3.3.3.3" in manager.cache.reverse) is (version < V1_19)


def test_cache_clean_does_not_sanitise_and_brings_connections_back() -> None:
    manager, endpoint = NameManager(LATEST), Endpoint(1, LATEST, OPTIONS)
    manager.register(FQDNSelector(match_pattern="*.example.com"))
    learn(manager, endpoint, 0, "1.1.1.1")
    assert cache_clean(manager, [endpoint], 5, lambda name: name == "s3.example.com") == []
    assert cache_clean(manager, [endpoint], 5) == [NAME]
    assert manager.ipcache() == {}
    endpoint.zombies.upsert(9, "2.2.2.2", NAME)
    cache_clean(manager, [endpoint], 7)
    assert manager.cache.lookup(NAME) == ["2.2.2.2"]


def test_restore_brings_history_zombies_and_pre_cache() -> None:
    manager, endpoint = NameManager(V1_19), Endpoint(1, V1_19, OPTIONS)
    manager.register(FQDNSelector(match_pattern="*.example.com"))
    endpoint.history.update(0, NAME, ["1.1.1.1"], 30)
    endpoint.history.update(0, NAME, ["2.2.2.2"], 3000)
    endpoint.zombies.upsert(0, "3.3.3.3", "old.example.com.")
    pre = DNSCache()
    pre.update(0, "pre.example.com.", ["4.4.4.4"], 10)
    restore(manager, [endpoint], 100, pre)
    assert set(manager.ipcache()) == {"1.1.1.1/32", "2.2.2.2/32", "3.3.3.3/32", "4.4.4.4/32"}
    assert "1.1.1.1" in endpoint.zombies
    dns_gc(manager, [endpoint], 160)
    assert "4.4.4.4" not in manager.cache.reverse


def test_conntrack_interval() -> None:
    assert next_conntrack_interval(300, 0.01) == 450
    assert next_conntrack_interval(300, 0.1) == 300
    assert next_conntrack_interval(300, 0.5) == 150
    assert next_conntrack_interval(12, 1.0) == 10
    assert next_conntrack_interval(40000, 0) == 43200
    assert next_conntrack_interval(300, 0, maximum=360) == 360


def test_times_as_go_prints_them() -> None:
    moment = from_rfc3339("2023-02-10T18:16:05.842Z")
    assert rfc3339_milli(moment) == "2023-02-10T18:16:05.842Z"
    assert rfc3339_nano(moment) == "2023-02-10T18:16:05.842Z"
    assert rfc3339_milli(from_rfc3339("2023-02-10T18:16:05.999999+01:00")) == "2023-02-10T17:16:05.999Z"
    assert from_rfc3339("0001-01-01T00:00:00Z") == ZERO
    assert rfc3339_nano(ZERO) == "0001-01-01T00:00:00Z"
    assert stamp_milli(1234.5678) == "Jan  1 00:20:34.567"
    for text in ("", "yesterday", "2023-02-10T18:16:05"):
        with pytest.raises(ValueError):
            from_rfc3339(text)
