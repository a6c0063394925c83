"""In a directory tree or image, by ``systemd-nspawn``."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextree.connect.options import GrowOptions

    class Options(GrowOptions, total=False):
        """What ``Grower.nspawn`` takes beside the target: what ``plan`` does."""
