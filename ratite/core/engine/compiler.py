"""LLVM in a process of its own: text in on stdin, a relocatable object out on stdout.

A fatal error of LLVM aborts its process, so no process that holds machines has LLVM in it. Run as
``python -P compiler.py LEVEL CPU_SECONDS``; the parent's side is ``compile_text``. A host tells by
``describe_host`` what its objects depend on, without LLVM.
"""

from __future__ import annotations

import sys
from functools import cache

_CPU_SECONDS = 120  # processor time that an object may cost; tier 0 of an ISA takes two to eight
_TIMEOUT = 1200.0  # seconds of wall time: a host that is busy otherwise is no reason to give up


class CompileFailed(Exception):
    """The worker refused, died or took too long; the text says which."""


def compile_text(text: str, level: int = 2, cpu_seconds: int = _CPU_SECONDS) -> bytes:
    """An object made from LLVM text, for so much processor time at most. Raises CompileFailed."""
    import signal
    import subprocess

    command = [sys.executable, "-P", __file__, str(level), str(cpu_seconds)]  # as a file: the caller's path may not have us
    try:
        done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        raise CompileFailed(f"the compiler did not answer within {_TIMEOUT:.0f} s") from None
    except OSError as error:
        raise CompileFailed(f"the compiler could not be started: {error}") from None
    if sys.platform != "win32" and done.returncode == -signal.SIGXCPU:
        raise CompileFailed(f"the compiler took more than {cpu_seconds} s of processor time")
    if done.returncode or not done.stdout:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        telling = [line for line in lines if "rror" in line] or lines or ["no message"]
        raise CompileFailed(f"the compiler ended with {done.returncode}: {telling[-1]}")
    return done.stdout


@cache
def describe_host() -> str:
    """What compiled code depends on in this host: its processor's name and features, and the LLVM binding's version."""
    from contextlib import suppress

    wanted = ("vendor_id", "cpu family", "model", "stepping", "flags")
    rows: dict[str, str] = {}
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            key, _, value = line.partition(":")
            if key.strip() in wanted:
                rows.setdefault(key.strip(), value.strip())
            if not line.strip():  # the end of the first processor
                break
    return f"llvmlite {_version('llvmlite')}; " + "; ".join(f"{k} {rows.get(k, '?')}" for k in wanted)


def _version(package: str) -> str:
    """Of an installed distribution, "none": what importlib.metadata tells, which takes longer to import than a machine to be
    loaded, where the folder's name doesn't."""
    from contextlib import suppress
    from importlib.util import find_spec
    from os import listdir, path

    spec = find_spec(package)
    for place in spec.submodule_search_locations or () if spec else ():
        with suppress(OSError):
            found = [n for n in listdir(path.dirname(place)) if n.startswith(f"{package}-") and n.endswith(".dist-info")]
            if len(found) == 1:
                return found[0][len(package) + 1:-len(".dist-info")]
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def host_fma() -> bool:
    """Whether the host has fused multiply-add (FMA3), so that LLVM makes it an instruction."""
    return " fma " in describe_host() + " "


def _bound(cpu_seconds: int) -> None:
    """The kernel ends this process with the one that asked for it (prctl PR_SET_PDEATHSIG, Linux), or after so much work."""
    import ctypes
    import signal

    if sys.platform == "linux":
        import resource

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))  # SIGXCPU
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _main(level: int, cpu_seconds: int) -> int:
    _bound(cpu_seconds)
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()  # for inline assembly
    text = sys.stdin.buffer.read().decode()
    machine = llvm.Target.from_default_triple().create_target_machine(
        opt=level, cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), reloc="pic",
        codemodel="small")
    module = llvm.parse_assembly(text)
    tuning = llvm.create_pipeline_tuning_options(speed_level=level)
    tuning.loop_vectorization = tuning.slp_vectorization = tuning.loop_unrolling = False
    passes = llvm.create_pass_builder(machine, tuning)
    passes.getModulePassManager().run(module, passes)
    sys.stdout.buffer.write(machine.emit_object(module))
    return 0


if __name__ == "__main__":
    sys.exit(_main(int(sys.argv[1]), int(sys.argv[2])))
