"""Boots of real Linux guests, assembled over QMP."""
