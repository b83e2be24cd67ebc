"""What an answer's headers say of its beginning."""

from hugging_llama.neutral.events import Classified, Embeddings, Progress, Queued, Started


def start_headers(*found: object) -> dict[str, str]:
    """By the first event: how many tokens of the prompt did not fit, if any did not; where the request had to wait, or
    still has to, its place in the queue, how long it would probably wait there, if anybody knew, and how long it did.

    Of several prompts, and of events with the number of their choice, the most.
    """
    events = [item[1] if isinstance(item, tuple) else item for item in found]
    begun = [event for event in events if isinstance(event, Started | Embeddings | Classified)]
    num_tokens = max((event.num_truncated_tokens for event in begun), default=0)
    headers = {"X-Truncated-Tokens": str(num_tokens)} if num_tokens else {}
    waits = [wait for wait in map(_wait, events) if wait]
    if waits:
        headers["X-Queue-Position"] = str(max(wait.position for wait in waits))
    if expected_s := max((wait.expected_s for wait in waits), default=0.0):
        headers["X-Queue-Expected-Wait"] = f"{expected_s:.1f}"
    if waited_ns := max((wait.waited_ns for wait in waits), default=0):
        headers["X-Queue-Wait"] = f"{waited_ns / 1e9:.3f}"
    return headers


def _wait(event: object) -> Queued | None:
    match event:
        case Started() | Embeddings() | Classified():
            return event.queued
        case Progress(phase="queue"):
            return Queued(position=event.position, expected_s=event.expected_s)
        case _:
            return None
