"""The command `ratite`: one module a verb. `main.py` puts them together, `kit.py` is what they share."""
