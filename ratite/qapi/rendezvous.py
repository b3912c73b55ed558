"""Where a control plane and its clients meet when nobody says where: one place for both sides of the socket."""

from __future__ import annotations

import os
import tempfile


def control_path() -> str:
    """The path of a user's control socket: $XDG_RUNTIME_DIR/ratite/control.sock, else ratite-UID/control.sock below the
    host's folder for temporary files."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and os.path.isabs(base):
        return os.path.join(base, "ratite", "control.sock")
    uid = os.getuid() if hasattr(os, "getuid") else 0
    return os.path.join(tempfile.gettempdir(), f"ratite-{uid}", "control.sock")
