"""The plans of sudo, su, doas and runuser: what they run, which prompts they answer, what they make of an end."""

import inspect
import pickle
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contextree.connect import doas, runuser, su, sudo
from contextree.connect.accounts import PASSWORD
from contextree.connect.dialogue import Failed, Reply
from contextree.connect.discover import WORDS
from contextree.connect.plan import command
from contextree.core.wire.errors import UsageError

METHODS = {"sudo": sudo, "su": su, "doas": doas, "runuser": runuser}
REPLY = Reply(b"open sesame\n")
TOKEN = "0123456789abcdef"
SAFE = ["env", "PYTHONSAFEPATH=contextree", "python3", "-c", "x"]
QUOTED = "exec env 'PYTHONSAFEPATH=contextree' python3 -c x"


def run(plan):
    return command(plan, ["-c", "x"], token=TOKEN)


def asks(plan):
    """Its dialogue, armed."""
    plan.dialogue.arm(TOKEN.encode())
    return plan.dialogue


def feed_in(dialogue, pieces):
    return [action for piece in pieces for action in dialogue.feed(piece)]


def each_split(data):
    """The bytes whole, one by one, and cut in two at every place."""
    yield [data]
    yield [data[i:i + 1] for i in range(len(data))]
    for i in range(1, len(data)):
        yield [data[:i], data[i:]]


@pytest.mark.parametrize("plan, words", [
    (sudo.plan(python="python3"), ["sudo", "-n", "-H", "-u", "root", "--", *SAFE]),
    (sudo.plan("dan", password="x", python="python3"),
     ["sudo", "-p", "contextree 0123456789abcdef: ", "-H", "-u", "dan", "--", *SAFE]),
    (sudo.plan("#0", login=True, python="python3"), ["sudo", "-n", "-i", "-u", "#0", "--", "exec", *SAFE]),
    (sudo.plan(set_home=False, preserve_env=True, python="python3"), ["sudo", "-n", "-E", "-u", "root", "--", *SAFE]),
    (sudo.plan(set_home=False, preserve_env=["A", "B_2"], group="games", python="python3"),
     ["sudo", "-n", "--preserve-env=A,B_2", "-g", "games", "-u", "root", "--", *SAFE]),
    (sudo.plan(role="sysadm_r", type="sysadm_t", extra_args=["-C", "3"], sudo="/opt/sudo -B", python="python3"),
     ["/opt/sudo", "-B", "-n", "-H", "-r", "sysadm_r", "-t", "sysadm_t", "-C", "3", "-u", "root", "--", *SAFE]),
    (su.plan(python="python3"), ["su", "root", "-c", QUOTED]),
    (su.plan("dan", login=True, shell="/bin/zsh", extra_args="-w A", python="python3"),  # noqa: S604  no program
     ["su", "-l", "-s", "/bin/zsh", "-w", "A", "dan", "-c", QUOTED]),
    (doas.plan(python="python3"), ["doas", "-n", "-u", "root", "--", *SAFE]),
    (doas.plan("dan", password="x", extra_args=["-L"], python="python3"), ["doas", "-L", "-u", "dan", "--", *SAFE]),
    (runuser.plan("dan", python="python3"), ["runuser", "-s", "/bin/sh", "dan", "-c", QUOTED]),
    (runuser.plan("dan", login=True, shell=None, group="games", python="python3"),
     ["runuser", "-l", "-g", "games", "dan", "-c", QUOTED]),
])
def test_what_is_run(plan, words):
    assert run(plan) == words


@pytest.mark.parametrize("plan, tty, handover, name", [
    (sudo.plan(), False, False, "sudo.root"),
    (sudo.plan("#1000", tty=True), True, False, "sudo.1000"),
    (sudo.plan("CORP\\ann", password="x"), True, False, "sudo.CORP_ann"),
    (su.plan("dan"), True, True, "su.dan"),
    (doas.plan("dan"), False, False, "doas.dan"),
    (doas.plan("dan", password="x", name="mine"), True, False, "mine"),
    (runuser.plan("dan"), False, False, "runuser.dan"),
])
def test_terminals_and_names(plan, tty, handover, name):
    assert (plan.tty, plan.handover, plan.name) == (tty, handover, name)
    assert not plan.trusted and not plan.remote
    again = pickle.loads(pickle.dumps(plan))
    assert run(again) == run(plan) and again.classify is plan.classify


@pytest.mark.parametrize("method", METHODS)
def test_the_interpreter_is_looked_for_there(method):
    plan = METHODS[method].plan("dan")
    assert tuple(plan.python) == WORDS
    assert WORDS[2] in run(plan)[-1] or WORDS[2] in run(plan)


