"""What can go wrong, as one line for the user.

CliError                  printed as `Error: …`, exit 1
├── UsageError            the command line makes no sense, exit 2
└── ServerError           the server said no, with its status
    └── UnreachableError  nobody answers
        └── BrokenOffError  somebody did, and stopped
"""


class CliError(Exception):
    """The message is one line, meant for the user."""

    exit_code = 1


class UsageError(CliError):
    """The command line can't be understood."""

    exit_code = 2


class ServerError(CliError):
    """The server answered with an error; `status` is 0 for one inside a stream."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class UnreachableError(ServerError):
    """No server answers at this address, or it went away."""


class BrokenOffError(UnreachableError):
    """The connection ended before the answer did."""
