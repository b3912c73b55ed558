"""The control plane: JSON-RPC 2.0 over HTTP and WebSockets, and the machine instances that it makes.

    server      aiohttp: sockets, requests, WebSockets          gate      who may come in
    rpc         JSON-RPC without IO                             methods   what the methods do
    plane       the instances, the zygote, what is allowed      instance  one instance as its owner sees it
    zygote      the process that instances are forked from      nursery   the control plane's side of it
    plainjson   what a monitor can read                         settings  the command line's limits, directories, permissions
    birth       what a forked instance does first               qmplink   a monitor as its client sees it
"""
