"""Seats of other accounts on this host: each account is become once, by the command that stock would run.

A ``Way`` says how. Its command is what a become plugin of core makes, with our interpreter in the place of the module's
command: so the environment, the umask, the limits and the groups are those that stock's command would have. What is
asked on the way gets one password, on a terminal of ours (docs/decisions/0018).

An account is become for one command in stock, and here for all commands of a run. So what would show in the next one is
looked at before each request (``Watch``): where a file has changed that sudo, su, doas and PAM read, or the entries of
the accounts in the user database, the account is become anew. And what would be in the way is ended before: an account
in which somebody is cannot be removed, or get another home directory (``USES``).
"""

import collections
import contextlib
import glob
import grp
import os
import pwd
import re
import threading

from contextree.connect.dialogue import Dialogue, prompt
from contextree.connect.plan import Plan, generic, safe_name
from contextree.core.wire.errors import ConnectError, ContextreeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator, List, Optional, Sequence, Tuple

    from contextree.parent.context import Context

THREADS = 64  # requests that run at once in one interpreter
MOST = 20  # accounts that are kept while nobody uses them
OWN, HANDED_OVER, OFFERED = "own", "handed over", "offered"
WANTS_TERMINAL = "you must have a tty"  # what sudo says where its sudoers has requiretty
REFUSED = "refused: the password is wrong, or the account is locked"

#: Who has words of these in its arguments may change accounts.
USES = re.compile(rb"user(?:mod|del)|deluser|groupmod")

#: How another account is become.
#:
#: method    str: the become plugin; in names, and for what is watched.
#: user      str: the account.
#: argv      tuple of str: the command, see ``contextree.connect.plan.Plan``.
#: terminal  what it gets: "", OWN (a controlling one), HANDED_OVER (as its stdin), OFFERED (one if it wants one).
#: prompt    bytes of a regular expression for the line that asks for the password, or None.
#: password  Secret or None.
#: login     bool: a login shell reads its files.
#: seconds   float: how long it may take to be asked, and to be let in.
Way = collections.namedtuple("Way", "method user argv terminal prompt password login seconds")


class Accounts:
    """The accounts that this process has become. From any thread."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.all = collections.OrderedDict()  # type: collections.OrderedDict[Any, Account]
        self.begun = 0  # times that an account was become; and how many of them have been told of
        self.told = 0

    @contextlib.contextmanager
    def use(self, way: "Way", python: "Optional[Sequence[str]]") -> "Iterator[Place]":
        """An account, become unless it is already, with ``python`` if so. Raises ConnectError."""
        key = way._replace(seconds=0)
        with self.lock:
            if key not in self.all:
                self.all[key] = Account()
            account = self.all[key]
            self.all.move_to_end(key)
            account.users += 1
        place = None  # type: Optional[Place]
        try:
            place = self.enter(account, way, python)
            yield place
        finally:
            with self.lock:
                account.users -= 1
                if place is not None:
                    place.users -= 1
                idle = [key for key, each in self.all.items() if not each.users]
                gone = [self.all.pop(key) for key in idle[:max(0, len(self.all) - MOST)]]
                places = [each.place for each in gone] + [place]
                for each in gone:
                    if each.place is not None:
                        each.place.over = True
                left = [each for each in places if each is not None and each.over and not each.users]
            for empty in left:
                empty.end()

    def enter(self, account: "Account", way: "Way", python: "Optional[Sequence[str]]") -> "Place":
        """The place of an account; a new one where the last is not as one would be that began now."""
        with account.lock:
            while True:
                place = account.place
                if place is None or place.context.state == "died" or not place.watch.same():
                    if place is not None:
                        self.renew(place)
                    watch = Watch(way)  # before, so that what changes meanwhile is seen the next time
                    account.place = place = Place(*become(way, python), watch, account)
                    with self.lock:
                        self.begun += 1
                with self.lock:
                    if not place.over:
                        place.users += 1
                        return place

    def renew(self, place: "Place") -> None:
        """Use a place no more; who is there stays until he is done."""
        with self.lock:
            if place.account.place is place:
                place.account.place = None
            place.over = True
            ended = not place.users
        if ended:
            place.end()

    def clear(self) -> None:
        """End the places that nobody is in, but for root's; they have ended then."""
        with self.lock:
            idle = [each.place for key, each in self.all.items() if not each.users and key.user != "root"]
            places = [place for place in idle if place is not None]
            for place in places:
                place.over = True
                place.account.place = None
        for place in places:
            leave(place.context)

    def contexts(self) -> "List[Context]":
        """Those that somebody may be in."""
        with self.lock:
            return [each.place.context for each in self.all.values() if each.place is not None]

    def news(self) -> int:
        """How many times an account has been become since this was asked last."""
        with self.lock:
            news, self.told = self.begun - self.told, self.begun
        return news


