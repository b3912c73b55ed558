"""Block nodes: disk images for guests, made by blockdev-add and named by it.

    node.py    what all kinds have: users, permissions, requests      set.py      a machine's nodes, `/blockdevs/NAME`
    file.py    the driver `file`: an image, its locks                 worker.py   the thread that does a file's I/O
    copy.py    jobs that copy a node while it is used
    iothread.py  a thread for several disks
    export.py  nodes for others, by the NBD server; its protocol: nbd.py
    raw.py     the driver `raw`: a part or the whole of another node  hostio.py   the host's calls
"""
