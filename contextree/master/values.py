from contextree.core.wire.values import decode  # noqa
