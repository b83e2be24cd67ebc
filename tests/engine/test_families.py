"""Every family of models that can be batched says in a batch what it says alone, and the table of them is true."""

import runpy
from pathlib import Path
from typing import Any

import pytest

from hugging_llama.engine.loader import Loader, ModelKind
from hugging_llama.engine.runner import choose_runner
from hugging_llama_config.settings import Settings
from tests.engine.checkpoints import byte_tokenizer
from tests.engine.families import FAMILIES, make_family
from tests.engine.harness import make_prompts
from tests.engine.test_parity import MAX_TOKENS, run_batched
from tests.engine.tiny_models import generate_greedy

ROOT = Path(__file__).parents[2]
PROMPTS = make_prompts(6)
QUICK = ("mamba", "mamba2", "jamba", "zamba2", "falcon_h1", "lfm2", "qwen3_next", "nemotron_h", "deepseek_v3", "opt")


def check(name: str) -> None:
    """Mamba and its like among them: prompts of one token, cut into chunks where they can be, and late joiners."""
    model = make_family(name)
    prompts = [[7], *PROMPTS]
    expected = [generate_greedy(model, prompt, MAX_TOKENS) for prompt in prompts]
    assert len({token for tokens in expected for token in tokens}) > 20, "a model that repeats itself proves little"
    runner, reason = choose_runner(model)
    if runner is None:
        pytest.skip(reason)
    assert run_batched(model, prompts) == expected


@pytest.mark.parametrize("name", QUICK)
def test_a_batch_says_what_generate_says(name: str) -> None:
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(FAMILIES) - set(QUICK)))
def test_a_batch_of_every_family_says_what_generate_says(name: str) -> None:
    check(name)


def load(name: str, folder: Path) -> None:
    make_family(name).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    assert Loader(Settings(device="cpu")).load(str(folder)).kind is ModelKind.GENERATION


@pytest.mark.parametrize("name", QUICK)
def test_what_transformers_writes_is_loaded(name: str, tmp_path: Path) -> None:
    """Numbers among it that JSON has no words for."""
    load(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(FAMILIES) - set(QUICK)))
def test_what_transformers_writes_of_every_family_is_loaded(name: str, tmp_path: Path) -> None:
    load(name, tmp_path)


def test_the_table_of_families_is_what_loading_decides() -> None:
    script: dict[str, Any] = runpy.run_path(str(ROOT / "tools" / "families.py"))
    assert len(FAMILIES) >= 40
    assert script["DOCUMENT"].read_text() == script["table"]()
