-- The tables that an application shares with vidgen: created where they are
-- missing, completed where they are older.  They stay in the schema where
-- they are (vidgen.tables_schema()).  003_check.sql tells what of existing
-- ones does not fit.

\set ON_ERROR_STOP 1
BEGIN;
DO $$
BEGIN
    PERFORM vidgen.migration();
    PERFORM set_config('vidgen.new', array_to_string(ARRAY(
        SELECT t
          FROM unnest(ARRAY['video_jobs', 'idempotency_log', 'models',
                            'provider_health_log',
                            'provider_failover_log']) t
         WHERE to_regclass(t) IS NULL), ','), true);
END $$;


-- What is there has to be the owner's, with the keys on which everything that
-- happens once depends.

DO $$
DECLARE
    r  record;
BEGIN
    FOR r IN
        SELECT w.tab, w.col, c.oid, c.relowner
          FROM (VALUES ('video_jobs', 'id'),
                       ('idempotency_log', 'idempotency_key'),
                       ('models', 'id'), ('provider_health_log', NULL),
                       ('provider_failover_log', NULL)) AS w (tab, col)
          JOIN pg_class c ON c.oid = to_regclass(w.tab)
    LOOP
        IF NOT pg_has_role(r.relowner, 'USAGE') THEN
            RAISE EXCEPTION 'vidgen: table %.% belongs to "%", video_jobs to'
                ' "%": ALTER TABLE % OWNER TO %', vidgen.tables_schema(),
                r.tab, pg_get_userbyid(r.relowner), current_user, r.tab,
                quote_ident(current_user);
        END IF;

        IF r.col IS NOT NULL AND NOT EXISTS
           (SELECT FROM pg_index i JOIN pg_attribute a
                ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
             WHERE i.indrelid = r.oid AND a.attname = r.col
               AND i.indisunique AND i.indisvalid AND i.indimmediate
               AND i.indpred IS NULL AND i.indnkeyatts = 1)
        THEN
            RAISE EXCEPTION 'vidgen: table %.% has no unique key on "%": ALTER'
                ' TABLE % ADD UNIQUE (%)', vidgen.tables_schema(), r.tab,
                r.col, r.tab, r.col;
        END IF;
    END LOOP;
END $$;


-- Jobs: what a user asked and pays for.  The status is derived from the job's
-- attempts by vidgen.settle_jobs() and set by nothing else.

CREATE TABLE IF NOT EXISTS video_jobs (
    id                 uuid PRIMARY KEY,
    user_id            uuid NOT NULL,
    model_id           text NOT NULL,
    prompt             text NOT NULL,
    provider_name      text,
    provider_job_id    text,
    status             text NOT NULL DEFAULT 'queued' CHECK (status IN
                           ('queued', 'processing', 'completed', 'failed')),
    credits_used       integer NOT NULL DEFAULT 1 CHECK (credits_used >= 0),
    provider_attempts  integer DEFAULT 1,
    failover_reason    text,
    video_url          text,
    error_message      text,
    created_at         timestamptz DEFAULT now(),
    completed_at       timestamptz
);


