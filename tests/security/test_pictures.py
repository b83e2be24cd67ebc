"""Row S10: pictures are refused before anything looks into them, whatever they are made to do to a decoder."""

import base64
import struct
import subprocess
import sys
import zlib
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from tests.functional.field_probes import World

MAX_GROWTH_BYTES = 150 * 2**20


def _png(width: int, height: int, data: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


PICTURES = {
    "many pixels": _png(30_000, 30_000, zlib.compress(bytes(10_000_000), 9)),
    "the most pixels": _png(2**31 - 1, 2**31 - 1, b""),
    "no pixels": _png(0, 0, b""),
    "a cut one": _png(10, 10, zlib.compress(bytes(410)))[:-20],
    "a bomb": _png(10, 10, zlib.compress(bytes(50_000_000), 9)),
    "a GIF of frames": b"GIF89a" + b"\xff" * 4 + b"\x80\0\0" + bytes(6) + b",\0\0\0\0\1\0\1\0\0\2\2L\1\0" * 20_000,
    "an SVG with entities": b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><svg>&b;</svg>',
    "a TIFF of itself": b"II*\0\x08\0\0\0\xff\xff" + bytes(12),
    "PostScript": b"%!PS\n{} loop",
    "nothing": b"",
    "no picture": b"\0" * 1000,
}


def _requests(picture: str) -> list[tuple[str, dict[str, Any]]]:
    url = f"data:image/png;base64,{picture}"
    text = {"type": "text", "text": "x"}
    source = {"type": "base64", "media_type": "image/png", "data": picture}
    openai_content = [text, {"type": "image_url", "image_url": {"url": url}}]
    responses_content = [{"type": "input_image", "image_url": url}]
    anthropic_content = [text, {"type": "image", "source": source}]
    return [
        ("/api/generate", {"prompt": "x", "images": [picture]}),
        ("/api/chat", {"messages": [{"role": "user", "content": "x", "images": [picture]}]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": openai_content}]}),
        ("/v1/responses", {"input": [{"role": "user", "content": responses_content}]}),
        ("/v1/messages", {"max_tokens": 5, "messages": [{"role": "user", "content": anthropic_content}]}),
    ]


@pytest.mark.parametrize("name", PICTURES)
def test_s10_no_picture_is_looked_into(world: World, name: str) -> None:
    world.engine.requests.clear()
    before = psutil.Process().memory_info().rss
    for path, body in _requests(base64.b64encode(PICTURES[name]).decode() or "x"):
        response = world.client.post(path, json={"model": "demo", "stream": False, **body})
        assert response.status_code == 400, (path, response.text[:500])
        assert "0x" not in response.text
        assert len(response.text) < 500
    assert world.engine.requests == []
    assert psutil.Process().memory_info().rss - before < MAX_GROWTH_BYTES


def test_s10_many_pictures(world: World) -> None:
    body = {"model": "demo", "prompt": "x", "images": ["aGk="] * 100_000}
    assert world.client.post("/api/generate", json=body).status_code == 400


def test_s10_the_web_side_has_no_decoder() -> None:
    program = "import sys, hugging_llama; hugging_llama.create_app; print([m for m in sys.modules if m == 'PIL'])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert found.stdout.strip() == "[]"
