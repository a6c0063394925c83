"""The dialogue machine: what counts as a prompt, who gets a secret and how often."""

import itertools
import pickle
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contextree.connect import ssh
from contextree.connect.dialogue import KEPT_LINES, KEPT_WIDTH, Ask, Dialogue, Failed, Ready, Reply, line, prompt
from contextree.connect.plan import Secret
from contextree.core.wire.errors import InternalError

SU = (
    prompt(b"Password: ?", "reply", secret="password", text="password was refused", then="answered"),
    line(b"su: (Authentication failure|Permission denied)|[Pp]ermission denied", "fail", text="su says: {prompt}"),
    line(b"ready", "ready", state="answered"),
)
PASSWORD = "correct horse"
REPLY = Reply(b"correct horse\n")


def su():
    return Dialogue(SU, {"password": PASSWORD})


def web(**options):
    return ssh.plan("web1", user="ann", **dict({"password": PASSWORD}, **options)).dialogue


def feed_in(dialogue, pieces):
    return [action for piece in pieces for action in dialogue.feed(piece)]


def each_split(data):
    """The bytes whole, one by one, and cut in two at every place."""
    yield [data]
    yield [data[i:i + 1] for i in range(len(data))]
    for i in range(1, len(data)):
        yield [data[:i], data[i:]]


@pytest.mark.parametrize("said, expected", [
    (b"su: Permission denied\n", [Failed("AuthenticationError", "su says: su: Permission denied")]),
    (b"\r\nPermission denied\r\n", [Failed("AuthenticationError", "su says: Permission denied")]),
    (b"cat: x: Permission denied\nlast: permission denied (x)\n", []),
    (b"Welcome\r\nPassword: ", [REPLY]),
    (b"Password:", [REPLY]),
])
def test_p_69_output_is_recognised_however_it_is_cut(said, expected):
    for pieces in each_split(said):
        assert feed_in(su(), pieces) == expected


BANNER = (b"The password policy has changed.\nChoose a Password: never the old one\nPassword policy: 12\r\n"
          b"ann@web1's password is secret\nEnter your password below\n\n(ann@web1) no password\n")


def test_p_70_a_banner_with_password_in_it_is_no_prompt():
    for pieces in each_split(BANNER):
        assert feed_in(su(), pieces) == []
        assert feed_in(web(), pieces) == []
    talk = su()
    assert talk.feed(BANNER + b"Pass") == [] and talk.feed(b"word: ") == [REPLY]


@pytest.mark.parametrize("echo", [b"*************", b"*\b \b" * 13, b" ", b"***** \x07"])
def test_p_71_echoed_asterisks_do_not_trigger_again(echo):
    for pieces in each_split(echo + b"\r\nready\n"):
        talk = su()
        assert talk.feed(b"Password: ") == [REPLY]
        assert feed_in(talk, pieces) == [Ready()]


@pytest.mark.parametrize("between", [b"\r\nSorry, try again.\r\n", b"\n", b"*****", b""])
def test_s_19_the_same_prompt_again_means_refused(between):
    talk = su()
    assert talk.feed(b"Password: ") == [REPLY]
    assert talk.feed(between + b"Password: ") == [Failed("AuthenticationError", "password was refused")]
    assert talk.feed(b"\nPassword: ") == [] and talk.over


def test_s_19_a_program_may_be_left_to_say_itself_that_it_refuses():
    talk = su()
    talk.again = "empty"
    assert talk.feed(b"Password: ") == [REPLY]
    for _ in range(2):
        assert talk.feed(b"\r\nPassword: ") == [Reply(b"\n")]
    assert talk.feed(b"\r\nsu: Authentication failure\r\n") == [
        Failed("AuthenticationError", "su says: su: Authentication failure")]


@pytest.mark.parametrize("said, replies", [
    (b"ann@web1's password: ", True),
    (b"(ann@web1) Password: ", True),
    (b"(ann@web1) Password for ann@web1:", True),
    (b"bob@web1's password: ", False),
    (b"ann@web10's password: ", False),
    (b"xann@web1's password: ", False),
    (b"ann@web1.evil's password: ", False),
    (b"(bob@jump) Password: ", False),
    (b"(ann@web1) Current password: ", False),
    (b"(ann@web1) New password: ", False),
    (b"(ann@web1) Verification code: ", False),
    (b"Enter ann@web1's old password: ", False),
    (b"Password: ", False),
    (b"Enter PIN for ED25519-SK key /k: ", False),
])
def test_s_19_only_the_prompt_of_our_user_and_host_gets_the_password(said, replies):
    actions = web().feed(b"hello\n" + said)
    assert actions == [REPLY] if replies else actions[0].error == "AuthenticationError"


