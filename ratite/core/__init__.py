"""The core floor: objects, machine, memory, irq lines, clocks, CPUs.  No asyncio, no JSON, no sockets of control."""
