"""Shared by the engine's tests."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hugging_llama.engine import fused_layer, model_runner
from hugging_llama.engine.native.probe import Family, native_families
from hugging_llama.engine.template_process import TemplateProcess
from hugging_llama.engine.vetting import vet
from tests.engine.checkpoints import make_checkpoint
from tests.engine.clients import DEMO_REF, Clients


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """The models are tiny: a second thread would only wait for the first, for ages where the machine is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["native", "torch"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What computes: our own kernels, where this machine has them, or torch's, as on a machine that has none."""
    if request.param == "torch":
        for module in (model_runner, fused_layer):
            monkeypatch.setattr(module, "native_families", frozenset)
    elif Family.ATTENTION not in native_families():
        pytest.skip("there are no native kernels here")
    return str(request.param)


@pytest.fixture(scope="session")
def template_process() -> Iterator[TemplateProcess]:
    """One for all tests: it takes a second to start."""
    process = TemplateProcess()
    yield process
    process.close()


@pytest.fixture(scope="module")
def clients() -> Iterator[Clients]:
    """Of an engine that has the demo model."""
    found = Clients()
    found.load(DEMO_REF)
    yield found
    found.engine.close()


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as it should be."""
    return make_checkpoint(tmp_path_factory.mktemp("models") / "pristine")


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """The same for one test to damage."""
    found = Path(shutil.copytree(pristine, tmp_path / "model"))
    vet(str(found))
    return found