@pytest.mark.parametrize("method", METHODS)
def test_what_cannot_be_passed_on_is_refused(method):
    plan = METHODS[method].plan
    for user in ("", "-x", "a b", "a;b", "a\nb", "a'b", "$x", "a/b", None, 7):
        with pytest.raises(UsageError, match="is no user"):
            plan(user)
    for wrong in ({"extra_args": ["a\nb"]}, {"extra_args": [""]}, {method: ""}, {method: ["a\0"]}, {"python": ""},
                  {"connect_timeout": 0}, {"name": "a b"}):
        with pytest.raises(UsageError):
            plan("dan", **wrong)
    if method != "runuser":
        for password in ("", "a\nb", "x" * 2000, 7):
            with pytest.raises(UsageError, match="password="):
                plan("dan", password=password)


def test_options_of_one_method_that_are_refused():
    for wrong in ({"preserve_env": ["a=b"]}, {"preserve_env": True, "login": True}, {"role": "-x"}, {"group": "a\n"}):
        with pytest.raises(UsageError):
            sudo.plan(**wrong)
    for wrong in ({"prompt": "("}, {"shell": "-c"}, {"python": ["a'b"]}):
        with pytest.raises(UsageError):
            su.plan(**wrong)


def test_a_secret_is_in_no_word_and_no_repr():
    for method in ("sudo", "su", "doas"):
        plan = METHODS[method].plan("dan", password="canary")
        assert "canary" not in repr([run(plan), plan, plan.dialogue, plan.env])


@pytest.mark.parametrize("said, replies", [
    ("contextree %s: ", True),
    ("[sudo: contextree %s: ] Password: ", True),
    ("[sudo: contextree %s: ] Passwort: ", True),
    ("[sudo: contextree %s: ] LDAP Password:", True),
    ("[sudo: contextree %s: ] Verification code: ", False),
    ("[sudo: contextree %s: ] PIN:", False),
    ("[sudo] contextree %s: ", False),
    ("contextree 0000000000000000: ", False),
    ("contextree %s:", False),
    ("Password: ", False),
    ("Passwort:", False),
    ("[sudo: contextree %s: ", False),
])
def test_s_19_sudo_answers_the_prompt_with_our_token_alone(said, replies):
    data = b"Lecture: we trust you\r\n" + (said.replace("%s", TOKEN)).encode()
    for pieces in each_split(data):
        actions = feed_in(asks(sudo.plan(password="open sesame")), pieces)
        assert actions == [REPLY] if replies else REPLY not in actions


@pytest.mark.parametrize("said", ["[sudo] password for ann: ", "[sudo] Passwort für ann: ", "LDAP Password: ",
                                  "Password for ann@EXAMPLE.ORG: "])
def test_s_19_another_prompt_of_sudo_is_an_error(said):
    action, = asks(sudo.plan(password="open sesame")).feed(said.encode())
    assert action.error == "AuthenticationError" and "passprompt_override" in action.message


def test_p_71_asterisks_and_insults():
    for feedback in (b"*" * 11 + b"\b \b" * 11, b"", b"*" * 11):
        for pieces in each_split(feedback + b"\r\nYou speak an infinite deal of nothing\r\n"):
            talk = asks(sudo.plan(password="open sesame"))
            assert talk.feed(b"contextree %s: " % TOKEN.encode()) == [REPLY]
            assert feed_in(talk, pieces) == []
            action, = talk.feed(b"contextree %s: " % TOKEN.encode())
            assert action == Failed("AuthenticationError",
                                    "sudo refused: the password is wrong, or the account is locked")


# as Linux-PAM, sudo, util-linux, shadow and the BSDs have it
PROMPTS = [
    "Password: ", "Password:", "password: ", "root's Password:", "root's password: ", "Password for root:",
    "Password (root): ", "[su: authenticate] Password:", "Passwort: ", "Mot de passe : ", "Mot de passe\xa0: ",
    "Contraseña: ", "Senha: ", "Palavra-passe: ", "Wachtwoord: ", "Adgangskode: ", "Lösenord: ", "Passord: ",
    "Salasana:", "Hasło: ", "Heslo: ", "Jelszó: ", "Parola: ", "Parolă: ", "Пароль: ", "Парола: ", "Лозинка: ",
    "Lozinka: ", "Geslo: ", "Slaptažodis: ", "Parool: ", "Pasahitza: ", "Contrasenya:", "Pasvorto: ",
    "Contrasigno: ", "Şifrə: ", "Sandi:", "Κωδικός πρόσβασης:", "Mật khẩu : ", "\u5bc6\u7801\uff1a ",
    "\u5bc6\u78bc\uff1a", "パスワード:", "パスワード: ", "암호: ", "პაროლი:", "ססמה: ", "كلمة السر:", "शब्दकूट: ",
    "गुप्तशब्द: ", "পাসওয়ার্ড: ", "సంకేతపదము: ", "கடவுச்சொல்:", "ಗುಪ್ತಪದ: ", "ਪਾਸਵਰਡ: ",
    "\u1796\u17b6\u1780\u17d2\u1799\u179f\u1798\u17d2\u1784\u17b6\u178f\u17cb\xa0\u17d6 ", "Iphasiwedi: ",
    "Focal faire: ",
]


