"""As much of a Kubernetes API server as ``kubectl exec`` talks to, for the real kubectl; the pod is this machine.

How it works. Plain HTTP on a free loopback port, in a process of its own that ends with its keeper. It answers what
kubectl asks before it runs a command, and then speaks the protocol of ``exec``: a WebSocket (v5.channel.k8s.io, so
kubectl 1.31 or newer) of binary messages, the first byte being the channel: 0 stdin, 1 stdout, 2 stderr, 3 the status
as JSON at the end; 255 closes the channel that the next byte names. As with a real one, a client that goes away ends
the command's stdin, not the command.

Pods by name: ``web`` runs commands here. ``pending``, ``completed``, ``forbidden`` and ``silent`` (which never answers
an exec) are what they say. All in the namespace ``default``, with the one container ``main``. Without TLS kubectl sends
no credentials, so it is the path below which a client asks that makes it a stranger.
"""

import base64
import hashlib
import http.server
import json
import os
import shutil
import socketserver
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.lab import processes
from tests.lab.poll import until

PROTOCOL = "v5.channel.k8s.io"
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
PODS = {"web": "Running", "pending": "Pending", "completed": "Succeeded", "forbidden": "Running", "silent": "Running"}
ENVIRON = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
CONFIG = {"apiVersion": "v1", "kind": "Config", "current-context": "lab",
          "users": [{"name": "ann", "user": {}}],
          "contexts": [{"name": name, "context": {"cluster": name, "user": "ann"}}
                       for name in ("lab", "stranger", "down")]}


class CannotStart(Exception):
    """It cannot run here; the text says why."""