def test_s_19_names_are_learnt_from_ssh():
    talk = ssh.plan("alias", password=PASSWORD).dialogue
    talk.learn(b"user Ann\nhostname Real.Example\nport 22\n")
    assert talk.feed(b"Ann@real.example's password: ") == [REPLY]
    talk = ssh.plan("alias", password=PASSWORD).dialogue
    talk.learn(b"user ann\nhostname 10.0.0.1\nhostkeyalias Key\n")
    assert talk.feed(b"ann@Key's password: ") == [REPLY]
    talk = ssh.plan("alias", user="ann", password=PASSWORD).dialogue
    talk.learn(b"command-line: bad option\n")
    assert talk.feed(b"ann@alias's password: ") == [REPLY]


def test_s_19_a_prompt_without_names_only_when_asked_for():
    assert web(plain_prompts=True).feed(b"Password: ") == [REPLY]


def test_passphrase_goes_to_its_key_once_and_other_keys_are_passed_over():
    talk = web(password=None, passphrase="of key", identity_file="~/.ssh/deploy")
    assert talk.feed(b"Enter passphrase for key '/home/ann/.ssh/id_rsa': ") == [Reply(b"\n")]
    assert talk.feed(b"\nEnter passphrase for key '/home/ann/.ssh/deploy': ") == [Reply(b"of key\n")]
    assert talk.feed(b"\nEnter passphrase for key '/home/ann/.ssh/deploy': ")[0].error == "AuthenticationError"


def test_passphrase_of_any_key_each_once():
    talk = web(passphrase="of key")
    first, second = b"Enter passphrase for key '/a': ", b"\nEnter passphrase for key '/b': "
    assert talk.feed(first) == talk.feed(second) == [Reply(b"of key\n")]
    assert talk.feed(b"\nann@web1's password: ") == [REPLY]
    assert talk.feed(second)[0] == Failed("AuthenticationError",
                                          "the passphrase was refused: Enter passphrase for key '/b':")


def test_a_program_that_asks_for_ever_is_ended():
    talk = web()
    actions = feed_in(talk, [b"\nEnter passphrase for key '/k%d': " % i for i in range(100)])
    assert isinstance(actions[-1], Failed) and len(actions) < 30 and talk.over


def test_s_17_nothing_is_matched_once_login_is_complete():
    talk = su()
    talk.feed(b"Pass")
    talk.finish()
    assert talk.feed(b"word: ") == talk.feed(b"\nPassword: ") == talk.feed(b"\nPermission denied\n") == []
    assert talk.secrets == {} and PASSWORD not in repr(vars(talk))


def test_s_17_stderr_is_kept_and_never_matched():
    talk = su()
    assert talk.note(b"Password: ") is None and talk.note(b"\nPermission denied\n") is None
    assert not talk.over and talk.explain() == "Password: \nPermission denied"


def test_host_key_question_is_never_answered():
    said = b"Are you sure you want to continue connecting (yes/no/[fingerprint])? "
    for pieces in each_split(said):
        assert [action.error for action in feed_in(web(), pieces)] == ["HostKeyError"]


def test_states_are_a_table():
    talk = Dialogue([line(b"one", "ready", state="elsewhere"), prompt(b"a>", "empty", then="elsewhere")])
    assert talk.feed(b"one\na>") == [Reply(b"\n")] and talk.state == "elsewhere"
    assert talk.feed(b"\none\n") == [Ready()] and talk.over
    with pytest.raises(InternalError):
        Dialogue([prompt(b"x", "dance")])


def test_secrets_show_nowhere_and_survive_pickling():
    talk = web(password=Secret("sh*wn nöwhere"))
    talk = pickle.loads(pickle.dumps(talk))
    action, = talk.feed(b"ann@web1's password: ")
    assert action.data == "sh*wn nöwhere\n".encode()
    talk.feed("sh*wn nöwhere\x1b[2J\r\nno\x07 sh*wn nöwhere".encode())
    shown = repr((talk, action, talk.secrets)) + str(action) + talk.explain()
    assert "nöwhere" not in shown and "\x1b" not in shown and "\x07" not in shown and "********?[2J" in shown


