"""What can go wrong for a user: one line of text each, and the exit code of the command line."""


class GdqError(Exception):
    """An error whose message is meant for the user: what is wrong and what to do, on one line."""

    exit_code = 1


class OptionsError(GdqError):
    """Options that are out of range or contradict each other."""

    exit_code = 2


class ImageError(GdqError):
    """An input that cannot be read or an output that cannot be written."""

    exit_code = 3


class WeightsError(GdqError):
    """A checkpoint that is missing, damaged, or not of the kind that was asked for."""

    exit_code = 4


class DeviceError(GdqError):
    """A device that is absent, unfit, or out of memory."""

    exit_code = 5
