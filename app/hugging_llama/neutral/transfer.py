"""What is said while a model comes from the Hub."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferProgress:
    """How far a pull is.

    `status` is "pulling manifest" first, "downloading" for each file (with all other fields set) and "success" at
    last. `file` is the file's path inside the repository, `path` its place below the folder of the Hub's cache,
    `digest` the 64 (sha256) or 40 (git) hex characters that name its content.
    """

    status: str
    path: str = ""
    file: str = ""
    digest: str = ""
    total_bytes: int = 0
    completed_bytes: int = 0
