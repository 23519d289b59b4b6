"""Everything on one machine: the embedded server, and who starts and stops what beside it."""
