"""What a spare does while it waits: it has its own copies of the pages of memory that modules change.

What a fork shares with its parent is copied, page by page, when either changes it; and Python changes each object that
it looks at. That is most of what a short module takes. Which pages those are is learned from modules that ran in a fork
of their own: at its end such a process looks which pages are not shared any more. A spare has the kernel copy what most
of these had in common, all at once (Linux 5.14), and else looks at what is known to be needed (``player.touch``).
"""

import marshal
import os
import struct
import sys

from . import modules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Tuple

    Place = Tuple[str, Tuple[int, int]]  # the path of a file of the template, which one that is

PAGE = os.sysconf("SC_PAGE_SIZE")
PRESENT, OF_FILE, ALONE = 1 << 63, 1 << 61, 1 << 56  # bits of an entry of /proc/self/pagemap, see proc(5)
POPULATE_WRITE = 23  # of madvise(2)
PIECE = 32  # pages
MODULES = 8  # so many are learned from
LENGTH = struct.Struct("!I")


class Pages:
    """What the template knows of that."""

    def __init__(self) -> None:
        self.fd = None  # type: Optional[int]
        self.place = None  # type: Optional[Place]  # where modules write it down
        self.count = 0  # modules that have been told to
        self.heard = 0  # modules that did, and ...
        self.read = 0  # ... so many bytes of that
        self.votes = {}  # type: Dict[int, int]  # page -> modules that had their own
        self.madvise = None  # type: Any

    def wanted(self) -> "Optional[Place]":
        """Where a module that begins now in a fork of its own is to write down what it needed; None: that is known."""
        if self.count >= MODULES or "ctypes" not in sys.modules:
            return None
        if self.fd is None:
            try:
                self.fd = modules.nameless()
            except OSError:
                self.count = MODULES
                return None
            look = os.fstat(self.fd)
            self.place = "/proc/%d/fd/%d" % (os.getpid(), self.fd), (look.st_dev, look.st_ino)
        self.count += 1
        return self.place

    def hear(self) -> None:
        """Read what modules have written."""
        if self.fd is None:
            return
        data = os.pread(self.fd, 1 << 20, self.read)
        while len(data) >= LENGTH.size and len(data) >= LENGTH.size + LENGTH.unpack_from(data)[0]:
            size = LENGTH.size + LENGTH.unpack_from(data)[0]
            for start, count in marshal.loads(data[LENGTH.size:size]):
                for page in range(start, start + count):
                    self.votes[page] = self.votes.get(page, 0) + 1
            self.heard += 1
            self.read += size
            data = data[size:]
        if self.heard and self.madvise is None:
            ctypes = sys.modules["ctypes"]  # type: Any
            self.madvise = ctypes.CDLL(None).madvise
            self.madvise.argtypes = ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int

    def copy(self) -> bool:
        """In a spare: have copies of what most modules need. False: this cannot be had here."""
        if self.madvise is None:
            return False
        done = 0
        for start, count in runs(sorted(page for page, count in self.votes.items() if 2 * count >= self.heard)):
            if self.madvise(start * PAGE, count * PAGE, POPULATE_WRITE):
                return False
            done += count
            if done >= PIECE:
                done = 0
                os.sched_yield()  # whoever waits for this processor has more to do than we have
        return True


def write_down(place: "Place") -> None:
    """At the end of a module's process: tell which pages are its own."""
    path, which = place
    data = marshal.dumps(runs(own()))
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    look = os.fstat(fd)
    if (look.st_dev, look.st_ino) == which:
        os.write(fd, LENGTH.pack(len(data)) + data)


def own() -> "List[int]":
    """The pages of this process's memory that were copied, or are new."""
    found = []  # type: List[int]
    with open("/proc/self/maps") as maps, open("/proc/self/pagemap", "rb", 0) as pagemap:
        for line in maps:
            words = line.split()
            if words[1] == "rw-p" and words[-1] != "[stack]":
                start, end = (int(word, 16) // PAGE for word in words[0].split("-"))
                pagemap.seek(8 * start)
                data = pagemap.read(8 * (end - start))
                found += [start + number for number, entry in enumerate(struct.unpack("%dQ" % (len(data) // 8), data))
                          if entry & (PRESENT | OF_FILE | ALONE) == PRESENT | ALONE]
    return found


def runs(pages: "List[int]") -> "List[Tuple[int, int]]":
    """The same as (first, count), where one follows the other."""
    found = []  # type: List[Tuple[int, int]]
    for page in pages:
        if found and sum(found[-1]) == page:
            found[-1] = found[-1][0], found[-1][1] + 1
        else:
            found.append((page, 1))
    return found
