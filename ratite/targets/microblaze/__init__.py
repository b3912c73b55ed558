"""MicroBlaze, big-endian and little-endian."""

TARGETS = (
    {"name": "microblaze", "word-size": 32, "big-endian": True, "default-cpu": "microblaze-cpu", "page-bits": 12},
    {"name": "microblazeel", "word-size": 32, "big-endian": False, "default-cpu": "microblaze-cpu", "page-bits": 12},
)

# Types of this package, for the manifest.
TYPES = ("ratite.targets.microblaze.cpu:MicroblazeCpu",)
