"""Stop strings: the text before the first one comes out, whatever the pieces it came in."""

from hypothesis import given
from hypothesis import strategies as st

from hugging_llama.parsing.stop_strings import StopStrings
from tests.unit.pieces import pieces_of

TEXTS = st.text(alphabet="ab\n.", max_size=40)
STOPS = st.lists(st.text(alphabet="ab\n.", max_size=4), max_size=4)


def run(stops: list[str], pieces: list[str]) -> tuple[str, bool]:
    machine = StopStrings(stops)
    output = "".join(machine.push(piece) for piece in pieces)
    return output + machine.finish(), machine.found is not None


def test_stop_string_is_not_part_of_the_output() -> None:
    assert run(["\n\n"], ["one\n", "\ntwo"]) == ("one", True)


def test_text_flows_unless_it_may_become_a_stop_string() -> None:
    machine = StopStrings(["END"])
    assert machine.push("abcE") == "abc"
    assert machine.push("N") == ""
    assert machine.push("X") == "ENX"
    assert machine.push("E") == ""
    assert machine.finish() == "E"
    assert machine.found is None


def test_nothing_comes_after_a_stop() -> None:
    machine = StopStrings(["b"])
    assert machine.push("abc") == "a"
    assert machine.push("more") == ""
    assert machine.finish() == ""


def test_empty_stop_strings_are_ignored() -> None:
    assert run([""], ["abc"]) == ("abc", False)


def test_the_stop_string_that_ends_first_wins() -> None:
    assert run(["abcd", "bc"], ["abcd"]) == ("a", True)
    assert run(["abc", "bc"], ["xabc"]) == ("x", True)


@given(TEXTS, STOPS, st.data())
def test_any_split_gives_the_same(text: str, stops: list[str], data: st.DataObject) -> None:
    whole = run(stops, [text])
    assert run(stops, data.draw(pieces_of(text))) == whole
    assert text.startswith(whole[0])
    assert whole[1] == any(stop and stop in text for stop in stops)
    assert not any(stop and stop in whole[0] for stop in stops)
