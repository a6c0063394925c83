"""``contextree jobs``: what context.detach(keep=True) has left running, or behind."""

import time
from typing import Any

import click

from contextree.cli.remote import complain, parallel_option
from contextree.cli.targets import Hosts, Reach, each, label, reach_options
from contextree.master.router import Router
from contextree.parent.calls import visible
from contextree.parent.context import Context


@click.command()
@click.argument("hosts", type=Hosts(), metavar="HOST[,HOST]")
@click.option("-d", "--directory", help="Where the jobs were made; by default where they usually are.")
@click.option("--output", "with_output", is_flag=True, help="Print what they have written, too, as far as it is kept.")
@click.option("--remove", is_flag=True, help="Remove what dead jobs have left.")
@parallel_option
@reach_options
def jobs(hosts: list[str], directory: str | None, with_output: bool, remove: bool, parallel: int, reach: Reach) -> int:
    """List the jobs of your account on each HOST.

    A job is a context that lives on without its master. It is taken up again, or ended, by a program that has its
    token; this shows which there are, and what their calls have come to.
    """

    def look(_target: str, context: Context) -> list[tuple[Any, str]]:
        found = context.jobs(directory)
        texts = [job.output() if with_output else "" for job in found]
        for job in found:
            if remove and not job.alive:
                job.remove()
        return list(zip(found, texts, strict=True))

    failed = 0
    with Router() as router:
        for outcome in each(router, hosts, reach, look, parallel):
            complain(outcome)
            failed += outcome.error is not None
            for job, text in outcome.value or ():
                show(label(outcome.target), job, text)
    return 1 if failed else 0


def show(host: str, job: Any, text: str) -> None:
    """One job, in a few lines."""
    state = "dead" if not job.alive else "held by a master" if job.held else "alone"
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(job.started))
    click.echo(f"{host}: {job.name}, process {job.pid} on {job.machine}, since {since}, {state}: "
               f"{visible(job.directory)}")
    for call in job.calls:
        state = "failed" if call.failed else "done" if call.done else "running" if job.alive else "lost"
        click.echo(f"    {call.number} {call.name}: {state}")
    for line in text.splitlines():
        click.echo(f"    | {visible(line)}")
