"""Reference, program simulator and RTL simulation."""
