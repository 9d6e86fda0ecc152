"""Benchmarks: what the project reaches, beside other tools on the same work."""