@pytest.mark.parametrize("said", PROMPTS)
def test_p_69_su_is_understood_in_many_languages_however_it_is_cut(said):
    for pieces in each_split(said.encode()):
        assert feed_in(asks(su.plan("dan", password="open sesame")), pieces) == [REPLY]
    action, = asks(su.plan("dan")).feed(said.encode())
    assert action.error == "AuthenticationError" and "password= was not given" in action.message


def test_p_69_su_in_latin_1():
    for word in PASSWORD:
        if word.isalpha() and not word.isascii():
            try:
                said = (word.capitalize() + ": ").encode("latin-1")
            except UnicodeEncodeError:
                continue
            assert asks(su.plan("dan", password="open sesame")).feed(said) == [REPLY]


def test_p_70_what_is_no_prompt_of_su():
    banner = (b"Your password: expires soon\r\nEnter your password below\r\nPassword policy: 12\n"
              b"The account of Password: \nPlease type Password now: or never\nSubject: re: Password\n")
    for pieces in each_split(banner):
        assert feed_in(asks(su.plan("dan", password="open sesame")), pieces) == []


@pytest.mark.parametrize("said", ["Verification code: ", "One-time password (OATH) for `ann': ", "Enter PIN: "])
@pytest.mark.parametrize("method", ["sudo", "su", "doas"])
def test_a_second_factor_gets_no_password(method, said):
    action, = asks(METHODS[method].plan(password="open sesame")).feed(said.encode())
    assert action.error == "AuthenticationError" and said.strip() in action.message


@pytest.mark.parametrize("said", ["New password: ", "Current password: ", "Retype new password: ",
                                  "Geben Sie das aktuelle Passwort ein: "])
def test_su_is_not_told_a_new_password(said):
    talk = asks(su.plan("dan", password="open sesame"))
    assert talk.feed(b"Password: ") == [REPLY]
    action, = talk.feed(b"\r\nYou are required to change your password immediately\r\n" + said.encode())
    assert action.error == "AuthenticationError" and "expired" in action.message and talk.over


@pytest.mark.parametrize("first", [True, False])
def test_sudo_rs_is_not_told_a_new_password(first):
    talk = asks(sudo.plan(password="open sesame"))
    prompt = "[sudo: contextree %s: ] " % TOKEN
    if first:
        assert talk.feed((prompt + "Password: ").encode()) == [REPLY]
    action, = talk.feed(("\r\n" + prompt + "Current password: ").encode())
    assert action.error == "AuthenticationError" and "expired" in action.message


def test_a_prompt_of_su_by_ones_own_pattern():
    talk = asks(su.plan("dan", password="open sesame", prompt="(?i)sesam[, ]+öffne dich> "))
    assert talk.feed(b"Password: ") == [] and talk.feed("\nSesam, öffne dich> ".encode()) == [REPLY]


def test_doas_is_answered_once():
    talk = asks(doas.plan(password="open sesame"))
    assert talk.feed(b"Password: ") == []
    assert talk.feed(b"\rdoas (ann@web1) password: ") == [REPLY]
    assert talk.feed(b"\r\ndoas (ann@web1) password: ")[0].error == "AuthenticationError"


@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=60),
       st.lists(st.text("ab $'\"\\*?`~\n", max_size=8), max_size=3))
@settings(deadline=None, max_examples=60)
def test_words_without_a_dollar_mean_the_same(text, arguments):
    words = sudo.dollarless(["printf", "%s|", text + "$HOME", "$(id)`id`"])
    assert not any("$" in word for word in words)
    done = subprocess.run([*words, *arguments], stdout=subprocess.PIPE, check=True)
    assert done.stdout == "".join(part + "|" for part in [text + "$HOME", "$(id)`id`", *arguments]).encode()


def test_words_that_have_no_dollar_stay():
    assert sudo.dollarless(["python3", "-I"]) == ["python3", "-I"]


