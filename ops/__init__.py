"""Running Penstock: the command line, the embedded server, the simulator, the benchmarks."""
