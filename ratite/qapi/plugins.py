"""Whether there may be plug-ins at all, told without importlib.metadata."""

from __future__ import annotations

import os
import sys

_BUILT_IN = "ratite"


def plugins_maybe() -> bool:
    """Whether another distribution may have entry points of ours: importlib.metadata takes long to import."""
    for place in sys.path:
        try:
            names = os.listdir(place or ".")
        except NotADirectoryError:
            return True
        except OSError:
            continue
        for name in names:
            # ours: as installed, and as an editable install leaves it in the source tree
            if name.endswith((".dist-info", ".egg-info")) and not name.startswith((f"{_BUILT_IN}-", f"{_BUILT_IN}.")):
                try:
                    with open(os.path.join(place, name, "entry_points.txt"), "rb") as file:
                        if b"[ratite." in file.read():
                            return True
                except OSError:
                    continue
    return False
