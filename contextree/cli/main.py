"""The ``contextree`` command: its sub-commands, and what becomes of their errors.

Exit status: 0 when all went well, 1 when something failed (a host, a function), 2 for a wrong command line, 130 after
Ctrl-C; ``run`` with one host has the status of the command there, and 255 when the host could not be reached, like ssh.
"""

import os
import signal
import sys

import click

from contextree.cli.ansible import ansible
from contextree.cli.demo import demo
from contextree.cli.doctor import doctor
from contextree.cli.jobs import jobs
from contextree.cli.remote import call, ping, run
from contextree.cli.targets import sentence, version
from contextree.core.wire.errors import ContextreeError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version(), prog_name="contextree", message="%(prog)s %(version)s")
def cli() -> None:
    """Python interpreters on this machine and on others, and functions called in all of them.

    Start with: contextree demo
    """


for command in (demo, doctor, ping, call, run, jobs, ansible):
    cli.add_command(command)


def main() -> int:
    """Run the command line of this process; returns its exit status. Errors are one sentence on stderr."""
    try:
        return int(cli.main(prog_name="contextree", standalone_mode=False) or 0)
    except click.exceptions.Abort:
        return _interrupted()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except KeyboardInterrupt:
        return _interrupted()
    except BrokenPipeError:  # the reader of our output has gone; nothing more may be written to it, at exit neither
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except ContextreeError as error:
        click.echo(f"contextree: {sentence(error)}", err=True)
        return 1


def _interrupted() -> int:
    click.echo("contextree: interrupted", err=True)
    return 128 + signal.SIGINT
