"""Django with the models under /llm: `pip install django uvicorn a2wsgi`, then `uvicorn django_app:application`."""

from collections.abc import Awaitable, Callable
from typing import Any

from a2wsgi import WSGIMiddleware
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path
from flask import Flask

from hugging_llama import create_blueprint

settings.configure(SECRET_KEY="only for trying it out", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__)


def home(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"app": "Django"})


urlpatterns = [path("", home)]

django = get_asgi_application()
flask = Flask(__name__)
flask.register_blueprint(create_blueprint(), url_prefix="/llm")
# each open answer holds one of the threads
models = WSGIMiddleware(flask, workers=64)


async def application(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Any]) -> None:
    is_ours = scope["type"] == "http" and (scope["path"] == "/llm" or scope["path"].startswith("/llm/"))
    await (models if is_ours else django)(scope, receive, send)  # type: ignore[arg-type]
