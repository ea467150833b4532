"""What a run is, in texts."""

from liverattn.provenance import environment_of, environment_since, flat_parameters, versions


def test_parameters_are_flat_and_short() -> None:
    flat = flat_parameters({"a": {"b": 1, "c": {"d": [1, 2]}}, "e": None, "f": "x" * 9000, "g": {}})
    assert flat == {"a.b": "1", "a.c.d": "[1, 2]", "e": "None", "f": "x" * 500, "g": "{}"}


def test_versions_name_what_results_depend_on() -> None:
    found = versions()
    assert found["torch"][0].isdigit()
    assert len(found["git_commit"]) > 6


def test_environment_of_a_run_that_goes_on() -> None:
    first, second = {"torch": "1", "numpy": "5"}, {"torch": "2", "numpy": "5"}
    begun = environment_since({"state": "running"}, first)
    assert begun == first == environment_since({"data": "f00d", "environment": begun}, first)
    later = environment_since({"data": "f00d", "environment": begun}, second)
    assert later == {"torch": "1 then 2", "numpy": "5"}
    assert environment_since({"data": "f00d", "environment": later}, second) == later
    older = environment_since({"data": "f00d"}, first)  # begun by a program that recorded none
    assert older == {"torch": "not recorded then 1", "numpy": "not recorded then 5"}


def test_environment_of_several_runs() -> None:
    one, other = {"torch": "1", "numpy": "5"}, {"torch": "2", "numpy": "5"}
    assert environment_of([one, one]) == one
    assert environment_of([other, one, one]) == {"torch": "1 (2 of 3 fold runs), 2 (1 of 3 fold runs)", "numpy": "5"}
    assert environment_of([{}, one])["numpy"] == "not recorded (1 of 2 fold runs), 5 (1 of 2 fold runs)"
    assert environment_of([{}, {}]) == {}
