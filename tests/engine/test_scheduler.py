"""What is computed when: decode first, prompts in chunks, admission by what the KV cache can hold."""

import random

import pytest
import torch

from hugging_llama.engine.batch import Batch
from hugging_llama.engine.kv_cache import KVCache, KVSlot, LayerShape, capacity_from_memory, slot_capacity
from hugging_llama.engine.prefix_cache import PrefixCache
from hugging_llama.engine.scheduler import Scheduler
from hugging_llama.engine.sequence import Sequence
from hugging_llama.engine.step_budget import StepBudget
from hugging_llama.errors import EngineBusyError, InsufficientMemoryError
from hugging_llama.neutral.events import FinishReason
from hugging_llama.neutral.requests import SamplingParams
from tests.engine.harness import Inbox, make_loop, make_sequence, run_until
from tests.engine.tiny_models import make_model

LAYERS = {0: LayerShape(1, 2, 3), 1: LayerShape(2, 2, 2)}
BYTES_PER_TOKEN = (1 * 5 + 2 * 4) * 4


def make_cache(capacity_tokens: int = 1 << 14) -> KVCache:
    return KVCache(LAYERS, dtype=torch.float32, device=torch.device("cpu"), capacity_tokens=capacity_tokens)


def make_scheduler(
    cache: KVCache | None = None,
    *,
    max_num_seqs: int = 4,
    budget: int = 16,
    max_queue: int = 100,
    max_prefixes: int = 0,
) -> Scheduler:
    cache = cache or make_cache()
    return Scheduler(
        cache,
        PrefixCache(cache, max_entries=max_prefixes),
        StepBudget(fixed=budget, lowest=1, highest=1024, target_s=1.0),
        max_num_seqs=max_num_seqs,
        max_queue=max_queue,
    )


def make(number: int, num_prompt_tokens: int, max_tokens: int | None = 10, context_length: int = 4096) -> Sequence:
    sampling = SamplingParams(temperature=0.0, max_tokens=max_tokens)
    return make_sequence(number, [1] * num_prompt_tokens, sampling, context_length=context_length)


def allocate(cache: KVCache, num_tokens: int) -> KVSlot:
    slot = cache.allocate(num_tokens)
    assert slot is not None
    return slot


def schedule(scheduler: Scheduler) -> Batch:
    batch, failed = scheduler.schedule()
    assert not failed
    return batch


def run(scheduler: Scheduler) -> list[tuple[int, int]]:
    """One step as if it had been computed: (sequence number, tokens) of each row."""
    batch = schedule(scheduler)
    for row in batch.rows:
        is_sampled = row.is_sampled
        row.sequence.num_computed_tokens += row.num_new_tokens
        if is_sampled:
            row.sequence.append_token(2, 1)
    return [(row.sequence.key[1], row.num_new_tokens) for row in batch.rows]


def test_a_long_prompt_is_cut_and_decode_goes_first() -> None:
    scheduler = make_scheduler()
    scheduler.add(make(1, 3))
    assert run(scheduler) == [(1, 3)]
    scheduler.add(make(2, 40))
    scheduler.add(make(3, 5))
    # a quarter of the chunk is for who comes next, so that a short prompt does not wait for all of a long one
    assert run(scheduler) == [(1, 1), (2, 11), (3, 4)]
    assert run(scheduler) == [(1, 1), (3, 1), (2, 10)]
    assert run(scheduler) == [(1, 1), (3, 1), (2, 10)]
    assert run(scheduler) == [(1, 1), (3, 1), (2, 9)]
    assert run(scheduler) == [(1, 1), (2, 1), (3, 1)]


def test_only_the_last_chunk_of_a_prompt_samples() -> None:
    scheduler = make_scheduler()
    scheduler.add(make(1, 20))
    assert [row.is_sampled for row in schedule(scheduler).rows] == [False]
    run(scheduler)
    assert [row.is_sampled for row in schedule(scheduler).rows] == [True]


def test_decode_rows_need_no_budget_and_leave_a_token_for_prompts() -> None:
    scheduler = make_scheduler(max_num_seqs=9, budget=4)
    for i in range(8):
        scheduler.add(make(i, 1))
    while scheduler.waiting:
        run(scheduler)
    assert len(run(scheduler)) == 8
    scheduler.add(make(9, 2))
    assert run(scheduler)[-1] == (9, 1)


