-- The control plane and the view of the log. Written by persist (accounts, cursors, what is
-- observed) and by the host manager in ingest (rows of new hosts); read by all.
-- What an operator wants of a host and what is observed of it are separate columns, so that
-- saving a cursor can never undo a ban.

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