-- Keys of webhooks ("webhook:<attempt>:<status>", fingerprint: a digest of
-- the event) and of generations ("generate:<digest>", fingerprint: a digest
-- of the request; job_id; no response while the job's answer is open).  A row
-- of ours is kept until expires_at; of a generation that is ttl after its job
-- has ended.

CREATE TABLE IF NOT EXISTS idempotency_log (
    idempotency_key    text PRIMARY KEY,
    response           jsonb,
    created_at         timestamptz NOT NULL DEFAULT now(),
    fingerprint        text,
    job_id             uuid,
    http_status        integer,
    ttl                interval,
    expires_at         timestamptz
);


-- Models: price, preferred provider, the providers that serve it (NULL: any).
-- The row "*" stands for every model that has none.

DO $$
BEGIN
    IF to_regclass('models') IS NULL THEN
        CREATE TABLE models (
            id                      text PRIMARY KEY,
            name                    text,
            provider                text,
            credits_per_generation  integer NOT NULL DEFAULT 1
                                    CHECK (credits_per_generation >= 0),
            providers               text[]
        );
        INSERT INTO models (id, name, credits_per_generation)
        VALUES ('*', 'any other model', 1);
    END IF;
END $$;


CREATE TABLE IF NOT EXISTS provider_health_log (
    id                    bigserial PRIMARY KEY,
    provider_name         text NOT NULL,
    status                text CHECK (status IN ('healthy', 'degraded',
                                                 'down')),
    response_time_ms      integer,
    consecutive_failures  integer DEFAULT 0,
    checked_at            timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS provider_failover_log (
    id             bigserial PRIMARY KEY,
    job_id         uuid REFERENCES video_jobs (id) ON DELETE CASCADE,
    from_provider  text,
    to_provider    text,
    reason         text,
    created_at     timestamptz DEFAULT now()
);

DO $$
DECLARE
    v_table  text;
BEGIN
    FOREACH v_table IN ARRAY
            string_to_array(current_setting('vidgen.new'), ',') LOOP
        PERFORM vidgen.make_private('TABLE ' || v_table);
        IF v_table LIKE 'provider%' THEN
            PERFORM vidgen.make_private('SEQUENCE '
                || pg_get_serial_sequence(v_table, 'id'));
        END IF;
    END LOOP;
END $$;


-- Columns that older tables have not.  A job of before has no created_at.  What
-- is there is not locked, so that all this may run again while it is in use.

DO $$
DECLARE
    r  record;
BEGIN
    FOR r IN
        SELECT w.*
          FROM (VALUES
                    ('video_jobs', 'provider_name', 'text'),
                    ('video_jobs', 'provider_job_id', 'text'),
                    ('video_jobs', 'credits_used',
                     'integer NOT NULL DEFAULT 1'),
                    ('video_jobs', 'provider_attempts', 'integer DEFAULT 1'),
                    ('video_jobs', 'failover_reason', 'text'),
                    ('video_jobs', 'video_url', 'text'),
                    ('video_jobs', 'error_message', 'text'),
                    ('video_jobs', 'created_at', 'timestamptz'),
                    ('video_jobs', 'completed_at', 'timestamptz'),
                    ('idempotency_log', 'response', 'jsonb'),
                    ('idempotency_log', 'created_at',
                     'timestamptz DEFAULT now()'),
                    ('idempotency_log', 'fingerprint', 'text'),
                    ('idempotency_log', 'job_id', 'uuid'),
                    ('idempotency_log', 'http_status', 'integer'),
                    ('idempotency_log', 'ttl', 'interval'),
                    ('idempotency_log', 'expires_at', 'timestamptz'),
                    ('models', 'provider', 'text'),
                    ('models', 'credits_per_generation',
                     'integer NOT NULL DEFAULT 1'),
                    ('models', 'providers', 'text[]'),
                    ('provider_health_log', 'consecutive_failures',
                     'integer DEFAULT 0')
               ) AS w (tab, col, definition)
         WHERE NOT EXISTS (SELECT FROM pg_attribute a
                            WHERE a.attrelid = to_regclass(w.tab)
                              AND a.attname = w.col AND NOT a.attisdropped)
    LOOP
        EXECUTE format('ALTER TABLE %I ADD COLUMN %I %s', r.tab, r.col,
                       r.definition);
    END LOOP;
END $$;


-- What is not known yet has to be NULL; created_at tells when; a job is
-- updated a few times, which is cheap while its page has room.

DO $$
DECLARE
    r  record;
BEGIN
    FOR r IN
        SELECT a.attrelid::regclass AS tab, a.attname AS col
          FROM pg_attribute a
         WHERE a.attnotnull
           AND (a.attrelid = 'video_jobs'::regclass
                AND a.attname IN ('provider_name', 'provider_job_id',
                                  'failover_reason', 'video_url',
                                  'error_message', 'completed_at')
                OR a.attrelid = 'idempotency_log'::regclass
                AND a.attname = 'response'
                OR a.attrelid = 'models'::regclass
                AND a.attname IN ('name', 'provider'))
    LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL', r.tab,
                       r.col);
    END LOOP;

    IF NOT EXISTS (SELECT FROM pg_attribute
                    WHERE attrelid = 'video_jobs'::regclass
                      AND attname = 'created_at' AND atthasdef)
    THEN
        ALTER TABLE video_jobs ALTER COLUMN created_at SET DEFAULT now();
    END IF;

    IF NOT EXISTS (SELECT FROM pg_class c, unnest(c.reloptions) o
                    WHERE c.oid = 'video_jobs'::regclass
                      AND o LIKE 'fillfactor=%')
       AND (SELECT relkind FROM pg_class
             WHERE oid = 'video_jobs'::regclass) = 'r'
    THEN
        ALTER TABLE video_jobs SET (fillfactor = 70);
    END IF;
END $$;


-- A job by its provider's id, for jobs that others made (building it keeps
-- writers waiting: on a large table, make one before, CONCURRENTLY); the key
-- of a job's generation; what has expired; health and moves.

DO $$
DECLARE
    r  record;
BEGIN
    FOR r IN
        SELECT w.*
          FROM (VALUES
                    ('vidgen_video_jobs_provider_job_id',
                     'video_jobs (provider_job_id)'),
                    ('vidgen_idempotency_log_job_id',
                     'idempotency_log (job_id) WHERE job_id IS NOT NULL'),
                    ('vidgen_idempotency_log_expires_at',
                     'idempotency_log (expires_at)'
                     ' WHERE expires_at IS NOT NULL'),
                    ('idx_provider_health_recent',
                     'provider_health_log (provider_name, checked_at DESC)'),
                    ('vidgen_provider_health_log_checked_at',
                     'provider_health_log (checked_at)'),
                    ('vidgen_provider_failover_log_job_id',
                     'provider_failover_log (job_id)')
               ) AS w (index, definition)
         WHERE to_regclass(w.index) IS NULL
           AND NOT (w.definition = 'video_jobs (provider_job_id)'
                    AND EXISTS
                        (SELECT FROM pg_index i JOIN pg_attribute a
                             ON a.attrelid = i.indrelid
                                AND a.attnum = i.indkey[0]
                          WHERE i.indrelid = 'video_jobs'::regclass
                            AND i.indisvalid AND i.indpred IS NULL
                            AND a.attname = 'provider_job_id'))
    LOOP
        EXECUTE format('CREATE INDEX %I ON %s', r.index, r.definition);
    END LOOP;
END $$;

COMMIT;