@pytest.mark.parametrize("size", [1, 7, 4096, 1 << 20])
def test_s_17_a_long_line_costs_bounded_memory_and_is_no_prompt(size):
    talk, banner = su(), b"x" * (1 << 18) + b"Password: "
    pieces = [banner[i:i + size] for i in range(0, len(banner), size)]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        assert feed_in(talk, pieces) == []
        assert tracemalloc.get_traced_memory()[0] - before < 64 * 1024
    finally:
        tracemalloc.stop()
    assert talk.feed(b"\nPassword: ") == [REPLY]
    for number in range(1000):
        talk.feed(b"%d" % number * 1000 + b"\n")
        talk.note(b"%d" % number * 1000 + b"\n")
    assert len(talk.explain()) <= (KEPT_LINES + 2) * (KEPT_WIDTH + 1)


# Lines that hold the words, but do not begin as a prompt does: those no cut can make into a prompt.
TEXT = st.lists(st.sampled_from([b"Welcome", b"the Password: x", b" Password:", b"*", b"\x1b[1m", b"\xff\x00", b"",
                                 b"ann@web1 password: ", b"x permission denied"]), max_size=6)


@given(TEXT, TEXT, st.lists(st.integers(0, 200)), st.sampled_from([b"\n", b"\r\n", b"\r"]))
@settings(deadline=None)
def test_p_69_any_cut_of_any_talk_gives_the_same_actions(before, after, cuts, end):
    def talk_it(cut):
        talk, actions = su(), []
        for part in (end.join([*before, b"Password: "]), end.join([b"***", *after, b"ready", b""])):
            edges = sorted({0, len(part), *(i for i in cuts if i < len(part))}) if cut else [0, len(part)]
            actions += feed_in(talk, [part[i:j] for i, j in itertools.pairwise(edges)])
        return actions
    assert talk_it(True) == talk_it(False) == [REPLY, Ready()]


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_any_bytes_never_raise(data):
    talk = web(passphrase="p")
    for pieces in ([data], [data[:7], data[7:]]):
        feed_in(talk, pieces)
        talk.note(data)
        assert isinstance(talk.explain(), str)
    assert all(isinstance(part, str) for part in ssh.classify("ssh", 255, data.decode("latin-1")))


# -- questions of the host

CODE = Reply(b"123456\n")
BOTH = Reply(PASSWORD.encode() + b"123456\n")


@pytest.mark.parametrize("asked, action", [
    ("Password: ", REPLY), ("Passwort: ", REPLY), ("Mot de passe : ", REPLY), ("Contraseña: ", REPLY),
    ("Пароль: ", REPLY), ("パスワード\uff1a", REPLY), ("密码\uff1a", REPLY), ("Hasło: ", REPLY), ("Lösenord: ", REPLY),
    ("비밀번호: ", REPLY), ("Password for code@token.example: ", REPLY), ("Enter your password: ", REPLY),
    ("LDAP Password (central): ", REPLY), ("Password for new@old: ", REPLY),
    ("Verification code: ", CODE), ("Passcode:", CODE), ("Enter PASSCODE: ", CODE), ("OTP: ", CODE),
    ("One-time password (OATH) for `ann': ", CODE), ("Passcode or option (1-3): ", CODE), ("YubiKey for `ann': ", CODE),
    ("Bestätigungscode: ", CODE), ("Código de verificación: ", CODE), ("Response: ", CODE), ("What now? ", CODE),
    ("Token_Response: ", CODE), ("验证码\uff1a", CODE), ("Duo two-factor [push] ", CODE),
    ("Password & verification code: ", BOTH), ("Password and OTP: ", BOTH),
])
def test_p_70_questions_and_what_they_get(asked, action):
    said = b"Access for staff alone.\r\n(ann@web1) " + asked.encode()
    for pieces in each_split(said):
        assert feed_in(web(otp="123456"), pieces) == [action], pieces
    for other in (b"(bob@web1) ", b"(ann@jump) "):
        assert [type(action) for action in web(otp="123456").feed(said.replace(b"(ann@web1) ", other))] == [Failed]


@pytest.mark.parametrize("asked", [
    "Current password: ", "(current) UNIX password: ", "New password: ", "Retype new password: ", "Old Password: ",
    "Aktuelles Passwort: ", "Neues Passwort: ", "Geben Sie das neue Passwort erneut ein: ", "Mot de passe actuel : ",
    "Nouveau mot de passe : ", "Nueva contraseña: ", "Новый пароль: ", "新しいパスワード\uff1a", "当前密码\uff1a"])
