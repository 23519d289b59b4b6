"""Imports all that our programs use, for forks.py; what is here is no garbage in any of them."""

import gc
from importlib import import_module

from ops.cli import COMMANDS

for name in (
    *(mount.place.partition(":")[0] for mount in COMMANDS.values()),
    "billiard.pool",
    "celery.app.control",
    "celery.bin.celery",
    "celery.worker.components",
    "httpcore",
    "kombu.matcher",
    "producers.gateway.server",
    "pytest",
    "tests.acceptance.faulty_worker",
):
    import_module(name)

gc.collect()
gc.freeze()
