"""What is said of a model's folder."""

from pathlib import Path

import pytest

from hugging_llama.engine.vetting import vet
from hugging_llama.errors import ModelLoadError


def refused(folder: Path) -> str:
    """Why it is not loaded."""
    with pytest.raises(ModelLoadError) as caught:
        vet(str(folder))
    return caught.value.message
