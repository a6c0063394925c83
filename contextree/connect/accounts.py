"""What sudo, su, doas and runuser have in common: arguments, the words that mean "password", why they ended.

The messages of these programs are translated. So a refusal is told by what we know, where the text is not known: the
command ended with its own status for a refusal, and no Python had said a word. Who asks in what language is a table.
"""

import re

from contextree.connect.dialogue import ANSWERED, prompt
from contextree.connect.plan import how_it_ended, last_line
from contextree.connect.reasons import explained, missing
from contextree.core.wire.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable, Optional, Sequence, Tuple

    from contextree.connect.dialogue import Rule
    from contextree.connect.reasons import Row

_SINGLE = (
    "password passwort kennwort passord lösenord adgangskode wachtwoord salasana parool pasahitza pasvorto contrasenya "
    "contraseña contrasigno senha palavra-passe parola parolă parole hasło heslo jelszó lozinka geslo slaptažodis "
    "sandi iphasiwedi şifrə şifre пароль парола лозинка პაროლი κωδικός סיסמה ססמה গুপ্তশব্দ পাসওয়ার্ড પાસવર્ડ "
    "शब्दकूट गुप्तशब्द ಗುಪ್ತಪದ അടയാളവാക്ക് ਪਾਸਵਰਡ රහස්පදය கடவுச்சொல் సంకేతపదము ពាក្យសម្ងាត់ パスワード 암호 비밀번호 密码 密碼 口令"
)
#: "Password" as Linux-PAM, sudo, util-linux and the BSDs have it.
PASSWORD = _SINGLE.split() + ["mot de passe", "kata laluan", "κωδικός πρόσβασης", "كلمة السر", "كلمة المرور",
                              "focal faire", "ପ୍ରବେଶ ସଙ୍କେତ", "mật khẩu", "รหัสผ่าน"]


def _bytes(words: "Iterable[str]") -> bytes:
    """Bytes of a regular expression that matches any of the words, in small letters or with a capital one, in UTF-8 and
    in Latin-1."""
    found = set()
    for word in words:
        for form in (word, word.capitalize(), word.upper()):
            found.add(form.encode())
            try:
                found.add(form.encode("latin-1"))
            except UnicodeEncodeError:
                pass
    return b"(?:" + b"|".join(re.escape(form) for form in sorted(found, key=len, reverse=True)) + b")"


WORD = _bytes(PASSWORD)
COLON = b"(?:" + b"|".join(re.escape(mark.encode()) for mark in (":", "\uff1a", "\u17d6")) + b")"
_SPACE = b"(?: |\xc2?\xa0)?"  # French has one before the colon, that does not break

#: ``Password: ``, ``root's Password:``, ``Password for root:``, ``[su: authenticate] Password: ``, in any language.
PLAIN_PROMPT = (rb"(?:\[[^\]\n]{1,64}\] ?)?(?:[^\s:]{1,64}'s )?" + WORD
                + rb"(?: (?:for|of) [^\s:]{1,128}| \([^\n():]{1,128}\))?" + _SPACE + COLON + _SPACE)

WRONG = "refused: the password is wrong, or the account is locked"
EXPIRED = "the password has expired and must be changed first, or another one is wanted: {prompt}"
MORE = "it asks for more than the password, which cannot be answered here: {prompt}"
#: What is asked beside or after the password: a code, or a new password for one that has expired.
OTHER_PROMPTS = (
    prompt(rb"(?i)[^\n]{0,99}(?:verification code|one[- ]time|\botp\b|passcode|token ?code|\bpin\b)[^\n]{0,99}[:?] ?",
           "fail", text=MORE),
    prompt(b"[^\n]{0,99}" + WORD + b"[^\n]{0,99}" + COLON + _SPACE, "fail", state="answered",
           text=EXPIRED),
)  # type: Tuple[Rule, ...]


# -- arguments

def checked_user(user: object, what: str = "user") -> str:
    """A name of an account or group, or ``#`` and a number, as an argument; raises UsageError."""
    if (not isinstance(user, str) or not user or user.startswith("-")
            or re.search("[\\s\x00-\x1f\x7f-\x9f'\"`$;&|<>(){}*?!:,/\\\\]", user.replace("\\", "", 1))):
        raise UsageError("%r is no %s: it is empty, begins with '-', or has blanks, quotes or other characters of the "
                         "shell in it" % (user, what))
    return user


# -- why it ended

_PYTHON = re.compile(r"(?m)^(?:Traceback |Fatal Python error|Python path configuration|SyntaxError|ImportError)")


def why(method: str, rows: "Iterable[Row]", own: "Sequence[int]", status: "Optional[int]",
        output: str) -> "Tuple[str, str, str]":
    """Why the command ended before HELLO: (error class name, message, phase).

    rows: what its known messages mean; own: statuses by which the program itself says that it will not."""
    program = missing(status, output)
    if program:
        return "ConnectError", "%s cannot be run; is it installed? Say which by %s=" % (program, method), "start"
    found = explained(rows, output)
    if found:
        return found
    if status == 127:
        return "ConnectError", "the account has no such Python%s; say which by python=" % last_line(output), "boot"
    if status == 126:
        return "ConnectError", "the account cannot run this Python%s; say which by python=" % last_line(output), "boot"
    if status in own and not _PYTHON.search(output):
        sent = answered(output)
        lines = [line.strip() for line in output[sent:].splitlines() if line.strip()]
        words = "; ".join([line for line in lines if line.startswith(method)] or lines)[-300:]
        return "AuthenticationError", "%s %srefused%s" % (
            method, "was given the password and " if sent else "", words and ": " + words), "login"
    return "ConnectError", "the interpreter %s before it said hello%s" % (
        how_it_ended(status), last_line(output)), "boot"


def answered(output: str) -> int:
    """Where the output goes on after the password was sent; 0 where it was not."""
    sent = [match.end() for match in re.finditer("(?m)%s$" % re.escape(ANSWERED), output)]
    return sent[-1] if sent else 0


