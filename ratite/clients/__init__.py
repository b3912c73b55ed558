"""Clients: people and scripts.  They speak QMP and import nothing of the other floors."""
