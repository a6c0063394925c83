"""More of what is measured: over ssh, files, executors, and as many contexts as fit. As in ``rows``."""

import os
import tempfile

from tests.bench.measure import median
from tests.bench.rows import MB, PYTHON, Row, pick

SOME = 100  # tasks of a chunk, where an executor is told to make chunks


def host_of(lab):
    """(host, configuration) of the private sshd: an account with this very Python where there is one."""
    return ("py" + PYTHON if PYTHON in lab.sshd.python_users else "key"), lab.sshd.ssh_config


def ssh_stream(lab):
    """Bytes a second over ssh, each direction, once it is connected: encryption is the limit."""
    host, config = host_of(lab)
    size = max(lab.scale.size // 2, MB)
    rows = []
    for direction in ("down", "up"):
        options = {"host": host, "config": config, "direction": direction, "size": size}
        found = lab.turns([(name, "ssh_stream", options, 1) for name in ("raw", "contextree", "mitogen")], 1,
                          rounds=min(5, lab.scale.turns))
        text = "from the host (raw: ssh host dd)" if direction == "down" else "to the host (raw: dd | ssh host cat)"
        row = Row("ssh-stream", "%d MiB over ssh %s" % (size // MB, text), "B/s", found)
        row.compare("≥ 0.7x raw", "contextree", "raw", 0.7, True)
        rows.append(row)
    return rows


def files(lab):
    """A file in one piece, synced and hashed: here, where a disk is the limit, and over ssh."""
    rows = []
    host, config = host_of(lab)
    size = max(lab.scale.size // 2, MB)
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        source = os.path.join(folder, "source")
        with open(source, "wb") as file:
            for _ in range(size // MB):
                file.write(os.urandom(MB))
        os.chmod(source, 0o644)
        for direction in ("put", "get"):
            options = {"direction": direction, "source": source, "folder": folder}
            entries = [("raw/copied and synced", "copy_file", {"source": source, "folder": folder}, 1),
                       ("contextree", "move_file", options, 1)]
            if direction == "put":
                peer = {"source": source, "folder": folder}
                entries.append(("mitogen/FileService, not synced", "move_file", peer, 1))
            found = lab.turns(entries, 1, rounds=min(5, lab.scale.turns))
            rows.append(Row("files", "%s of a file of %d MiB, local child" % (direction, size // MB), "B/s", found))
        for direction in ("put", "get"):
            options = {"direction": direction, "source": source, "host": host, "config": config}
            entries = [("raw/" + by, "ssh_file", {**options, "by": by}, 1) for by in ("scp", "sftp")]
            entries.append(("contextree", "ssh_file", options, 1))
            found = lab.turns(entries, 1, rounds=min(5, lab.scale.turns))
            row = Row("files", "%s of a file of %d MiB by ssh, connecting not counted (scp, sftp: counted)"
                      % (direction, size // MB), "B/s", found)
            rows.append(row.compare("≥ 1x scp", "contextree", "raw/scp", 1, True))
    return rows


def executor(lab):
    """Tasks that do nothing, by two workers."""
    rows = []
    names = ("contextree", "multiprocessing/ProcessPoolExecutor", "multiprocessing/loky")
    for title, how in (("one task after the other", 1), ("tasks, 8 outstanding", 8), ("tasks, 64 outstanding", 64)):
        entries = [(name, "executor", {"outstanding": how, "by": name.partition("/")[2]}) for name in names]
        row = Row("executor", "executor of two workers: " + title, "/s", lab.turns(entries, lab.scale.piped))
        rows.append(row.compare("≥ 1x ProcessPoolExecutor", "contextree", names[1], 1, True))
    for chunk in (1, SOME):
        entries = [(name, "executor_map", {"chunk": chunk, "by": name.partition("/")[2]}) for name in names]
        row = Row("executor", "executor of two workers: map, chunksize=%d" % chunk, "/s",
                  lab.turns(entries, lab.scale.piped))
        rows.append(row.compare("≥ 1x ProcessPoolExecutor", "contextree", names[1], 1, True))
    entries = [(name, "start_executor", {"by": name.partition("/")[2]}, 1) for name in names]
    found = lab.turns(entries, 1, rounds=min(5, lab.scale.turns))
    rows.append(Row("executor", "executor of two workers: until its first result, and its end", "s", found))
    return rows


def fan_out(lab):
    """As many forked contexts as fit, up to 1,000: created, all of them called at once, ended."""
    most = 1000 if lab.scale.turns > 5 else lab.scale.crowd
    found = lab.turns([(name, "fan_out", {}) for name in ("contextree", "multiprocessing")], most, rounds=1, fresh=True)
    fit = min(sample["count"] for sample in found["contextree"])
    title = "fan-out: %d contexts (of %d wanted)" % (fit, most)
    rows = [Row("fan-out", title + ", created, for each", "s", pick(found, "created"))]
    called = pick(found, "called")
    rows.append(Row("fan-out", title + ", one function in all at once (gather)", "s", called))
    rows.append(Row("fan-out", title + ", memory of the system for each", "B", pick(found, "memory")))
    row = Row("fan-out", title + ", memory of the master for each", "B", pick(found, "master"))
    rows.append(row.require("contexts that fit ≥ wanted", fit, most, True))
    return rows


def slow_consumer(lab):
    """What is received slowly: the most memory at both ends, above base. A stream is in ``slow-reader``."""
    total = max(lab.scale.slow // 4, MB)
    rows = []
    kinds = (("channel", "a channel"), ("file", "a file, into a slow file object"), ("output", "output of a program"))
    for what, text in kinds:
        entries = [("contextree", "slow_consumer", {"what": what, "total": total})]
        if what == "channel":
            entries.append(("multiprocessing/Queue", "slow_consumer", {"total": total}))
        found = lab.turns(entries, 1, rounds=1, fresh=True)
        values = {"contextree": pick(found, "here")["contextree"],
                  "contextree/the child": pick(found, "there")["contextree"]}
        if "multiprocessing/Queue" in found:
            values["multiprocessing/the child, Queue"] = pick(found, "there")["multiprocessing/Queue"]
        title = "%s of %d MiB to a slow consumer: memory above base" % (text, total // MB)
        row = Row("slow-consumer", title, "B", values)
        worst = max(median(values["contextree"]), median(values["contextree/the child"]))
        rows.append(row.require("both ends ≤ 16 MiB", worst / MB, 16))
    return rows


ROWS = {
    "ssh-stream": ssh_stream,
    "files": files,
    "executor": executor,
    "fan-out": fan_out,
    "slow-consumer": slow_consumer,
}
