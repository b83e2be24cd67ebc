"""Model names: what is understood, and that nothing dangerous ever gets through."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hugging_llama.errors import CloudModelError, InvalidRequestError
from hugging_llama.store import layout
from hugging_llama.store.names import ModelName, parse_name, parse_path, parse_revision

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PART = st.from_regex(r"[A-Za-z0-9_]{1,10}([.-][A-Za-z0-9_]{1,10})?", fullmatch=True).filter(
    lambda part: part.lower() != "localhost"
)
REVISION = st.from_regex(r"[A-Za-z0-9_]{1,12}(/[a-z0-9][a-z0-9.-]{0,9})?", fullmatch=True).filter(
    lambda text: ".." not in text
)


@pytest.mark.parametrize(
    ("text", "repo", "revision", "display"),
    [
        ("org/name", "org/name", "main", "org/name:latest"),
        ("org/name:latest", "org/name", "main", "org/name:latest"),
        ("org/name:LATEST", "org/name", "main", "org/name:latest"),
        ("org/name:main", "org/name", "main", "org/name:latest"),
        ("org/name:v1.0", "org/name", "v1.0", "org/name:v1.0"),
        ("org/name:refs/pr/1", "org/name", "refs/pr/1", "org/name:refs/pr/1"),
        (f"org/name:{COMMIT.upper()}", "org/name", COMMIT, f"org/name:{COMMIT}"),
        ("gpt2", "gpt2", "main", "gpt2:latest"),
        ("gpt2:dev", "gpt2", "dev", "gpt2:dev"),
        ("hf.co/Org/Name", "Org/Name", "main", "Org/Name:latest"),
        ("HuggingFace.co/org/name:dev", "org/name", "dev", "org/name:dev"),
        ("https://huggingface.co/org/name", "org/name", "main", "org/name:latest"),
        ("Qwen/Qwen2.5-0.5B-Instruct", "Qwen/Qwen2.5-0.5B-Instruct", "main", "Qwen/Qwen2.5-0.5B-Instruct:latest"),
        ("_a/b_", "_a/b_", "main", "_a/b_:latest"),
        ("org/name:local", "org/name", "main", "org/name:latest"),
        ("hf.co/org/name:dev:LOCAL", "org/name", "dev", "org/name:dev"),
        ("org/cloud:cloudy", "org/cloud", "cloudy", "org/cloud:cloudy"),
    ],
)
def test_understood(text: str, repo: str, revision: str, display: str) -> None:
    name = parse_name(text)
    assert (name.repo, name.revision, name.display) == (repo, revision, display)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "/", ":", "a/", "/a", "a//b", "a/b/c", "..", "../x", "x/..", "a/../b", "org/na..me", "./a",
        "/etc/passwd", "C:\\x", "a\\b", "a b/c", "a/b c", "a/b\n", "\na/b", "a/b\0", "a\0/b", "a/b:", "a/b:..",
        "a/b:../x", "a/b:/x", "a/b:x/", "a/b:x//y", "a/b:-x", "a/b:x y", "a/b:x:y", "-a/b", "a/-b", "a./b", "a/b.",
        "a--b/c", "a/b--c", "é/b", "a/ｂ", "a/b:é", "a/b%2e", "a" * 97, "a/" + "b" * 97, "a/b:" + "c" * 97,
        "localhost/x", "LOCALHOST/x", "localhost:22/x", "169.254.169.254/x", "127.0.0.1:80/x", "evil.com:80/x",
        "http://evil.com/a/b", "https://hf.co.evil.com/a/b", "file:///etc/passwd", "hf.co/", "hf.co/a/b/c",
        "registry.ollama.ai/library/llama3", "hf.co/hf.co/a/b", "a/b:.lock",
        ":local", "a/b:cloud:local", "a/b:local:x-cloud", "../x:cloud", "a/b:x:cloud",
    ],
)  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_name(text)
    assert caught.value.facts["param"] == "model"


@pytest.mark.parametrize("text", ["gpt-oss:cloud", "a/b:120B-Cloud", "hf.co/a/b:CLOUD"])
def test_names_of_somebodys_cloud(text: str) -> None:
    with pytest.raises(CloudModelError) as caught:
        parse_name(text)
    assert caught.value.facts["name"] == text


@pytest.mark.parametrize("text", ["/a", "/srv/models/a b", "/srv/models/Qwen2.5-é", "/a/b:latest"])
def test_paths(text: str) -> None:
    assert parse_path(text) == text.removesuffix(":latest")


@pytest.mark.parametrize(
    "text",
    ["", "a", "a/b", "/", "//a", "/a/", "/a//b", "/a/../b", "/a/.", "/..", "/a\0", "/a\n", "/a:b", "/" + "a" * 1000,
     "/a\ud800", "/a/b:latest:latest"],
)  # fmt: skip
def test_what_is_no_path(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        parse_path(text)


@given(PART, PART, REVISION, st.sampled_from(["", "hf.co/", "https://huggingface.co/", "HF.CO/"]))
def test_every_ordinary_name_is_read_back(org: str, name: str, revision: str, prefix: str) -> None:
    parsed = parse_name(f"{prefix}{org}/{name}:{revision}")
    assert parsed.repo == f"{org}/{name}"
    assert parse_name(parsed.display) == parsed
    assert parse_name(parsed.repo) == ModelName(parsed.repo)


@given(st.text() | st.text(alphabet="ab./\\:-_ \0\n~%", max_size=12))
def test_what_is_accepted_stays_inside_the_cache(text: str) -> None:
    try:
        name = parse_name(text)
    except InvalidRequestError:
        return
    folder = layout.RepoFolder("/cache", name.repo)
    assert folder.path.startswith("/cache/models--")
    assert folder.path.count("/") == 2
    assert folder.ref(name.revision).startswith(folder.refs + "/")
    for path in (folder.path, folder.ref(name.revision)):
        assert not {"..", ".", ""} & set(path.split("/")[1:])
        assert path.isascii()
        assert path.isprintable()
    assert layout.repo_of_folder(folder.name) == name.repo


@pytest.mark.parametrize("text", ["", "..", "a/../b", "/a", "a/", "a b", "a\n", "a" * 97, "x" * 300])
def test_bad_revisions(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        parse_revision(text)


@given(st.text() | st.text(alphabet="0123456789abcdefABCDEF./\\%٠", min_size=38, max_size=66))
def test_no_part_leaves_its_folder(text: str) -> None:
    folder = layout.RepoFolder("/cache", "a/b")
    for make in (folder.blob, folder.part, folder.lock, folder.snapshot, folder.ref):
        try:
            path = make(text)
        except ValueError:
            continue
        assert path.startswith(("/cache/models--a--b/", "/cache/.locks/models--a--b/"))
        assert not {"..", ".", ""} & set(path.split("/")[1:])


@given(st.text() | st.text(alphabet="a./\\ -~%\0", max_size=12))
def test_no_file_leaves_its_snapshot(text: str) -> None:
    folder = layout.RepoFolder("/cache", "a/b")
    if layout.is_safe_file(text):
        path = folder.pointer(COMMIT, text)
        assert path.startswith(folder.snapshot(COMMIT) + "/")
        assert not {"..", ".", ""} & set(path.split("/")[1:])
    else:
        with pytest.raises(ValueError, match="not a part"):
            folder.pointer(COMMIT, text)
