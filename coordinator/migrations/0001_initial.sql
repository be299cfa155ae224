-- Times are milliseconds since the Unix epoch; digests, serials and hashes are raw bytes.

CREATE TABLE sites (
    site                    TEXT PRIMARY KEY NOT NULL,
    token_hash              BLOB,
    token_expires           INTEGER,
    token_key               BLOB,      -- hash of the public key that used the token; NULL while it is unused
    certificate             TEXT,
    serial                  BLOB,
    certificate_expires     INTEGER,
    revoked_at              INTEGER,   -- set while the current certificate is revoked
    revoked_reason          TEXT,
    last_seen               INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE revocations (
    serial                  BLOB PRIMARY KEY NOT NULL,
    site                    TEXT NOT NULL,
    at                      INTEGER NOT NULL,
    reason                  TEXT NOT NULL
) STRICT;

CREATE TABLE studies (
    study                   TEXT PRIMARY KEY NOT NULL,
    plan                    BLOB NOT NULL,
    initial_manifest        BLOB NOT NULL,
    initial_sites           TEXT NOT NULL,
    state                   TEXT NOT NULL,
    created                 INTEGER NOT NULL
) STRICT;

-- Blobs that the sites of a study may download.
CREATE TABLE study_blobs (
    study                   TEXT NOT NULL REFERENCES studies (study),
    digest                  BLOB NOT NULL,
    PRIMARY KEY (study, digest)
) STRICT;

CREATE TABLE generations (
    study                   TEXT NOT NULL REFERENCES studies (study),
    generation              INTEGER NOT NULL,
    publication             TEXT NOT NULL,
    PRIMARY KEY (study, generation)
) STRICT;

CREATE TABLE rejections (
    study                   TEXT NOT NULL REFERENCES studies (study),
    round                   INTEGER NOT NULL,
    reason                  TEXT NOT NULL,
    PRIMARY KEY (study, round)
) STRICT;

-- Every accepted update, so that an auditor can recompute a round.
CREATE TABLE updates (
    study                   TEXT NOT NULL REFERENCES studies (study),
    round                   INTEGER NOT NULL,
    site                    TEXT NOT NULL,
    digest                  BLOB NOT NULL,
    body                    TEXT NOT NULL,
    received                INTEGER NOT NULL,
    PRIMARY KEY (study, round, site)
) STRICT;

-- Who uploads or has uploaded which blob; `kept` once an accepted update or a study refers to it.
CREATE TABLE uploads (
    owner                   TEXT NOT NULL,
    digest                  BLOB NOT NULL,
    bytes                   INTEGER NOT NULL,   -- as announced by the owner
    started                 INTEGER NOT NULL,
    kept                    INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (owner, digest)
) STRICT;
CREATE INDEX uploads_by_digest ON uploads (digest);
