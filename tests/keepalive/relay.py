"""A program between a parent and an interpreter, as a container's client is one: ``relay.py PROGRAM ARGUMENT...``

It copies stdin to the program and the program's stdout to stdout. ``relay.py --to HOST PORT`` does so with a TCP
connection in place of a program."""

import os
import select
import socket
import subprocess
import sys


def main(words):
    """Relay until one side ends; the exit status."""
    child = None
    if words[0] == "--to":
        with socket.create_connection((words[1], int(words[2]))) as connection:
            into = out = connection.detach()
    else:
        child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        into, out = child.stdin.fileno(), child.stdout.fileno()
    lines = {0: into, out: 1}
    while True:
        for source in select.select(list(lines), [], [])[0]:
            data = os.read(source, 1 << 16)
            if not data:
                if child is None:
                    return 0
                child.stdin.close()
                return child.wait()
            while data:
                data = data[os.write(lines[source], data):]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
