-- What a round rehearses: of each scanned slide the boxes that it may, and of the site those that it does. Their labels are of
-- one generation: begun again from another, a round rehearses nothing of the first.
alter table scan add column rehearsal text not null default '[]';

create table rehearsal (
    study text    not null,
    round integer not null,
    boxes text    not null,
    primary key (study, round)
);
