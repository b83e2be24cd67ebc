"""Pulls that go well: what arrives, how it is reported, what other tools see of it."""

import json
import math
import threading

import pytest
from huggingface_hub import snapshot_download

from hugging_llama.errors import InvalidRequestError, ModelNotFoundError, TransferError
from hugging_llama.neutral.models import Capability
from hugging_llama.store.pull_stream import pull
from hugging_llama_config.settings import Settings
from tests.hub_server import Fault, Repo, StandInHub, digest_of, is_lfs
from tests.store import models
from tests.store.conftest import IMPATIENT, QUICK, Workplace


def test_only_what_is_needed_arrives(work: Workplace) -> None:
    files = models.chat_model()
    work.hub.repos["acme/tiny"] = Repo(files)
    work.pull("acme/tiny")
    assert work.files("acme/tiny") == {path: files[path] for path in models.KEPT}
    assert work.parts() == []


def test_progress_names_every_file_and_its_bytes(work: Workplace) -> None:
    files = models.chat_model(3_000_000)
    repo = work.hub.repos["acme/tiny"] = Repo(files)
    work.hub.fault("/_cdn/", "slow", 10_000_000)
    progress = work.pull("acme/tiny")
    assert [event.status for event in progress[-3:]] == ["verifying sha256 digest", "writing manifest", "success"]
    transfers = progress[:-3]
    assert {event.status for event in transfers} == {"downloading"}
    for path in models.KEPT:
        events = [event for event in transfers if event.file == path]
        counts = [event.completed_bytes for event in events]
        assert counts == sorted(set(counts))
        assert counts[-1] == events[-1].total_bytes == len(files[path])
        assert {event.digest for event in events} == {digest_of(path, files[path])}
        assert {event.path for event in events} == {f"models--acme--tiny/snapshots/{repo.commit}/{path}"}
    overall = [event.overall_completed_bytes for event in transfers]
    assert overall == sorted(overall)
    assert len(set(overall)) > 2
    assert {event.overall_total_bytes for event in transfers} == {sum(len(files[path]) for path in models.KEPT)}
    assert overall[-1] == transfers[-1].overall_total_bytes


def test_what_is_there_is_not_fetched_again(work: Workplace) -> None:
    work.hub.repos["acme/tiny"] = Repo(models.chat_model())
    work.pull("acme/tiny")
    seen = len(work.hub.requests("/resolve/"))
    *transfers, writing, success = work.pull("acme/tiny")
    assert len(work.hub.requests("/resolve/")) == seen
    assert sorted(event.file for event in transfers) == sorted(models.KEPT)  # one object a file
    assert all(event.completed_bytes == event.total_bytes for event in transfers)
    assert all(event.overall_completed_bytes == event.overall_total_bytes for event in transfers)
    assert (writing.status, success.status) == ("writing manifest", "success")  # there was nothing to verify


def test_what_has_arrived_before_counts_from_the_start(work: Workplace) -> None:
    work.hub.repos["acme/tiny"] = Repo(models.chat_model(3_000_000))
    work.hub.fault("/_cdn/", "cut", 2_000_000)
    work.hub.fault("/_cdn/", "status", 503, times=99)
    with pytest.raises(TransferError):
        work.pull("acme/tiny")
    (part,) = work.parts()
    kept = part.stat().st_size
    assert kept > 1_500_000
    work.hub.faults = [Fault("/_cdn/", "stall", 0)]
    first = next(event for event in work.pull("acme/tiny", policy=IMPATIENT) if event.file != "model.safetensors")
    assert first.overall_completed_bytes >= kept


def test_several_files_come_at_once(work: Workplace) -> None:
    """The first waits for the second: one after the other this pull would never end."""
    work.hub.repos["acme/shards"] = Repo(models.sharded_model())
    second = threading.Event()
    real = StandInHub.take_fault

    def meet(hub: StandInHub, request: str) -> Fault | None:
        if "_cdn" in request and "00002-of" in request:
            second.set()
        if "_cdn" in request and "00001-of" in request:
            assert second.wait(60)
        return real(hub, request)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StandInHub, "take_fault", meet)
        assert work.pull("acme/shards")[-1].status == "success"


