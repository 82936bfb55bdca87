"""A whole kernel in QEMU: an initramfs of busybox, ip, Python and this package, booted under TCG.

Nothing of the host is mounted. What the guest's program prints on its standard output comes back; it ends the machine
itself by ending. Modules come with those that they depend on, as their own ``depends=`` line (.modinfo) names them.
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
from collections.abc import Iterable, Mapping
from pathlib import Path

import click
import msgspec
import yaml

import deadhop
from deadhop.collect import enter

QEMU = "qemu-system-x86_64"
#: Kernel modules that every guest loads, and those that they need.
MODULES = ("veth", "nf_tables", "nft_chain_nat", "nft_nat", "nft_ct")
#: Programs that every guest has, at the same places as here and in /bin.
TOOLS = ("busybox", "ip", "nft")
#: Where programs are that are on no user's path.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
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
    missing = [tool for tool in (QEMU, *TOOLS) if not shutil.which(tool, path=PATH)]
    if missing:
        return f"not installed: {', '.join(missing)}"
    return "" if kernel() else "no kernel for the guest: scripts/guest-kernel fetches one"


class CannotBoot(RuntimeError):
    """A guest cannot be made or did not run to its end; the message says why."""


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
        for line in subprocess.run(
            ["ldd", path], capture_output=True, text=True, check=False
        ).stdout.splitlines():
            found = re.search(r"(/\S+) \(0x", line)
            if found:
                self.copy(Path(found[1]).resolve(), found[1])

    def data(self) -> bytes:
        self._entry("TRAILER!!!", 0, b"")
        return b"".join(self._parts)


def closure(names: Iterable[str], modules: Path) -> list[tuple[str, Path]]:
    """Modules by name and file, each behind those that it depends on; a name that is built in has no file and is left
    out. Raises :class:`CannotBoot` for a compressed one."""
    files = {path.name.partition(".ko")[0].replace("-", "_"): path for path in modules.rglob("*.ko*")}
    found: dict[str, Path] = {}

    def add(name: str) -> None:
        name = name.replace("-", "_")
        path = files.get(name)
        if path is None or name in found:
            return
        if path.suffix != ".ko":
            raise CannotBoot(f"{path} is compressed, which this reader of modules does not read")
        depends = re.search(rb"\0depends=([^\0]*)", path.read_bytes())
        for below in depends[1].decode().split(",") if depends else ():
            add(below)
        found[name] = path

    for name in names:
        add(name)
    return list(found.items())


def initramfs(
    program: str,
    modules: Path,
    wanted: Iterable[str] = (),
    programs: Iterable[str] = (),
    files: Mapping[str, bytes] | None = None,
) -> bytes:
    """The archive: ``program`` is Python that the guest runs, with this package importable. ``wanted`` are further
    modules, ``programs`` further programs by name, ``files`` contents by path."""
    made = Archive()
    for folder in ("proc", "sys", "tmp", "run/netns", "dev"):
        made.folder(folder)
    made.device("dev/console", 5, 1)
    made.device("dev/null", 1, 3)
    made.device("dev/kmsg", 1, 11)
    for tool in TOOLS:
        place = shutil.which(tool, path=PATH)
        if not place:
            raise CannotBoot(f"{tool} is not installed")
        made.program(place)
        made.copy(Path(place).resolve(), f"bin/{tool}")
    python = Path(sys.executable).resolve()
    made.program(str(python))
    stdlib = Path(sysconfig.get_path("stdlib"))
    made.tree(stdlib, str(stdlib))
    for extension in (stdlib / "lib-dynload").glob("*.so"):
        if not _LEFT_OUT.search(extension.name):
            made.program(str(extension))
    for package in (deadhop, click, msgspec, yaml):
        assert package.__file__
        source = Path(package.__file__).parent
        made.tree(source, f"/packages/{source.name}")
    loaded = closure((*MODULES, *wanted), modules)
    for name, path in loaded:
        made.copy(path, f"/modules/{name}.ko")
    for name in programs:
        place = shutil.which(name, path=PATH)
        if not place:
            raise CannotBoot(f"{name} is not installed")
        made.program(place)
    for path_, data in (files or {}).items():
        made.file(path_, data, 0o644)
    made.file("/guest.py", program.encode())
    inserted = "\n".join(f"/bin/busybox insmod /modules/{name}.ko" for name, _path in loaded)
    made.file("/init", f"""#!/bin/busybox sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin PYTHONPATH=/packages PYTHONHOME={sys.base_prefix} PYTHONDONTWRITEBYTECODE=1
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


def run(
    program: str,
    folder: Path,
    memory: int = 768,
    *,
    modules: Iterable[str] = (),
    programs: Iterable[str] = (),
    files: Mapping[str, bytes] | None = None,
) -> tuple[int, str]:
    """Boots, runs ``program`` and gives its exit status and what it printed. ``folder`` takes the archive. Raises
    :class:`CannotBoot`, with the console's end where the guest did not come that far."""
    found = kernel()
    if found is None:
        raise CannotBoot(unavailable())
    image, module_folder = found
    archive = folder / "initramfs.gz"
    archive.write_bytes(gzip.compress(initramfs(program, module_folder, modules, programs, files), 1))
    command = [
        QEMU, "-machine", "accel=tcg", "-cpu", "max", "-m", str(memory), "-nographic", "-no-reboot", "-nodefaults",
        "-serial", "stdio", "-kernel", str(image), "-initrd", str(archive),
        "-append", "console=ttyS0 quiet panic=-1 tsc=reliable mitigations=off",
    ]  # fmt: skip
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        preexec_fn=enter.die_with_parent,
    )
    console = done.stdout.decode("utf-8", "replace").replace("\r\n", "\n")
    said = re.search(rf"{START}\n(.*?){END} (\d+)", console, re.DOTALL)
    if not said:
        raise CannotBoot("the guest ended early: " + console[-4000:] + done.stderr.decode("utf-8", "replace"))
    return int(said[2]), said[1]
