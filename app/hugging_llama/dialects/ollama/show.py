"""POST /api/show."""

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, request

from hugging_llama.dialects.base import SMALL_BODY_BYTES, app_context, check_names, json_body, named_model
from hugging_llama.dialects.body_fields import Ignored
from hugging_llama.dialects.documented import documented, json_answer
from hugging_llama.dialects.ollama import answer_schemas as schemas
from hugging_llama.dialects.ollama import fields, request_fields
from hugging_llama.dialects.ollama.answers import json_response, request_options
from hugging_llama.dialects.ollama.clock import timestamp
from hugging_llama.dialects.ollama.details import details_json
from hugging_llama.dialects.ollama.model_info import model_info
from hugging_llama.dialects.ollama.modelfile import Modelfile, parameters_of, parameters_text, with_options
from hugging_llama.dialects.ollama.render import Json
from hugging_llama.neutral.description import ModelDescription
from hugging_llama.neutral.models import Capability, LocalModel
from hugging_llama.operations.description import describe, memory, remote_memory
from hugging_llama_config.model_memory import MemoryEstimate

blueprint = Blueprint("ollama_show", __name__)

_COPILOT = "GitHubCopilotChat/"
_UPLOADED = "uploaded files"


class ShowSchema(fields.GoSchema):
    """The request body."""

    go_name = "ShowRequest"

    model = request_fields.model(must=False)
    name = request_fields.old_name()
    verbose = fields.GoBool(load_default=False, about="With the tensors and the tokenizer's lists.")
    system = fields.GoString(load_default="", about="Shown in place of the model's own.")
    template = Ignored("Ollama does nothing with it either")
    options = request_fields.options("Shown over the model's own; `num_ctx` chooses the context of `memory`.")
    remote = fields.GoBool(load_default=False, about="Ours: the `memory` of a model that lies on the Hub.")


_schema = ShowSchema()


def render_show(
    model: LocalModel, description: ModelDescription, estimate: MemoryEstimate, body: Mapping[str, Any]
) -> Json:
    """The whole answer; `system` and `options` of the request lie over what the model has."""
    own = dict(model.defaults.sampling)
    if model.defaults.context_length is not None:
        own["context_length"] = model.defaults.context_length
    options = body["options"]
    parameters = with_options(parameters_of({**description.sampling, **own}), options)
    modelfile = _modelfile(model, description, with_options(parameters_of(own), options), parameters, body["system"])
    details = details_json(model.details, level=model.quantization_level, parent=model.parent, with_lengths=False)
    if model.ref.adapter:
        details["adapter"] = model.adapter or _UPLOADED
    answer: Json = {
        "license": "\n".join(dict.fromkeys(filter(None, (description.license, *model.licenses)))),
        "modelfile": modelfile.text(),
        "parameters": parameters_text(parameters),
        "template": description.template,
        "system": body["system"] or model.defaults.system,
        "messages": [{"role": turn.role, "content": turn.content} for turn in model.defaults.messages],
        "details": details,
        "model_info": model_info(model, description),
        "capabilities": [capability.value for capability in model.capabilities],
        "requires": model.requires,
        "tool_format": description.tool_format if Capability.TOOLS in model.capabilities else "",
        "thinking_tags": list(description.thinking_tags or ()) if Capability.THINKING in model.capabilities else [],
        "modified_at": timestamp(model.modified_at_s),
        "memory": estimate.to_json(),
    }
    if body["verbose"]:
        answer["tensors"] = [{"name": t.name, "type": t.dtype, "shape": t.shape} for t in description.tensors]
    return {key: value for key, value in answer.items() if value not in ("", [])}


def _modelfile(model: LocalModel, description: ModelDescription, own: Json, parameters: Json, system: str) -> Modelfile:
    """What makes this model again. A named one's holds what was said of it alone: the rest comes with its base; one of
    uploaded files is made from itself, with its licences. Parameters: those it was given, and all."""
    if not model.is_named:
        licenses = [description.license] if description.license else []
        return Modelfile(
            base=model.ref.name,
            template=description.template,
            system=system,
            parameters=parameters,
            licenses=licenses,
        )
    quantization = model.ref.quantization
    return Modelfile(
        base=model.made_from or model.ref.name,
        adapter=model.adapter if model.made_from else "",
        template=model.defaults.template,
        system=system or model.defaults.system,
        parameters=own,
        licenses=model.licenses if model.made_from else (),
        messages=model.defaults.messages,
        requires=model.requires,
        note=f"For the same weights create it with --quantize {quantization}" if quantization else "",
    )


@blueprint.post("/api/show")
@documented(json_answer(schemas.Show), request=_schema, role="use")
def show() -> Response:
    """What is known of a model on disk, and what it takes in memory; with `remote` the latter alone, from the Hub."""
    body = json_body(_schema, limit=SMALL_BODY_BYTES)
    context_length = request_options(body["options"]).context_length
    ctx = app_context()
    name = body["model"] or body["name"]
    if body["remote"]:
        check_names(name)
        return json_response({"model_info": {}, "memory": remote_memory(ctx, name, context_length).to_json()})
    model = named_model(name)
    answer = render_show(model, describe(model, with_lists=body["verbose"]), memory(ctx, model, context_length), body)
    if request.headers.get("User-Agent", "").startswith(_COPILOT):
        answer["model_info"]["general.basename"] = name  # what Copilot shows
    return json_response(answer)
