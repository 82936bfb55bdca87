"""Finding, starting and ending Envoy processes."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

START_SECONDS = 20.0


class EnvoyError(RuntimeError):
    """Envoy did not start; the message ends with its own last words."""


def find() -> list[Path]:
    """The Envoy binaries to check against: those named in ``DEADHOP_ENVOY`` (colon separated), else the installed one."""
    named = os.environ.get("DEADHOP_ENVOY")
    if named:
        return [p for part in named.split(":") if (p := Path(part)).is_file()]
    spec = importlib.util.find_spec("envoy")
    if spec and spec.submodule_search_locations:
        inner = Path(next(iter(spec.submodule_search_locations))) / "_bin" / "envoy"
        if inner.is_file():
            return [inner]
    on_path = shutil.which("envoy")
    return [Path(on_path)] if on_path else []


def version(binary: Path) -> str:
    """The release of a binary, such as ``1.38.3``."""
    said = subprocess.run([str(binary), "--version"], capture_output=True, text=True, timeout=30).stdout
    found = re.search(r"/(\d+\.\d+\.\d+)[/-]", said)
    return found[1] if found else ""


def _ask(admin: Path, path: str) -> tuple[int, bytes]:
    """Status and body of the admin endpoint, whose address Envoy wrote to a file; 0 where it does not answer yet."""
    said = admin.read_text().strip() if admin.exists() else ""
    host, _, port = said.rpartition(":")
    if not port.isdigit():
        return 0, b""
    connection = http.client.HTTPConnection(host, int(port), timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    except OSError:
        return 0, b""
    finally:
        connection.close()


class Envoy:
    """One process with a bootstrap of its own. Use as a context manager, or call :meth:`close`."""

    def __init__(self, binary: Path, folder: Path, name: str, bootstrap: Mapping[str, Any]) -> None:
        self.log = folder / f"{name}.log"
        self.name = name
        self._admin = folder / f"{name}.admin"
        path = folder / f"{name}.json"
        path.write_text(json.dumps(bootstrap))
        command = [
            str(binary), "-c", str(path), "--disable-hot-restart", "--concurrency", "1",
            "--log-level", "error", "--file-flush-interval-msec", "1", "--log-path", str(self.log),
            "--admin-address-path", str(self._admin),
        ]  # fmt: skip
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )

    def wait(self) -> None:
        """Until the listeners are up. Raises :class:`EnvoyError` where the process ends or takes too long."""
        deadline = time.monotonic() + START_SECONDS
        while _ask(self._admin, "/ready")[0] != 200:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise EnvoyError(f"{self.name}: {self._last_words()}")
            time.sleep(0.01)

    def admin(self, path: str) -> bytes:
        """What the admin endpoint answers. Raises :class:`EnvoyError` for anything but 200."""
        status, body = _ask(self._admin, path)
        if status != 200:
            raise EnvoyError(f"{self.name}: {path} answered {status or 'nothing'}")
        return body

    def _last_words(self) -> str:
        said = self.log.read_text(errors="replace") if self.log.exists() else ""
        if self.process.stderr:
            said += self.process.stderr.read().decode(errors="replace")
        return said.strip()[-2000:] or "did not start in time"

    def close(self) -> None:
        """End this process, by its own id."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        if self.process.stderr and self.process.returncode == -signal.SIGKILL:
            self.process.stderr.close()

    def __enter__(self) -> Envoy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
