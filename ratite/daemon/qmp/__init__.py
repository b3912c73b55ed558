"""QMP: the session without IO, events, and the thin shell around them."""