def test_every_connection_is_one_of_few(work: Workplace) -> None:
    shards = {f"t{n}": f"model-{n}.safetensors" for n in range(12)}
    index = json.dumps({"weight_map": shards}).encode()
    files = {path: data for path, data in models.sharded_model().items() if not path.startswith("model")}
    files["config.json"] = b'{"architectures": ["LlamaForCausalLM"]}'
    files["model.safetensors.index.json"] = index
    work.hub.repos["acme/shards"] = Repo(
        files | {name: models.safetensors({"w": ("F32", (n + 1,))}) for n, name in enumerate(shards.values())}
    )
    under_way: list[int] = []
    for event in work.pull("acme/shards"):
        under_way.append(sum(thread.name.startswith("download-") for thread in threading.enumerate()))
        assert event.status
    assert max(under_way) <= 4
    assert under_way[-1] == 0
    assert len(work.files("acme/shards")) == 15


def test_a_new_commit_brings_only_what_changed(work: Workplace) -> None:
    files = models.chat_model()
    work.hub.repos["acme/tiny"] = Repo(files)
    work.pull("acme/tiny")
    before = work.store.resolve("acme/tiny")
    work.hub.seen.clear()
    work.hub.repos["acme/tiny"] = Repo(files | {"config.json": files["config.json"] + b" "})
    work.pull("acme/tiny")
    assert [seen.path.rpartition("/")[2] for seen in work.hub.requests("/resolve/")] == ["config.json"]
    after = work.store.resolve("acme/tiny")
    assert after.ref.digest != before.ref.digest
    assert after.ref.path != before.ref.path


def test_shards_come_by_the_index(work: Workplace) -> None:
    files = models.sharded_model()
    work.hub.repos["acme/shards"] = Repo(files)
    work.pull("acme/shards")
    del files["model-extra.safetensors"]
    assert work.files("acme/shards") == files
    assert work.store.resolve("acme/shards").details.parameter_count == 1500


def test_sentence_transformers(work: Workplace) -> None:
    files = models.sentence_model()
    work.hub.repos["acme/sentences"] = Repo(files)
    work.pull("acme/sentences")
    assert work.files("acme/sentences") == files
    model = work.store.resolve("acme/sentences")
    assert model.capabilities == (Capability.EMBEDDING,)
    assert model.details.context_length == 256


def test_other_tools_open_the_result(work: Workplace) -> None:
    files = models.chat_model()
    work.hub.repos["acme/tiny"] = Repo(files)
    work.pull("acme/tiny")
    folder = snapshot_download("acme/tiny", cache_dir=work.cache, local_files_only=True)
    assert folder == work.store.resolve("acme/tiny").ref.path


def test_what_other_tools_fetched_is_listed_and_not_fetched_again(work: Workplace) -> None:
    work.hub.repos["acme/tiny"] = Repo(models.chat_model())
    folder = snapshot_download("acme/tiny", cache_dir=work.cache, endpoint=work.hub.endpoint, token=False)
    assert [model.ref.name for model in work.store.list()] == ["acme/tiny:latest", "hugging-llama/demo:latest"]
    digest = work.store.resolve("acme/tiny").ref.digest
    work.hub.seen.clear()
    work.pull("acme/tiny")
    assert work.hub.requests("/resolve/") == []
    model = work.store.resolve("acme/tiny")
    assert (model.ref.path, model.ref.digest) == (folder, digest)


