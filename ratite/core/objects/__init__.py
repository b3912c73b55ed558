"""The object model: static typed properties, one life cycle, one composition tree, one type registry."""
