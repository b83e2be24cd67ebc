"""What becomes of a request whose caller has left."""


class ClientGoneError(Exception):
    """The caller closed the connection before there was anything to say."""

    code = "left"
