"""Runs a stand-in Hub until it is interrupted: python -m tests.hub_server [--port PORT] [ORG/NAME=FOLDER ...]."""

import argparse
import contextlib
import threading
from pathlib import Path

from tests.hub_server import GOOD_TOKEN, Repo, StandInHub


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.hub_server", description="A stand-in Hub.")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--access", choices=("public", "gated", "private"), default="public")
    parser.add_argument("repos", nargs="*", metavar="ORG/NAME=FOLDER", help="a repository of the files in FOLDER")
    args = parser.parse_args()
    with StandInHub(args.port) as hub:
        for item in args.repos:
            name, _, folder = item.partition("=")
            root = Path(folder)
            paths = [path for path in root.rglob("*") if path.is_file()]
            files = {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}
            hub.repos[name] = Repo(files, access=args.access)
        print(f"HF_ENDPOINT={hub.endpoint} HF_HUB_DISABLE_XET=1 HF_TOKEN={GOOD_TOKEN}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
