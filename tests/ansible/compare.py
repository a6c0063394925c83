"""Two runs of one playbook, compared key by key."""

import json
import re
from dataclasses import replace
from typing import Any

from tests.ansible import masks
from tests.ansible.plays import Outcome

# core says this of every strategy that is not its own (2.19 and later)
OF_STRATEGY = re.compile(r"\[DEPRECATION WARNING\]: Use of strategy plugins not included in ansible.builtin")
HOW_TO_HIDE = "[WARNING]: Deprecation warnings can be disabled"  # follows the first deprecation of a run


# what comes as often as one has to wait
OF_TIME = ("v2_runner_retry", "v2_runner_on_async_poll")
ADDRESSES = ("ansible_host", "ansible_port", "ansible_user")


def differences(stock: Outcome, ours: Outcome, *, order: bool = True, timed: bool = False) -> list[str]:
    """Sentences, one for each difference; none means that the runs were the same. ``order``: tasks came in turn.
    ``timed``: how often one had to ask until something had happened does not count."""
    found = []
    if stock.status != ours.status:
        found.append("exit status: %d != %d" % (stock.status, ours.status))
    if timed:
        stock, ours = untimed(stock), untimed(ours)
    if ours.mode == "connection":
        stock, ours = by_short_names(stock), by_short_names(ours)
    mine = ours.by_host()
    for host, rows in stock.by_host().items():
        found += _rows(host, rows, mine.pop(host, []))
    found += ["host %s: only in ours" % host for host in mine]
    found += deep("recap", stock.recap, ours.recap)
    found += deep("custom stats", masks.value(stock.custom), masks.value(ours.custom))
    found += deep("files", masks.value(stock.made), masks.value(ours.made))
    found += deep("stdout", blocks(stock.stdout, order), blocks(ours.stdout, order))
    found += deep("stderr", *said(stock, ours))
    return found


def from_either(one: Outcome, other: Outcome, ours: Outcome) -> list[str]:
    """The differences of ours from both of two runs of stock: what is as in one of them is right."""
    elsewhere = {line.partition(": ")[0] for line in differences(other, ours)}
    return [line for line in differences(one, ours) if line.partition(": ")[0] in elsewhere]


def untimed(outcome: Outcome) -> Outcome:
    """The same without what tells how often one had to ask."""
    rows = [dict(row, result=without_attempts(row["result"])) for row in outcome.rows if row["event"] not in OF_TIME]
    stdout = "".join(line + "\n" for line in outcome.stdout.splitlines()
                     if not re.match(r"FAILED - RETRYING|ASYNC POLL on", line))
    return replace(outcome, rows=rows, stdout=re.sub(r'"attempts": \d+', '"attempts": *', stdout))


def by_short_names(outcome: Outcome) -> Outcome:
    """The same with the short names of connections: the inventory names ours, and core's get longer in a loop."""
    rows = json.loads(re.sub(r'"(contextree\.fast|ansible\.builtin)\.(ssh|local)"', r'"\2"', json.dumps(outcome.rows)))
    items = re.sub(r"(?m)( -> [\w-]+)\([\w.:]+\)(?=\] => \(item=)", r"\1", outcome.stdout)
    return replace(outcome, rows=[dict(row, result=without_addresses(row["result"])) for row in rows], stdout=items)


def without_addresses(found: Any, item: bool = False) -> Any:
    """A result without the addresses of delegated items: core has them of the first item only."""
    if isinstance(found, dict):
        item = item or "ansible_loop_var" in found
        return {key: without_addresses(each, item) for key, each in found.items() if not item or key not in ADDRESSES}
    return [without_addresses(each, item) for each in found] if isinstance(found, list) else found


def without_attempts(found: Any) -> Any:
    """A result without the number of attempts, also of each item."""
    if isinstance(found, dict):
        return {key: without_attempts(each) for key, each in found.items() if key != "attempts"}
    return [without_attempts(each) for each in found] if isinstance(found, list) else found


def _rows(host: str, stock: list[dict[str, Any]], ours: list[dict[str, Any]]) -> list[str]:
    found = []
    for number in range(max(len(stock), len(ours))):
        if number >= len(ours) or number >= len(stock):
            which, rest = ("stock", stock) if number >= len(ours) else ("ours", ours)
            found.append("%s: from row %d on only in %s: %s" % (host, number, which, rest[number]["task"]))
            break
        one, other = stock[number], ours[number]
        name = "%s #%d %s [%s]" % (host, number, one["task"], one["event"])
        if (one["task"], one["event"]) != (other["task"], other["event"]):
            found.append("%s: != %s [%s]: %r" % (name, other["task"], other["event"], other["result"]))
            if one["task"] != other["task"]:
                break
        found += deep(name, masks.value(one), masks.value(other))
    return found


def deep(path: str, one: Any, other: Any) -> list[str]:
    """The differences of two values, by path."""
    if isinstance(one, dict) and isinstance(other, dict):
        found = []
        for key in sorted({*one, *other}):
            if key not in other:
                found.append("%s/%s: only in stock: %.300r" % (path, key, one[key]))
            elif key not in one:
                found.append("%s/%s: only in ours: %.300r" % (path, key, other[key]))
            else:
                found += deep("%s/%s" % (path, key), one[key], other[key])
        return found
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [each for number, pair in enumerate(zip(one, other, strict=True))
                for each in deep("%s/%d" % (path, number), *pair)]
    same = one == other and type(one) is type(other)
    return [] if same else ["%s: %.600r != %.600r" % (path, one, other)]


def blocks(text: str, order: bool) -> dict[str, list[str]]:
    """Standard output by the headings of plays and tasks; below one, hosts answer in any order. Without ``order`` all
    is below one."""
    found: dict[str, list[str]] = {}
    heading = "0"
    for line in masks.text(text).replace("(debug)> ", "(debug)>\n").splitlines():  # a prompt, and what comes after it
        if re.match(r"(PLAY|TASK|RUNNING HANDLER|PLAY RECAP) |(PLAY|TASK|RUNNING).*\*\*\*$", line):
            heading = "%d %s" % (len(found), line.rstrip("* ")) if order else ""
        else:
            included = re.match(r"(included: .* for )(.*)", line)  # the hosts, in the order in which they came to it
            found.setdefault(heading, []).append(
                included[1] + ", ".join(sorted(included[2].split(", "))) if included else line)
    return {heading: sorted(filter(None, lines)) for heading, lines in found.items()}


def said(stock: Outcome, ours: Outcome) -> tuple[list[str], list[str]]:
    """What both said on standard error."""
    one, other = warnings(stock.stderr), warnings(ours.stderr)
    if ours.mode == "strategy" and any(OF_STRATEGY.match(entry) for entry in other):
        other = [entry for entry in other if not OF_STRATEGY.match(entry)]
        if not any(entry.startswith(HOW_TO_HIDE) for entry in one):
            other = [entry for entry in other if not entry.startswith(HOW_TO_HIDE)]
    return one, other


def warnings(text: str) -> list[str]:
    """What was said on standard error, one entry a warning, in any order."""
    found: list[str] = []
    for line in masks.text(text).splitlines():
        if re.match(r"\[(WARNING|DEPRECATION WARNING|ERROR)\]:", line) or not found:
            found.append(line)
        else:
            found[-1] += " " + line
    return sorted(filter(None, (" ".join(entry.split()) for entry in found)))