class Account:
    """One of them, with the place where it is now."""

    def __init__(self) -> None:
        self.lock = threading.Lock()  # held while it is become: others wait for that
        self.users = 0
        self.place = None  # type: Optional[Place]


class Place:
    """An interpreter in another account. ``users`` are in it; when it is ``over`` nobody enters any more."""

    def __init__(self, context: "Context", asked: bool, watch: "Watch", account: "Account") -> None:
        self.context = context
        self.asked = asked  # Was a password asked for?
        self.watch = watch
        self.account = account
        self.users = 0
        self.over = False
        self.inside = None  # type: Any  # what it saw itself when this began

    def check(self) -> "List[List[Any]]":
        """The step by which the account itself looks at what we perhaps may not: none, or one."""
        if not self.watch.inside:
            return []
        if self.inside is None:
            self.inside = self.context.call(stamps, self.watch.inside)
        return [["same", None, self.watch.inside, self.inside]]

    def end(self) -> None:
        """End it, in the background."""
        threading.Thread(target=leave, args=(self.context,), name="contextree-leave", daemon=True).start()


def leave(context: "Context") -> None:
    """End a context."""
    with contextlib.suppress(ContextreeError):
        context.shutdown()


class Asking(Dialogue):
    """A dialogue that knows whether there was one."""

    asked = False

    def feed(self, data: bytes) -> "Any":
        """See Dialogue."""
        actions = super().feed(data)
        self.asked = self.asked or bool(actions)
        return actions


def become(way: "Way", python: "Optional[Sequence[str]]") -> "Tuple[Context, bool]":
    """Start an interpreter in another account; was a password asked for? Raises ConnectError."""
    plan = plan_of(way, list(python or any_python(way)))
    from contextree.parent.router import current_router  # here: workers of ansible have only to do with ways

    from . import warm

    changed = dict.fromkeys(set(os.environ) - set(warm.environment()))
    if changed:
        plan = plan.copy(env=changed)
    try:
        context = current_router().grow(plan, threads=THREADS)
    except ConnectError as error:
        if way.terminal != OFFERED or WANTS_TERMINAL not in (error.output or ""):
            raise
        context = current_router().grow(plan.copy(tty=True), threads=THREADS)
    return context, isinstance(plan.dialogue, Asking) and plan.dialogue.asked


def any_python(way: "Way") -> "Sequence[str]":
    """An interpreter for an account, where none is asked for: this one, unless it may be ours alone."""
    import sys

    path = os.path.realpath(sys.executable)
    while path != "/":
        try:
            if not os.stat(path).st_mode & 0o001:
                break
        except OSError:
            break
        path = os.path.dirname(path)
    else:
        return [sys.executable]
    from contextree.connect import discover

    # sudo -i leaves each "$" to the login shell; what does without one cannot be quoted for every shell
    return ["python3"] if way.login and way.method == "sudo" else discover.WORDS


def plan_of(way: "Way", python: "List[str]") -> "Plan":
    """How the interpreter is started."""
    dialogue = None
    if way.prompt is not None:
        answer = ("fail", None) if way.password is None else ("reply", "password")
        dialogue = Asking([prompt(way.prompt, answer[0], secret=answer[1], text=REFUSED)], {"password": way.password})
    name = safe_name("%s.%s" % (way.method, way.user or "root"))
    return Plan(way.argv, name, way.method, tty=way.terminal in (OWN, HANDED_OVER),
                handover=way.terminal == HANDED_OVER, dialogue=dialogue, python=python, classify=generic,
                phases={"connect": way.seconds, "login": way.seconds, "boot": 30})


