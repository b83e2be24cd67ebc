"""The stand-in Hub under its former name; it lives in `tests.hub_server`."""

from tests.hub_server import Fault, Repo, Seen, StandInHub, digest_of, git_sha1, is_lfs

__all__ = ["Fault", "Repo", "Seen", "StandInHub", "digest_of", "git_sha1", "is_lfs"]
