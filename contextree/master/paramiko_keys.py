"""The keys to offer to a host: in files, as objects, of an agent, with certificates; for ``paramiko_login``."""

import base64
import copy
import os
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import paramiko
from paramiko.agent import AgentSSH
from paramiko.pkey import PublicBlob

from contextree.master.paramiko_host import Failure, Hop

DEFAULT_KEYS = ("id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk", "id_xmss")
MAGIC = b"openssh-key-v1\0"


class KeyFile:
    """A private key in a file, as much of it as can be seen without its passphrase."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.kind = ""
        self.public = b""  # its public half, where that can be seen
        with open(path, "rb") as file:
            data = file.read(1 << 20)
        head, _, rest = data.lstrip().partition(b"\n")
        label = head.strip().decode("ascii", "replace")
        if label == "-----BEGIN OPENSSH PRIVATE KEY-----":
            blob = base64.b64decode(rest.split(b"-----END")[0])
            fields = blob[len(MAGIC):]
            for _number in range(3):  # cipher, kdf, its options
                _field, fields = _string(fields)
            self.public = _string(fields[4:])[0]
            self.kind = _string(self.public)[0].decode("ascii", "replace")
        elif label in ("-----BEGIN RSA PRIVATE KEY-----", "-----BEGIN EC PRIVATE KEY-----"):
            self.kind = "ssh-rsa" if "RSA" in label else "ecdsa"
        if not self.public and os.path.isfile(path + ".pub"):
            self.public = PublicBlob.from_file(path + ".pub").key_blob

    def load(self, passphrase: str | None) -> "paramiko.PKey":
        """The key. paramiko's exceptions, and ValueError for a wrong passphrase."""
        kinds = {"ssh-ed25519": paramiko.Ed25519Key, "ssh-rsa": paramiko.RSAKey}
        kind = paramiko.ECDSAKey if self.kind.startswith("ecdsa") else kinds.get(self.kind)
        if kind is None:
            raise paramiko.SSHException("paramiko does not know this kind of key%s" % (
                ": " + self.kind if self.kind else ""))
        return kind.from_private_key_file(self.path, password=passphrase)


def _string(data: bytes) -> "tuple[bytes, bytes]":
    size = struct.unpack_from(">I", data)[0]
    return data[4:4 + size], data[4 + size:]


class Keys:
    """The keys to offer to one host, in order, each loaded when its turn comes."""

    def __init__(self, hop: Hop, note: Callable[[str], object], keep: Callable[[Any], object]) -> None:
        self.hop = hop
        self.access = hop.access
        self.note = note  # what could not be used, for the error
        self.keep = keep  # what must be closed if the attempt is given up
        self.agent: Any = None

    def __iter__(self) -> Iterator[Any]:
        """The keys: those of the agent that are named here first, as ssh does it."""
        hop, access = self.hop, self.access
        given = access.keys if hop.target else ()
        paths = [access.identity_file] if hop.target and access.identity_file is not None else []
        chosen = bool(given or paths)
        paths = [os.path.expanduser(path) for path in paths]
        own = paths[0] if paths else None
        configured = hop.config.list("identityfile")
        paths += [hop.expand(path) for path in configured if path.lower() != "none"]
        if not chosen and not configured:
            paths = [os.path.join(hop.home, ".ssh", name) for name in DEFAULT_KEYS]
        files = [each for each in (self._file(path, path == own) for path in dict.fromkeys(paths)) if each is not None]
        certificates = [hop.expand(path) for path in hop.config.list("certificatefile")]
        if hop.target and access.certificate_file is not None:
            certificates.insert(0, os.path.expanduser(access.certificate_file))
        for key in given:
            yield from self._with_certificates(key, certificates)
        publics = {each.public for each in files if each.public}
        held = self._agent_keys()
        for key in held:
            if _plain(key) in publics:
                yield key
        if not chosen and not hop.yes("identitiesonly", False):
            for key in held:
                if _plain(key) not in publics:
                    yield key
        have = {_plain(key) for key in held}
        for file in files:
            if file.public not in have or not file.public:
                key = self._load(file)
                if key is not None:
                    beside = [file.path + "-cert.pub"] if os.path.isfile(file.path + "-cert.pub") else []
                    yield from self._with_certificates(key, certificates + beside)

    def _file(self, path: str, named: bool) -> KeyFile | None:
        try:
            return KeyFile(path)
        except OSError as error:
            if named:  # by the caller; in ssh_config there may be names of files that only some machines have
                self.note("no such identity: %s: %s" % (path, error.strerror))
        except Exception as error:  # whatever a broken file makes of base64, struct and paramiko
            self.note("the key %s cannot be read: %s" % (path, error))
        return None

    def _load(self, file: KeyFile) -> Any:
        mine = self.hop.target and self.access.passphrase is not None
        passphrase = self.access.passphrase.reveal() if mine and self.access.passphrase is not None else None
        try:
            try:
                return file.load(None)
            except paramiko.PasswordRequiredException:
                if passphrase is None:
                    self.note("the key %s has a passphrase, and none was given" % file.path)
                    return None
            return file.load(passphrase)
        except Exception as error:
            own = self.access.identity_file
            if mine and own is not None and file.path == os.path.expanduser(own):
                raise Failure("the passphrase was refused: %s" % file.path, "AuthenticationError", "login") from None
            self.note("the key %s cannot be used: %s" % (file.path, error))
        return None

    def _with_certificates(self, key: Any, paths: list[str]) -> Iterator[Any]:
        for path in paths:
            certified = copy.copy(key)
            try:
                certified.load_certificate(path)
            except Exception as error:
                self.note("the certificate %s cannot be used: %s" % (path, error))
            else:
                yield certified
        yield key

    def _agent_keys(self) -> list[Any]:
        """The keys of the agent, those with certificates too."""
        path = self.hop.config.get("identityagent") or "SSH_AUTH_SOCK"
        if path.lower() == "none":
            return []
        if path == "SSH_AUTH_SOCK":
            path = os.environ.get("SSH_AUTH_SOCK", "")
        elif path.startswith("$"):
            path = os.environ.get(path[1:].strip("{}"), "")
        else:
            path = self.hop.expand(path)
        if not path:
            return []
        sock = socket.socket(socket.AF_UNIX)
        try:
            self.keep(sock)
            sock.connect(path)
            self.agent = AgentSSH()
            self.agent._connect(sock)
            keys = list(self.agent.get_keys())
        except (OSError, paramiko.SSHException) as error:
            sock.close()
            self.note("the agent at %s cannot be asked: %s" % (path, error))
            return []
        for key in keys:
            if key.get_name().endswith("-cert-v01@openssh.com"):
                key.public_blob = PublicBlob(key.get_name(), key.blob)
        return keys


def _plain(key: Any) -> bytes:
    """The public half of a key of the agent, without its certificate."""
    try:
        return bytes(key.asbytes())
    except Exception:
        return bytes(key.blob)
