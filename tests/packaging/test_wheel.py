"""The wheel in an empty environment, started from a folder that has its own packages app, cli and config."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
import requests

from tests.live_server import live_server


def test_the_wheel_holds_our_three_packages_and_the_demo_model(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"hugging_llama", "hugging_llama_cli", "hugging_llama_config"}
    for name in (
        "hugging_llama/demo_model/model.safetensors",
        "hugging_llama_config/catalog.toml",
        "hugging_llama/py.typed",
    ):
        assert name in names


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with our wheel; third-party packages are lent by the one that runs the tests."""
    folder = tmp_path_factory.mktemp("env")
    venv.create(folder, symlinks=True)
    site = next((folder / "lib").glob("python*")) / "site-packages"
    install = [
        sys.executable,
        "-m",
        "pip",
        "--quiet",
        "--python",
        str(folder / "bin" / "python"),
        "install",
        "--no-deps",
        str(wheel),
    ]
    subprocess.run(install, check=True, timeout=900)
    # a path added by a .pth file has its own .pth files ignored: the editable install does not come along
    (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def test_it_serves_beside_packages_of_the_same_names_as_our_folders(environment: Path, tmp_path: Path) -> None:
    for name in ("app", "cli", "config"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('a stranger was imported')\n")
    command = [str(environment / "bin" / "hugging-llama"), "serve"]
    with live_server(tmp_path, tmp_path / "hub", command) as server:
        body = {"model": "demo", "prompt": "Hello!", "stream": False, "options": {"num_predict": 4}}
        assert requests.post(f"{server.url}/api/generate", json=body, timeout=120).json()["done"] is True
        shown = subprocess.run(
            [str(environment / "bin" / "hugging-llama"), "list"],
            env=dict(server.environ), cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert "hugging-llama/demo:latest" in shown.stdout


def test_nothing_of_ours_is_importable_under_a_common_name(environment: Path, tmp_path: Path) -> None:
    names = ("app", "cli", "config", "tests", "deploy", "wsgi")
    code = f"import importlib.util as u; print([n for n in {names} if u.find_spec(n)])"
    environ = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        [str(environment / "bin" / "python"), "-c", code],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
