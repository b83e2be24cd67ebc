"""Whether an embedding model says how its tokens' vectors become one vector."""

from typing import Any

import transformers

from hugging_llama.engine.vetting import VettedFiles
from hugging_llama.errors import InvalidRequestError

_MISSING = (
    "this model does not support embedding: its files have no pooling configuration (modules.json with a Pooling "
    "module, as sentence-transformers saves it)"
)


def check_pooling_named(files: VettedFiles) -> None:
    """Raises InvalidRequestError for a bare decoder: encoders are averaged by custom, decoders have no such custom."""
    auto = transformers.models.auto.modeling_auto
    model_type = files.config.get("model_type")
    is_encoder = model_type in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    is_decoder = model_type in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not is_encoder
    if is_decoder and not files.is_sentence_transformer:
        raise InvalidRequestError(_MISSING, param="model")


def check_pooled(model: Any) -> None:
    """Raises InvalidRequestError for a SentenceTransformer whose modules end in one vector a token."""
    from sentence_transformers.sentence_transformer.modules import Pooling  # slow, and only embedding models need it

    if model[0].module_output_name != "sentence_embedding" and not any(isinstance(part, Pooling) for part in model):
        raise InvalidRequestError(_MISSING, param="model")
