"""What of the settings of a task a trial gets."""

from loopos.compare.settings import of_trial, shared
from loopos.compare.trial import Trial

GIVEN = {"batch_size": 3, "warmup_steps": 30, "epochs": 2}


def test_a_trial_has_the_settings_of_its_task_and_its_own():
    found = of_trial(Trial("adamw", 0.01, 7, 1000), GIVEN)
    assert found == {
        "batch_size": 3,
        "optimizer": "adamw",
        "learning_rate": 0.01,
        "min_lr": 0.001,
        "max_steps": 1000,
        "epochs": None,
        "seed": 7,
        "warmup_steps": 30,
        "eval_every": 100,
        "save_every": 200,
    }
    assert shared(GIVEN) == {"batch_size": 3, "epochs": 2}


def test_the_warm_up_is_at_most_a_tenth_of_a_trial():
    assert of_trial(Trial("adamw", 0.01, 7, 5000), {})["warmup_steps"] == 100
    assert of_trial(Trial("adamw", 0.01, 7, 200), {})["warmup_steps"] == 20
    assert of_trial(Trial("adamw", 0.01, 7, 200), GIVEN)["warmup_steps"] == 20
    assert of_trial(Trial("adamw", 0.01, 7, 200), {"warmup_steps": 0})["warmup_steps"] == 0


def test_a_trial_of_a_sweep_is_only_scored_at_its_end():
    found = of_trial(Trial("adamw", 0.01, 7, 200, sweep=True), GIVEN)
    assert not {"eval_every", "save_every"} & found.keys()
