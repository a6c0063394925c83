"""What ssh asks on its terminal, and who gets which secret.

A secret goes to a prompt that names our user at our host. ssh writes those names itself: before each question of the
host in keyboard-interactive since OpenSSH 8.5, and in its own password prompt ever since. So a jump host that asks has
other names, and gets nothing. Which of the host's questions wants which secret is told by its words, in the languages
that login programs are translated to; the host is who its key says it is, so a wrong guess costs a refused login,
not a secret.

=====================  ===============================================================================
what the question has  what it gets
=====================  ===============================================================================
password, and new...   nothing, ever: that is the change of an expired password
password, and code     the password, and the code right behind it (PAM modules that ask for both at once)
code, token, OTP...    the code; without one, an error that says so
password               the password; without one, an error that says so
anything else          the code, if there is one
=====================  ===============================================================================
"""

import re

from contextree.connect.accounts import COLON, WORD
from contextree.connect.dialogue import Dialogue, prompt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Dict, List, Mapping, Optional, Tuple, Union

    from _typeshed import StrPath

    from contextree.connect.dialogue import Rule


def _any(words: str) -> bytes:
    """A pattern for one of these words, in UTF-8. (?i) in bytes knows ASCII alone: others are there with a capital
    too."""
    found = words.split()
    found += [word.capitalize() for word in found if max(word) > "\x7f" and word.capitalize() != word]
    return "(?:{})".format("|".join(found)).encode("utf-8")


PASSWORD = b"(?:" + WORD + b"|passwd)"
NEW = _any(r"\bcurrent \bold\b \bnew re-?type re-?enter \bagain \brepeat \bconfirm \baktuell \baltes \bneu \berneut "
           r"\bnouveau \bactuel \bancien \bnuev \bantigua \bnov[aoé]\b \bnuov \battuale \bvecchia \bnieuw \bhuidig "
           r"\bnytt \bnuvarande \buusi \bnykyinen \bnowe \bobecne новый текущий старый повторите "
           "新 現在 目前 当前 새 현재")
CODE = _any(r"(?:\b|pass|ungs)code\b \btoken \botp\b \bone[-.]?time \boath\b \bauthenticator \byubikey \bpin\b "
            r"\bc.{1,2}digo\b \bcodice\b \bkod\b код 代码 验证码 驗證碼 確認コード コード 코드")
# how a question ends
_END = b"[^\n]*?(?:" + COLON + rb"|\?|>|\]) ?"


