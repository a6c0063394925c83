"""Programs for the documents' PATH: ``lxc-attach`` and the like, which know a container ``app``, as a reader's do."""

import shlex
import shutil

# words are replaced, as a whole or what follows a '=', then the real program runs with its first words
SCRIPT = """#!/bin/sh
for word do
    shift
    case $word in
        %(name)s) word=%(real)s ;;
        *=%(name)s) word=${word%%%%=*}=%(real)s ;;
    esac
    set -- "$@" "$word"
done
exec %(program)s "$@"
"""


def write(folder, name, words, name_there="app", real="app"):
    """A program in FOLDER/bin that runs these words, with another name of the target; returns that folder."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    path = programs / name
    path.write_text(SCRIPT % {"name": name_there, "real": shlex.quote(str(real)), "program": shlex.join(words)})
    path.chmod(0o755)
    return programs


def lxc(fixture, folder):
    """LXC, with the container ``app``."""
    box = fixture("lxc_box")
    name = box.common
    for program in ("lxc-attach", "lxc-info"):
        write(folder, program, [shutil.which(program), "-P", str(box.path)], real=name)
    return folder / "bin"


def lxd(fixture, folder):
    """LXD, with the instance ``app``."""
    box = fixture("lxd_box")
    words = [shutil.which(word) if word == "lxc" else word for word in box.client]
    return write(folder, "lxc", words, real=box.common)


def nspawn(fixture, folder):
    """systemd-nspawn, with the tree ``/srv/app``."""
    box = fixture("nspawn_box")
    # where /run is no file system of its own, nspawn complains of what it cannot tidy up
    words = ["sh", "-c", 'exec "$@" 2>/dev/null', "sh", shutil.which("systemd-nspawn"), "--register=no", "--keep-unit",
             *box.extra_args]
    return write(folder, "systemd-nspawn", words, "/srv/app", box.tree())


def machinectl(fixture, folder):
    """systemd-run, with the machine ``app``."""
    box = fixture("machines_box")
    return write(folder, "systemd-run", [*box.inside, shutil.which("systemd-run")], real=box.common)


def chroot(fixture, folder):
    """Chroot, with the tree ``/srv/app``."""
    return write(folder, "chroot", [shutil.which("chroot")], "/srv/app", fixture("handmade_box").tree())


SHIMS = {"lxc": lxc, "lxd": lxd, "nspawn": nspawn, "machinectl": machinectl, "setns": lxc, "chroot": chroot}
