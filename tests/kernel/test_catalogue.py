"""The catalogue of drop reasons and functions: complete for the running kernel, and its references exist."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from deadhop.causes.pages import slugs
from deadhop.cli.explain import command
from deadhop.kernel.btf import BtfError, running
from deadhop.model.drop_reasons import PREFIX, REASONS, find
from deadhop.model.kernel_functions import FUNCTIONS


def test_every_reason_of_the_running_kernel_is_in_the_catalogue() -> None:
    try:
        names = running().enum("skb_drop_reason").values()
    except BtfError as error:
        pytest.skip(str(error))
    assert {name.removeprefix(PREFIX) for name in names} - set(REASONS) == set()


def test_a_reason_is_found_with_and_without_prefix_in_any_case() -> None:
    assert find("skb_drop_reason_pkt_too_big") is find("PKT_TOO_BIG") is REASONS["PKT_TOO_BIG"]
    assert find("PKT_TOO_BGI") is None


def test_related_causes_exist() -> None:
    known = set(slugs())
    for reason in REASONS.values():
        assert set(reason.causes) <= known, reason.name


def test_versions_are_in_order() -> None:
    def version(text: str) -> tuple[int, ...]:
        return tuple(int(part) for part in text.split("."))

    for reason in REASONS.values():
        assert version(reason.since) >= (5, 17), reason.name
        assert not reason.until or version(reason.until) > version(reason.since), reason.name


def test_functions_name_known_reasons_and_causes() -> None:
    known = set(slugs())
    for function in FUNCTIONS.values():
        assert set(function.drops) <= set(REASONS), function.name
        assert set(function.causes) <= known, function.name


def test_most_functions_are_the_running_kernels_and_take_an_skb() -> None:
    """Not all: some are inlined here, some belong to modules that are not loaded. A made-up name would show."""
    try:
        btf = running()
    except BtfError as error:
        pytest.skip(str(error))
    here = dict(btf.functions_taking("sk_buff"))
    missing = sorted(set(FUNCTIONS) - set(here))
    assert len(missing) < len(FUNCTIONS) / 4, missing


def explained(name: str) -> str:
    done = CliRunner().invoke(command, [name])
    assert done.exit_code == 0, done.output
    return done.output


def test_explain_a_function() -> None:
    said = explained("ip_forward")
    assert "net/ipv4/ip_forward.c" in said
    assert "PKT_TOO_BIG: larger than the way out" in said
    assert "path-mtu-drops-df-udp-dns-response" in said
    assert explained("ip_forward[bridge]") == explained("ip_forward.isra.0") == said


@pytest.mark.parametrize("name", ["SKB_DROP_REASON_PKT_TOO_BIG", "pkt_too_big", "PKT_TOO_BIG"])
def test_explain_a_reason(name: str) -> None:
    said = explained(name)
    assert said.startswith("SKB_DROP_REASON_PKT_TOO_BIG")
    assert "Ip:FragFails" in said
    assert "since Linux 5.19" in said


def test_an_unknown_name_suggests_near_ones() -> None:
    for wrong, right in (
        ("ip_froward", "ip_forward"),
        ("PKT_TO_BIG", "PKT_TOO_BIG"),
        ("tofqdns-entry-expird", "tofqdns-entry-expired"),
    ):
        done = CliRunner().invoke(command, [wrong])
        assert done.exit_code == 2
        assert right in done.output