@pytest.mark.parametrize("before", ["", "Password: "])
def test_the_change_of_an_expired_password_is_never_answered(asked, before):
    for secrets in ({}, {"otp": "123456"}):
        talk = web(**secrets)
        if before:
            assert talk.feed(b"(ann@web1) " + before.encode()) == [REPLY]
        actions = talk.feed(b"\r\nYou are required to change your password.\r\n(ann@web1) " + asked.encode())
        assert [type(action) for action in actions] == [Failed]
        assert "expired" in actions[0].message or "cannot be answered" in actions[0].message


@pytest.mark.parametrize("secrets, asked, words", [
    ({"otp": "1"}, "Password: ", "password= was not given"), ({"password": "x"}, "Verification code: ", "otp= was not"),
    ({"password": "x"}, "Password & verification code: ", "not both"),
    ({"password": "x"}, "What? ", "cannot be answered"),
    ({"otp": "1"}, "Password & verification code: ", "not both")])
def test_questions_that_nothing_was_given_for(secrets, asked, words):
    talk = web(**{"password": None, **secrets})
    action, = talk.feed(b"(ann@web1) " + asked.encode())
    assert action.error == "AuthenticationError" and words in action.message


def test_s_19_each_secret_once_whatever_the_words():
    for first, again in (("Password: ", "LDAP password: "), ("Code: ", "Next token: "), ("Code: ", "Why? "),
                         ("Password: ", "Password & code: "), ("Password and code: ", "Code: ")):
        talk = web(otp="123456")
        assert len(talk.feed(b"(ann@web1) " + first.encode())) == 1
        action, = talk.feed(b"\r\n(ann@web1) " + again.encode())
        assert isinstance(action, Failed) and "refused" in action.message
    talk = web(otp="123456")
    assert talk.feed(b"(ann@web1) Password: ") + talk.feed(b"\n(ann@web1) Verification code: ") == [REPLY, CODE]
    assert talk.feed(b"\r\nann@web1's password: ") == [
        Failed("AuthenticationError", "the password or the one-time code was refused")]


def test_plain_prompts_of_old_ssh():
    talk = web(otp="123456", plain_prompts=True)
    assert talk.feed(b"Password: ") + talk.feed(b"\nVerification code: ") == [REPLY, CODE]
    assert web(plain_prompts=True).feed(b"(current) UNIX password: ")[0].error == "AuthenticationError"
    assert web(otp="123456").feed(b"Verification code: ") == []


def test_a_function_is_asked_when_the_prompt_is_there():
    talk = web(otp=lambda: "123456")
    assert talk.feed(b"(ann@web1) Password: ") == [REPLY]
    assert talk.feed(b"\r\n(ann@web1) Verification code:") == [Ask("otp")]
    assert talk.feed(b" ") == []
    assert talk.answer("otp", "123456") == [CODE]
    assert talk.answer("otp", "123456") == []
    assert "123456" not in talk.explain() + repr(vars(talk)) + repr(talk)
    assert talk.feed(b"\r\n(ann@web1) Verification code: ") == [Failed("AuthenticationError", "the code was refused")]


@pytest.mark.parametrize("answer", [None, 5, "", "a\n", ValueError("no")])
def test_a_function_that_gives_no_code(answer):
    talk = web(otp=lambda: "")
    assert talk.feed(b"(ann@web1) Code: ") == [Ask("otp")]
    action, = talk.answer("otp", answer)
    assert action.error == "AuthenticationError" and "otp=" in action.message and talk.over


def test_an_answer_that_comes_too_late():
    talk = web(otp=lambda: "1")
    assert talk.feed(b"(ann@web1) Code: ") == [Ask("otp")]
    assert talk.feed(b"\r\n(ann@web1) Code: ")[0].error == "AuthenticationError"
    assert talk.answer("otp", "123456") == []
    talk = web(otp=lambda: "1")
    talk.feed(b"(ann@web1) Code: ")
    talk.finish()
    assert talk.answer("otp", "123456") == [] and talk.sources == {}


def test_a_function_stays_where_it_is():
    """Pickled for another context, the dialogue takes along the code, and nothing that makes codes."""
    calls = []
    talk = web(otp=lambda: calls.append(1) or "123456")
    copy = pickle.loads(pickle.dumps(talk))
    assert calls == [1] and copy.sources == {} and list(talk.sources) == ["otp"]
    assert copy.feed(b"(ann@web1) Code: ") == [CODE]


def test_s_17_a_host_that_feeds_a_question_byte_by_byte_costs_little():
    talk = web(otp="1")
    for number in range(20_000):
        assert talk.feed(b"(ann@web1) "[number:number + 1] or b"a") == []
    action, = web().feed(b"(ann@web1) " + b"Password " * 40 + b": ")
    assert isinstance(action, Failed) and "cannot be answered" in action.message
