"""The netdev `tap`: an interface of the host, the device at its other end (Linux: Documentation/networking/tuntap.rst).

The interface is made or found by its name (that needs CAP_NET_ADMIN, or an interface that was made for this user), or somebody
who may, such as libvirt, has opened it and hands the descriptor over.  A frame is one read or write; where the interface was
opened with IFF_VNET_HDR, it stands behind a head, which says "whole, with its checksum" here, since no offload is asked for.

Left out: scripts that set the interface up, helpers, several queues, vhost.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ratite.core.backends.net.frames import FrameNetdev
from ratite.core.hostfiles import NET
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.backends.net.set import NetdevSet

DEVICE = "/dev/net/tun"

# linux/if_tun.h; an ifreq is a name of 16 bytes, then here the flags.
_TUNSETIFF, _TUNGETIFF, _TUNSETOFFLOAD, _TUNGETVNETHDRSZ = 0x400454CA, 0x800454D2, 0x400454D0, 0x800454D7
_TAP, _NO_PI, _VNET_HDR = 0x0002, 0x1000, 0x4000
_IFREQ, _NAME_MAX = struct.Struct("=16sH22x"), 15


class TapNetdev(FrameNetdev):
    """Frames of a network interface."""

    TYPE: ClassVar[str] = "netdev-tap"

    def __init__(self, id: str, owner: NetdevSet, options: Mapping[str, Any]) -> None:
        super().__init__(id, owner)
        for name in "script", "downscript":
            if options.get(name, "no") not in ("", "no"):
                raise GenericError(f"Parameter '{name}' expects 'no': the interface is to be set up before")
        if "fd" in options and set(options) - {"fd", "fd-name"}:
            raise GenericError("ifname=, script=, downscript=, and vnet_hdr= are invalid with fd=")
        self._ifname: str = options.get("ifname", "")
        self._fd = int(options.get("fd", -1))
        self._fd_name: str = options.get("fd-name", options.get("fd", ""))

    def open(self) -> None:
        if sys.platform != "linux":
            raise GenericError("netdev type 'tap' needs a Linux host")
        if self._fd < 0:
            self.owner.files.need(NET, "netdev 'tap'")
            self._fd = self._interface()
        else:
            self._adopt()
        self.owner.io.add(self)

    def _interface(self) -> int:
        """A descriptor of the interface of our name, or of a new one."""
        import fcntl

        if len(self._ifname.encode()) > _NAME_MAX or "\0" in self._ifname:
            raise GenericError(f"the name of a network interface has at most {_NAME_MAX} bytes, not '{self._ifname}'")
        try:
            fd = self.owner.files.open(DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise GenericError(f"could not open {DEVICE}: {error.strerror}") from None
        name = self._ifname or "tap%d"
        try:
            fcntl.ioctl(fd, _TUNSETIFF, _IFREQ.pack(name.encode(), _TAP | _NO_PI))
        except OSError as error:
            os.close(fd)
            raise GenericError(f"could not configure {DEVICE} ({name}): {error.strerror}") from None
        return fd

    def _adopt(self) -> None:
        """Takes over a descriptor that somebody else has opened."""
        import fcntl

        try:
            name, flags = _IFREQ.unpack(fcntl.ioctl(self._fd, _TUNGETIFF, bytes(_IFREQ.size)))
            if not flags & _TAP:
                raise GenericError(f"File descriptor '{self._fd_name}' is a tun interface, without Ethernet")
            if flags & _VNET_HDR:
                fcntl.ioctl(self._fd, _TUNSETOFFLOAD, 0)
                size = struct.unpack("=i", fcntl.ioctl(self._fd, _TUNGETVNETHDRSZ, bytes(4)))[0]
                self._head = bytes(size)
            self._ifname = name.rstrip(b"\0").decode(errors="replace")
            os.set_blocking(self._fd, False)
        except OSError as error:
            raise GenericError(f"File descriptor '{self._fd_name}' is not a tap interface: {error.strerror}") from None

    @property
    def ifname(self) -> str:
        """The interface's name."""
        return self._ifname

    def _gone(self) -> None:
        """The interface was taken away: nothing comes any more."""
        self._shut()
