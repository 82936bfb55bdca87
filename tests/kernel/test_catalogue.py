"""The catalogue of drop reasons and functions: complete for the running kernel, and its references exist."""

from __future__ import annotations

import pytest

from deadhop.causes.pages import slugs
from deadhop.kernel.btf import BtfError, running
from deadhop.model.drop_reasons import PREFIX, REASONS, find


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
