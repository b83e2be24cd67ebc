"""A stand-in for the Hugging Face Hub on a free local port, with every fault a network can have.

In tests: the fixture `hub` (in `tests/conftest.py`) is a running one.

    def test_something(hub: StandInHub) -> None:
        hub.repos["acme/tiny"] = Repo({"config.json": b"{}", "model.safetensors": weights})
        hub.fault("/_cdn/", "cut", 1000)          # the next big file breaks off after 1,000 bytes
        ... HF_ENDPOINT=hub.endpoint ...
        assert hub.requests("GET /_cdn/")          # what was asked

By hand: `python -m tests.hub_server --port 8080 acme/tiny=FOLDER`, then HF_ENDPOINT=http://127.0.0.1:8080.

It answers what huggingface_hub asks for models: information (also with `blobs=true`), revisions, refs, trees in pages,
files with ranges, searches, `whoami-v2`, and uploads as far as a commit that can be pulled again: create, branches,
preupload, big files in one piece or (`part_size`) in parts, verify, commit. Big files lie on another host name
(`localhost` instead of `127.0.0.1`), as the real Hub's do. Xet is not spoken: set HF_HUB_DISABLE_XET=1.

GOOD_TOKEN is of the user `me`, who may write below `me/` and `acme/` and read all; READ_TOKEN may write nothing and
read what is public; BAD_TOKEN is refused.
"""

from tests.hub_server.hub import Allowance, Fault, Seen, StandInHub
from tests.hub_server.repository import (
    BAD_TOKEN,
    GOOD_TOKEN,
    READ_TOKEN,
    Account,
    Repo,
    commit_of,
    digest_of,
    git_sha1,
    is_lfs,
)

__all__ = [
    "BAD_TOKEN",
    "GOOD_TOKEN",
    "READ_TOKEN",
    "Account",
    "Allowance",
    "Fault",
    "Repo",
    "Seen",
    "StandInHub",
    "commit_of",
    "digest_of",
    "git_sha1",
    "is_lfs",
]
