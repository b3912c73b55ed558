"""Fan-in and fan-out of irq lines."""
