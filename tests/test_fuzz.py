"""Every public callable has an entry in the fuzz table, its right call works, and bad input is refused by name."""

import warnings

import fuzz
import pytest


def test_every_public_callable_has_an_entry_and_no_entry_is_left_over():
    found = fuzz.public()
    assert not sorted(set(found) - set(fuzz.TABLE)), "enter these in tests/chapters/fuzz_<chapter>.py"
    assert not sorted(set(fuzz.TABLE) - set(found)), "these are no longer public"


def test_every_right_call_is_right():
    wrong = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, (module, function) in fuzz.public().items():
            if callable(entry := fuzz.TABLE[name]):
                try:
                    with fuzz.limit(20):
                        fuzz.right(name, module, function, entry)
                except Exception as error:
                    wrong.append(f"{name}: {type(error).__name__}: {error}"[:200])
    assert not wrong, "\n".join(wrong)


@pytest.fixture(scope="module")
def rows():
    return fuzz.measure()


# Per cent: named at least, raw at most. Ratchets just beside what was measured (96.3 and 2.0; 96.0 and 2.3): raise them
# with what is mended, never loosen them. What is left of the low-bit chapters is inside of functions that finished arms run
# (`relative_error`, `inverse_factor`, `quantize_linear`): a check there waits for the next run of those arms.
BOUNDS = {"the low-bit chapters": (96.0, 2.1, 390), "all others": (95.5, 2.5, 1900)}


@pytest.mark.parametrize("part", BOUNDS)
def test_bad_input_is_refused_by_name(part, rows):
    named, raw, least = BOUNDS[part]
    mine = [row for row in rows if row[0].startswith("lowbit.") == (part == "the low-bit chapters")]
    found = fuzz.shares(mine)
    worst = [row for row in mine if row[3] in ("raw", "unnamed")]
    assert found["of"] > least and found["named"] >= named and found["raw"] <= raw, (found, worst)
