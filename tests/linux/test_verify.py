"""The model against the running kernel, where namespaces can be made."""

from __future__ import annotations

import pytest

from deadhop.lab.verify import KINDS, unavailable, verify
from deadhop.lab.verify.generate import generate


@pytest.mark.lab
@pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "available")
def test_random_topologies_agree_with_the_kernel() -> None:
    report = verify(random=len(KINDS) * 2, seed=424242)
    assert report.scenarios == []
    assert report.packets > 200
    assert report.unknown <= report.packets // 20


def test_a_seed_is_a_topology() -> None:
    for kind in KINDS:
        assert generate(7, kind) == generate(7, kind)
        assert generate(7, kind).scenario()
