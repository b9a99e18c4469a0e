-- What only vidgen's functions read and write.

\set ON_ERROR_STOP 1
BEGIN;
DO $$ BEGIN PERFORM vidgen.migration(); END $$;


-- Attempts: one row for each request to a provider, written before a byte is
-- sent.
--
--   sending ──▶ accepted ──▶ completed | failed | lost
--      │           ▲
--      ├──▶ unknown ┘ ──▶ completed | failed | lost
--      ├──▶ unsent                     (nothing reached the provider)
--      └──▶ refused                    (the provider said no)
--
-- provider ''  the first one that nginx knows, whichever that is: jobs that
--              others made before there was a provider_name
-- progress     of an accepted one; never back
-- since        when it came into its state
-- lease        until then its operation is believed to be at work
-- due          next poll; NULL: none before vidgen.due()'s p_overdue
-- poll_lease   until then a poll is believed to be under way, the one that
-- polls        counts
-- deadline     lost then, after a last poll
-- last_poll    with a deadline: the last poll is one after so many, and has not
--              been answered yet
-- late         a success that came after its job had ended: money lost
-- kept         fields of the provider's answer, for polls

CREATE TABLE IF NOT EXISTS vidgen.attempts (
    id               uuid PRIMARY KEY,
    job_id           uuid NOT NULL REFERENCES video_jobs (id)
                     ON DELETE CASCADE,
    number           integer NOT NULL,
    provider         text NOT NULL,
    provider_job_id  text,
    state            text NOT NULL CHECK (state IN ('sending', 'unsent',
                         'refused', 'unknown', 'accepted', 'completed',
                         'failed', 'lost')),
    progress         text NOT NULL DEFAULT 'queued'
                     CHECK (progress IN ('queued', 'processing')),
    http_status      integer,
    reason           text,
    error            text,
    video_url        text,
    late             boolean NOT NULL DEFAULT false,
    estimated_time   integer,
    kept             jsonb,
    polls            integer NOT NULL DEFAULT 0,
    since            timestamptz NOT NULL DEFAULT now(),
    lease            timestamptz,
    due              timestamptz,
    poll_lease       timestamptz,
    deadline         timestamptz,
    last_poll        integer,
    created_at       timestamptz NOT NULL DEFAULT now(),

    CONSTRAINT attempts_job_id_number_key UNIQUE (job_id, number),
    CONSTRAINT attempts_provider_job_id_key UNIQUE (provider, provider_job_id),
    CONSTRAINT attempts_lease_check CHECK (state <> 'sending'
                                           OR lease IS NOT NULL),
    CONSTRAINT attempts_late_check CHECK (NOT late OR state = 'completed')
);

ALTER TABLE vidgen.attempts
    ADD COLUMN IF NOT EXISTS poll_lease timestamptz,
    ADD COLUMN IF NOT EXISTS last_poll integer;


-- The ledger: one hold of a job, and one refund of the same amount exactly
-- when the job is failed.  A job that costs nothing has no rows.  refund_due:
-- vidgen.refund_credits() raised; the sweep tries again.

CREATE TABLE IF NOT EXISTS vidgen.ledger (
    job_id      uuid NOT NULL,
    entry       text NOT NULL CHECK (entry IN ('hold', 'refund')),
    user_id     uuid NOT NULL,
    amount      integer NOT NULL CHECK (amount > 0),
    refund_due  boolean NOT NULL DEFAULT false,
    created_at  timestamptz NOT NULL DEFAULT now(),

    PRIMARY KEY (job_id, entry)
);


-- Results for attempts that are not known by their provider's id yet.
-- adopted: when an attempt took it; what stays NULL is an orphan.

CREATE TABLE IF NOT EXISTS vidgen.parked (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    provider         text NOT NULL,
    provider_job_id  text NOT NULL,
    status           text NOT NULL,     -- 'unknown': a word that says nothing
    verdict          boolean NOT NULL,
    video_url        text,
    error            text,
    digest           text,
    body             text,
    ttl_ms           bigint,
    received         timestamptz NOT NULL DEFAULT now(),
    adopted          timestamptz,

    UNIQUE (provider, provider_job_id, status)
);


-- One row for each outage that is announced.

CREATE TABLE IF NOT EXISTS vidgen.alerts (
    provider   text PRIMARY KEY,
    status     text NOT NULL,
    since      timestamptz NOT NULL DEFAULT now(),
    announced  timestamptz,
    lease      timestamptz
);


-- What is to be found by its state: attempts without an id yet; accepted ones,
-- by when they are to be polled, or how long they are silent; refunds to be
-- made; results that are old, or nobody's.  Since those of attempts depend on
-- the state, an update of it can never be HOT, and no room is left for it in
-- their pages.

DROP INDEX IF EXISTS vidgen.attempts_accepted, vidgen.attempts_due;

DO $$
DECLARE
    r  record;
BEGIN
    FOR r IN
        SELECT w.*
          FROM (VALUES
                    ('attempts_unidentified', 'attempts (provider, since)'
                     ' WHERE state IN (''sending'', ''unknown'')'),
                    ('attempts_open', 'attempts (provider, due, since)'
                     ' WHERE state = ''accepted'''),
                    ('ledger_refund_due', 'ledger (user_id)'
                     ' WHERE refund_due'),
                    ('parked_received', 'parked (received)'),
                    ('parked_orphans', 'parked (id) WHERE adopted IS NULL')
               ) AS w (index, definition)
         WHERE to_regclass('vidgen.' || w.index) IS NULL
    LOOP
        EXECUTE format('CREATE INDEX %I ON vidgen.%s', r.index, r.definition);
    END LOOP;
END $$;

COMMIT;
