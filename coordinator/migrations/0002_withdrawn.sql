-- Accepted, but of a site that left before anything was computed from it: not part of its round.
ALTER TABLE updates ADD COLUMN withdrawn INTEGER NOT NULL DEFAULT 0;
