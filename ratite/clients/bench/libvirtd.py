"""A libvirtd of one's own, for tests and measurements: Debian's, unmodified, every path of it in one folder.

It runs in a mount namespace of its own, in which /etc/libvirt, /var/lib/libvirt and the like are folders of ours, so that the
host's libvirt is never met; no network, no cgroups, no security driver.  Needs root, libvirtd, virsh, and util-linux.
What it does and hears is in `log`, one file that grows over restarts.

    with Libvirtd(folder) as libvirtd:
        libvirtd.virsh("create", "domain.xml")
        libvirtd.timed("domcapabilities", "--emulatorbin", path)
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from xml.sax.saxutils import escape, quoteattr

PLACES = MappingProxyType(
    {
        "etc": "/etc/libvirt", "lib": "/var/lib/libvirt", "cache": "/var/cache", "run": "/run/libvirt",
        "log": "/var/log/libvirt", "lock": "/run/lock",
    }
)  # fmt: skip
CONSOLE = "<serial type='pty'/><console type='pty'/>"
CODE = "/var/cache/ratite"  # where ratite finds compiled code of the whole host
PROGRAM = "/usr/sbin/libvirtd"
_DAEMON = """listen_tls = 0
listen_tcp = 0
auth_unix_ro = "none"
auth_unix_rw = "none"
log_filters = "{filters}"
log_outputs = "1:file:{log}"
"""
_QEMU = """user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
remember_owner = 0
"""
# First process of a namespace of its own: it reaps what libvirt leaves to init, and with it ends whatever is there.
_INIT = """
mount --make-rprivate / || exit
for bind in "$@"; do
    [ -e "${bind#*:}" ] || mkdir -p "${bind#*:}"
    mount --bind "${bind%%:*}" "${bind#*:}" || exit
done
mount -t proc proc /proc || exit
while read -r word; do
    case $word in
    start) PROGRAM --config /etc/libvirt/libvirtd.conf --pid-file /run/libvirt/libvirtd.pid & daemon=$! ;;
    stop) kill "$daemon"; wait "$daemon" ;;
    esac
    echo "$word"
