"""In a machine or the host itself, by its systemd."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextree.connect.options import GrowOptions

    class Options(GrowOptions, total=False):
        """What ``Grower.machinectl`` takes beside the target: what ``plan`` does."""
