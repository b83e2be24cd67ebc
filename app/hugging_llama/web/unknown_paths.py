"""What a mount answers below its prefix where no route of ours is: the same as a server of our own."""

from flask import Response, current_app, request
from flask.blueprints import BlueprintSetupState
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import Map, Rule

from hugging_llama.dialects.documented import documented
from hugging_llama.dialects.mounts import mount_name, mounted
from hugging_llama.web.errors import method_not_allowed, missed

ENDPOINT = "unknown_path"
ROUTES_EXTENSION = "hugging_llama_routes"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def add_rule(state: BlueprintSetupState) -> None:
    """Below a prefix only: at the root the other paths are the application's."""
    if (state.url_prefix or "").strip("/"):
        state.add_url_rule("/<path:unknown>", ENDPOINT, unknown_path, methods=METHODS, provide_automatic_options=False)


@documented(role=None)
def unknown_path(unknown: str) -> Response:
    """A path, or a method of a path, that we do not have; the rule matches whatever no other rule does."""
    routes = _own_routes().bind("")
    try:
        routes.match(request.path, method=request.method)
    except MethodNotAllowed as error:
        return method_not_allowed(error)
    except HTTPException:
        pass
    return missed(routes)


def methods_here() -> Response:
    """What Flask answers to OPTIONS, without the methods of the rule above, which are all there are."""
    allowed = _own_routes().bind("").allowed_methods(request.path)
    return Response(headers={"Allow": ", ".join(sorted(allowed))})


def rules_of(mount: str, url_map: Map) -> list[Rule]:
    """The routes of this mount as the application has them, without the one for unknown paths."""
    rules = url_map.iter_rules()
    return [r for r in rules if r.endpoint.startswith(f"{mount}.") and not r.endpoint.endswith(f".{ENDPOINT}")]


def _own_routes() -> Map:
    """The routes of this mount alone, made when they are first asked for."""
    found = mounted(ROUTES_EXTENSION)
    assert isinstance(found, list)
    if not found:
        url_map = current_app.url_map
        own = rules_of(mount_name(), url_map)
        rules = [Rule(rule.rule, endpoint=rule.endpoint, methods=rule.methods) for rule in own]
        found.append(Map(rules, merge_slashes=False, converters=url_map.converters))
    routes: Map = found[0]
    return routes
