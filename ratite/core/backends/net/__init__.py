"""Network backends: what a guest's network device is plugged into, made by netdev_add.

    netdev.py  what all kinds have     stream.py  frames over a stream socket (`stream`, `socket`)
    user.py    the host's network by passt (`user`)     set.py  a machine's netdevs, `/netdevs/ID`
"""
