"""Tiers 1 and 2: hot guest code compiled as whole regions, in worker processes, while tier 0 goes on."""
