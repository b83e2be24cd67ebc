"""How much a grammar may cost. Imports neither torch nor transformers: a process of its own tries grammars out."""

from typing import Any

from llguidance import LLMatcher, LLParserLimits

LONGEST_COMPILATION_S = 0.5
"""Of CPU time, several times what the largest schema in use takes. A stranger's grammar could take minutes."""
MOST_MEMORY_BYTES = 64 * 2**20
"""For one compiled grammar."""
MOST_CACHED_BYTES = 128 * 2**20
"""For all that are kept."""

_MAX_ITEMS_IN_ROW = 3000
"""An object with 500 optional properties needs more than the 2,000 that llguidance allows by itself. With 20,000 a
hostile grammar's masks took seconds each, in the step's thread; with 3,000 a few hundredths of one."""
_MAX_LEXER_STATES = 100_000


def parser_limits() -> LLParserLimits:
    """At compile time and, token for token, at run time."""
    return LLParserLimits(max_items_in_row=_MAX_ITEMS_IN_ROW, max_lexer_states=_MAX_LEXER_STATES)


def compiled(vocabulary: Any, grammar: str, limits: LLParserLimits) -> tuple[Any, str]:
    """A matcher at the beginning of `grammar` and what is wrong with it, "" for nothing."""
    matcher = LLMatcher(vocabulary, grammar, log_level=0, limits=limits)
    if matcher.is_error():
        return matcher, matcher.get_error()
    # some limits are met at the first masks only
    probe = matcher.deep_copy()
    probe.compute_bitmask()
    forced = probe.compute_ff_tokens()
    probe.consume_tokens(forced[: probe.validate_tokens(forced)])
    if not probe.is_stopped():
        probe.compute_bitmask()
    return matcher, probe.get_error() if probe.is_error() else ""
