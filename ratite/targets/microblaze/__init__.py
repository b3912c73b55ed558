"""MicroBlaze."""
