"""What has the operator set, and which of it is wrong?

    environment text ──▶ Settings: one frozen value, units in the names, every wrong setting told at once

TABLE is the list of all settings; docs/settings.md is checked against it by a test. The reference
relay's names work as aliases, so that an operator's existing environment keeps its meaning. Where
both are given, ours wins.

This module does not read the environment, files or the network; it is handed a mapping.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

PREFIX: Final = "STANDPIPE_"
MAX_INGEST_PROCESSES: Final = 64
"""As many as there are virtual shards, in processes."""
MAX_BROADCAST_PROCESSES: Final = 32
"""Metrics ports of the broadcasters lie in a block of this size, in processes."""


class SettingsError(ValueError):
    """Some settings are wrong; `problems` has one sentence for each, beginning with its name."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting of a relay, parsed. `common.settings.TABLE` has a sentence on each field."""

    bind: str
    port: int
    data_dir: Path
    plc_url: str
    hosts: tuple[str, ...]
    relay_host: str
    allow_insecure_hosts: bool
    admin_passwords: tuple[str, ...]
    trusted_proxies: tuple[str, ...]
    request_crawl: bool
    new_hosts_per_day: int
    sibling_relays: tuple[str, ...]
    account_limit_alert: float
    account_limit_alert_interval_s: float
    account_limit_alert_repeat_s: float
    initial_seq: int
    dials_per_second: float
    ingest_processes: int
    ingest_spares: int
    ingest_first: int
    broadcast_processes: int
    consumer_stall_s: float
    replay_window_s: float
    replay_bytes: int | None
    log_reserve_bytes: int | None
    strict_start: bool
    default_account_limit: int
    trusted_domains: tuple[str, ...]
    observe_clean_s: float
    log_level: str
    database_url: str | None
    postgres_dir: Path | None
    event_loop: str
    metrics_host: str
    metrics_port: int
    private_port: int
    batches_bind: str
    batches_connect: str
    curve_dir: Path | None

    def metrics_port_of(self, stage: str, member: int) -> int:
        """The Prometheus port of one process; 0 means any free one."""
        if self.metrics_port == 0:
            return 0
        offset = {"persist": 0, "broadcast": 1, "ingest": 1 + MAX_BROADCAST_PROCESSES}[stage]
        return self.metrics_port + offset + member

    def private_port_of(self, member: int) -> int:
        """The private loopback port of one broadcaster; 0 means any free one."""
        return self.private_port + member if self.private_port else 0


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    field: of Settings. default: as text, as an operator would write it; "" is "not set".
    sentence: what it does, with unit, for the documentation.
    """

    field: str
    name: str
    default: str
    parse: Callable[[str], Any]
    sentence: str
    aliases: tuple[str, ...] = ()
    secret: bool = False


# --- parsers: text → value, or ValueError with what would be right ---

_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_DURATION_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kKMGT]i?)?B?")
_BYTES_UNIT: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BYTES_UNIT_2: Final = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_LEVELS: Final = {"debug": "debug", "info": "info", "warn": "warn", "warning": "warn",
                  "error": "error"}  # fmt: skip
_TRUE: Final = {"1", "true", "t", "yes", "on"}
_FALSE: Final = {"0", "false", "f", "no", "off"}


def parse_duration(text: str) -> float:
    """A duration such as "72h" or "1h30m" → seconds.

    Raises:
        ValueError: it is no duration.
    """
    parts = _DURATION.findall(text)
    if not parts or "".join(a + b for a, b in parts) != text:
        raise ValueError("is no duration; write 72h, 90m or 1h30m (units d h m s ms)")
    return sum(float(number) * _DURATION_S[unit] for number, unit in parts)


def _stall(text: str) -> float:
    stall_s = parse_duration(text)
    if stall_s < 1:
        raise ValueError("is less than a second")
    return stall_s


def parse_bytes(text: str) -> int | None:
    """A size such as "500G" or "1.5TiB" → bytes; "auto" → None.

    Raises:
        ValueError: it is no size, or zero.
    """
    if text.lower() == "auto":
        return None
    match = _BYTES.fullmatch(text)
    if match is None:
        raise ValueError("is no size; write 500G, 64MiB or auto")
    unit = (match[2] or "").lower()
    factor = _BYTES_UNIT_2[unit] if unit.endswith("i") else _BYTES_UNIT[unit]
    size = int(float(match[1]) * factor)
    if size <= 0:
        raise ValueError("is zero; write 500G, 64MiB or auto")
    return size


def parse_bind(text: str) -> tuple[str, int]:
    """An address such as ":2470", "127.0.0.1:2470" or "[::1]:2470" → host and port.

    An empty host means every address of the machine.

    Raises:
        ValueError: there is no port from 1 to 65535.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise ValueError("is no address; write :2470 or 127.0.0.1:2470")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("is no address; put an IPv6 address in brackets: [::1]:2470")
    return host, int(port)


