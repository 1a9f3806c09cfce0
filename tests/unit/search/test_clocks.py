"""A clock that is hours off: leases mean nothing then, so nobody works on a study."""

import datetime

import pytest

from datasets.common.errors import UserError
from search.storage.clocks import Clocks, check_clock, compare_clocks, utc_now
from search.storage.database import open_database
from search.storage.lease_policy import LeasePolicy
from tests.helpers.small_study import default_database

NOON = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)


def fast_by(seconds):
    return lambda: utc_now() + datetime.timedelta(seconds=seconds)


def test_a_difference_is_what_the_time_of_the_answer_cannot_explain():
    later = NOON + datetime.timedelta(seconds=8)
    assert Clocks(here=NOON, there=later, round_trip_s=0).difference_s == 8
    assert Clocks(here=later, there=NOON, round_trip_s=2).difference_s == 7
    assert Clocks(here=NOON, there=later, round_trip_s=30).difference_s == 0


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata"])
def test_a_machine_is_compared_with_the_server_whatever_their_time_zones(postgres_url, zone, monkeypatch):
    monkeypatch.setenv("PGTZ", zone)
    database = open_database(postgres_url, create=True)
    check_clock(database)
    check_clock(database, fast_by(LeasePolicy().max_clock_difference_s - 3))
    for seconds in (-7200, 7200, LeasePolicy().max_clock_difference_s + 3):
        with pytest.raises(UserError) as refusal:
            check_clock(database, fast_by(seconds))
    said = str(refusal.value)
    assert f"leases of {LeasePolicy().lease_s} s" in said
    assert said.count("UTC") == 2
    assert "timedatectl" in said
    assert "planted-s3cret" not in said
    assert "\n" not in said


def test_the_clock_of_a_file_is_this_machines(tmp_path):
    database = open_database(default_database(tmp_path), create=True)
    assert compare_clocks(database.storage.engine, fast_by(7200)) is None
    check_clock(database, fast_by(7200))


@pytest.fixture
def slow_server(postgres):
    """A database whose server says that it is two hours ago."""
    name = postgres.create_database()
    with postgres.connect(name) as connection:
        connection.execute(
            "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS "
            "$$ SELECT pg_catalog.clock_timestamp() - interval '2 hours' $$"
        )
        connection.execute(f"ALTER DATABASE {name} SET search_path = public, pg_catalog")
    return postgres.url(name)


@pytest.mark.system
def test_a_search_and_the_doctor_say_so(slow_server, program, command, tmp_path, monkeypatch):
    words = (
        "--task",
        "synthetic_two_vs_rest",
        "--model",
        "ridge",
        "--n-trials",
        "1",
        "--export-dir",
        "exported",
        "validation=holdout",
    )
    said = program(*words, cwd=tmp_path, env={"FLIPSEARCH_STORAGE": slow_server}).refusal()
    assert "The clocks differ too much for leases of 20 s: this machine's clock says" in said
    assert not list((tmp_path / "exported").iterdir())

    monkeypatch.setenv("FLIPSEARCH_STORAGE", slow_server)
    answer = command("doctor")
    assert answer.status == 1
    (line,) = [line for line in answer.out.splitlines() if line.startswith("problem")]
    assert line.startswith("problem  clocks: this machine's clock says")
    assert "timedatectl" in line
