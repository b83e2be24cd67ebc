"""What every operation needs, handed in by the web side; it lives in `app.extensions["hugging_llama"]`."""

from dataclasses import dataclass

from hugging_llama.client.base import EngineClient
from hugging_llama.store.local import Store
from hugging_llama_config.settings import Settings


@dataclass(frozen=True, slots=True)
class AppContext:
    """The settings, the models on disk and the way to the engine."""

    settings: Settings
    store: Store
    engine: EngineClient
