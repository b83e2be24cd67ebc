"""What is said while a model comes from the Hub or goes there."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferProgress:
    """How far a pull or a push is.

    `status` is "pulling manifest" first; "downloading" for each file, several of which may be under way, with all
    other fields set; "verifying sha256 digest" when all bytes of a pull that brought some are there; then "writing
    manifest", and "success" at last. `file` is the file's path inside the repository, `path` its place below the
    folder of the Hub's cache, `digest` the 64 (sha256) or 40 (git) hex characters that name its content; `overall_`
    counts all files of the pull; `fetched_bytes` have come from the Hub by this pull itself, in this and every later
    status. A number can fall: content that does not have its digest is fetched again.

    Of a push it is "retrieving manifest", "pushing" for each file (without `path`), "pushing manifest" and "success".
    """

    status: str
    path: str = ""
    file: str = ""
    digest: str = ""
    total_bytes: int = 0
    completed_bytes: int = 0
    overall_total_bytes: int = 0
    overall_completed_bytes: int = 0
    fetched_bytes: int = 0
