-- The control plane and the view of the log. Written by persist (accounts, cursors, what is
-- observed) and by the host manager in ingest (rows of new hosts); read by all.
-- What an operator wants of a host and what is observed of it are separate columns, so that
-- saving a cursor can never undo a ban.
--
-- Applied to an empty database, and to one of an older version, whose tables are there already:
-- so every statement may be repeated and only adds. A new table is CREATE … IF NOT EXISTS; a new
-- column of a table that an older version has is ALTER … ADD COLUMN IF NOT EXISTS behind it, with
-- a default. What does more than add is a step of its own in common/database.py. Whoever changes
-- this file after a release raises SCHEMA_VERSION there.

CREATE TABLE IF NOT EXISTS relay (
    name  text PRIMARY KEY,            -- 'schema_version', 'applied_seq', …
    value bigint NOT NULL
);

CREATE TABLE IF NOT EXISTS host (
    id            serial PRIMARY KEY,
    hostname      text NOT NULL UNIQUE,              -- lower case, with the port when not the default
    tls           boolean NOT NULL DEFAULT true,     -- wss and https, or ws and http
    wanted        text NOT NULL DEFAULT 'active',    -- the operator's will: 'active' or 'banned'
    observed      text NOT NULL DEFAULT 'idle',      -- com.atproto.sync.defs#hostStatus, as ingest sees it
    last_error    text,                              -- of the last failed connection or closed stream
    generation    integer NOT NULL DEFAULT 1,        -- rises when the host's own numbering starts again
    cursor        bigint,                            -- upstream seq up to which all is done; NULL: start live; 0: from the start
    account_limit integer NOT NULL,
    trusted       boolean NOT NULL DEFAULT false,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS account (
    id         bigserial PRIMARY KEY,                -- order of first sight; the cursor of listRepos
    did        text NOT NULL UNIQUE,
    host_id    integer NOT NULL,                     -- the host that last spoke for it with authority; 0: none yet
    active     boolean NOT NULL,                     -- as the host last told
    status     text,                                 -- as the host last told; NULL: none given
    rev        text,                                 -- of the newest commit; NULL before the first
    commit_cid bytea,                                -- 36 bytes
    data_cid   bytea,                                -- 36 bytes: the MST root
    seq        bigint NOT NULL                       -- of the event that last changed this row
);

CREATE INDEX IF NOT EXISTS account_host ON account (host_id);

-- Version 2.

ALTER TABLE account
    ADD COLUMN IF NOT EXISTS desynchronized  boolean NOT NULL DEFAULT false, -- a commit did not follow, and no #sync came since
    ADD COLUMN IF NOT EXISTS discontinuities bigint NOT NULL DEFAULT 0;      -- how many such commits there were

ALTER TABLE host
    ADD COLUMN IF NOT EXISTS discontinuous bigint NOT NULL DEFAULT 0, -- commits that did not follow from the ones before; passed
    ADD COLUMN IF NOT EXISTS waived        bigint NOT NULL DEFAULT 0; -- commits that failed the inversion; passed at the level 'observe'

-- How strictly a host is judged, and what speaks for judging it strictly again.
ALTER TABLE host
    ADD COLUMN IF NOT EXISTS level       text NOT NULL DEFAULT 'enforce',    -- common.verdict.Level: the operator's word, or the automatic move up
    ADD COLUMN IF NOT EXISTS level_since timestamptz NOT NULL DEFAULT now(), -- when the level was last changed
    ADD COLUMN IF NOT EXISTS waived_at   timestamptz,                        -- when something was last waived at this level; NULL: nothing was
    ADD COLUMN IF NOT EXISTS checked     bigint NOT NULL DEFAULT 0;          -- commits at `observe` that passed every check since then

-- The last messages of each host that were dropped. Bounded for each host by ingest.store.
CREATE TABLE IF NOT EXISTS reject (
    id      bigserial PRIMARY KEY,                   -- rises with time; the cursor of /rejects
    host_id integer NOT NULL,                        -- who sent it
    at      timestamptz NOT NULL,                    -- when it was dropped, by the relay's clock
    reason  text NOT NULL,                           -- common.verdict.DropReason
    detail  text NOT NULL,                           -- in words
    kind    text,                                    -- 'commit', 'sync', …; NULL: not legible, as the next three
    did     text,                                    -- as the message claims
    rev     text,
    seq     bigint,                                  -- the host's
    size    integer NOT NULL,                        -- of the frame, in bytes
    frame   bytea                                    -- as it came; NULL: let go, or never kept
);

ALTER TABLE reject ALTER frame SET STORAGE EXTERNAL; -- what hosts send does not compress

CREATE INDEX IF NOT EXISTS reject_host ON reject (host_id, id);
CREATE INDEX IF NOT EXISTS reject_did ON reject (did, id);
CREATE INDEX IF NOT EXISTS reject_at ON reject (at);

-- What the DID documents say, so that a restart asks the network for none of them again. Written and
-- read by ingest; several processes may look up one DID.
CREATE TABLE IF NOT EXISTS identity (
    did      text PRIMARY KEY,
    outcome  text NOT NULL,                          -- 'found', 'broken' or 'not_found'
    curve    text,                                   -- 'K-256' or 'P-256'; NULL unless found, as the next two
    key      bytea,                                  -- the point: 33 bytes, or 65 of a legacy document
    host     text,                                   -- who speaks for it: lower case, with the port when not the default
    why      text,                                   -- what is wrong with it, in words; NULL when found
    asked_at timestamptz NOT NULL                    -- when the answer was asked for, by the relay's clock
);

-- Version 3.

-- Which ingest process reads the hosts of which virtual shard (common/sharding.py), on a lease that it
-- renews. `epoch` is the fence: persist takes nothing that was sent under a lower one than it knows.
CREATE TABLE IF NOT EXISTS shard (
    number     integer PRIMARY KEY,                  -- from 0
    owner      integer,                              -- number of the process; NULL: nobody's
    instance   bigint,                               -- which life of that process: see common.envelope.Batch.epoch
    epoch      bigint NOT NULL DEFAULT 0,            -- rises with each new owner, also across a restored backup: by the clock
    expires_at timestamptz NOT NULL DEFAULT now()    -- by the database's clock; past it another may take over
);

-- The ingest processes that are alive, and which life of each is or was the last: what a fair share is a
-- share of. Who has ended stays in it, so that the next life gets a higher `instance`.
CREATE TABLE IF NOT EXISTS member (
    number   integer PRIMARY KEY,
    instance bigint NOT NULL,
    seen_at  timestamptz NOT NULL                    -- by the database's clock
);

-- Version 4.

-- What an operator wants of a host. `wanted` may be 'deleted', too: its number is in the log for good, so
-- the row stays, and is shown to nobody until the host is added again.
ALTER TABLE host
    ADD COLUMN IF NOT EXISTS per_second integer,                         -- events; NULL: by the formula of account_limit (common/limits.py)
    ADD COLUMN IF NOT EXISTS per_hour   integer,
    ADD COLUMN IF NOT EXISTS per_day    integer,
    ADD COLUMN IF NOT EXISTS dial_asked bigint NOT NULL DEFAULT 0,       -- rises when it shall be dialled at once
    ADD COLUMN IF NOT EXISTS added_by   text NOT NULL DEFAULT 'settings', -- 'settings', 'relay', 'crawl' or 'operator'
    ADD COLUMN IF NOT EXISTS server_did text,                            -- what its describeServer calls itself; NULL: not asked
    ADD COLUMN IF NOT EXISTS alias_of   text,                            -- hostname of the host that it is another name of
    ADD COLUMN IF NOT EXISTS alerts_silenced boolean NOT NULL DEFAULT false,
    ADD COLUMN IF NOT EXISTS alert_state text NOT NULL DEFAULT 'ok',     -- 'ok' or 'warning': near its account limit
    ADD COLUMN IF NOT EXISTS alert_at   timestamptz;                     -- when that was last told

-- What is observed of a host. Written by persist.
ALTER TABLE host
    ADD COLUMN IF NOT EXISTS connected     boolean NOT NULL DEFAULT false,
    ADD COLUMN IF NOT EXISTS changed_at    timestamptz,                  -- when `connected` last changed
    ADD COLUMN IF NOT EXISTS failures      integer NOT NULL DEFAULT 0,   -- attempts since the last progress
    ADD COLUMN IF NOT EXISTS next_dial_at  timestamptz,                  -- NULL: connected, or waiting for nothing
    ADD COLUMN IF NOT EXISTS last_event_at timestamptz,                  -- when the last message of it was read
    ADD COLUMN IF NOT EXISTS last_seq      bigint,                       -- its number at the host
    ADD COLUMN IF NOT EXISTS events        bigint NOT NULL DEFAULT 0,    -- messages read since the process that reads it began
    ADD COLUMN IF NOT EXISTS limited_by    text,                         -- what slows it: 'second', 'hour', 'day', 'catch_up'; NULL: nothing
    ADD COLUMN IF NOT EXISTS limited_until timestamptz,                  -- when that ends, as things stand
    ADD COLUMN IF NOT EXISTS restarts      integer NOT NULL DEFAULT 0,   -- how often its numbering began again
    ADD COLUMN IF NOT EXISTS slowed        integer NOT NULL DEFAULT 0,   -- accounts whose commits wait so that the others' need not
    ADD COLUMN IF NOT EXISTS foreign_percent integer NOT NULL DEFAULT 0, -- of its last events, those of accounts of other hosts; 0 while there are few
    ADD COLUMN IF NOT EXISTS accounts      bigint NOT NULL DEFAULT 0;    -- of it, but for deleted ones; kept with the table `account`

-- What this relay says of an account, whatever its host does: 'takendown', 'throttled', or NULL.
-- `over_limit`: its host had as many accounts as it may when it came, and it was not released since; it
-- stays beneath a takedown.
ALTER TABLE account
    ADD COLUMN IF NOT EXISTS local      text,
    ADD COLUMN IF NOT EXISTS over_limit boolean NOT NULL DEFAULT false;

CREATE INDEX IF NOT EXISTS account_over_limit ON account (host_id, id) WHERE over_limit;

-- Whether listRepos has it. A column, since an index on `rev IS NOT NULL` would be touched by each commit.
ALTER TABLE account ADD COLUMN IF NOT EXISTS
    listed boolean GENERATED ALWAYS AS (rev IS NOT NULL AND commit_cid IS NOT NULL) STORED;

CREATE INDEX IF NOT EXISTS account_listed ON account (id) WHERE listed;

CREATE INDEX IF NOT EXISTS account_local ON account (local, host_id, id) WHERE local IS NOT NULL;

-- Accounts that the operator wants taken down, known or not. Persist follows this table.
CREATE TABLE IF NOT EXISTS takedown (
    did text PRIMARY KEY,
    at  timestamptz NOT NULL DEFAULT now()
);

-- Domains of which no host is read: the name itself, and all below it.
CREATE TABLE IF NOT EXISTS domain_ban (
    domain text PRIMARY KEY,                         -- lower case
    at     timestamptz NOT NULL DEFAULT now()
);

-- What an operator has set while the relay runs; each counts before the setting of the same meaning.
CREATE TABLE IF NOT EXISTS control (
    name  text PRIMARY KEY,                          -- 'request_crawl', 'new_hosts_per_day'
    value text NOT NULL
);

-- Who changed what, and when. Bounded by common.control.
CREATE TABLE IF NOT EXISTS audit (
    id      bigserial PRIMARY KEY,
    at      timestamptz NOT NULL DEFAULT now(),
    who     text NOT NULL,                           -- 'admin@ADDRESS', 'command:USER', 'sibling@ADDRESS', 'relay'
    action  text NOT NULL,                           -- common.control.Action
    subject text NOT NULL,                           -- the host, DID, domain or setting
    was     text,                                    -- NULL: nothing was there
    now     text
);

-- How many messages of each host were dropped, and why, ever. Written by ingest.
CREATE TABLE IF NOT EXISTS host_drop (
    host_id integer NOT NULL,
    reason  text NOT NULL,                           -- common.verdict.DropReason
    count   bigint NOT NULL,
    last_at timestamptz NOT NULL,
    PRIMARY KEY (host_id, reason)
);

-- What a shard costs its owner, which says it with each renewal: seconds of processor a second.
ALTER TABLE shard
    ADD COLUMN IF NOT EXISTS load  real NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS hosts integer NOT NULL DEFAULT 0;
