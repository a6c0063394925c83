"""sudo, su, doas and runuser, for real. The suite's contexts are root's, who is asked for no password: so the program
is run by ``setpriv`` as an account that is."""

import pwd
import shutil

import pytest

from tests.lab.accounts import Accounts
from tests.lab.sshd import CannotStart
from tests.methods.there import start_anew
from tests.methods.way import Way

NAMES = ["sudo", "su", "doas", "runuser"]


@pytest.fixture(scope="session")
def accounts():
    """Private accounts (tests.lab.accounts.Accounts)."""
    try:
        lab = Accounts.up()
    except CannotStart as error:
        pytest.skip("private accounts: %s" % error)
    yield lab
    lab.down()


@pytest.fixture
def become(router, accounts):
    """become("ann") -> a context that is this account; the environment is small, ``variables`` are added."""
    def go(short, **variables):
        user = getattr(accounts, short)
        context = router.runuser(user, name=short)
        context.call(start_anew, {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": pwd.getpwnam(user).pw_dir,
                                  "LC_ALL": "C.UTF-8", "USER": user, **variables})
        return context
    return go


class Account(Way):
    """``program`` is run as ann, to become dan."""

    def __init__(self, accounts, name):
        if not shutil.which(name):
            pytest.skip("%s is not installed" % name)
        self.name = self.method = name
        self.tail = "%s.%s" % (name, accounts.dan)
        self.accounts = accounts
        self.password = accounts.target_password if name == "su" else accounts.password

    def options(self, **options):
        """Those of the method."""
        if self.name == "runuser":
            return options
        options.setdefault(self.name, ["setpriv", "--reuid", self.accounts.ann, "--regid", self.accounts.ann,
                                       "--init-groups", "env", "PATH=/usr/bin:/bin", self.name])
        options.setdefault("password", self.password)
        return options

    def open(self, router, user=None, **options):
        return getattr(router, self.name)(user or self.accounts.dan, **self.options(**options))

    def missing_binary(self, router):
        return self.open(router, **{self.name: "no-such-program"})

    def missing_target(self, router):
        return self.open(router, "no-such-target")

    def wrong_credentials(self, router):
        return self.open(router, password="wrong")


class RunUser(Account):
    """Root is asked for nothing."""

    wrong_credentials = None


@pytest.fixture(scope="session")
def way_sudo(accounts):
    """Ann becomes dan by sudo, with her password."""
    return Account(accounts, "sudo")


@pytest.fixture(scope="session")
def way_su(accounts):
    """Ann becomes dan by su, with his password."""
    return Account(accounts, "su")


@pytest.fixture(scope="session")
def way_doas(accounts):
    """Ann becomes dan by doas, with her password."""
    return Account(accounts, "doas")


@pytest.fixture(scope="session")
def way_runuser(accounts):
    """Root becomes dan."""
    return RunUser(accounts, "runuser")