def parse_flag(text: str) -> bool:
    """Yes or no.

    Raises:
        ValueError: it is neither.
    """
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError("is neither true nor false")


def _reserve(text: str) -> int | None:
    return 0 if text == "0" else parse_bytes(text)


def _count(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise ValueError(f"is no whole number from {low} to {high}")
        return int(text)

    return parse


def _url(text: str) -> str:
    parts = urlsplit(text)
    _ = parts.port  # ValueError when it is not a number in range
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("is no http or https URL")
    return text.rstrip("/")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _hosts(text: str) -> tuple[str, ...]:
    hosts = _names(text)
    for host in hosts:
        parts = urlsplit(host if "://" in host else f"https://{host}")
        _ = parts.port
        extra = parts.path.strip("/") or parts.query or parts.fragment or parts.username
        if parts.scheme not in ("http", "https", "ws", "wss") or not parts.hostname or extra:
            raise ValueError(
                f"names no host with {host!r}; write pds.example or https://pds.example"
            )
    return hosts


def _relay_host(text: str) -> str:
    return _url(text if "://" in text else f"https://{text}") if text else ""


def _domains(text: str) -> tuple[str, ...]:
    domains = _names(text)
    for domain in domains:
        if not re.fullmatch(r"\*|(\*\.)?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*", domain):
            raise ValueError(f"has {domain!r}; write a name, or *.name for all below it")
    return domains


def _networks(text: str) -> tuple[str, ...]:
    networks = _names(text)
    for network in networks:
        try:
            ip_network(network, strict=False)
        except ValueError:
            raise ValueError(f"has {network!r}; write 10.0.0.1 or 10.0.0.0/8") from None
    return networks


def _urls(text: str) -> tuple[str, ...]:
    return tuple(_url(url if "://" in url else f"https://{url}") for url in _names(text))


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0.1 <= rate <= 10_000:
        raise ValueError("is no number from 0.1 to 10000")
    return rate


def _share(text: str) -> float:
    if not re.fullmatch(r"[01]?(\.[0-9]+)?", text) or not text or not 0.01 <= float(text) <= 1:
        raise ValueError("is no number from 0.01 to 1")
    return float(text)


def _tcp(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme != "tcp" or not parts.hostname or not parts.port or parts.path:
        raise ValueError("is no address; write tcp://10.0.0.1:2700")
    return text


def _level(text: str) -> str:
    if text.lower() not in _LEVELS:
        raise ValueError("is none of debug, info, warn, error")
    return _LEVELS[text.lower()]


def _database(text: str) -> str:
    if text.startswith(("postgres://", "postgresql://")):
        return text
    if text.startswith("postgres="):
        return text.removeprefix("postgres=")
    # Never repeat it: it may hold a password.
    raise ValueError("is no PostgreSQL address; write postgresql://user:password@host/name")


def _folder(text: str) -> Path:
    return Path(text).absolute()


def _loop(text: str) -> str:
    if text not in ("uvloop", "asyncio"):
        raise ValueError("is none of uvloop, asyncio")
    return text


def _host_part(text: str) -> str:
    """The host of "host" or "host:port": the reference relay has both in one setting."""
    host = text.rpartition(":")[0] if re.fullmatch(r".*:[0-9]+", text) else text
    return host or "0.0.0.0"


def _port_part(text: str) -> int:
    """The port of "port" or "host:port"; 0 is any free one."""
    port = text.rpartition(":")[2]
    # The highest offset of metrics_port_of has to stay a port.
    return _count(0, 65535 - MAX_BROADCAST_PROCESSES - MAX_INGEST_PROCESSES)(port)


TABLE: Final[tuple[Row, ...]] = (
    Row("bind", "STANDPIPE_BIND", ":2470", parse_bind,
        "Address and port of the public server, for consumers and HTTP. No host part: every address.",
        ("RELAY_API_BIND", "RELAY_API_LISTEN")),
    Row("data_dir", "STANDPIPE_DATA_DIR", "data", _folder,
        "Folder that holds the log, the embedded database and the admin password.",
        ("RELAY_PERSIST_DIR", "RELAY_PERSISTER_DIR")),
    Row("plc_url", "STANDPIPE_PLC_HOST", "https://plc.directory", _url,
        "URL of the PLC directory, where did:plc documents are looked up.",
        ("RELAY_PLC_HOST", "ATP_PLC_HOST")),
    Row("hosts", "STANDPIPE_HOSTS", "", _hosts,
        "Hosts to read from, added at start as trusted ones: names or URLs such as http://localhost:2583,"
        " with commas."),
    Row("relay_host", "STANDPIPE_RELAY_HOST", "https://bsky.network", _relay_host,
        "Relay whose listHosts fills an empty host table when no hosts are set. Empty: none.",
        ("RELAY_HOST",)),
    Row("allow_insecure_hosts", "STANDPIPE_ALLOW_INSECURE_HOSTS", "false", parse_flag,
        "Whether hosts without TLS, by IP address or with a port, are taken.",
        ("RELAY_ALLOW_INSECURE_HOSTS",)),
    Row("admin_passwords", "STANDPIPE_ADMIN_PASSWORD", "", _names,
        "Password of the user admin, or several with commas, each of which is taken, as while one "
        "replaces the other. Not set: one is generated into the file admin-password of the data folder, "
        "mode 0600.",
        ("RELAY_ADMIN_PASSWORD", "RELAY_ADMIN_KEY"), secret=True),
    Row("trusted_proxies", "STANDPIPE_TRUSTED_PROXIES", "", _networks,
        "Addresses or networks, with commas, whose X-Forwarded-For is believed. Empty: nobody's."),
    Row("request_crawl", "STANDPIPE_REQUEST_CRAWL", "true", parse_flag,
        "Whether strangers may add hosts with requestCrawl. An operator may change it while the relay "
        "runs, and that counts. RELAY_DISABLE_REQUEST_CRAWL says the opposite."),
    Row("new_hosts_per_day", "STANDPIPE_NEW_HOSTS_PER_DAY", "50", _count(0, 10**9),
        "How many hosts strangers may add within 24 hours. An operator may change it while the relay runs.",
        ("RELAY_NEW_HOSTS_PER_DAY_LIMIT",)),
    Row("sibling_relays", "STANDPIPE_SIBLING_RELAYS", "", _urls,
        "URLs of other relays, with commas, that are told what an admin changes here.",
        ("RELAY_SIBLING_RELAYS",)),
    Row("account_limit_alert", "STANDPIPE_ACCOUNT_LIMIT_ALERT_THRESHOLD", "0.80", _share,
        "Share of its account limit at which a host is told to be near it, in the log and in its state, "
        "from 0.01 to 1.", ("RELAY_ACCOUNT_LIMIT_ALERT_THRESHOLD",)),
    Row("account_limit_alert_interval_s", "STANDPIPE_ACCOUNT_LIMIT_ALERT_INTERVAL", "5m", _stall,
        "How often that is looked at, as a duration of a second or more.",
        ("RELAY_ACCOUNT_LIMIT_ALERT_INTERVAL",)),
    Row("account_limit_alert_repeat_s", "STANDPIPE_ACCOUNT_LIMIT_ALERT_REPEAT_INTERVAL", "6h", _stall,
        "How often it is told again of a host that stays there, as a duration of a second or more.",
        ("RELAY_ACCOUNT_LIMIT_ALERT_REPEAT_INTERVAL",)),
    Row("initial_seq", "STANDPIPE_INITIAL_SEQ", "1", _count(1, 2**53 - 1),
        "The least seq that is given to an event; a log that is lower goes on from there.",
        ("RELAY_INITIAL_SEQ_NUMBER",)),
    Row("dials_per_second", "STANDPIPE_DIALS_PER_SECOND", "50", _rate,
        "How many connections to hosts are begun a second by all ingest processes together, at most."),
    Row("ingest_processes", "STANDPIPE_INGEST_PROCESSES", "2", _count(1, MAX_INGEST_PROCESSES),
        "Processes that read and verify, each a share of the hosts."),
    Row("ingest_spares", "STANDPIPE_INGEST_SPARES", "2", _count(0, MAX_INGEST_PROCESSES),
        "Ingest processes that are not started, and take their share of the hosts when they are: "
        "supervisorctl start ingest:ingest-2."),
    Row("ingest_first", "STANDPIPE_INGEST_FIRST", "0", _count(0, MAX_INGEST_PROCESSES - 1),
        "Number of this machine's first ingest process. Those of several machines must not be the same."),
    Row("broadcast_processes", "STANDPIPE_BROADCAST_PROCESSES", "1",
        _count(1, MAX_BROADCAST_PROCESSES), "Processes that serve consumers, all on the public port."),
    Row("consumer_stall_s", "STANDPIPE_CONSUMER_STALL", "1m", _stall,
        "How long a consumer may take nothing while events wait for it, as a duration of a second or "
        "more, before it is let go as ConsumerTooSlow."),
    Row("replay_window_s", "STANDPIPE_REPLAY_WINDOW", "72h", parse_duration,
        "How far back a consumer can replay, as a duration.",
        ("RELAY_REPLAY_WINDOW", "RELAY_EVENT_PLAYBACK_TTL")),
    Row("replay_bytes", "STANDPIPE_REPLAY_BYTES", "auto", parse_bytes,
        "How large the log may grow, such as 500G. auto: 80 % of the disk that is free for it."),
    Row("log_reserve_bytes", "STANDPIPE_LOG_RESERVE", "auto", _reserve,
        "What is kept free on the log's disk, such as 10G; below it the oldest segments go before their "
        "time. auto: 2 % of the disk, and 1 GiB at least."),
    Row("strict_start", "STANDPIPE_STRICT_START", "false", parse_flag,
        "Whether to refuse to start where the log or the database has lost what it had, instead of going "
        "on and saying so."),
    Row("default_account_limit", "STANDPIPE_DEFAULT_ACCOUNT_LIMIT", "100", _count(0, 10**9),
        "Accounts that a newly added host may have.",
        ("RELAY_DEFAULT_ACCOUNT_LIMIT", "RELAY_DEFAULT_REPO_LIMIT")),
    Row("trusted_domains", "STANDPIPE_TRUSTED_DOMAINS", "*.host.bsky.network", _domains,
        "Hosts without an account limit: names, or *.name for all below it, with commas.",
        ("RELAY_TRUSTED_DOMAINS",)),
    Row("observe_clean_s", "STANDPIPE_OBSERVE_CLEAN_PERIOD", "72h", parse_duration,
        "How long nothing must have been waived of a host at the level observe, as a duration, before "
        "it moves up to enforce by itself."),
    Row("log_level", "STANDPIPE_LOG_LEVEL", "info", _level,
        "The least level that is logged: debug, info, warn or error.",
        ("RELAY_LOG_LEVEL", "GO_LOG_LEVEL", "LOG_LEVEL")),
    Row("database_url", "STANDPIPE_DATABASE_URL", "", _database,
        "A PostgreSQL of your own, as postgresql://… Not set: the embedded one is started.",
        ("DATABASE_URL",), secret=True),
    Row("postgres_dir", "STANDPIPE_POSTGRES_DIR", "", _folder,
        "Folder of the embedded database. Not set: postgres in the data folder or, when run as root "
        "and that cannot be reached by an unprivileged user, a folder in /var/lib/standpipe."),
    Row("event_loop", "STANDPIPE_EVENT_LOOP", "uvloop", _loop,
        "The event loop: uvloop, or Python's own asyncio."),
    Row("metrics_host", "STANDPIPE_METRICS_HOST", "127.0.0.1", _host_part,
        "Address that the Prometheus ports are bound to.", ("RELAY_METRICS_LISTEN",)),
    Row("metrics_port", "STANDPIPE_METRICS_PORT", "2471", _port_part,
        "Prometheus port of persist; broadcast follows from +1, ingest from +33. 0: any free ports.",
        ("RELAY_METRICS_LISTEN",)),
    Row("private_port", "STANDPIPE_PRIVATE_PORT", "2600", _count(0, 65535 - MAX_BROADCAST_PROCESSES),
        "Loopback port of the first broadcaster alone; the others follow. 0: any free ports."),
    Row("batches_bind", "STANDPIPE_BATCHES_BIND", "", _tcp,
        "Address such as tcp://10.0.0.1:2700 at which persist takes events from ingest processes of other "
        "machines, too. Needs STANDPIPE_CURVE_DIR. Empty: of this machine alone."),
    Row("batches_connect", "STANDPIPE_BATCHES_CONNECT", "", _tcp,
        "Where the ingest processes of this machine find persist on another one. Needs DATABASE_URL and "
        "STANDPIPE_CURVE_DIR. Empty: on this machine."),
    Row("curve_dir", "STANDPIPE_CURVE_DIR", "", _folder,
        "Folder of the keys between machines, as standpipe curve makes them."),
)  # fmt: skip


def load_settings(environ: Mapping[str, str]) -> Settings:
    """The settings of an environment. An empty variable counts as not set.

    Raises:
        SettingsError: some are wrong; it names every one of them.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    for row in TABLE:
        name, text = _given(row, environ)
        try:
            values[row.field] = row.parse(text) if text or row.field == "relay_host" else None
        except ValueError as error:
            shown = "" if row.secret else f"={text!r}"
            problems.append(f"{name}{shown} {error}")
    problems = problems or _together(values)
    if problems:
        raise SettingsError(problems)
    values["bind"], values["port"] = values["bind"]
    for name in ("hosts", "admin_passwords", "trusted_proxies", "sibling_relays"):
        values[name] = values[name] or ()
    for name in ("batches_bind", "batches_connect"):
        values[name] = values[name] or ""
    # Spares are an offer: where there are no numbers left there are fewer of them.
    left = MAX_INGEST_PROCESSES - values["ingest_first"] - values["ingest_processes"]
    values["ingest_spares"] = min(values["ingest_spares"], left)
    return Settings(**values)


def _together(values: Mapping[str, Any]) -> list[str]:
    """What is wrong with settings that are right each by itself."""
    problems = []
    last = values["ingest_first"] + values["ingest_processes"] - 1
    if last >= MAX_INGEST_PROCESSES:
        problems.append(
            f"STANDPIPE_INGEST_FIRST: the numbers of the ingest processes reach {last}; the highest is "
            f"{MAX_INGEST_PROCESSES - 1}"
        )
    problems += [
        f"STANDPIPE_{field.upper()} needs STANDPIPE_CURVE_DIR: nothing goes over TCP without keys"
        for field in ("batches_bind", "batches_connect")
        if values[field] and values["curve_dir"] is None
    ]
    if values["batches_connect"] and values["batches_bind"]:
        problems.append(
            "STANDPIPE_BATCHES_CONNECT says that persist is on another machine, "
            "STANDPIPE_BATCHES_BIND that it is on this one"
        )
    if values["batches_connect"] and values["database_url"] is None:
        problems.append(
            "STANDPIPE_BATCHES_CONNECT needs DATABASE_URL: the database of the relay, on another machine"
        )
    return problems


def unknown_names(environ: Mapping[str, str]) -> list[str]:
    """Variables that look like settings of ours and are none: most likely typing errors."""
    known = {row.name for row in TABLE}
    return sorted(name for name in environ if name.startswith(PREFIX) and name not in known)


def unheeded_names(environ: Mapping[str, str]) -> dict[str, str]:
    """Settings of the reference relay that are given and mean nothing here, each with what is so instead."""
    return {name: UNHEEDED[name] for name in sorted(UNHEEDED) if environ.get(name)}


def effective_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Every setting by our name, as text, with defaults and aliases resolved and folders absolute.

    Loading the result gives the same Settings in any folder.
    """
    given = {row.name: _given(row, environ)[1] for row in TABLE}
    settings = load_settings(environ)
    given["STANDPIPE_DATA_DIR"] = str(settings.data_dir)
    given["STANDPIPE_METRICS_HOST"] = settings.metrics_host
    given["STANDPIPE_METRICS_PORT"] = str(settings.metrics_port)
    if settings.postgres_dir is not None:
        given["STANDPIPE_POSTGRES_DIR"] = str(settings.postgres_dir)
    if settings.curve_dir is not None:
        given["STANDPIPE_CURVE_DIR"] = str(settings.curve_dir)
    return given


def _given(row: Row, environ: Mapping[str, str]) -> tuple[str, str]:
    """The name under which a setting was given, and its text or the default."""
    # An empty relay_host is a value of its own: no relay is asked.
    if row.field == "relay_host" and row.name in environ:
        return row.name, environ[row.name]
    for name in (row.name, *row.aliases):
        if environ.get(name):
            return name, environ[name].strip()
    if row.field == "request_crawl" and environ.get(_CLOSED):
        # The one name that says the opposite of ours.
        text = environ[_CLOSED].strip()
        given = text.lower()
        return _CLOSED, "false" if given in _TRUE else "true" if given in _FALSE else text
    return row.name, row.default


_CLOSED: Final = "RELAY_DISABLE_REQUEST_CRAWL"
_NO_SLACK: Final = (
    "no chat service is told: alert on standpipe_account_limit_alerts_total or the log line"
)
_ONE_READER: Final = "a host costs a socket here and no workers: see STANDPIPE_INGEST_PROCESSES"
_IN_DATABASE: Final = "identities are kept in the database, and no memory is set aside for them"
_POOL: Final = "each process has a few connections of its own"
_NO_TRACES: Final = "there are no traces: metrics and log lines tell the same"
UNHEEDED: Final[Mapping[str, str]] = {
    "RELAY_LENIENT_SYNC_VALIDATION": "strictness is set for each host: standpipe hosts level NAME observe",
    "RELAY_HOST_CONCURRENCY": _ONE_READER,
    "RELAY_CONCURRENCY_PER_PDS": _ONE_READER,
    "RELAY_IDENT_CACHE_SIZE": _IN_DATABASE,
    "RELAY_DID_CACHE_SIZE": _IN_DATABASE,
    "RELAY_ACCOUNT_LIMIT_ALERT_DASHBOARD_URL": _NO_SLACK,
    "RELAY_ALERT_DASHBOARD_URL": _NO_SLACK,
    "RELAY_SLACK_ALERT_CHANNEL": _NO_SLACK,
    "RELAY_ALERT_SLACK_CHANNEL": _NO_SLACK,
    "RELAY_SLACK_ALERT_TOKEN": _NO_SLACK,
    "RELAY_ALERT_SLACK_TOKEN": _NO_SLACK,
    "MAX_DB_CONNECTIONS": _POOL,
    "MAX_METADB_CONNECTIONS": _POOL,
    "OTEL_EXPORTER_OTLP_ENDPOINT": _NO_TRACES,
    "RELAY_PULL_HOSTS_BATCH_SIZE": "standpipe pull-hosts has options of its own: see its --help",
    "RELAY_SKIP_HOST_CHECKS": "standpipe pull-hosts has options of its own: see its --help",
}
"""Names of the reference relay's settings that are not heeded, and why. docs/coming-from-the-reference-relay.md
has the same, and those without a name."""
