"""A host made of paramiko's server half: it speaks real SSH, runs real commands, and asks whatever a test wants."""

import functools
import os
import select
import signal
import socket
import subprocess
import threading

import paramiko


@functools.cache
def host_key():
    """One for all of them: to make one takes long."""
    return paramiko.ECDSAKey.generate()


class Host:
    """Listens at ``port``. What it does is in attributes; set them before anybody comes.

    methods    {user: what must be done, one after the other: "publickey", "password", "keyboard-interactive"}
    questions  rounds of keyboard-interactive: each a list of (text, echo, right answer)
    end_with   "": as the command does; else the signal's name that it is said to have died of
    """

    def __init__(self):
        self.key = host_key()
        self.password = "the Canary"
        self.methods = ["keyboard-interactive"]
        self.questions = [[("Password: ", False, self.password)]]
        self.end_with = ""
        self.offered = []   # kinds of keys, and secrets, that came
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.sessions = []
        self.thread = threading.Thread(target=self._listen, name="host")
        self.thread.start()

    def known_line(self):
        """The line of known_hosts."""
        return "[127.0.0.1]:%d %s %s\n" % (self.port, self.key.get_name(), self.key.get_base64())

    def close(self):
        """End everything."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()
        for session in self.sessions:
            session.end()

    def _listen(self):
        while True:
            try:
                sock, _address = self.listener.accept()
            except OSError:
                return
            self.sessions.append(Session(self, sock))


class Session(paramiko.ServerInterface):
    """One who came."""

    def __init__(self, host, sock):
        self.host = host
        self.left = list(host.methods)
        self.rounds = list(host.questions)
        self.threads = []
        self.transport = paramiko.Transport(sock)
        self.transport.set_log_channel("contextree.paramiko")
        self.transport.add_server_key(host.key)
        self.transport.start_server(event=threading.Event(), server=self)

    def end(self):
        """End it, with its commands."""
        self.transport.close()
        self.transport.join()
        for thread in self.threads:
            thread.join()

    def get_allowed_auths(self, username):
        return self.left[0]

    def _passed(self, method, right):
        if not right or method != self.left[0]:
            return paramiko.AUTH_FAILED
        if len(self.left) == 1:
            return paramiko.AUTH_SUCCESSFUL
        self.left.pop(0)
        return paramiko.AUTH_PARTIALLY_SUCCESSFUL

    def check_auth_publickey(self, username, key):
        self.host.offered.append(key.get_name())
        return self._passed("publickey", True)

    def check_auth_password(self, username, password):
        self.host.offered.append(password)
        return self._passed("password", password == self.host.password)

    def _ask(self):
        return paramiko.InteractiveQuery("", "", *((text, echo) for text, echo, _answer in self.rounds[0]))

    def check_auth_interactive(self, username, submethods):
        return self._ask()

    def check_auth_interactive_response(self, responses):
        self.host.offered += responses
        if list(responses) != [answer for _text, _echo, answer in self.rounds.pop(0)]:
            return paramiko.AUTH_FAILED
        return self._ask() if self.rounds else self._passed("keyboard-interactive", True)

    def check_channel_request(self, kind, chanid):
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel, command):
        thread = threading.Thread(target=self._run, args=(channel, command), name="host's command")
        self.threads.append(thread)
        thread.start()
        return True

    def _run(self, channel, command):
        ours, theirs = socket.socketpair()
        with subprocess.Popen(["/bin/sh", "-c", command], stdin=theirs, stdout=theirs) as program:
            theirs.close()
            try:
                self._move(channel, ours)
            finally:
                ours.close()
                program.terminate()
        if self.end_with or self.host.end_with or program.returncode < 0:
            name = self.host.end_with or signal.Signals(-program.returncode).name[3:]
            message = paramiko.Message()
            message.add_byte(bytes([98]))
            message.add_int(channel.remote_chanid)
            message.add_string("exit-signal")
            message.add_boolean(False)
            message.add_string(name)
            message.add_boolean(False)
            message.add_string("")
            message.add_string("")
            self.transport._send_user_message(message)
        else:
            channel.send_exit_status(program.returncode)
        channel.close()

    end_with = ""

    def _move(self, channel, ours):
        while True:
            for ready in select.select([channel, ours], [], [])[0]:
                if ready is channel:
                    data = channel.recv(65536)
                    if not data:
                        return
                    ours.sendall(data)
                else:
                    try:
                        data = os.read(ours.fileno(), 65536)
                    except OSError:
                        return
                    if not data:
                        return
                    channel.sendall(data)
