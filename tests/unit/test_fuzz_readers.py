"""Every reader is total: on random lines, and on its own samples cut and mutated, it gives records or problems."""

from __future__ import annotations

import string
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deadhop import causes
from deadhop.diagnose.engine import diagnose
from deadhop.evidence.read import read_bytes
from deadhop.evidence.registry import registry
from deadhop.model.record import Problem, Record
from scenario import cases

FOLDER = Path(__file__).parent.parent / "scenarios"
SAMPLES = sorted(
    {text for path in FOLDER.rglob("*.md") for case in cases(path) for text in case.files.values()}
)
WORDS = sorted({word for text in SAMPLES for word in text.split()})

lines = st.lists(
    st.one_of(
        st.text(st.characters(codec="utf-8"), max_size=80),
        st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join),
        st.text(string.punctuation + string.digits + " ", max_size=60),
    ),
    max_size=12,
)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    text = draw(st.sampled_from(SAMPLES))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(text) - 1)))
        size = draw(st.integers(0, 30))
        text = (
            text[:at]
            + draw(st.sampled_from(["", "\n", " ", "{", "]", '"', "-", ":", "0", "...", "\x00", "é"]))
            + text[at + size :]
        )
    return text


def total(text: str) -> None:
    evidence = read_bytes("fuzz", text.encode("utf-8", "surrogatepass"))
    assert all(isinstance(r, Record) for r in evidence.records)
    assert all(isinstance(p, Problem) for p in evidence.problems)
    diagnosis = diagnose(evidence, causes.load())
    assert not [p for p in diagnosis.problems if p.kind == "internal"]


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(lines)
def test_random_lines(rows: list[str]) -> None:
    total("\n".join(rows))


@settings(max_examples=3000, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(mutated())
def test_mutated_samples(text: str) -> None:
    total(text)


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
        lambda v: st.one_of(
            st.lists(v, max_size=3),
            st.dictionaries(
                st.sampled_from(
                    [
                        *WORDS,
                        "kind",
                        "spec",
                        "metadata",
                        "items",
                        "verdict",
                        "l7",
                        "dns",
                        "flow",
                        "fqdn",
                        "ips",
                        "rules",
                        "ports",
                        "data",
                        "status",
                        "containers",
                        "subsets",
                        "endpoints",
                    ]
                ),
                v,
                max_size=4,
            ),
        ),
        max_leaves=20,
    )
)
def test_values_of_any_shape(value: object) -> None:
    import json

    total(json.dumps(value))
    for kind in (
        "Pod",
        "Service",
        "Endpoints",
        "EndpointSlice",
        "ConfigMap",
        "NetworkPolicy",
        "CiliumNetworkPolicy",
        "DestinationRule",
        "PeerAuthentication",
        "Ingress",
        "HTTPRoute",
        "Event",
        "List",
    ):
        total(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": kind,
                    "metadata": value,
                    "spec": value,
                    "data": value,
                    "items": value,
                    "subsets": value,
                    "endpoints": value,
                    "status": value,
                }
            )
        )


def test_every_format_is_named_once() -> None:
    found = registry()
    assert len({f.name for f in (*found.lines, *found.values, *found.binaries)}) == len(found.lines) + len(
        found.values
    ) + len(found.binaries)
