"""ratite: an emulator daemon for heterogeneous machines, assembled at run time over QMP."""

__version__ = "0.1.0"
