"""The stand-in Hub against huggingface_hub itself: what it stands in for is what that library expects."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.hub_server import BAD_TOKEN, GOOD_TOKEN, READ_TOKEN, Repo, StandInHub
from tests.store import models

_BEGIN = """
import json, sys
from pathlib import Path
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.utils import HfHubHTTPError
endpoint, folder, token = sys.argv[1:]
api = HfApi(endpoint=endpoint, token=token)
"""


def _with_library(hub: StandInHub, folder: Path, code: str, token: str = GOOD_TOKEN) -> dict[str, object]:
    """What `code` prints as JSON; a process of its own, as the library reads its settings when it is imported."""
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "HF_HUB_DISABLE_XET": "1", "HF_ENDPOINT": hub.endpoint}
    command = [sys.executable, "-c", _BEGIN + textwrap.dedent(code), hub.endpoint, str(folder), token]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("part_size", [0, 50_000])
def test_what_is_uploaded_can_be_downloaded(hub: StandInHub, tmp_path: Path, part_size: int) -> None:
    hub.part_size = part_size
    hub.page_size = 2
    files = models.sharded_model() | {
        "model-00002-of-00002.safetensors": models.chat_model(200_000)["model.safetensors"]
    }
    (tmp_path / "up").mkdir()
    for path, data in files.items():
        (tmp_path / "up" / path).write_bytes(data)
    found = _with_library(
        hub,
        tmp_path,
        """
        api.create_repo("acme/new", private=True)
        api.create_repo("acme/new", exist_ok=True)
        first = api.model_info("acme/new").sha
        commit = api.upload_folder(repo_id="acme/new", folder_path=folder + "/up").oid
        api.create_branch("acme/new", branch="v2")
        api.upload_file(path_or_fileobj=b"{}", path_in_repo="other.json", repo_id="acme/new", revision="v2")
        api.delete_file("other.json", "acme/new", revision="v2")
        kept = snapshot_download("acme/new", endpoint=endpoint, token=token, cache_dir=folder + "/cache")
        old = snapshot_download("acme/new", revision=first, endpoint=endpoint, token=token, cache_dir=folder + "/old")
        print(json.dumps({
            "files": {path.name: path.stat().st_size for path in Path(kept).iterdir()},
            "old": [path.name for path in Path(old).iterdir()],
            "moved": commit != first and commit == api.model_info("acme/new").sha == Path(kept).name,
            "sizes": sum(file.size for file in api.model_info("acme/new", files_metadata=True).siblings),
            "branches": [branch.name for branch in api.list_repo_refs("acme/new").branches],
            "me": api.whoami()["name"],
            "found": [model.id for model in api.list_models(search="NEW", sort="downloads", limit=5)],
        }))
        """,
    )
    sizes = {path: len(data) for path, data in files.items()} | {".gitattributes": 50}
    assert found.pop("files") == sizes
    assert found == {
        "old": [".gitattributes"], "moved": True, "sizes": sum(sizes.values()), "branches": ["main", "v2"],
        "me": "me", "found": ["acme/new"],
    }  # fmt: skip
    assert hub.repos["acme/new"].access == "private"
    assert len(hub.requests("PUT /_upload/")) == (7 if part_size else 3)
    assert not [seen for seen in hub.seen if seen.host.startswith("localhost") and seen.authorization]


def test_refusals_and_conflicts(hub: StandInHub, tmp_path: Path) -> None:
    hub.repos["other/theirs"] = Repo(models.chat_model())
    hub.repos["acme/tiny"] = Repo(models.chat_model())
    code = """
        def status(work):
            try:
                work()
            except HfHubHTTPError as error:
                return [error.response.status_code, error.server_message]
        def put(repo, path="a", **more):
            return lambda: api.upload_file(path_or_fileobj=b"x", path_in_repo=path, repo_id=repo, **more)
        print(json.dumps({
            "create": status(lambda: api.create_repo("other/new")),
            "theirs": status(put("other/theirs")),
            "ours": status(put("acme/tiny")),
            "stale": status(put("acme/tiny", "b", parent_commit="0" * 40)),
            "branch": status(put("acme/tiny", revision="v9")),
        }))
        """
    good, read, bad = (_with_library(hub, tmp_path, code, token) for token in (GOOD_TOKEN, READ_TOKEN, BAD_TOKEN))
    statuses = {key: value[0] if isinstance(value, list) else value for key, value in good.items()}
    assert statuses == {"create": 403, "theirs": 403, "ours": None, "stale": 412, "branch": 404}
    assert [value[0] for value in read.values() if isinstance(value, list)] == [403] * 5
    assert [value[0] for value in bad.values() if isinstance(value, list)] == [401] * 5
    assert hub.repos["acme/tiny"].files["a"] == b"x"
