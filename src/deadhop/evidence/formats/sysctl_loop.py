"""One setting of many devices: a loop that prints ``DEVICE VALUE``, and ``grep .`` over /proc/sys, whole or cut down to
``DEVICE/SETTING``; and files below /proc/sys one after the other, each value under its file's name."""

from __future__ import annotations

import re
from fnmatch import fnmatch

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.evidence.shell_loop import Loop, loop
from deadhop.model.net import Sysctl
from deadhop.model.record import Record

_FILE = re.compile(r"^\s*(?P<path>/proc/sys/[\w./@-]+)[: ]+(?P<value>-?\d+)\s*$")
_ROW = re.compile(
    r"^\s*(?P<item>[\w.@/-]+)\s*[:=]?\s+(?P<value>-?\d+)(?:\s+(?P<rest>\S.*?))?\s*$|^\s*(?P<item2>[\w.@-]+)[:=](?P<value2>-?\d+)\s*$"
)
_PLACE = re.compile(r"/proc/sys/(?P<head>[\w./-]*)\$\{?\w+\}?(?P<tail>/[\w/.-]+)")
_PASTED = re.compile(r"/proc/sys/net/(?P<family>ipv[46])/conf/\*/(?P<leaf>\w+)")
_KEY = re.compile(r"(?P<head>net\.[\w.]+\.)\$\{?\w+\}?(?P<tail>\.\w+)")
#: A device and one of the settings that exist only below net.ipv4.conf (Documentation/networking/ip-sysctl.rst).
_CUT = re.compile(
    r"^\s*(?:ipv4[./])?(?:conf[./])?(?P<dev>(?!net\.)[\w@-][\w.@-]*?)[/. ](?P<leaf>rp_filter|accept_local|send_redirects|log_martians|src_valid_mark|route_localnet|arp_ignore|arp_announce)\s*[:= ]\s*(?P<value>-?\d+)\s*$"
)
_NAMED = re.compile(r"^\s*(?:==>\s*)?(?P<path>/proc/sys/[\w./@-]+)(?:\s*<==)?\s*:?\s*$")


def _key(path: str) -> str:
    return path.removeprefix("/proc/sys/").replace("/", "\0").replace(".", "/").replace("\0", ".")


def _asked(context: Context, item: str) -> str:
    """The key that a loop reads for one of its items; empty where it reads none."""
    line = context.command.line if context.command else ""
    if (pasted := _PASTED.search(line)) and "paste" in line:  # names of a folder beside the values in it
        return f"net.{pasted['family']}.conf.{item.replace('.', '/')}.{pasted['leaf']}"
    each = loop(line)
    if each is None:
        return ""
    if placed := _of_files(each, item):
        return placed
    if each.items and item.rpartition("/")[2] not in [i.rpartition("/")[2] for i in each.items]:
        return ""
    if match := _PLACE.search(each.body):
        return _key(f"/proc/sys/{match['head']}{item}{match['tail']}")
    if match := _KEY.search(each.body):
        return f"{match['head']}{item.replace('.', '/')}{match['tail']}"
    return ""


def _of_files(each: Loop, item: str) -> str:
    """The key where the loop goes over directories or files below /proc/sys, by globs mostly: ``…/conf/{all,lxc*}`` with
    ``$i/rp_filter`` in its body, or ``…/conf/*/rp_filter``."""
    parts = item.strip("/").split("/")
    for path in each.items:  # an item that still ends as the glob does: ``DEVICE/rp_filter``
        places = path.rstrip("/").split("/")
        tail = places[-len(parts) :]
        if path.startswith("/proc/sys/") and len(parts) > 1 and all(map(fnmatch, parts, tail)):
            return _key("/".join([*places[: -len(parts)], *parts]))
    name = parts[-1]
    inner = re.search(rf"\$\{{?{re.escape(each.name)}\}}?/(?P<leaf>\w+)", each.body)
    for path in each.items:
        folder, _, last = path.rstrip("/").rpartition("/")
        if not path.startswith("/proc/sys/"):
            continue
        if inner and fnmatch(name, last):
            return _key(f"{folder}/{name}/{inner['leaf']}")
        folder, _, device = folder.rpartition("/")
        if not inner and last.replace("_", "").isalnum() and fnmatch(name, device):
            return _key(f"{folder}/{name}/{last}")
    return ""


_COUNTED = re.compile(
    r"(?:\bgrep\s+(?:-\S+\s+)*['\"]?\\?\.?|\bsysctl\s[^|]*?(?:-\w*r|--pattern)[= ]\s*['\"]?\S*?|/proc/sys/net/ipv4/conf/\*/)(?P<setting>rp_filter|forwarding|accept_local|send_redirects|log_martians)\b"
)
#: What leaves only the values: the last column, or files printed without their names.
_VALUES = re.compile(r"\b(?:awk|cut|sed|cat|tr)\s|\bgrep\s+-\w*h|\bsysctl\s[^|]*-\w*n")
_TALLY = re.compile(
    r"awk\s+'\{\s*(?P<array>\w+)\[\$\d+\]\+\+\s*\}\s*END\s*\{\s*for\s*\((?P<key>\w+) in (?P=array)\)\s*print (?P=key), ?(?P=array)\[(?P=key)\]"
)


def _read_tally(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    """How many devices have which value: ``sort | uniq -c``, or a tally in awk. The key's device is then ``*``."""
    line = context.command.line if context.command else ""
    asked, match = _COUNTED.search(line), re.match(r"^\s*(\d+)\s+(\d+)\s*$", lines.text[i])
    if asked is None or match is None:
        return i, []
    if _TALLY.search(line):
        value = match[1]
    elif "uniq -c" in line and _VALUES.search(line):
        value = match[2]
    else:
        return i, []
    return i + 1, [
        Sysctl(
            source=lines.source(i),
            where=context.where,
            key=f"net.ipv4.conf.*.{asked['setting']}",
            value=value,
        )
    ]


def _read_named(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    """A file's name in a line of its own (head, tail, find -print), its value in the next."""
    match = _NAMED.match(lines.text[i])
    value = lines.text[i + 1].strip() if i + 1 < len(lines.text) else ""
    if match is None or not re.fullmatch(r"-?\d+", value):
        return i, []
    key = _key(match["path"])
    return i + 2, [Sysctl(source=lines.source(i, i + 1), where=context.where, key=key, value=value)]


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    if cut := _CUT.match(lines.text[i]):
        key, value = f"net.ipv4.conf.{cut['dev'].replace('.', '/')}.{cut['leaf']}", cut["value"]
    elif match := _FILE.match(lines.text[i]):
        key, value = _key(match["path"]), match["value"]
    elif match := _ROW.match(lines.text[i]):
        if match["rest"] and "echo" not in (context.command.line if context.command else ""):
            return i, []
        key, value = _asked(context, match["item"] or match["item2"]), match["value"] or match["value2"]
    else:
        return i, []
    return (
        (i + 1, [Sysctl(source=lines.source(i), where=context.where, key=key, value=value)])
        if key
        else (i, [])
    )


FORMATS = (
    LineFormat("sysctl-tally", re.compile(r"^\s*\d+\s+\d+\s*$"), _read_tally, priority=12),
    LineFormat("sysctl-named", _NAMED, _read_named, priority=12),
)
FORMAT = LineFormat(
    "sysctl-loop",
    re.compile(r"^\s*/proc/sys/\S+[: ]\s*-?\d+\s*$|^\s*[\w.@/-]+(?: \w+)?\s*[:=]?\s*-?\d+(?:\s|$)"),
    _read,
    priority=13,
)
