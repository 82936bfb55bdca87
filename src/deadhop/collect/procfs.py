"""What /proc, /sys and the configuration folders say, in the words of the tools that print it."""

from __future__ import annotations

import fnmatch
import os
import re
from pathlib import Path

#: Keys that are secrets themselves (Documentation/networking/ip-sysctl).
_SECRET = ("net.ipv4.tcp_fastopen_key", "net.ipv6.conf.*.stable_secret")
#: sysctl.d(5), in the order of precedence; sysctl.conf is procps' own.
SYSCTL_FOLDERS = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d")
UDEV_FOLDERS = ("/etc/udev/rules.d", "/run/udev/rules.d", "/usr/lib/udev/rules.d")
#: The newest lines of the kernel's log that are kept.
LOG_LINES = 4000


def sysctls() -> str:
    """``sysctl -a`` of the network part; values that are secrets are left out."""
    found: list[str] = []
    for folder, _folders, files in os.walk("/proc/sys/net"):
        prefix = folder.removeprefix("/proc/sys/").translate(str.maketrans("./", "/."))
        for file in files:
            key = f"{prefix}.{file.replace('.', '/')}"
            if any(fnmatch.fnmatch(key, secret) for secret in _SECRET):
                continue
            try:
                text = Path(folder, file).read_text()
            except OSError:
                continue
            found += [f"{key} = {line}" for line in text.splitlines() or [""]]
    return "\n".join(sorted(found)) + "\n"


def counters() -> str:
    """All of /proc/net/snmp, snmp6 and netstat in the words of nstat(8)."""
    rows: list[str] = ["#kernel"]
    for file in ("snmp", "netstat"):
        lines = Path(f"/proc/thread-self/net/{file}").read_text().splitlines()
        for heads, values in zip(lines[::2], lines[1::2], strict=False):
            prefix, _, names = heads.partition(": ")
            numbers = values.partition(": ")[2].split()
            rows += [_row(prefix + n, v) for n, v in zip(names.split(), numbers, strict=False)]
    try:
        six = Path("/proc/thread-self/net/snmp6").read_text().splitlines()
    except OSError:
        six = []
    rows += [_row(*words[:2]) for line in six if len(words := line.split()) == 2]
    return "\n".join(rows) + "\n"


def _row(name: str, value: str) -> str:
    return f"{name:<31} {value:<18} 0.0"


def uname() -> str:
    """``uname -srvm``: the host's name is not part of it."""
    said = os.uname()
    return f"{said.sysname} {said.release} {said.version} {said.machine}\n"


def kernel_log(since: float = 0.0) -> str:
    """The kernel's log from /dev/kmsg, as ``dmesg`` prints it, from ``since`` seconds after boot on."""
    lines: list[str] = []
    descriptor = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    try:
        while True:
            try:
                record = os.read(descriptor, 8192)
            except BlockingIOError:
                break
            except BrokenPipeError:  # overwritten while we read: the next read goes on behind
                continue
            head, _, text = record.decode(errors="replace").partition(";")
            fields = head.split(",")
            if len(fields) < 3 or not fields[2].isdigit() or int(fields[0]) >> 3:
                continue  # facility 0 is the kernel's own
            when = int(fields[2]) / 1e6
            if when >= since:
                lines.append(f"[{when:12.6f}] {text.splitlines()[0] if text else ''}")
    finally:
        os.close(descriptor)
    return "\n".join(lines[-LOG_LINES:]) + "\n" if lines else ""


def log_time() -> float:
    """When the newest line of the kernel's log was written, in seconds since boot; later lines are newer. 0 where
    the log cannot be read."""
    try:
        rows = kernel_log().splitlines()
    except OSError:
        return 0.0
    return float(rows[-1][1:13]) + 1e-6 if rows else 0.0


def sysctl_files(name: str) -> str:
    """Every sysctl.d file that counts, in the order in which they are applied, masked ones left out."""
    chosen: dict[str, Path] = {}
    for folder in SYSCTL_FOLDERS:
        try:
            files = [p for p in Path(folder).iterdir() if p.name.endswith(".conf")]
        except OSError:
            continue
        for path in files:
            chosen.setdefault(path.name, path)
    out = ""
    for path in [*(chosen[key] for key in sorted(chosen)), Path("/etc/sysctl.conf")]:
        try:
            text = path.read_text(errors="replace")
        except OSError:
            continue
        rows = [row for row in text.splitlines() if row.strip() and not row.lstrip().startswith(("#", ";"))]
        if rows:
            out += f"root@{name}:~# cat {path}\n" + "\n".join(rows) + "\n"
    return out


_ABOUT = re.compile(r'SUBSYSTEM=="net"|systemd-sysctl|/net/')


def udev_rules(name: str) -> str:
    """The udev rules that concern network devices."""
    out = ""
    for folder in UDEV_FOLDERS:
        for path in sorted(Path(folder).glob("*.rules")) if Path(folder).is_dir() else ():
            try:
                text = path.read_text(errors="replace").replace("\\\n", " ")
            except OSError:
                continue
            rows = [row for row in text.splitlines() if _ABOUT.search(row) and not row.startswith("#")]
            if rows:
                out += f"root@{name}:~# grep net {path}\n" + "\n".join(rows) + "\n"
    return out