class SshDialogue(Dialogue):
    """The dialogue with one ssh. ``secrets`` may have ``password``, ``passphrase`` and ``otp``."""

    def __init__(self, user: "Optional[str]", host: str, identity_file: "Optional[StrPath]", plain_prompts: bool,
                 secrets: "Mapping[str, Union[None, str, Callable[[], str]]]") -> None:
        self.user, self.host = user, host.lower()
        self.identity_file = identity_file
        self.plain_prompts = plain_prompts
        Dialogue.__init__(self, (), secrets)
        self.rules = self._rules()

    def learn(self, data: bytes) -> None:
        """Take what ``ssh -G`` wrote: the names of user and host that ssh will show in its prompts."""
        found = effective(data)
        if found.get("user") and found.get("hostname"):
            self.user = found["user"]
            alias = found.get("hostkeyalias", "none")
            self.host = found["hostname"].lower() if alias in ("", "none") else alias
            self.rules = self._rules()

    def has(self, secret: str) -> bool:
        """Was this secret given?"""
        return secret in self.secrets or secret in self.sources

    def _rules(self) -> "Tuple[Rule, ...]":
        names = (re.escape(self.user) if self.user else "[^@ ]+") + "@" + re.escape(self.host)
        who = names.encode("utf-8", "surrogateescape")
        named = b"(?![^\n]{200})" + rb"\(" + who + rb"\) "       # a longer one is no question, and would cost time
        any_named = named if not self.plain_prompts else b"(?:" + named + b")?"

        def question(*words: bytes) -> bytes:
            """A question of our host with all these words in it."""
            return any_named + b"".join(b"(?=(?i:[^\n]*%s))" % word for word in words) + _END

        plain = rb"(?i:(?:enter )?(?:your )?" + PASSWORD + rb"(?: for [\w.@\\:-]+)?[ \xa0\xc2]{0,2}" + COLON + b" ?)"
        refused = "the password%s was refused" % (" or the one-time code" if self.has("otp") else "")
        no_password, code_refused = "the host asks for a password, and password= was not given", "the code was refused"
        own = b"(?:" + who + rb"'s password: ?|" + any_named + plain + b")"
        rules = [
            self._secret("password", own, refused, no_password),
            prompt(question(PASSWORD, NEW), "fail",
                   text="the password has expired and must be changed first: {prompt}"),
            self._secret("password+otp", question(PASSWORD, CODE, rb"(?:&|\+|\band\b|\bund\b)"), refused,
                         "the host asks for password and one-time code at once, and not both were given: {prompt}"),
            self._secret("otp", question(CODE), code_refused,
                         "the host asks for a one-time code, and otp= was not given: {prompt}"),
            self._secret("password", question(PASSWORD), refused, no_password)]
        if self.has("otp"):
            rules.append(self._secret("otp", named + _END, code_refused, ""))
        if self.has("passphrase"):
            rules.append(prompt(b"Enter passphrase for key '" + self._key() + b"': ?", "reply", secret="passphrase",
                                text="the passphrase was refused: {prompt}"))
        return tuple(rules) + _COMMON_RULES

    def _secret(self, names: str, pattern: bytes, refused: str, absent: str) -> "Rule":
        """The rule for a prompt that wants a secret, or several in a row."""
        if all(map(self.has, names.split("+"))):
            return prompt(pattern, "reply", secret=names, text=refused)
        return prompt(pattern, "fail", text=absent)

    def _key(self) -> bytes:
        """The key as ssh shows it, which is with ~ and %d replaced."""
        if self.identity_file is None:
            return b"(?P<what>[^\n]*)"
        last = re.escape(str(self.identity_file).split("/")[-1])
        return b"(?P<what>(?:.*/)?" + last.encode("utf-8", "surrogateescape") + b")"


def effective(data: bytes) -> "Dict[str, str]":
    """What ``ssh -G`` wrote, as keyword and value; of those that stand there several times the first."""
    found = {}  # type: Dict[str, str]
    for row in data.decode("utf-8", "surrogateescape").splitlines():
        key, _, value = row.partition(" ")
        found.setdefault(key, value.strip())
    return found


def control_sockets(data: bytes) -> "List[str]":
    """The control socket that ssh would use, by what ``ssh -G`` wrote: a list of one path or none."""
    path = effective(data).get("controlpath", "none")
    return [] if path in ("", "none") else [path]


_COMMON_RULES = (
    # Another key than the one whose passphrase we have: an empty answer makes ssh go on without it.
    prompt(b"Enter passphrase for key '[^\n]*': ?", "empty"),
    prompt(rb"Enter PIN for [^\n]*: ?", "fail", text="the key wants a PIN, which cannot be given here: {prompt}"),
    prompt(rb"Are you sure you want to continue connecting [^\n]*\? ?|Please type 'yes'[^\n]*: ?", "fail",
           error="HostKeyError", text="the host key of a jump host is not known; connect to it once by hand, or add "
                                      "its key to known_hosts"),
    # of old ssh, without names: su's and passwd's own words
    prompt(rb"(?i)(?:enter |retype )?(?:\S+@\S+'s )?(?:\(current\) |current |old |new |retype new )"
           rb"(?:unix )?password: ?", "fail",
           text="the password has expired and must be changed first: {prompt}"),
    prompt(rb"\S+@\S+'s [Pp]assword: ?|\([^)\s]*@[^)\s]*\) " + _END, "fail",
           text="it asks what cannot be answered here, or somebody asks whom no secret was meant for: {prompt}"),
    prompt(rb"[Pp]assword: ?", "fail",
           text="'Password:' does not say which host asks (ssh before OpenSSH 8.5); if it is no jump host, say "
                "plain_prompts=True"),
)