ENDS = [
    ("sudo", 1, "sudo: unknown user nosuch", "ConnectError", "connect", "no account nosuch"),
    ("sudo", 1, "sudo: unknown user: nosuch", "ConnectError", "connect", "no account nosuch"),
    ("sudo", 1, "sudo: user 'nosuch' not found", "ConnectError", "connect", "no account nosuch"),
    ("sudo", 1, "sudo: interactive authentication is required", "AuthenticationError", "login", "password= was not"),
    ("sudo", 1, "/etc/sudoers:2:3: unknown setting: 'x'\nsudo-rs: who knows", "AuthenticationError", "login",
     "sudo refused: sudo-rs: who knows"),
    ("sudo", 1, "sudo-rs: user 'nosuch' not found", "ConnectError", "connect", "no account nosuch"),
    ("su", 1, "su: user 'nosuch' not found", "ConnectError", "connect", "no account nosuch"),
    ("sudo", 1, "sudo: I'm sorry ann. I'm afraid I can't do that", "AuthenticationError", "login", "may not use sudo"),
    ("sudo", 1, "sudo: Maximum 3 incorrect authentication attempts", "AuthenticationError", "login", "is wrong"),
    ("sudo", 1, "sudo: effective uid is not 0, is sudo installed setuid root?", "ConnectError", "start", "cannot work"),
    ("sudo", 1, "sudo: unrecognized option '--preserve-env=X'", "ConnectError", "start", "options"),
    ("sudo", 1, "sudo: sorry, you are not allowed to preserve the environment", "AuthenticationError", "login",
     "environment"),
    ("sudo", 1, "»ann« ist nicht in der sudoers-Datei.", "AuthenticationError", "login", "refused: »ann« ist nicht"),
    ("sudo", 1, "Traceback (most recent call last):\n  x", "ConnectError", "boot", "status 1"),
    ("sudo", 127, "env: 'python9': No such file or directory", "ConnectError", "boot", "python9"),
    ("sudo", -9, "", "ConnectError", "boot", "signal 9"),
    ("sudo", None, "", "ConnectError", "boot", "ended"),
    ("su", 1, "su: user nosuch does not exist or the user entry does not contain all the required fields",
     "ConnectError", "connect", "no account nosuch"),
    ("su", 1, "su: unknown user nosuch", "ConnectError", "connect", "no account nosuch"),
    ("su", 1, "su: unknown login: nosuch", "ConnectError", "connect", "no account nosuch"),
    ("su", 1, "su: Sorry", "AuthenticationError", "login", "is wrong"),
    ("su", 1, "Passwort: ********\nsu: Fehler bei Authentifizierung", "AuthenticationError", "login",
     "su was given the password and refused: su: Fehler"),
    ("su", 1, "su: must be suid to work properly", "ConnectError", "start", "cannot work"),
    ("su", 1, "The account is locked due to 3 failed logins.", "AuthenticationError", "login", "locked"),
    ("su", 126, "bash: line 1: /x: Permission denied", "ConnectError", "boot", "cannot run"),
    ("doas", 1, "doas: Authorization required", "AuthenticationError", "login", "password= was not given"),
    ("doas", 1, "doas: a tty is required", "AuthenticationError", "login", "password= was not given"),
    ("doas", 1, "doas: Authorization failed", "AuthenticationError", "login", "is wrong"),
    ("doas", 1, "doas: doas is not enabled, /etc/doas.conf: No such file or directory", "ConnectError", "start",
     "doas.conf"),
    ("doas", 1, "doas: not installed setuid", "ConnectError", "start", "setuid"),
    ("runuser", 1, "runuser: may not be used by non-root users", "AuthenticationError", "login", "only root"),
    ("runuser", 127, "/dev/pts/1: 1: exec: runuser: not found", "ConnectError", "start", "runuser cannot be run"),
]


@pytest.mark.parametrize("method, status, output, error, phase, text", ENDS)
def test_how_it_ended(method, status, output, error, phase, text):
    found = METHODS[method].classify(method, status, output)
    assert (found[0], found[2]) == (error, phase)
    assert text in found[1]


@given(st.text(max_size=200), st.sampled_from([None, -9, 0, 1, 2, 126, 127, 255]), st.sampled_from(sorted(METHODS)))
@settings(deadline=None)
def test_any_end_is_one_clear_error(output, status, method):
    error, message, phase = METHODS[method].classify(method, status, output)
    assert error in ("ConnectError", "AuthenticationError") and message
    assert phase in ("start", "connect", "login", "boot")


@given(st.binary(max_size=400), st.integers(0, 400))
@settings(deadline=None)
def test_any_bytes_never_raise(data, cut):
    for plan in (sudo.plan(password="x"), su.plan(password="x"), doas.plan(password="x")):
        talk = asks(plan)
        feed_in(talk, [data[:cut], data[cut:]])
        assert isinstance(talk.explain(), str)


@pytest.mark.parametrize("method", METHODS)
def test_options_for_type_checkers_are_those_of_the_plan(method):
    module = METHODS[method]
    source = inspect.getsource(module).split("class Options", 1)[1].split("\ndef plan", 1)[0]
    names = [line.split(":")[0].strip() for line in source.splitlines() if line.startswith("        ") and ": " in line
             and '"' not in line]
    assert names == list(inspect.signature(module.plan).parameters)[1:]
