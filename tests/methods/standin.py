"""A stand-in for sudo, doas or su: ``python standin.py HOW [words of the real one]``. It speaks the dialogue byte by
byte, writes what it was told to the file in $STANDIN_LOG, and becomes the command."""

import os
import sys
import termios
import tty


def main():
    how, words = sys.argv[1], sys.argv[2:]
    with open(os.environ["STANDIN_LOG"], "w") as log:
        print(repr(words), file=log, flush=True)
        for prompt, feedback in PROMPTS[how](words):
            answer = ask(prompt, feedback, how)
            print(repr(answer), file=log, flush=True)
    if how.endswith("-refuses"):
        print("sudo: Maximum 3 incorrect authentication attempts", file=sys.stderr)
        sys.exit(1)
    command = words[words.index("--") + 1:] if "--" in words else ["sh", "-c", words[words.index("-c") + 1]]
    os.execvp(command[0], command)


def ask(prompt, feedback, how):
    """Write the prompt, a byte at a time; read a line, and show an asterisk for each byte, and take them away again."""
    if how in ("su", "su-rs", "busybox"):
        fd, out = 0, 1 if how == "busybox" else 2
    else:
        fd = out = os.open("/dev/tty", os.O_RDWR)
    for byte in prompt.encode():
        os.write(out, bytes([byte]))
    if feedback:
        tty.setcbreak(fd, termios.TCSANOW)  # as sudo-rs does: what came early is not lost
    answer = b""
    while not answer.endswith(b"\n"):
        byte = os.read(fd, 1)
        if not byte:
            break
        answer += byte
        if feedback and byte != b"\n":
            os.write(out, b"*")
    os.write(out, b"\b \b" * (len(answer) - 1) * feedback + b"\r\n")
    return answer


def given(words):
    """The prompt that we were given by -p."""
    return words[words.index("-p") + 1]


BANNER = ("Your password expires in 3 days\r\nPassword: is what will be asked\r\n"
          "*** Authorized use only, enter password when asked ***\r\n")
PROMPTS = {
    "sudo": lambda words: [(BANNER + given(words), False)],
    "sudo-rs": lambda words: [("[sudo: %s] Password: " % given(words), True)],
    "sudo-rs-refuses": lambda words: [("[sudo: %s] Password: " % given(words), True),
                                      ("sudo: Authentication failed, try again.\n[sudo: %s] Password: " % given(words),
                                       True)],
    "pam": lambda words: [("[sudo] LDAP Password: ", False)],
    "strange": lambda words: [("Colour of the day: ", False)],
    "code": lambda words: [(given(words), False), ("Verification code: ", False)],
    "doas": lambda words: [("\rdoas (ann@web1) password: ", False)],
    # a line that is, for a moment, just what su asks cannot be told from it
    "su": lambda words: [(BANNER.replace("Password:", "Your Password:") + "Password: ", False)],
    "su-rs": lambda words: [("[su: authenticate] Password: ", True)],
    "busybox": lambda words: [("Password: ", False)],
    "silent": lambda words: [],
}

if __name__ == "__main__":
    main()
