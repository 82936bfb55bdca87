"""Which C library a program runs on, from what it prints and from the image that it runs in.

The texts of ``gai_strerror`` differ: musl says "Name does not resolve" and "Try again" (src/network/gai_strerror.c),
glibc "Name or service not known" and "Temporary failure in name resolution". Images are known by their base.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from deadhop.model.observed.dns import DnsLookup
from deadhop.model.observed.http import DialFailure
from deadhop.model.observed.kube import KubeObject
from deadhop.model.observed.node import Ping
from deadhop.model.observed.shell import Attempt, CommandRun
from deadhop.model.record import Record

_MUSL_IMAGE = re.compile(
    r"(?:^|/)alpine(?::|$)|[:-](?:\d[\w.]*-)?alpine|-musl\b|(?:^|/)curlimages/curl|nicolaka/netshoot"
)
_GLIBC_IMAGE = re.compile(
    r"(?:^|/)(?:debian|ubuntu|centos|fedora|rockylinux|almalinux|amazonlinux|rhel|ubi\d|opensuse\S*)(?:[:/-]|$)|-(?:glibc|slim|bullseye|buster|stretch|bookworm|jammy|focal|jessie)\b|jessie-dnsutils|/dnsutils"
)
_MUSL_SAID = re.compile(
    r"Name does not resolve|(?:^|: |nslookup: ).*\bTry again\b|dl-cdn\.alpinelinux\.org|temporary error \(try again later\)"
)
_GLIBC_SAID = re.compile(r"Name or service not known|Temporary failure in name resolution")
#: busybox says "bad address" whatever it is linked to; the images that people use of it are Alpine's, mostly.
_BUSYBOX_SAID = re.compile(r"^\w+: bad address ")


def of_image(image: str) -> str:
    """``musl``, ``glibc`` or empty for an image reference."""
    if _MUSL_IMAGE.search(image):
        return "musl"
    return "glibc" if _GLIBC_IMAGE.search(image) else ""


def of_text(text: str) -> str:
    """``musl``, ``busybox``, ``glibc`` or empty for what a program printed."""
    if _MUSL_SAID.search(text):
        return "musl"
    if _BUSYBOX_SAID.search(text):
        return "busybox"
    return "glibc" if _GLIBC_SAID.search(text) else ""


def images(obj: KubeObject) -> list[str]:
    """The images of a pod or of a workload's template."""
    found: list[str] = []
    waiting: list[Any] = [obj.raw]
    for _ in range(400):
        if not waiting:
            break
        value = waiting.pop()
        if isinstance(value, dict):
            if isinstance(value.get("image"), str):
                found.append(value["image"])
            waiting += list(value.values())
        elif isinstance(value, list):
            waiting += value[:50]
    return found


def _library(record: Record) -> str:
    if isinstance(record, Attempt):
        return of_image(record.image)
    if isinstance(record, (DialFailure, DnsLookup)):
        return of_text(record.text)
    if isinstance(record, Ping):
        return of_text(record.text) if record.error == "unresolved" else ""
    if isinstance(record, CommandRun):
        words = [w.removeprefix("--image=") for w in record.argv]
        return next((of_image(w) for w in words if of_image(w)), "musl" if record.program == "apk" else "")
    if isinstance(record, KubeObject):
        return next((lib for image in images(record) if (lib := of_image(image))), "")
    return ""


def _failed(record: Record) -> bool:
    if isinstance(record, Attempt):
        return not record.ok
    if isinstance(record, DnsLookup):
        return record.failed
    return True


def on_musl(records: Iterable[Record], strict: bool = False) -> list[Record]:
    """The records of failures on musl; those on a busybox of unknown make count unless ``strict``."""
    wanted = ("musl",) if strict else ("musl", "busybox")
    return [r for r in records if _failed(r) and _library(r) in wanted]


def on_glibc_works(records: Iterable[Record]) -> list[Record]:
    """Records that show a program on glibc, or on another library than musl, succeed."""
    return [
        r
        for r in records
        if isinstance(r, Attempt) and r.ok and (r.image or _library(r) == "glibc") and _library(r) != "musl"
    ]


def on_glibc_fails(records: Iterable[Record]) -> list[Record]:
    return [
        r
        for r in records
        if _failed(r) and _library(r) == "glibc" and not isinstance(r, (CommandRun, KubeObject))
    ]
