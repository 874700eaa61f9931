"""Does the environment mean what docs/settings.md says, and is every mistake in it told?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from common.settings import (
    TABLE,
    UNHEEDED,
    Settings,
    SettingsError,
    effective_environment,
    load_settings,
    parse_bytes,
    parse_duration,
    unheeded_names,
    unknown_names,
)
from tests.running import settings_page

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_page_has_the_table() -> None:
    assert settings_page.PAGE.read_text() == settings_page.page(), (
        "run: python -m tests.running.settings_page"
    )


def test_an_empty_environment_gives_the_defaults() -> None:
    settings = load_settings({})
    assert (settings.bind, settings.port) == ("", 2470)
    assert settings.data_dir == Path("data").absolute()
    assert settings.plc_url == "https://plc.directory"
    assert settings.hosts == ()
    assert settings.replay_window_s == 72 * 3600
    assert settings.replay_bytes is None
    assert settings.admin_passwords == ()
    assert settings.database_url is None
    assert (settings.ingest_processes, settings.broadcast_processes) == (2, 1)


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        pytest.param("STANDPIPE_BIND", "127.0.0.1:80", "bind", "127.0.0.1", id="an address"),
        pytest.param("STANDPIPE_BIND", "[::1]:80", "bind", "::1", id="an IPv6 address"),
        pytest.param("STANDPIPE_BIND", ":80", "port", 80, id="a port alone"),
        pytest.param("STANDPIPE_HOSTS", " a.example, http://localhost:2583 ", "hosts",
                     ("a.example", "http://localhost:2583"), id="hosts with blanks"),
        pytest.param("STANDPIPE_RELAY_HOST", "", "relay_host", "", id="no relay to ask"),
        pytest.param("STANDPIPE_RELAY_HOST", "relay.example", "relay_host",
                     "https://relay.example", id="a relay by name"),
        pytest.param("STANDPIPE_PLC_HOST", "http://localhost:2582/", "plc_url",
                     "http://localhost:2582", id="a directory on loopback"),
        pytest.param("STANDPIPE_REPLAY_WINDOW", "1h30m", "replay_window_s", 5400.0,
                     id="a compound duration"),
        pytest.param("STANDPIPE_CONSUMER_STALL", "", "consumer_stall_s", 60.0, id="a minute of patience"),
        pytest.param("STANDPIPE_CONSUMER_STALL", "5m", "consumer_stall_s", 300.0, id="more patience"),
        pytest.param("STANDPIPE_REPLAY_BYTES", "1.5GiB", "replay_bytes", 3 * 2**29,
                     id="a size in powers of two"),
        pytest.param("STANDPIPE_LOG_RESERVE", "10G", "log_reserve_bytes", 10**10, id="a reserve"),
        pytest.param("STANDPIPE_LOG_RESERVE", "0", "log_reserve_bytes", 0, id="no reserve"),
        pytest.param("STANDPIPE_TRUSTED_DOMAINS", "*.a.example,b.example", "trusted_domains",
                     ("*.a.example", "b.example"), id="trusted names"),
        pytest.param("STANDPIPE_LOG_LEVEL", "WARNING", "log_level", "warn", id="a log level"),
        pytest.param("STANDPIPE_METRICS_PORT", "0", "metrics_port", 0, id="any metrics port"),
        pytest.param("STANDPIPE_TRUSTED_PROXIES", "127.0.0.1,10.0.0.0/8", "trusted_proxies",
                     ("127.0.0.1", "10.0.0.0/8"), id="proxies"),
        pytest.param("STANDPIPE_EVENT_LOOP", "asyncio", "event_loop", "asyncio", id="a loop"),
    ],
)  # fmt: skip
def test_a_setting_is_read_as(name: str, text: str, field: str, value: object) -> None:
    assert getattr(load_settings({name: text}), field) == value


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("RELAY_API_BIND", ":80", "port", 80),
        ("RELAY_API_LISTEN", ":80", "port", 80),
        ("RELAY_PLC_HOST", "http://localhost:1", "plc_url", "http://localhost:1"),
        ("ATP_PLC_HOST", "http://localhost:1", "plc_url", "http://localhost:1"),
        ("RELAY_ADMIN_PASSWORD", "secret,older", "admin_passwords", ("secret", "older")),
        ("RELAY_ADMIN_KEY", "secret,older", "admin_passwords", ("secret", "older")),
        ("RELAY_DISABLE_REQUEST_CRAWL", "true", "request_crawl", False),
        ("RELAY_DISABLE_REQUEST_CRAWL", "false", "request_crawl", True),
        ("RELAY_NEW_HOSTS_PER_DAY_LIMIT", "7", "new_hosts_per_day", 7),
        (
            "RELAY_SIBLING_RELAYS",
            "a.example,http://b.example:1",
            "sibling_relays",
            ("https://a.example", "http://b.example:1"),
        ),
        ("RELAY_ACCOUNT_LIMIT_ALERT_THRESHOLD", "0.9", "account_limit_alert", 0.9),
        ("RELAY_ACCOUNT_LIMIT_ALERT_INTERVAL", "1m", "account_limit_alert_interval_s", 60.0),
        (
            "RELAY_ACCOUNT_LIMIT_ALERT_REPEAT_INTERVAL",
            "12h",
            "account_limit_alert_repeat_s",
            43200.0,
        ),
        ("RELAY_INITIAL_SEQ_NUMBER", "20000000000", "initial_seq", 20_000_000_000),
        ("RELAY_REPLAY_WINDOW", "24h", "replay_window_s", 86400.0),
        ("RELAY_EVENT_PLAYBACK_TTL", "24h", "replay_window_s", 86400.0),
        ("RELAY_DEFAULT_ACCOUNT_LIMIT", "7", "default_account_limit", 7),
        ("RELAY_DEFAULT_REPO_LIMIT", "7", "default_account_limit", 7),
        ("RELAY_ALLOW_INSECURE_HOSTS", "true", "allow_insecure_hosts", True),
        ("RELAY_TRUSTED_DOMAINS", "*.x.example", "trusted_domains", ("*.x.example",)),
        ("RELAY_LOG_LEVEL", "debug", "log_level", "debug"),
        ("GO_LOG_LEVEL", "error", "log_level", "error"),
        ("LOG_LEVEL", "WARN", "log_level", "warn"),
        ("RELAY_PERSIST_DIR", "/srv/relay", "data_dir", Path("/srv/relay")),
        ("RELAY_METRICS_LISTEN", ":9100", "metrics_port", 9100),
        ("RELAY_METRICS_LISTEN", ":9100", "metrics_host", "0.0.0.0"),
        ("RELAY_METRICS_LISTEN", "127.0.0.2:9100", "metrics_host", "127.0.0.2"),
        ("RELAY_HOST", "relay.example", "relay_host", "https://relay.example"),
        ("DATABASE_URL", "postgres://u:p@h/d", "database_url", "postgres://u:p@h/d"),
    ],
)
def test_the_reference_relays_name_is_an_alias(
    name: str, text: str, field: str, value: object
) -> None:
    assert getattr(load_settings({name: text}), field) == value


def test_our_own_name_wins_over_an_alias() -> None:
    settings = load_settings({"RELAY_API_BIND": ":1", "STANDPIPE_BIND": ":2"})
    assert settings.port == 2


def test_every_wrong_setting_is_told_at_once_by_the_name_it_was_given_under() -> None:
    wrong = {
        "STANDPIPE_BIND": "2470",
        "RELAY_PLC_HOST": "plc.directory",
        "STANDPIPE_HOSTS": "a.example/path",
        "STANDPIPE_ALLOW_INSECURE_HOSTS": "perhaps",
        "STANDPIPE_INGEST_PROCESSES": "0",
        "STANDPIPE_REPLAY_WINDOW": "72",
        "STANDPIPE_REPLAY_BYTES": "much",
        "STANDPIPE_TRUSTED_DOMAINS": "a.*.example",
        "STANDPIPE_LOG_LEVEL": "loud",
        "DATABASE_URL": "sqlite://data/relay.sqlite",
        "STANDPIPE_EVENT_LOOP": "trio",
        "STANDPIPE_METRICS_PORT": "65500",
        "STANDPIPE_DEFAULT_ACCOUNT_LIMIT": "-1",
        "STANDPIPE_CONSUMER_STALL": "0s",
    }
    with pytest.raises(SettingsError) as caught:
        load_settings(wrong)
    told = {re.split(r"[= ]", problem)[0] for problem in caught.value.problems}
    assert told == set(wrong)


def test_a_secret_is_never_repeated() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({"DATABASE_URL": "mysql://me:hunter2@host/db"})
    assert "hunter2" not in str(caught.value)


def test_a_typing_error_in_a_name_is_found() -> None:
    assert unknown_names({"STANDPIPE_BINDS": "x", "STANDPIPE_BIND": ":1", "PATH": "/"}) == [
        "STANDPIPE_BINDS"
    ]


@pytest.mark.parametrize("text", ["", "h", "5", "-5h", "5h ", "5y", "1h-1m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["0", "-1G", "G", "1X", "1 G x"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="500G"):
        parse_bytes(text)


def test_the_effective_environment_means_the_same_in_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {
        "RELAY_API_BIND": "127.0.0.1:99",
        "STANDPIPE_DATA_DIR": "here",
        "STANDPIPE_POSTGRES_DIR": "there",
        "STANDPIPE_CURVE_DIR": "keys",
        "RELAY_METRICS_LISTEN": "127.0.0.2:9100",
        "STANDPIPE_RELAY_HOST": "",
        "LOG_LEVEL": "warning",
    }
    before = load_settings(given)
    effective = effective_environment(given)
    monkeypatch.chdir(tmp_path)
    assert load_settings(effective) == before
    assert load_settings({**given, **effective}) == before


def test_every_field_has_a_row_and_every_row_a_sentence() -> None:
    fields = set(Settings.__slots__) - {"port"}
    assert {row.field for row in TABLE} == fields
    assert all(row.sentence.endswith(".") for row in TABLE)


def test_metrics_ports_of_different_processes_differ() -> None:
    settings = load_settings(
        {"STANDPIPE_INGEST_PROCESSES": "64", "STANDPIPE_BROADCAST_PROCESSES": "32"}
    )
    ports = [settings.metrics_port_of("persist", 0)]
    ports += [settings.metrics_port_of("broadcast", n) for n in range(32)]
    ports += [settings.metrics_port_of("ingest", n) for n in range(64)]
    assert len(set(ports)) == len(ports)
    assert not set(ports) & {settings.private_port_of(n) for n in range(32)}
    assert settings.port not in ports


def test_a_setting_of_the_reference_relay_that_is_not_heeded_is_told_with_what_is_so_instead() -> (
    None
):
    given = {
        "RELAY_LENIENT_SYNC_VALIDATION": "true",
        "RELAY_API_BIND": ":1",
        "RELAY_DID_CACHE_SIZE": "",
    }
    (told,) = unheeded_names(given).items()
    assert told[0] == "RELAY_LENIENT_SYNC_VALIDATION"
    assert "observe" in told[1]


def test_the_page_for_who_comes_from_there_has_every_setting_that_is_not_heeded() -> None:
    page = (ROOT / "docs" / "coming-from-the-reference-relay.md").read_text()
    assert [name for name in UNHEEDED if f"`{name}`" not in page] == []


def test_no_setting_is_both_heeded_and_not() -> None:
    heeded = {name for row in TABLE for name in (row.name, *row.aliases)}
    assert heeded & set(UNHEEDED) == set()


@pytest.mark.parametrize("text", ["0", "1.1", "-0.5", "1e-1", "80%", "nan", ".", "0.001"])
def test_an_alerts_share_is_a_number_up_to_one(text: str) -> None:
    with pytest.raises(SettingsError):
        load_settings({"STANDPIPE_ACCOUNT_LIMIT_ALERT_THRESHOLD": text})


KEYS = {"STANDPIPE_CURVE_DIR": "keys"}
HERE = {"STANDPIPE_BATCHES_BIND": "tcp://10.0.0.1:2700"}
THERE = {"STANDPIPE_BATCHES_CONNECT": "tcp://10.0.0.1:2700"}
DATABASE = {"DATABASE_URL": "postgresql://u@h/d"}


@pytest.mark.parametrize(
    ("given", "names"),
    [
        pytest.param(HERE, ["STANDPIPE_BATCHES_BIND", "STANDPIPE_CURVE_DIR"], id="no keys here"),
        pytest.param(THERE | DATABASE, ["BATCHES_CONNECT", "CURVE_DIR"], id="no keys there"),
        pytest.param(THERE | KEYS, ["BATCHES_CONNECT", "DATABASE_URL"], id="no database"),
        pytest.param(HERE | THERE | KEYS | DATABASE, ["BATCHES_BIND"], id="both"),
        pytest.param({"STANDPIPE_INGEST_FIRST": "63"}, ["INGEST_FIRST", "64"], id="too high"),
    ],
)
def test_settings_that_do_not_go_together_are_told_by_name(
    given: dict[str, str], names: list[str]
) -> None:
    with pytest.raises(SettingsError) as told:
        load_settings(given)
    assert len(told.value.problems) == 1
    assert all(name in told.value.problems[0] for name in names)


def test_settings_of_several_machines_that_go_together_are_taken() -> None:
    assert load_settings(HERE | KEYS).batches_bind == "tcp://10.0.0.1:2700"
    assert load_settings(THERE | KEYS | DATABASE).batches_connect == "tcp://10.0.0.1:2700"
    found = load_settings({"STANDPIPE_INGEST_FIRST": "61"})
    assert (found.ingest_first, found.ingest_spares) == (61, 1), (
        "no number is left for another spare"
    )
