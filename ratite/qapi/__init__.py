"""The QAPI floor: schema compiler, run-time tables, wire grammar."""
