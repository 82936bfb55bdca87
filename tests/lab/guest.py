"""A whole kernel in QEMU: an initramfs of busybox, ip, Python and this package, booted under TCG.

Nothing of the host is mounted. What the guest's program prints on its standard output comes back; it ends the machine
itself by ending.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path

import click
import msgspec

import deadhop

QEMU = "qemu-system-x86_64"
#: Kernel modules that the guest loads, behind those that they need.
MODULES = ("veth", "nf_tables", "nft_chain_nat", "nft_nat", "nft_ct")
#: Programs that the guest has, at the same places as here.
TOOLS = ("busybox", "ip", "nft")
_LEFT_OUT = re.compile(
    r"(^|/)(test|tests|idlelib|tkinter|turtledemo|lib2to3|ensurepip|site-packages|distutils|pydoc_data|unittest"
    r"|config-[^/]*|__pycache__)(/|$)|_test|_codecs_(cn|hk|jp|kr|tw|iso)|\.a$"
)
START = "@@deadhop-guest-begin"
END = "@@deadhop-guest-end"


def kernel() -> tuple[Path, Path] | None:
    """(kernel image, folder of its modules), as scripts/guest-kernel leaves them or as the system has them."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "deadhop/guest-kernel"
    for root in (Path(os.environ.get("DEADHOP_GUEST_KERNEL", cache)), Path("/")):
        for image in sorted((root / "boot").glob("vmlinuz-*-amd64"), reverse=True):
            modules = root / "lib/modules" / image.name.removeprefix("vmlinuz-")
            if modules.is_dir():
                return image, modules
    return None


def unavailable() -> str:
    """Why no guest can be booted here, empty where one can."""
    if os.uname().machine != "x86_64":
        return "the guest is x86_64"
    missing = [tool for tool in (QEMU, *TOOLS) if not shutil.which(tool)]
    if missing:
        return f"not installed: {', '.join(missing)}"
    return "" if kernel() else "no kernel for the guest: scripts/guest-kernel fetches one"


