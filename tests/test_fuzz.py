"""Every public callable has an entry in the fuzz table, its right call works, and bad input is refused by name."""

import warnings

import fuzz
import pytest


def test_every_public_callable_has_an_entry_and_no_entry_is_left_over():
    found = fuzz.public()
    assert not sorted(set(found) - set(fuzz.TABLE)), "enter these in tests/fuzz.py"
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


OTHERS = ("lowbit.",)  # measured below by themselves


def test_bad_input_is_refused_by_name(rows):
    mine = [row for row in rows if not row[0].startswith(OTHERS)]
    found = fuzz.shares(mine)
    print(found)
    worst = [row for row in mine if row[3] in ("raw", "unnamed")]
    assert found["of"] > 1200 and found["named"] >= 90 and found["raw"] <= 3, (found, worst)
