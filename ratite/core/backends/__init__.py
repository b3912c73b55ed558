"""Backends of the host: chardevs, sources of randomness.  `ChardevSet` (set.py) is a machine's collection of them."""

# Types of this package, for the manifest.
TYPES = (
    "ratite.core.backends.chardev:Chardev",
    "ratite.core.backends.chardev:NullChardev",
    "ratite.core.backends.file:FileChardev",
    "ratite.core.backends.file:StdioChardev",
    "ratite.core.backends.pty:PtyChardev",
    "ratite.core.backends.ringbuf:RingbufChardev",
    "ratite.core.backends.rng:RngBuiltin",
    "ratite.core.backends.rng:RngRandom",
    "ratite.core.backends.set:ChardevSet",
    "ratite.core.backends.socket:SocketChardev",
)