done
"""
_ACCOUNT = "libvirt-qemu"
_TIME = re.compile(r"\(Time: ([\d.]+) ms\)")


class LibvirtError(Exception):
    """virsh ended with an error: its command and words."""


def missing() -> str:
    """Why there can be no libvirtd here; "" where there can."""
    if os.name != "posix" or os.geteuid():
        return "a private libvirtd needs root"
    for program in PROGRAM, "virsh", "unshare", "nsenter":
        if not shutil.which(program):
            return f"{program} is missing (Debian: libvirt-daemon, libvirt-daemon-driver-qemu, libvirt-clients; make peers)"
    command = ["unshare", "-m", "-p", "--fork", "mount", "-t", "proc", "proc", "/proc"]
    done = subprocess.run(command, capture_output=True, text=True)
    return f"no namespace of its own: {done.stderr.strip()}" if done.returncode else ""


class Libvirtd:
    """The daemon, running.  `verbose` logs every QMP message; `log` is where.  `code`: what domains find as the system's place
    of compiled code, see `warm`."""

    def __init__(self, folder: Path, verbose: bool = True, code: Path | None = None) -> None:
        self.folder, self.log = folder, folder / "log" / "libvirtd.log"
        self._code = code
        self.uri = f"qemu+unix:///system?socket={folder}/run/libvirt-sock"
        for place in PLACES:
            (folder / place).mkdir(parents=True, exist_ok=True)
        if code is not None:
            code.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / "run" / "qemu").mkdir(exist_ok=True)
        filters = "1:qemu 3:*" if verbose else "4:*"
        (folder / "etc" / "libvirtd.conf").write_text(_DAEMON.format(filters=filters, log="/var/log/libvirt/libvirtd.log"))
        (folder / "etc" / "qemu.conf").write_text(_QEMU)
        self._init = self._enter()

    def __enter__(self) -> Libvirtd:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def start(self) -> None:
        """Start it and wait until it listens."""
        self._tell("start")
        deadline = time.monotonic() + 30
        while not self._listens():
            if time.monotonic() > deadline:
                raise LibvirtError(f"libvirtd doesn't listen: {self._said()}")
            time.sleep(0.01)

    def stop(self) -> None:
        """End the daemon; its domains run on."""
        self._tell("stop")

    def restart(self) -> None:
        """End it and start it anew, as an update of the host would."""
        self.stop()
        self.start()

    def warm(self, *models: str) -> None:
        """Compile what domains with these types of CPUs are to find in the system's place; the host's isn't seen."""
        enter = ["nsenter", f"--mount=/proc/{self._init.pid}/ns/mnt"]
        command = [*enter, sys.executable, "-m", "ratite.daemon.cache", "warm", "--system", *models]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise LibvirtError(f"no code for domains: {done.stderr.strip()}")

    def close(self) -> None:
        """End the daemon and whatever it has started."""
        self._init.kill()
        self._init.communicate()

    def _enter(self) -> subprocess.Popen[str]:
        """The namespace's first process, which takes words on its standard input."""
        binds = [f"{self.folder / name}:{place}" for name, place in PLACES.items()]
        if self._code is not None:
            binds.append(f"{self._code}:{CODE}")
        binds += [f"{self._accounts(path)}:{path}" for path in ("/etc/passwd", "/etc/group")]
        own = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        command = [*own, "bash", "-c", _INIT.replace("PROGRAM", PROGRAM), "init"]
        pipe = subprocess.PIPE
        with (self.folder / "log" / "out").open("ab") as out:
            return subprocess.Popen([*command, *binds], stdin=pipe, stdout=pipe, stderr=out, text=True, start_new_session=True)

    def _tell(self, word: str) -> None:
        assert self._init.stdin is not None and self._init.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            print(word, file=self._init.stdin, flush=True)
        if self._init.stdout.readline() != f"{word}\n":
            raise LibvirtError(f"libvirtd's namespace has ended: {self._said()}")

    def _said(self) -> str:
        return (self.folder / "log" / "out").read_text()[-1000:]

    def _accounts(self, path: str) -> Path:
        """A copy of passwd or group with the account that must exist; the package that would make it brings services too."""
        ours, text = self.folder / "etc" / Path(path).name, Path(path).read_text()
        if not re.search(f"^{_ACCOUNT}:", text, re.MULTILINE):
            text += f"{_ACCOUNT}:x:64055:" + ("64055::/nonexistent:/bin/false\n" if ours.name == "passwd" else "\n")
        ours.write_text(text)
        return ours

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as sock:
            try:
                sock.connect(str(self.folder / "run" / "libvirt-sock"))
            except OSError:
                return False
        return True

    def command(self, *words: object) -> list[str]:
        """The command line `virsh WORDS` for this daemon."""
        return ["virsh", "-c", self.uri, *map(str, words)]

    def virsh(self, *words: object, timeout: float = 120) -> str:
        """What `virsh WORDS` prints.  LibvirtError with its complaint where it fails."""
        done = subprocess.run(self.command(*words), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
        if done.returncode:
            raise LibvirtError(f"virsh {' '.join(map(str, words))}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout.strip()

    def timed(self, *words: object) -> float:
        """Milliseconds that libvirt's answer to a command took, virsh's own start not among them."""
        found = _TIME.search(self.virsh("--timing", *words))
        if found is None:
            raise LibvirtError(f"virsh {words[0]} tells no time")
        return float(found[1])

    def conversation(self, after: int = 0) -> list[str]:
        """QMP messages of monitors since byte `after` of the log: ">>> SENT", "<<< ANSWER", "<<E EVENT"."""
        return conversation(self.log.read_bytes()[after:].decode(errors="replace").splitlines())


def domain_xml(
    name: str, emulator: Path, *, boot: str, arch: str = "riscv64", machine: str = "virt", memory: int = 64, cpus: int = 1,
    devices: str = CONSOLE, arguments: Sequence[str] = (),
) -> str:  # fmt: skip
    """A domain's XML: elements of <os> and <devices>, arguments of the emulator's command line, `memory` in MiB."""
    extra = "".join(f"<qemu:arg value={quoteattr(word)}/>" for word in arguments)
    return f"""<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
<name>{escape(name)}</name><memory unit='MiB'>{memory}</memory><vcpu>{cpus}</vcpu>
<os><type arch='{arch}' machine='{machine}'>hvm</type>{boot}</os>
<devices><emulator>{emulator}</emulator>{devices}</devices>
<qemu:commandline>{extra}</qemu:commandline></domain>"""


def conversation(lines: Sequence[str]) -> list[str]:
    """The QMP messages in a log of libvirtd."""
    marks = {"SEND_MSG": (" msg=", ">>> "), "RECV_REPLY": (" reply=", "<<< "), "RECV_EVENT": (" event=", "<<E ")}
    found = []
    for line in lines:
        if (match := re.search(r"QEMU_MONITOR_(\w+):", line)) and match[1] in marks:
            key, sign = marks[match[1]]
            found.append(sign + line.split(key, 1)[1].rstrip())
    return found
