"""The programs `qemu-system-TARGET`: which target a name stands for, and the files that `ratite install-shims` writes.

A shim starts the interpreter by its absolute path, isolated and without `site` (`-IS`): neither HOME nor PYTHONPATH nor the
folder it is started in nor what other packages do at every start plays a part.  Where packages lie, it says itself.
"""

from __future__ import annotations

import os
import sys

from ratite.daemon.personality.image import NAME

PREFIX = "qemu-system-"
# The kernel takes so much of a first line.
_SHEBANG_MAX = 120

_TEXT = '''\
# {name}: ratite {version} in the place of QEMU's program of this name.  Written by `{renew}`.
import sys

sys.path[:0] = {path!r}
sys.path += {behind!r}
from ratite.daemon.personality import image

image.use({image!r})
from ratite.daemon.personality.main import main

sys.exit(main({target!r}, {version!r}))
'''


def target_of(program: str) -> str:
    """The target that a program's name says; "" where it says none."""
    name = os.path.basename(program)
    return name[len(PREFIX) :] if name.startswith(PREFIX) else ""


def renewal(folder: str) -> str:
    """The command that writes the shims in a folder anew."""
    import shlex

    return f"ratite install-shims {shlex.quote(os.path.abspath(folder))}"


def text_of(target: str, folder: str, version: str, path: list[str], behind: list[str]) -> str:
    """The shim's text; `path`: the folders that an isolated interpreter lacks; `behind`: those that `site` adds."""
    name = PREFIX + target
    image = os.path.join(os.path.abspath(folder), NAME)
    text = _TEXT.format(
        name=name, version=version, renew=renewal(folder), path=path, behind=behind, target=target, image=image
    )
    line = f"#!{sys.executable} -IS\n"
    if len(line) <= _SHEBANG_MAX and " " not in sys.executable:
        return line + text
    # To a shell it is one command, to Python a string.
    quoted = sys.executable.replace("'", "'\\''")
    return f"#!/bin/sh\n''':'\nexec '{quoted}' -IS \"$0\" \"$@\"\n'''\n{text}"
