"""The daemon floor: sockets, sessions, dispatch, commands.  Names no target and no device."""