def test_at_most_max_num_seqs_run() -> None:
    scheduler = make_scheduler(max_num_seqs=2)
    sequences = [make(i, 2) for i in range(3)]
    for sequence in sequences:
        scheduler.add(sequence)
    assert [number for number, _ in run(scheduler)] == [0, 1]
    scheduler.remove(sequences[0])
    assert [number for number, _ in run(scheduler)] == [1, 2]


def test_a_sequence_waits_until_its_prompt_fits() -> None:
    cache = make_cache(1024)
    scheduler = make_scheduler(cache, budget=1000)
    big, small, large = make(1, 400), make(2, 10), make(3, 500)
    for sequence in (big, small, large):
        scheduler.add(sequence)
    run(scheduler)
    assert scheduler.running == [big, small]
    assert cache.used_tokens == 512 + 256
    scheduler.remove(small)
    run(scheduler)
    assert scheduler.running == [big, large]
    scheduler.remove(big)
    scheduler.remove(large)
    assert cache.used_tokens == 0


def test_a_large_request_is_not_overtaken_for_ever() -> None:
    cache = make_cache(1024)
    scheduler = make_scheduler(cache, budget=1000)
    for sequence in (make(1, 400), make(2, 600), make(3, 10)):
        scheduler.add(sequence)
    run(scheduler)
    assert [sequence.key[1] for sequence in scheduler.running] == [1]
    assert [sequence.key[1] for sequence in scheduler.waiting] == [2, 3]


def test_the_newest_makes_room_for_the_oldest_and_comes_back() -> None:
    cache = make_cache(1024)
    scheduler = make_scheduler(cache, budget=1000)
    old, new = make(1, 508, max_tokens=30), make(2, 250, max_tokens=30)
    scheduler.add(old)
    run(scheduler)
    scheduler.add(new)
    while not scheduler.num_preempted:
        run(scheduler)
    assert (scheduler.running, list(scheduler.waiting)) == ([old], [new])
    assert (new.kv_slot, new.num_computed_tokens, cache.used_tokens) == (None, 0, 1024)
    tokens = list(new.token_ids)
    scheduler.remove(old)
    assert run(scheduler) == [(2, len(tokens))]
    assert new.token_ids[: len(tokens)] == tokens


def test_retained_prefixes_leave_before_anybody_is_preempted() -> None:
    cache = make_cache(1024)
    scheduler = make_scheduler(cache, budget=1000, max_prefixes=4)
    ended = make(1, 250)
    scheduler.add(ended)
    run(scheduler)
    scheduler.retain(ended)
    scheduler.remove(ended)
    assert (cache.used_tokens, scheduler.prefixes.num_tokens) == (250, 250)
    late = make_sequence(2, [3] * 600, SamplingParams(max_tokens=10), context_length=4096)
    scheduler.add(late)
    run(scheduler)
    assert scheduler.running == [late]
    assert (cache.used_tokens, scheduler.prefixes.num_tokens, scheduler.num_preempted) == (1024, 0, 0)


def test_the_queue_is_bounded() -> None:
    scheduler = make_scheduler(max_num_seqs=1, max_queue=2)
    for i in range(3):
        scheduler.add(make(i, 1))
    with pytest.raises(EngineBusyError) as caught:
        scheduler.add(make(4, 1))
    assert caught.value.facts["queue_depth"] == 3
    assert caught.value.facts["retry_after_s"] > 0
    run(scheduler)
    with pytest.raises(EngineBusyError):
        scheduler.add(make(5, 1))


def test_without_memory_only_the_new_sequence_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = make_cache()
    scheduler = make_scheduler(cache, budget=1000)
    early = make(1, 10)
    scheduler.add(early)
    run(scheduler)

    def no_memory(*_: object, **__: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "zeros", no_memory)
        late = make(2, 300)
        scheduler.add(late)
        assert run(scheduler) == [(1, 1)]
        assert cache.used_tokens == 256
        scheduler.remove(early)
        # nobody is left who could give memory back
        batch, failed = scheduler.schedule()
        assert not batch.rows
        assert [(sequence, type(error)) for sequence, error in failed] == [(late, InsufficientMemoryError)]
    assert run(scheduler) == [(2, 300)]


