"""Targets: one folder an instruction set."""
