"""Machine files that come with ratite: MACHINE/PROFILE@VERSION.yaml.  Text, no code; see docs/machine-files.md.

A version that was published never changes: tests hold each against its machine with every default written out.
"""
