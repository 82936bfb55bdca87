"""Offload features of every device by ioctl(SIOCETHTOOL), in the words of ``ethtool -k``: no tool is needed."""

from __future__ import annotations

import array
import fcntl
import socket
import struct

_SIOCETHTOOL = 0x8946
#: include/uapi/linux/ethtool.h: the single-feature gets, and the flags of ETHTOOL_GFLAGS.
_FEATURES = {
    "rx-checksumming": 0x14,
    "tx-checksumming": 0x16,
    "scatter-gather": 0x18,
    "tcp-segmentation-offload": 0x1E,
    "generic-segmentation-offload": 0x23,
    "generic-receive-offload": 0x2B,
}
_GFLAGS, _LRO = 0x25, 1 << 15


def _get(sock: socket.socket, dev: str, command: int) -> int | None:
    value = array.array("B", struct.pack("II", command, 0))
    address, _length = value.buffer_info()
    request = struct.pack("16sP", dev.encode(), address)
    try:
        fcntl.ioctl(sock, _SIOCETHTOOL, request)
    except OSError:
        return None
    return int(struct.unpack("II", value.tobytes())[1])


def features(name: str) -> str:
    """The features of the calling process's namespace's devices, each as ``ethtool -k DEV`` at a prompt."""
    out = ""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _index, dev in socket.if_nameindex():
            rows = [
                f"{feature}: {'on' if value else 'off'}"
                for feature, command in _FEATURES.items()
                if (value := _get(sock, dev, command)) is not None
            ]
            flags = _get(sock, dev, _GFLAGS)
            if flags is not None:
                rows.append(f"large-receive-offload: {'on' if flags & _LRO else 'off'}")
            if rows and dev != "lo":
                out += f"root@{name}:~# ethtool -k {dev}\nFeatures for {dev}:\n" + "\n".join(rows) + "\n"
    return out
