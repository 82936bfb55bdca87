"""Calico: policies cut down to their ``spec``, and profiles, which show the labels of a namespace.

Whole objects come as other Kubernetes objects do (``kube_objects``); ``evidence/calico.py`` says what they mean.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from deadhop.evidence import calico
from deadhop.evidence.asked import operands, option
from deadhop.evidence.format import Context, Locate, ValueFormat
from deadhop.evidence.formats.kube_objects import FORMAT as OBJECTS
from deadhop.model.observed.kube import Namespace
from deadhop.model.record import Record


def _match(value: Any) -> bool:
    return isinstance(value, dict) and "kind" not in value and calico.is_policy(value)


def _read(value: Any, locate: Locate, context: Context) -> Iterable[Record]:
    argv = context.command.argv if context.command else ()
    words = operands(argv, "get")
    meta = value.get("metadata") if isinstance(value.get("metadata"), dict) else {}
    told = {"name": words[1] if len(words) == 2 else "", "namespace": option(argv, "-n", "--namespace")}
    whole = {
        "kind": "NetworkPolicy",
        "apiVersion": "projectcalico.org/v3",
        "metadata": {**{k: v for k, v in told.items() if v}, **meta},
        "spec": value["spec"] if isinstance(value.get("spec"), dict) else value,
    }
    yield from OBJECTS.read(whole, locate, context)


def _match_profile(value: Any) -> bool:
    return isinstance(value, dict) and value.get("kind", "Profile") == "Profile" and calico.profile(value) is not None  # fmt: skip


def _read_profile(value: Any, locate: Locate, context: Context) -> Iterable[Record]:
    if found := calico.profile(value):
        name, labels = found
        yield Namespace(
            source=locate(), where=context.where, kind="Namespace", name=name, labels=tuple(sorted(labels.items()))
        )  # fmt: skip


FORMATS = (
    ValueFormat("calico-policy", _match, _read, priority=15),
    ValueFormat("calico-profile", _match_profile, _read_profile, priority=15),
)
