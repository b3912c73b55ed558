"""QMP: the session without IO, events, and the thin asyncio shell around them."""
