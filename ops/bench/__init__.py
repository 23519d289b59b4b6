"""Benchmarks beside their rivals; README.md says how to run and read them."""
