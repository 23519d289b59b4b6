"""`python -m ops.bench`: every benchmark beside its rivals, in one run on one stand."""

from __future__ import annotations

import logging
import time
from types import ModuleType

import click
import structlog

from ops.bench import (
    adaptive,
    admission,
    cpu,
    detour,
    enqueue,
    fairness,
    gateway,
    hooks,
    latency,
    limits,
    machine,
    memory,
    noop,
    scaling,
    tracing,
    transport,
)
from ops.bench.report import Report
from ops.bench.stand import Stand, clean_up_on_sigterm

BENCHMARKS: dict[str, ModuleType] = {
    "enqueue": enqueue,
    "noop": noop,
    "latency": latency,
    "detour": detour,
    "memory": memory,
    "transport": transport,
    "cpu": cpu,
    "scaling": scaling,
    "tracing": tracing,
    "admission": admission,
    "limits": limits,
    "adaptive": adaptive,
    "fairness": fairness,
    "gateway": gateway,
    "hooks": hooks,
}
"""In the order they run."""


def chosen(_: click.Context, __: click.Parameter, value: str | None) -> list[str]:
    """The names in `--only`, all where it is left out."""
    names = value.split(",") if value else list(BENCHMARKS)
    if unknown := set(names) - set(BENCHMARKS):
        raise click.BadParameter(f"{', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    return names


@click.command()
@click.option("--only", "names", callback=chosen, metavar="NAMES", help="Some, by commas.")
@click.option("--quick", is_flag=True, help="Small sizes: shows that it works, not how fast.")
@click.option("--save/--no-save", default=None, help="Keep the results; default: not if quick.")
def main(names: list[str], quick: bool, save: bool | None) -> None:
    """Measure Penstock and plain Celery workers side by side."""
    clean_up_on_sigterm()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    command = f"python -m ops.bench --only {','.join(names)}{' --quick' if quick else ''}"
    with Stand() as stand:
        report = Report.begin(command, quick, machine.describe(stand))
        for name in names:
            measure(report, stand, name, quick)
    titles = {name: (module.TITLE, module.NOT_SHOWN) for name, module in BENCHMARKS.items()}
    page = report.markdown(titles)
    print(page)
    if save or (save is None and not quick):
        print(f"kept in {report.write(page)}")


def measure(report: Report, stand: Stand, name: str, quick: bool) -> None:
    """Run one benchmark, and show its table at once."""
    click.echo(f"{name} ...", err=True)
    began = time.monotonic()
    report.results += BENCHMARKS[name].run(stand, quick)
    report.machine[f"speed after {name}"] = machine.speed()
    click.echo("\n".join(report.table(name)), err=True)
    click.echo(f"{name} took {time.monotonic() - began:.0f} s\n", err=True)


if __name__ == "__main__":
    main()