# -- what would make a difference if the account were become now

_FILES = ("/etc/environment", "/etc/security/pam_env.conf", "/etc/security/limits.conf", "/etc/security/limits.d",
          "/etc/security/limits.d/*", "/etc/login.defs", "/etc/nsswitch.conf", "/etc/default/locale",
          "/etc/locale.conf",
          "/etc/pam.d/common-*", "/etc/pam.d/system-*", "/etc/pam.d/password-auth*", "/etc/pam.d/postlogin*",
          "/etc/pam.d/base-*", "/etc/pam.d/other")
_OF_METHOD = {"sudo": ("/etc/sudoers", "/etc/sudo.conf", "/etc/sudoers.d", "/etc/sudoers.d/*", "/etc/pam.d/sudo*"),
              "su": ("/etc/default/su", "/etc/pam.d/su", "/etc/pam.d/su-*", "/etc/securetty"),
              "doas": ("/etc/doas.conf", "/etc/pam.d/doas")}
_OF_LOGIN = ("/etc/profile", "/etc/profile.d", "/etc/profile.d/*", "/etc/bash.bashrc", "/etc/bashrc", "/etc/zsh/*",
             "/etc/csh.*")
_IN_HOME = (".profile", ".bash_profile", ".bash_login", ".bashrc", ".zshenv", ".zprofile", ".zshrc", ".zlogin",
            ".login", ".cshrc", ".tcshrc", ".config/fish/config.fish")
_USERS = "/etc/passwd", "/etc/group"


def changes_accounts(step: "List[Any]") -> bool:
    """Whether a step may change accounts."""
    if step[0] == "module":
        return step[4]["fqn"].endswith(".user") or bool(USES.search(step[4]["params"]))
    return step[0] == "command" and bool(USES.search(os.fsencode(" ".join(word or "" for word in step[2]))))


class Watch:
    """What the system was when an account was become. For one thread at a time."""

    def __init__(self, way: "Way") -> None:
        patterns = _FILES + tuple(each for method, files in _OF_METHOD.items() if method in way.method
                                  for each in files)
        if way.login:
            patterns += _OF_LOGIN
        if way.password is not None:
            patterns += ("/etc/shadow",)
        self.paths = [path for each in patterns for path in (glob.glob(each) if "*" in each else [each])]
        self.names = [name for name in (way.user or "root", own_name()) if name is not None]
        self.looks = stamps(self.paths)
        self.users = stamps(_USERS)
        self.entries = [entry(name) for name in self.names]
        #: what only the account itself may be able to look at
        self.inside = [os.path.join(each[0][5], name) for each in self.entries[:1] if each is not None and way.login
                       for name in _IN_HOME]

    def same(self) -> bool:
        """Whether nothing has changed that matters."""
        if stamps(self.paths) != self.looks:
            return False
        users = stamps(_USERS)
        if users != self.users:
            if [entry(name) for name in self.names] != self.entries:
                return False
            self.users = users  # it was about others
        return True


def stamps(paths: "Sequence[str]") -> "List[Optional[Tuple[int, int, int, int]]]":
    """What changes of files when they are changed; None for those that cannot be looked at."""
    found = []  # type: List[Optional[Tuple[int, int, int, int]]]
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            found.append(None)
        else:
            found.append((status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size))
    return found


def entry(name: str) -> "Any":
    """What the user database says of an account; None where it has none of that name."""
    try:
        found = pwd.getpwuid(int(name[1:])) if name.startswith("#") else pwd.getpwnam(name)
    except (KeyError, ValueError):
        return None
    numbers = sorted(os.getgrouplist(found.pw_name, found.pw_gid))
    return tuple(found), numbers, [group_name(number) for number in numbers]


def group_name(number: int) -> "Optional[str]":
    """The name of a group."""
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return None


def own_name() -> "Optional[str]":
    """The name of this account."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return None
