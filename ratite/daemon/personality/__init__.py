"""The QEMU personality's command line: what a daemon is told at its start when it stands in for a `qemu-system-*` binary.

    argv ── options.py (what there is) ── commandline.py (what was given, how it is written: syntax.py)
         ── translate*.py ──> Start: settings of the daemon, monitors, and the QMP commands that make the machine
         ── launch.py: sockets, pidfile, background (background.py), the commands executed, then monitors are served

Options are translated before a loop or a thread exists; once the commands are executed nothing knows of them.  Machine types
are machine files (machines.py); the program's name, or `-target`, says which target is stood in for (shims.py).
"""
