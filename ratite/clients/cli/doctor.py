"""`ratite doctor`: what is usable here, and for what isn't, what to do about it.

What ratite itself can do is asked of a daemon that is started for it; the rest is looked up on the host. A check is `ok`,
`warn` (something optional is missing) or `fail` (machines don't run, or run slowly); only `fail` makes the exit status 1.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import click

from ratite.clients.cli import kit, places, remote
from ratite.clients.cli.cache import engine
from ratite.clients.qmp import Client, CommandError, DaemonProcess, QmpClientError

OK, WARN, FAIL = "ok", "warn", "fail"
MARKS = ((OK, "green"), (WARN, "yellow"), (FAIL, "red"))
START_SECONDS = 20


class Check(NamedTuple):
    """One thing looked at: `fix` says what to do, "" where there is nothing to do."""

    group: str
    name: str
    state: str
    text: str
    fix: str = ""


# Tool: what it is for, and Debian's package.
TOOLS = (
    ("passt", "netdev_add user: networks of guests without root", "passt"),
    ("gdb-multiarch", "debugging guests of every architecture", "gdb-multiarch"),
    ("qemu-system-riscv64", "the peer of ratite bench", "qemu-system-misc"),
    ("qemu-system-microblaze", "the peer of ratite bench", "qemu-system-misc"),
    ("dtc", "reading device trees (dumpdtb)", "device-tree-compiler"),
)

# Distribution: what needs it, whether ratite is of little use without it, what installs it.
DISTRIBUTIONS = (
    ("llvmlite", "the accelerator jit, where its code isn't cached yet", False, "pip install 'ratite[jit]'"),
    ("pyelftools", "loading programs", True, "pip install pyelftools"),
    ("PyYAML", "machine files", True, "pip install pyyaml"),
    ("jsonschema", "machine files", True, "pip install jsonschema"),
    ("aiohttp", "the control plane (ratite serve)", False, "pip install aiohttp"),
    ("prompt_toolkit", "the shell of ratite qmp", False, "pip install prompt_toolkit"),
    ("rich", "ratite top, progress bars", False, "pip install rich"),
    ("fdt", "device trees: guests that boot Linux, ratite from-dtb", False, "pip install 'ratite[fdt]'"),
)


def host_checks() -> Iterator[Check]:
    """The host itself."""
    proved = (platform.system(), platform.machine()) == ("Linux", "x86_64")
    yield Check(
        "host", "system", OK if proved else WARN, f"{platform.system()} {platform.release()} on {platform.machine()}",
        "" if proved else "the jit is proved on Linux x86-64 only; interp works elsewhere",
    )  # fmt: skip
    yield Check("host", "python", OK, f"{platform.python_version()} at {sys.executable}")
    yield Check("host", "cpus", *_cpus())
    yield _memory()
    yield _files()
    yield _kvm()


def _cpus() -> tuple[str, str, str]:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if count > 1:
        return OK, f"{count} usable", ""
    return WARN, "1 usable", "each vCPU is a thread, and the compiler a process: more CPUs make guests faster"


def _memory() -> Check:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return Check("host", "memory", WARN, "unknown: no /proc/meminfo")
    rows = {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines}
    free = rows.get("MemAvailable", 0)
    short = free < 1 << 30
    text = f"{kit.size_text(free)} available of {kit.size_text(rows.get('MemTotal', 0))}"
    return Check("host", "memory", WARN if short else OK, text, "guests of 1 GiB and more will not fit" if short else "")


def _files() -> Check:
    if sys.platform == "win32":
        return Check("host", "open files", OK, "no limit")
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = soft < 1024
    return Check("host", "open files", WARN if few else OK, f"{soft} (up to {hard})", "ulimit -n 4096" if few else "")


def _kvm() -> Check:
    device = Path("/dev/kvm")
    if not device.exists():
        return Check(
            "host",
            "/dev/kvm",
            WARN,
            "not there; ratite does not use it yet, QEMU as a peer does",
            "modprobe kvm_intel or kvm_amd",
        )
    if not os.access(device, os.R_OK | os.W_OK):
        return Check(
            "host", "/dev/kvm", WARN, "there, and not open to you", f"sudo usermod -aG kvm {_user()}, then log in anew"
        )
    return Check("host", "/dev/kvm", OK, "there, and open to you; ratite does not use it yet")


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "$USER"


def python_checks() -> Iterator[Check]:
    """Distributions that parts of ratite need."""
    for name, why, needed, fix in DISTRIBUTIONS:
        try:
            yield Check("python", name, OK, metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Check("python", name, FAIL if needed else WARN, f"not installed; it is for {why}", fix)


def tool_checks(which: Callable[[str], str | None] = shutil.which) -> Iterator[Check]:
    """Programs of others."""
    for name, why, package in TOOLS:
        path = which(name)
        if path:
            yield Check("tools", name, OK, path)
        else:
            yield Check("tools", name, WARN, f"not installed; it is for {why}", f"sudo apt-get install {package}")


def daemon_checks() -> list[Check]:
    """What a daemon of this ratite says of itself."""
    with tempfile.TemporaryDirectory(prefix="ratite-doctor-") as folder:
        daemon = DaemonProcess(Path(folder) / "qmp", stderr=subprocess.PIPE)
        try:
            with Client.connect(daemon.address, START_SECONDS) as qmp:
                return [Check("ratite", "daemon", OK, f"{qmp.greeting['version']['package']} answers"), *_inventory(qmp)]
        except (QmpClientError, CommandError, OSError) as error:
            return [Check("ratite", "daemon", FAIL, f"doesn't answer: {error}", "ratited --qmp unix:/tmp/r.sock shows why")]
        finally:
            daemon.stop()
            if daemon.process.stderr:
                daemon.process.stderr.close()


def _inventory(qmp: Client) -> Iterator[Check]:
    rows = qmp.execute("query-accelerators")
    for row in rows:
        reason = row.get("reason", "")
        fix = "pip install 'ratite[jit]'" if "llvmlite" in reason else ""
        text = reason or row.get("description", "") + (", the default" if row["default"] else "")
        yield Check("ratite", f"accelerator {row['name']}", OK if row["usable"] else FAIL, text, fix)
    for row in qmp.execute("query-targets"):
        text = row.get("reason") or f"{row['word-size']} bits, {row['byte-order']}-endian, {len(row['cpu-types'])} CPU types"
        yield Check("ratite", f"target {row['name']}", OK if row["usable"] else FAIL, text)
    for row in qmp.execute("query-modules"):
        if row["state"] in ("failed", "not-allowed"):
            text = row.get("reason", row["state"])
            fix = f"pip install --upgrade {row['distribution']}, or uninstall it" if not row["built-in"] else "reinstall ratite"
            yield Check("ratite", f"module {row['name']}", FAIL if row["built-in"] else WARN, text, fix)


def place_checks() -> Iterator[Check]:
    """Where ratite keeps things."""
    yield _cache()
    try:
        folder = places.runtime_folder()
    except kit.Mistake as error:
        yield Check(
            "places", "runtime", FAIL, error.message, "export XDG_RUNTIME_DIR=/run/user/$(id -u), or another folder of yours"
        )
        return
    count = len(places.local())
    yield Check("places", "runtime", OK, f"{folder}: {count} machine{'' if count == 1 else 's'} running")
    yield _control_plane()


def _control_plane() -> Check:
    if not remote.there():
        return Check("places", "control plane", OK, "none runs (ratite serve starts one)")
    try:
        with remote.control(5) as plane:
            info = plane.control_info()
    except (kit.Mistake, OSError) as error:
        return Check("places", "control plane", WARN, str(error), "ratite serve; or remove the socket that a dead one left")
    return Check("places", "control plane", OK, f"ratite {info['version']} at {remote.address()}, process {info['pid']}")


def _cache() -> Check:
    done = subprocess.run(engine(["stat"], True), capture_output=True, text=True)
    try:
        stat = json.loads(done.stdout)
    except ValueError:
        return Check("places", "cache", FAIL, done.stderr.strip().rpartition("\n")[2] or "can't be read", "ratite cache stat")
    place = stat["path"]
    if not place:
        return Check(
            "places", "cache", WARN, "none: neither XDG_CACHE_HOME nor HOME is a folder", "export XDG_CACHE_HOME=/some/folder"
        )
    there = next(path for path in [Path(place), *Path(place).parents] if path.exists())
    if not os.access(there, os.W_OK):
        return Check(
            "places", "cache", WARN, f"{there} can't be written: each start compiles anew", "export XDG_CACHE_HOME=/some/folder"
        )
    info = there.stat()
    if str(there) == place and (info.st_uid != os.geteuid() or info.st_mode & 0o022):
        return Check("places", "cache", WARN, f"{place} isn't yours alone, so nothing in it is trusted", f"chmod go-w {place}")
    text = f"{place}: {stat['files']} files, {kit.size_text(stat['bytes'])}"
    if stat["files"] == stat["regions"]["files"]:
        return Check(
            "places",
            "cache",
            OK,
            f"{text}; no interpreter is compiled yet: the first machine waits for one",
            "ratite cache warm",
        )
    return Check("places", "cache", OK, text)


def checks() -> list[Check]:
    """All of them, group by group."""
    return [*daemon_checks(), *host_checks(), *python_checks(), *tool_checks(), *place_checks()]


@click.command("doctor", short_help="Tell what is usable on this host, with a fix for what isn't.")
@kit.json_option
def command(as_json: bool) -> int:
    """Look at accelerators, targets, plug-ins, /dev/kvm, tools, libraries, the cache and the runtime folder.

    Each line is ok, warn (something optional is missing) or fail; below it stands what to do. Exit status 1 if one fails.
    """
    found = checks()
    if as_json:
        kit.show_json([check._asdict() for check in found])
    else:
        width = max(len(check.name) for check in found)
        group = ""
        for check in found:
            if check.group != group:
                click.echo(kit.paint(f"{check.group}", bold=True))
                group = check.group
            mark = kit.paint(f"{check.state:<4}", fg=dict(MARKS)[check.state])
            click.echo(f"  {mark}  {check.name:<{width}}  {check.text}")
            if check.fix:
                click.echo(f"        {'':<{width}}fix: {check.fix}")
    return kit.FAILED if any(check.state == FAIL for check in found) else kit.OK
