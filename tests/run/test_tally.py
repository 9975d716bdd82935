from loopos.errors import Birth
from loopos.run.tally import Tally
from loopos.run.updates import Update

BIRTH = Birth(1, "forward", None, "linear", "y", (0,), float("inf"), "a test")


def test_each_update_is_counted_once():
    tally = Tally()
    for update in (
        Update(1.0, 1.0, 4, 4),
        Update(1.0, 9.0, 4, 4, clipped=True),
        Update(1.0, 1.0, 4, 4, BIRTH),
        Update(0.0, 0.0, 0, 4),
    ):
        tally.count(update)
    assert tally == Tally(attempted=4, applied=2, skipped=2, clipped=1)


def test_it_goes_through_a_checkpoint():
    tally = Tally(9, 7, 2, 3)
    assert Tally.resumed({"tally": tally.to_dict(), "policy": {}}, 9) == tally


def test_a_checkpoint_without_one_or_with_a_damaged_one():
    for saved in ({}, {"tally": None}, {"tally": {"attempted": 5}}, {"tally": {**Tally().to_dict(), "clipped": "3"}}):
        assert Tally.resumed(saved | {"policy": {"refused_in_all": 2}}, 5) == Tally(5, 3, 2, 0)
