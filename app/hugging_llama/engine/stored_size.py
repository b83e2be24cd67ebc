"""What a model's files say of its size, without reading a weight."""

from safetensors import SafetensorError, safe_open

from hugging_llama.engine.vetting import VettedFiles
from hugging_llama.errors import ModelLoadError
from hugging_llama_config.model_limits import MOST_TENSORS
from hugging_llama_config.model_memory import ModelSize
from hugging_llama_config.model_size import StoredTensor, model_size


def stored_size(files: VettedFiles, *, is_embedding: bool, has_head: bool) -> ModelSize:
    """What the headers of the weight files and the configuration say; no weight is read. Raises ModelLoadError."""
    tensors: list[StoredTensor] = []
    try:
        for path in files.weight_files:
            # torch would map the file at once, and keep it open where there is no memory for that
            with safe_open(path, framework="np") as file:
                names = file.keys()
                if len(tensors) + len(names) > MOST_TENSORS:
                    raise ModelLoadError(f"the model's weights have more than {MOST_TENSORS} tensors")
                for name in names:
                    part = file.get_slice(name)
                    tensors.append(StoredTensor(name, part.get_dtype(), tuple(part.get_shape())))
    except (SafetensorError, OSError) as error:
        raise ModelLoadError("the model's weights are damaged; pull it again") from error
    return model_size(files.config, tensors, is_embedding=is_embedding, has_head=has_head)
