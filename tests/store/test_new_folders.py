"""A folder that another process takes away just while it is made."""

import os
from pathlib import Path

import pytest

from hugging_llama.store.new_folders import make_folders


def test_a_folder_that_goes_between_mkdir_and_the_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, mkdir = tmp_path / "a" / "b", os.mkdir
    others: list[str] = []

    def beaten_mkdir(path: str, mode: int = 0o777) -> None:
        """The first three times somebody else has just made it, and then takes it away."""
        if str(path) != str(wanted) or len(others) == 3:
            return mkdir(path, mode)
        others.append(path)
        mkdir(path)
        try:
            mkdir(path, mode)
        finally:
            os.rmdir(path)

    monkeypatch.setattr(os, "mkdir", beaten_mkdir)
    make_folders(str(wanted))
    assert wanted.is_dir()
    assert len(others) == 3


def test_a_folder_above_that_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, mkdir = tmp_path / "a" / "b", os.mkdir
    gone: list[Path] = []

    def late_mkdir(path: str, mode: int = 0o777) -> None:
        if str(path) == str(wanted) and not gone:
            gone.append(wanted.parent)
            wanted.parent.rmdir()
        mkdir(path, mode)

    monkeypatch.setattr(os, "mkdir", late_mkdir)
    make_folders(str(wanted))
    assert wanted.is_dir()
    assert gone == [wanted.parent]


def test_what_is_no_folder_stays_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    for name, error in (("file", FileExistsError), ("nowhere", FileExistsError), ("file/below", NotADirectoryError)):
        with pytest.raises(error):
            make_folders(str(tmp_path / name))
