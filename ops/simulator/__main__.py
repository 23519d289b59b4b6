"""`python -m ops.simulator`."""

from ops.simulator.cli import simulator

simulator(prog_name="penstock simulator")