class Kube:
    """A running one. ``kubeconfig``: for kubectl, with the contexts ``lab``, ``stranger`` and ``down``."""

    @classmethod
    def up(cls):
        """Start one. Raises CannotStart; then nothing is left behind."""
        kubectl = shutil.which("kubectl")
        if kubectl is None:
            raise CannotStart("kubectl is not installed")
        found = subprocess.run([kubectl, "version", "--client", "-o", "json"], capture_output=True, env=ENVIRON,
                               check=False)
        version = json.loads(found.stdout or b"{}").get("clientVersion", {})
        if (int(version.get("major", 0)), int(version.get("minor", "0").rstrip("+"))) < (1, 31):
            raise CannotStart("kubectl is older than 1.31, and speaks no WebSocket")
        self = cls()
        self.directory = tempfile.mkdtemp(prefix="ctxt-kube-")
        ready = Path(self.directory, "ready")
        start = 'setsid "$@" >"$0" 2>&1 </dev/null &'
        root = str(Path(__file__).resolve().parents[2])
        keeper = processes.identity(os.getpid())
        subprocess.run(["/bin/sh", "-c", start, self.directory + "/log", sys.executable, "-m", __name__, str(ready),
                        *map(str, keeper)], env={**ENVIRON, "PYTHONPATH": root}, cwd=root, check=True)
        try:
            text = until(lambda: ready.exists() and ready.read_text().endswith("\n") and ready.read_text(),
                         "the server to listen")
        except AssertionError:
            raise CannotStart("it does not start: " + Path(self.directory, "log").read_text()[-300:]) from None
        port, pid = map(int, text.split())
        self.server = processes.identity(pid)
        config = dict(CONFIG, clusters=[
            {"name": "lab", "cluster": {"server": "http://127.0.0.1:%d" % port}},
            {"name": "stranger", "cluster": {"server": "http://127.0.0.1:%d/stranger" % port}},
            {"name": "down", "cluster": {"server": "http://127.0.0.1:1"}}])
        self.kubeconfig = self.directory + "/config"
        Path(self.kubeconfig).write_text(json.dumps(config))
        os.chmod(self.kubeconfig, 0o600)
        return self

    def down(self):
        """End it, and what it runs."""
        processes.end([*processes.descendants(self.server[0]), self.server])
        shutil.rmtree(self.directory, ignore_errors=True)


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection of kubectl."""

    protocol_version = "HTTP/1.1"

    def log_message(self, text, *args):
        sys.stderr.write(text % args + "\n")

    def answer(self, what, code=200):
        data = json.dumps(what).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, code, reason, message, **details):
        self.answer({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason,
                     "message": message, "code": code, "details": details}, code)

    def do_GET(self):
        url = urlsplit(self.path)
        parts = url.path.strip("/").split("/")
        if parts[0] == "stranger":
            return self.refuse(401, "Unauthorized", "Unauthorized")
        if url.path == "/api":
            return self.answer({"kind": "APIVersions", "versions": ["v1"]})
        if url.path == "/apis":
            return self.answer({"kind": "APIGroupList", "apiVersion": "v1", "groups": []})
        if url.path == "/api/v1":
            kinds = [{"name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod", "verbs": ["get"]},
                     {"name": "pods/exec", "singularName": "", "namespaced": True, "kind": "PodExecOptions",
                      "verbs": ["create", "get"]}]
            return self.answer({"kind": "APIResourceList", "groupVersion": "v1", "resources": kinds})
        if parts[:3] == ["api", "v1", "namespaces"] and len(parts) in (6, 7) and parts[4] == "pods":
            return self.pod(parts[3], parts[5], len(parts) == 7, parse_qs(url.query))
        return self.refuse(404, "NotFound", "the server could not find the requested resource")

    do_POST = do_GET  # noqa: N815  http.server wants these names

    def pod(self, space, name, run, query):
        """What concerns one pod: it is looked at, and something is run in it."""
        phase = PODS.get(name)
        if phase is None or space != "default":
            return self.refuse(404, "NotFound", 'pods "%s" not found' % name, name=name, kind="pods")
        if not run:
            return self.answer({
                "kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, "namespace": space, "uid": "1"},
                "spec": {"containers": [{"name": "main", "image": "lab"}]}, "status": {"phase": phase}})
        if name == "forbidden":
            return self.refuse(403, "Forbidden", 'pods "%s" is forbidden: User "ann" cannot create resource "pods/exec"'
                               ' in API group "" in the namespace "%s"' % (name, space), name=name, kind="pods")
        if phase == "Pending":
            return self.refuse(400, "BadRequest", "pod %s does not have a host assigned" % name)
        container = query.get("container", ["main"])[0]
        if container != "main":
            return self.refuse(400, "BadRequest", "container %s is not valid for pod %s" % (container, name))
        if PROTOCOL not in self.headers.get("Sec-WebSocket-Protocol", ""):
            return self.refuse(400, "BadRequest", "unable to upgrade: only %s is spoken here" % PROTOCOL)
        if name == "silent":
            return time.sleep(600)  # sleeps: that is what it is for
        return Exec(self, query).run()


class Exec:
    """One command and its WebSocket."""

    def __init__(self, handler, query):
        self.handler = handler
        self.command = query["command"]
        self.stdin = query.get("stdin") == ["true"]
        self.lock = threading.Lock()
        handler.close_connection = True
        key = handler.headers["Sec-WebSocket-Key"] + GUID
        handler.send_response(101)
        for name, value in (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Protocol", PROTOCOL),
                            ("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())):
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.flush()

    def run(self):
        try:
            child = subprocess.Popen(self.command, stdin=subprocess.PIPE if self.stdin else subprocess.DEVNULL,
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRON, cwd="/", bufsize=0)
        except OSError:
            return self.over({"status": "Failure", "reason": "InternalError", "code": 500, "message":
                              "Internal error occurred: error executing command in container: OCI runtime exec failed:"
                              " exec failed: unable to start container process: exec: \"%s\": executable file not found"
                              " in $PATH: unknown" % self.command[0]})
        threads = [threading.Thread(target=self.pump, args=(1, child.stdout), daemon=True),
                   threading.Thread(target=self.pump, args=(2, child.stderr), daemon=True)]
        threading.Thread(target=self.listen, args=(child,), daemon=True).start()
        for thread in threads:
            thread.start()
        status = child.wait()
        for thread in threads:
            thread.join()
        if status == 0:
            return self.over({"status": "Success"})
        status = status if status > 0 else 128 - status
        return self.over({"status": "Failure", "reason": "NonZeroExitCode",
                          "message": "command terminated with non-zero exit code: exit status %d" % status,
                          "details": {"causes": [{"reason": "ExitCode", "message": str(status)}]}})

    def over(self, status):
        self.send(2, b"\3" + json.dumps(dict(status, metadata={})).encode())
        self.send(8, struct.pack("!H", 1000))

    def pump(self, channel, file):
        """From the command to the client; when that is gone, to nowhere."""
        while True:
            data = file.read(32768)
            if not data:
                return
            self.send(2, bytes([channel]) + data)

    def send(self, kind, data):
        size = len(data)
        head = (struct.pack("!BB", 128 | kind, size) if size < 126 else
                struct.pack("!BBH", 128 | kind, 126, size) if size < 65536 else
                struct.pack("!BBQ", 128 | kind, 127, size))
        try:
            with self.lock:
                self.handler.connection.sendall(head + data)
        except OSError:
            pass

    def listen(self, child):
        """From the client to the command."""
        try:
            while True:
                data = self.message()
                if data[:1] == b"\0" and child.stdin:
                    view = memoryview(data)[1:]
                    while view:
                        view = view[child.stdin.write(view):]
                elif data == b"\xff\0" and child.stdin:
                    break
        except (EOFError, OSError):
            pass
        if child.stdin:
            child.stdin.close()

    def message(self):
        """The next message; its frames joined and unmasked."""
        data = b""
        while True:
            first, second = self.exactly(2)
            size = second & 127
            if size > 125:
                size = int.from_bytes(self.exactly(2 if size == 126 else 8), "big")
            mask = self.exactly(4) if second & 128 else bytes(4)
            part = self.exactly(size)
            if size:
                key = (mask * (size // 4 + 1))[:size]
                part = (int.from_bytes(part, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")
            kind = first & 15
            if kind == 8:
                raise EOFError
            if kind == 9:
                self.send(10, part)
            elif kind != 10:
                data += part
                if first & 128:
                    return data

    def exactly(self, size):
        data = self.handler.rfile.read(size)
        if len(data) < size:
            raise EOFError
        return data


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True


def main(ready, *keeper):
    """Serve until the keeper is gone."""
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Path(ready).write_text("%d %d\n" % (server.server_port, os.getpid()))
    keeper = [int(word) for word in keeper]
    while processes.alive(keeper):
        time.sleep(0.5)  # sleeps: nothing tells the end of a process that is not ours
    shutil.rmtree(Path(ready).parent, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
