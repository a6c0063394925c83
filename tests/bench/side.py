"""The process of one side: does what it is told on stdin and answers on stdout, each a line of JSON.

{"open": NAME, "options": {...}} answers a number for what was opened; {"run": NUMBER, "count": N} its result;
{"close": NUMBER} nothing. Answers are {"value": ...}, or {"error": text}, also when the side's library is not there.
"""

import contextlib
import importlib
import json
import os
import sys
import traceback

from tests.bench import measure


def main(name):
    """Serve until the end of stdin."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is not an answer
    lines = os.fdopen(os.dup(0), "r")
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    opened = {}
    side = None
    for number, line in enumerate(lines):
        request = json.loads(line)
        try:
            if side is None:
                side = importlib.import_module("tests.bench.sides." + name).Side()
            if "open" in request:
                options = request["options"]
                stack = contextlib.ExitStack()
                if options.pop("one_cpu", False):
                    stack.enter_context(measure.one_cpu())
                opened[number] = stack, stack.enter_context(getattr(side, request["open"])(**options))
                value = number
            elif "run" in request:
                value = opened[request["run"]][1](request["count"])
            else:
                value = opened.pop(request["close"])[0].close()
            answer = {"value": value}
        except Exception:  # told to the other end
            answer = {"error": traceback.format_exc()}
        out.write(json.dumps(answer) + "\n")
    for stack, _ in opened.values():
        stack.close()
    if side is not None:
        side.close()


if __name__ == "__main__":
    main(sys.argv[1])