def test_a_slot_grows_and_keeps_what_it_holds() -> None:
    cache = make_cache()
    others = [allocate(cache, 1) for _ in range(3)]
    slot = allocate(cache, 200)
    for layer, shape in LAYERS.items():
        slot.slab.keys[layer][slot.row] = torch.arange(shape.key_head_dim).float() + layer + 1
        slot.slab.values[layer][slot.row] = torch.arange(shape.value_head_dim).float() - layer - 1
    assert cache.ensure(slot, 1500)
    assert slot.slab.capacity == 2048
    for layer, shape in LAYERS.items():
        assert (slot.slab.keys[layer][slot.row, :, :256] == torch.arange(shape.key_head_dim) + layer + 1).all()
        assert (slot.slab.values[layer][slot.row, :, :256] == torch.arange(shape.value_head_dim) - layer - 1).all()
    assert allocate(cache, 1).row == 3, "the row it left is free again"
    assert {other.row for other in others} == {0, 1, 2}


def test_empty_slots_stay_within_the_budget() -> None:
    cache = make_cache(12_000)
    slots = [allocate(cache, n) for n in (200, 500, 1000, 2000, 4000)]
    assert cache.used_tokens == 7936
    assert cache.used_tokens <= cache.allocated_tokens <= cache.capacity_tokens + cache.used_tokens
    for slot in slots:
        cache.free(slot)
    assert (cache.used_tokens, cache.allocated_tokens) == (0, 16 * 256)


def test_a_wiped_slot_is_clean() -> None:
    cache = make_cache()
    slot = allocate(cache, 1)
    for buffer in (*slot.slab.keys.values(), *slot.slab.values.values()):
        buffer[slot.row].fill_(torch.nan)
    cache.free(slot, wipe=True)
    again = allocate(cache, 1)
    assert (again.slab, again.row) == (slot.slab, slot.row)
    assert all((buffer == 0).all() for buffer in (*again.slab.keys.values(), *again.slab.values.values()))


def test_what_a_cancelled_prompt_leaves_behind_poisons_nobody() -> None:
    inbox = Inbox()
    loop = make_loop(make_model("llama"), inbox)
    cancelled, *later = (make(i, n) for i, n in enumerate((40, 3, 30)))
    loop.submit(cancelled)
    loop.run_once()
    assert cancelled.kv_slot is not None
    for buffer in cancelled.kv_slot.slab.values.values():
        buffer[cancelled.kv_slot.row] = torch.nan
    loop.cancel(cancelled.key)
    for sequence in later:
        loop.submit(sequence)
    run_until(loop, inbox, 3)
    assert [sequence.finish_reason for sequence in later] == [FinishReason.LENGTH] * 2
    loop.close()


def test_slots_never_overlap() -> None:
    cache, rng = make_cache(1 << 20), random.Random(3)
    live: list[KVSlot] = []
    for _ in range(400):
        if live and rng.random() < 0.45:
            cache.free(live.pop(rng.randrange(len(live))))
        elif live and rng.random() < 0.4:
            assert cache.ensure(rng.choice(live), rng.randint(1, 3000))
        else:
            live.append(allocate(cache, rng.randint(1, 2000)))
        places = [(slot.slab.serial, slot.row) for slot in live]
        assert len(set(places)) == len(places)
        assert cache.used_tokens == sum(slot.capacity for slot in live)


def test_rows_are_in_the_order_of_their_slots() -> None:
    scheduler = make_scheduler(max_num_seqs=6, budget=4000)
    sequences = [make(i, n) for i, n in enumerate([300, 3, 900, 5, 1, 300])]
    for sequence in sequences:
        scheduler.add(sequence)
    run(scheduler)
    slots = [row.sequence.kv_slot for row in schedule(scheduler).rows]
    places = [(slot.slab.serial, slot.row) for slot in slots if slot is not None]
    assert len(places) == 6
    assert places == sorted(places)


@pytest.mark.parametrize(("tokens", "capacity"), [(0, 256), (1, 256), (256, 256), (257, 512), (512, 512), (5000, 8192)])
def test_slot_capacities(tokens: int, capacity: int) -> None:
    assert slot_capacity(tokens) == capacity


def test_the_budget_gives_the_capacity() -> None:
    device = torch.device("cpu")
    assert capacity_from_memory(LAYERS, dtype=torch.float32, device=device, budget_bytes=1000 * BYTES_PER_TOKEN) == 1000
    assert capacity_from_memory(LAYERS, dtype=torch.float32, device=device) > 1000
    assert capacity_from_memory(LAYERS, dtype=torch.float32, device=device, most_tokens=900) == 900
    with pytest.raises(InsufficientMemoryError) as caught:
        capacity_from_memory(LAYERS, dtype=torch.float32, device=device, budget_bytes=100)
    assert caught.value.facts == {"need_bytes": 256 * BYTES_PER_TOKEN, "free_bytes": 100}
