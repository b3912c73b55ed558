"""Backends of the host: chardevs, block nodes, netdevs, sources of randomness.

A machine's chardevs are collected by `ChardevSet` (set.py), its block nodes by `BlockSet` (block/set.py),
its netdevs by `NetdevSet` (net/set.py).
"""

# Types of this package, for the manifest.
TYPES = (
    "ratite.core.backends.block.file:FileNode",
    "ratite.core.backends.block.iothread:IoThread",
    "ratite.core.backends.block.raw:RawNode",
    "ratite.core.backends.block.set:BlockSet",
    "ratite.core.backends.chardev:Chardev",
    "ratite.core.backends.chardev:NullChardev",
    "ratite.core.backends.file:FileChardev",
    "ratite.core.backends.file:StdioChardev",
    "ratite.core.backends.hostdev:PipeChardev",
    "ratite.core.backends.hostdev:SerialChardev",
    "ratite.core.backends.mux:MuxChardev",
    "ratite.core.backends.net.dgram:DgramNetdev",
    "ratite.core.backends.net.netdev:Netdev",
    "ratite.core.backends.net.set:NetdevSet",
    "ratite.core.backends.net.stream:StreamNetdev",
    "ratite.core.backends.net.tap:TapNetdev",
    "ratite.core.backends.net.user:UserNetdev",
    "ratite.core.backends.pty:PtyChardev",
    "ratite.core.backends.ringbuf:RingbufChardev",
    "ratite.core.backends.rng:RngBuiltin",
    "ratite.core.backends.rng:RngRandom",
    "ratite.core.backends.secret:Secret",
    "ratite.core.backends.set:ChardevSet",
    "ratite.core.backends.socket:SocketChardev",
    "ratite.core.backends.udp:UdpChardev",
)
