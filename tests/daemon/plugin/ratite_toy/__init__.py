"""A plug-in for tests: two targets of different byte order, a CPU for each, an accelerator that runs neither."""

TARGETS = (
    {"name": "toy64", "word-size": 64, "big-endian": False, "default-cpu": "toy64-cpu"},
    {"name": "toybe", "word-size": 32, "big-endian": True, "default-cpu": "toybe-cpu"},
)
TYPES = ("ratite_toy.parts",)
ACCELERATORS = ({"name": "toy", "module": "ratite_toy.accel:ToyAccelerator", "text": "runs nothing"},)
