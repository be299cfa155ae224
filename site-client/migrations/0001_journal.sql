-- The journal of one site. Immutable once released: later changes are later files.
-- Times are milliseconds since the Unix epoch; JSON columns hold the domain types of the code.

-- What the daemon does now: one row.
create table agent (
    id       integer primary key check (id = 1),
    state    text    not null,
    since_ms integer not null,
    note     text    -- what stands between this site and the coordinator, null if nothing
);

create table study (
    study     text primary key,
    plan      blob    not null,   -- canonical bytes
    joined_ms integer not null
);

-- A task that was begun: which generation it works from.
create table task (
    study    text    not null,
    round    integer not null,
    kind     text    not null,
    manifest text    not null,
    begun_ms integer not null,
    primary key (study, round, kind)
);

-- A scanned slide of a round: its candidate patches, or why it could not be scanned.
create table scan (
    study      text    not null,
    round      integer not null,
    slide      text    not null,
    candidates text    not null,
    problem    text,
    primary key (study, round, slide)
);

create table selection (
    study   text    not null,
    round   integer not null,
    patches text    not null,
    made_ms integer not null,
    primary key (study, round)
);

create table correction (
    study  text    not null,
    round  integer not null,
    patch  integer not null,      -- index in the selection
    record text    not null,      -- provenance, Dice before, digest of the label map
    primary key (study, round, patch)
);

-- What a round's fine-tuning draws from, fixed before it begins.
create table training_set (
    study text    not null,
    round integer not null,
    parts text    not null,
    primary key (study, round)
);

create table member (
    study   text    not null,
    round   integer not null,
    member  integer not null,
    record  text    not null,     -- digest of the delta, losses
    primary key (study, round, member)
);

create table update_made (
    study       text    not null,
    round       integer not null,
    body        text    not null,
    answered_ms integer,          -- null until the coordinator has answered
    primary key (study, round)
);

create table evaluation (
    study       text    not null,
    round       integer not null,
    manifest    text    not null,
    body        text    not null,
    answered_ms integer,
    primary key (study, round, manifest)
);

-- Slides that could not be used, for `status`; cleared when they work again.
create table slide_problem (
    slide   text primary key,
    problem text    not null,
    seen_ms integer not null
);

create table bundle (
    manifest text primary key,
    used_ms  integer not null
);

create table timing (
    study   text    not null,
    round   integer not null,
    stage   text    not null,
    seconds real    not null,
    primary key (study, round, stage)
);