def test_branches_tags_and_commits(work: Workplace) -> None:
    repo = work.hub.repos["acme/tiny"] = Repo(models.chat_model(), revisions=("main", "refs/pr/1", "v1.0"))
    for revision in ("refs/pr/1", "v1.0", repo.commit):
        work.pull(f"acme/tiny:{revision}")
        assert work.store.resolve(f"acme/tiny:{revision}").ref.name == f"acme/tiny:{revision}"
    assert len({model.ref.path for model in work.store.list()}) == 2
    with pytest.raises(ModelNotFoundError):
        work.store.resolve("acme/tiny")
    work.pull("acme/tiny:latest")
    assert len(work.store.list()) == 5


def test_python_files_come_only_where_allowed(work: Workplace) -> None:
    work.hub.repos["acme/tiny"] = Repo(models.chat_model())
    work.pull("acme/tiny")
    assert "modeling_custom.py" not in work.files("acme/tiny")
    work.pull("acme/tiny", allow_code=True)
    assert "modeling_custom.py" in work.files("acme/tiny")


def test_the_spelling_of_the_hub_and_of_the_cache_win(work: Workplace) -> None:
    work.hub.repos["Acme/Tiny"] = Repo(models.chat_model())
    work.pull("acme/tiny")
    assert work.store.resolve("ACME/tiny").ref.name == "Acme/Tiny:latest"
    stream = pull(work.settings, work.store, "aCME/tINY", policy=QUICK)
    assert [event.status for event in stream][-1] == "success"
    assert [path.name for path in work.cache.glob("models--*")] == ["models--Acme--Tiny"]


def test_long_lists_come_in_pages(work: Workplace) -> None:
    work.hub.page_size = 3
    work.hub.repos["acme/tiny"] = Repo(models.chat_model())
    work.pull("acme/tiny")
    assert work.files("acme/tiny").keys() == models.KEPT
    assert len(work.hub.requests("/tree/")) == math.ceil(len(models.chat_model()) / 3)


def test_the_token_stays_with_the_hub(work: Workplace) -> None:
    work.token = "hf_good"
    work.hub.repos["acme/tiny"] = Repo(models.chat_model(), access="gated")
    work.pull("acme/tiny")
    for seen in work.hub.seen:
        assert bool(seen.authorization) == seen.host.startswith("127.0.0.1")
    assert any(seen.host.startswith("localhost") for seen in work.hub.seen)


def test_revision_beside_the_name(work: Workplace) -> None:
    work.hub.repos["acme/tiny"] = Repo(models.chat_model(), revisions=("main", "v1"))
    assert list(pull(work.settings, work.store, "acme/tiny", "v1", policy=QUICK))[-1].status == "success"
    assert work.store.resolve("acme/tiny:v1")
    with pytest.raises(InvalidRequestError, match="different revisions"):
        pull(work.settings, work.store, "acme/tiny:v1", "v2")
    with pytest.raises(InvalidRequestError):
        pull(work.settings, work.store, "acme/tiny", "../x")


def test_remote_code_needs_the_operator(work: Workplace) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        pull(work.settings, work.store, "acme/tiny", trust_remote_code=True)
    assert caught.value.facts == {"param": "trust_remote_code"}
    allowed = Settings(hub_cache=str(work.cache), hub_endpoint=work.hub.endpoint, trust_remote_code=True)
    work.hub.repos["acme/tiny"] = Repo(models.chat_model())
    list(pull(allowed, work.store, "acme/tiny", trust_remote_code=True, policy=QUICK))
    assert "modeling_custom.py" in work.files("acme/tiny")


def test_the_demo_model_needs_no_hub(work: Workplace) -> None:
    for name in ("demo", "hugging-llama/demo", "Hugging-Llama/Demo:latest"):
        assert [event.status for event in pull(work.settings, work.store, name)] == ["pulling manifest", "success"]
    assert work.hub.seen == []


def test_stand_in_is_honest() -> None:
    assert is_lfs("model.safetensors")
    assert digest_of("x.json", b"hello") == "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"  # git hash-object
