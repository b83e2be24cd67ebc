"""FastAPI with the models under /llm: `pip install fastapi uvicorn a2wsgi`, then `uvicorn fastapi_app:app`."""

from a2wsgi import WSGIMiddleware
from fastapi import FastAPI
from flask import Flask

from hugging_llama import create_blueprint

app = FastAPI()


@app.get("/")
async def home() -> dict[str, str]:
    return {"app": "FastAPI"}


models = Flask(__name__)
models.register_blueprint(create_blueprint())
# each open answer holds one of the threads
app.mount("/llm", WSGIMiddleware(models, workers=64))
