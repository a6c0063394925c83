"""What `python -c` gets: text that every Python can parse, that refuses an old one and Windows politely and loads the
bundle.

One line without single quote, backslash, exclamation mark or newline, so that every login shell can quote it. It reads
from descriptor 0: a length and the bundle (zlib of marshal, a list of module name and source or code); what follows
belongs to ``contextree.core.main.boot``. It ends when the input ends early, and waits when the input is not blocking.

The first thing that it does is to take the directory that it runs in off ``sys.path``, where ``python -c`` put it: a
``zlib.py`` that lies there must not be run. From 3.13 on that is too late: ``-c`` itself imports ``linecache`` first,
hence ``SAFE`` in the environment, which 3.11+ heeds; it is removed for those that the child starts. Core's modules have
no ``__spec__`` rather than one of None, which Python 3.15 warns of in every traceback.

The package ``contextree`` itself is a ``Door`` there: its public names come from ``contextree.parent.door``, once
somebody asks for one.

This file is not in the bundle: a child asks for it when it has children of its own.
"""

OLD = "contextree: Python 3.6 or newer is needed there, this is "
WINDOWS = "contextree: Windows cannot be a target"
ALIVE = b"contextree: python runs\n"  # tells the parent that login is over

SAFE = "PYTHONSAFEPATH", "contextree"  # a variable of the environment, and a value that no user gives it

STAGE = """
import os,sys,marshal
from zlib import decompress
if os.environ.get(%r)==%r:
    del os.environ[%r]
def read(n):
    b=b""
    while len(b)<n:
        try:
            d=os.read(0,n-len(b))
        except BlockingIOError:
            import select
            select.select([0],[],[])
            continue
        if not d:
            os._exit(90)
        b+=d
    return b
os.write(1,%r)
raw=read(int.from_bytes(read(4),"big"))
M=type(sys)
class Door(M):
    def __getattr__(s,n):
        if n[:1]=="_":
            raise AttributeError(n)
        __import__("contextree.parent.door")
        return getattr(sys.modules["contextree.parent.door"],n)
def load(raw):
    for n,s in [("contextree",0),("contextree.core",0),("contextree.core.wire",0)]+marshal.loads(decompress(raw)):
        m=sys.modules[n]=(M if"."in n else Door)(n)
        if not s:
            m.__path__=[]
            m.__package__=n
        else:
            m.__package__=n.rpartition(".")[0]
            m.__file__="contextree:"+n.replace(".","/")[11:]+".py"
            del m.__spec__
            exec(compile(s,m.__file__,"exec",dont_inherit=True)if type(s)is str else marshal.loads(s),m.__dict__)
        p,_,c=n.rpartition(".")
        if p:
            setattr(sys.modules[p],c,m)
load(raw)
sys.modules["contextree.core.main"].boot(read,raw)
""" % (SAFE + SAFE[:1] + (ALIVE,))


def text() -> str:
    """The argument of ``python -c``."""
    from binascii import b2a_base64
    from zlib import compress

    stage = b2a_base64(compress(STAGE.encode(), 9)).decode().strip()
    return ('import sys;sys.path[:]=[p for p in sys.path if p[:1]=="/"];'
            'sys.version_info<(3,6)and sys.exit("%s"+sys.version.split()[0]);'
            'sys.platform=="win32"and sys.exit("%s");import zlib,binascii;'
            'exec(zlib.decompress(binascii.a2b_base64("%s")))' % (OLD, WINDOWS, stage))