class Archive:
    """A cpio archive in the kernel's format (newc, Documentation/driver-api/early-userspace)."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._seen: set[str] = set()

    def _entry(self, name: str, mode: int, data: bytes, rdev: tuple[int, int] = (0, 0)) -> None:
        if name in self._seen:
            return
        self._seen.add(name)
        encoded = name.encode() + b"\0"
        fields = (len(self._seen), mode, 0, 0, 1, 0, len(data), 0, 0, *rdev, len(encoded), 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
        self._parts += [head, bytes(-len(head) % 4), data, bytes(-len(data) % 4)]

    def folder(self, name: str) -> None:
        for parent in (*reversed(Path(name).parents), Path(name)):
            if str(parent) not in (".", "/"):
                self._entry(str(parent).lstrip("/"), stat.S_IFDIR | 0o755, b"")

    def file(self, name: str, data: bytes, mode: int = 0o755) -> None:
        self.folder(str(Path(name).parent))
        self._entry(name.lstrip("/"), stat.S_IFREG | mode, data)

    def device(self, name: str, major: int, minor: int) -> None:
        self.folder(str(Path(name).parent))
        self._entry(name.lstrip("/"), stat.S_IFCHR | 0o600, b"", (major, minor))

    def copy(self, source: Path, name: str | None = None) -> None:
        self.file(name or str(source), source.read_bytes())

    def tree(self, source: Path, target: str) -> None:
        for path in sorted(source.rglob("*")):
            below = str(path.relative_to(source))
            if path.is_file() and not _LEFT_OUT.search(below):
                self.copy(path, f"{target}/{below}")
                if ".so" in path.suffixes:
                    self.libraries(str(path))

    def program(self, path: str) -> None:
        """A program or library with the libraries that ldd(1) names, each at its own place."""
        self.copy(Path(path).resolve(), path)
        self.libraries(path)

    def libraries(self, path: str) -> None:
        for line in subprocess.run(["ldd", path], capture_output=True, text=True).stdout.splitlines():
            found = re.search(r"(/\S+) \(0x", line)
            if found:
                self.copy(Path(found[1]).resolve(), found[1])

    def data(self) -> bytes:
        self._entry("TRAILER!!!", 0, b"")
        return b"".join(self._parts)


def wanted(modules: Path) -> dict[str, Path]:
    """The modules and what they depend on (their .modinfo section says so), in an order in which they load."""
    files = {path.name.partition(".ko")[0].replace("-", "_"): path for path in modules.rglob("*.ko")}
    order: dict[str, Path] = {}

    def add(name: str) -> None:
        if name in order or name not in files:  # built in
            return
        depends = re.search(rb"\0depends=([^\0]*)\0", files[name].read_bytes())
        for other in (depends[1].decode() if depends else "").split(","):
            add(other.replace("-", "_"))
        order[name] = files[name]

    for name in MODULES:
        add(name)
    return order


def initramfs(program: str, modules: Path) -> bytes:
    """The archive: ``program`` is Python that the guest runs, with this package importable."""
    made = Archive()
    for folder in ("proc", "sys", "tmp", "run/netns", "dev"):
        made.folder(folder)
    made.device("dev/console", 5, 1)
    made.device("dev/null", 1, 3)
    for tool in TOOLS:
        path = shutil.which(tool)
        assert path
        made.program(path)
        made.copy(Path(path).resolve(), f"bin/{tool}")
    python = Path(sys.executable).resolve()
    made.program(str(python))
    stdlib = Path(sysconfig.get_path("stdlib"))
    made.tree(stdlib, str(stdlib))
    for extension in (stdlib / "lib-dynload").glob("*.so"):
        if not _LEFT_OUT.search(extension.name):
            made.program(str(extension))
    for package in (deadhop, click, msgspec):
        assert package.__file__
        source = Path(package.__file__).parent
        made.tree(source, f"/packages/{source.name}")
    order = wanted(modules)
    for name, path in order.items():
        made.copy(path, f"/modules/{name}.ko")
    made.file("/guest.py", program.encode())
    inserted = "\n".join(f"/bin/busybox insmod /modules/{name}.ko" for name in order)
    made.file("/init", f"""#!/bin/busybox sh
export PATH=/bin PYTHONPATH=/packages PYTHONHOME={sys.base_prefix} PYTHONDONTWRITEBYTECODE=1
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t tmpfs tmpfs /run
/bin/busybox mkdir -p /run/netns
/bin/busybox dmesg -n 1
{inserted}
/bin/busybox echo {START}
{python} /guest.py
/bin/busybox echo {END} $?
/bin/busybox poweroff -f
""".encode())  # fmt: skip
    return made.data()


def run(program: str, folder: Path, memory: int = 768) -> tuple[int, str]:
    """Boots, runs ``program`` and gives its exit status and what it printed. Raises AssertionError with the console's
    end where the guest did not come that far."""
    found = kernel()
    assert found
    image, modules = found
    archive = folder / "initramfs.gz"
    archive.write_bytes(gzip.compress(initramfs(program, modules), 1))
    command = [
        QEMU, "-machine", "accel=tcg", "-cpu", "max", "-m", str(memory), "-nographic", "-no-reboot", "-nodefaults",
        "-serial", "stdio", "-kernel", str(image), "-initrd", str(archive),
        "-append", "console=ttyS0 quiet panic=-1 tsc=reliable mitigations=off",
    ]  # fmt: skip
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    console = done.stdout.decode("utf-8", "replace").replace("\r\n", "\n")
    said = re.search(rf"{START}\n(.*?){END} (\d+)", console, re.DOTALL)
    assert said, console[-4000:] + done.stderr.decode("utf-8", "replace")
    return int(said[2]), said[1]
