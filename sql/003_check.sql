-- Stops where an older table has not what the functions rely on, with a
-- sentence that says what to do.

\set ON_ERROR_STOP 1
BEGIN;
DO $$ BEGIN PERFORM vidgen.migration(); END $$;


-- Columns: there, and of a type that takes the values.

DO $$
DECLARE
    r  record;
BEGIN
    FOR r IN
        SELECT w.tab, w.col, w.kind, a.atttypid::regtype AS type,
               CASE WHEN a.atttypid = 'varchar'::regtype AND a.atttypmod > 0
                    THEN a.atttypmod - 4 END AS length
          FROM (VALUES
                    ('video_jobs', 'id', 'uuid', 0),
                    ('video_jobs', 'user_id', 'uuid', 0),
                    ('video_jobs', 'model_id', 'text', 255),
                    ('video_jobs', 'prompt', 'text', 16384),
                    ('video_jobs', 'provider_name', 'text', 63),
                    ('video_jobs', 'provider_job_id', 'text', 255),
                    ('video_jobs', 'status', 'text', 10),
                    ('video_jobs', 'credits_used', 'number', 0),
                    ('video_jobs', 'provider_attempts', 'number', 0),
                    ('video_jobs', 'failover_reason', 'text', 20),
                    ('video_jobs', 'video_url', 'text', 2048),
                    ('video_jobs', 'error_message', 'text', 2048),
                    ('video_jobs', 'created_at', 'time', 0),
                    ('video_jobs', 'completed_at', 'time', 0),
                    ('idempotency_log', 'idempotency_key', 'text', 73),
                    ('idempotency_log', 'response', 'json', 0),
                    ('idempotency_log', 'created_at', 'time', 0),
                    ('idempotency_log', 'fingerprint', 'text', 64),
                    ('idempotency_log', 'job_id', 'uuid', 0),
                    ('idempotency_log', 'http_status', 'number', 0),
                    ('idempotency_log', 'ttl', 'interval', 0),
                    ('idempotency_log', 'expires_at', 'time', 0),
                    ('models', 'id', 'text', 1),
                    ('models', 'provider', 'text', 1),
                    ('models', 'credits_per_generation', 'number', 0),
                    ('models', 'providers', 'text[]', 0),
                    ('provider_failover_log', 'job_id', 'uuid', 0),
                    ('provider_failover_log', 'from_provider', 'text', 63),
                    ('provider_failover_log', 'to_provider', 'text', 63),
                    ('provider_failover_log', 'reason', 'text', 20),
                    ('provider_failover_log', 'created_at', 'time', 0),
                    ('provider_health_log', 'id', 'number', 0),
                    ('provider_health_log', 'provider_name', 'text', 63),
                    ('provider_health_log', 'status', 'text', 8),
                    ('provider_health_log', 'response_time_ms', 'number', 0),
                    ('provider_health_log', 'consecutive_failures', 'number',
                     0),
                    ('provider_health_log', 'checked_at', 'time', 0)
               ) AS w (tab, col, kind, length)
          LEFT JOIN pg_attribute a
            ON a.attrelid = to_regclass(w.tab) AND a.attname = w.col
               AND NOT a.attisdropped AND a.attnum > 0
         WHERE a.attname IS NULL
            OR a.atttypid::regtype::text <> ALL (CASE w.kind
                   WHEN 'text' THEN ARRAY['text', 'character varying']
                   WHEN 'number' THEN ARRAY['integer', 'bigint', 'numeric',
                                            'smallint']
                   WHEN 'time' THEN ARRAY['timestamp with time zone',
                                          'timestamp without time zone']
                   WHEN 'json' THEN ARRAY['jsonb', 'json']
                   ELSE ARRAY[w.kind] END)
            OR a.atttypid = 'varchar'::regtype AND a.atttypmod > 0
               AND a.atttypmod - 4 < w.length
    LOOP
        IF r.type IS NULL THEN
            RAISE EXCEPTION 'vidgen: table %.% has no column "%"',
                vidgen.tables_schema(), r.tab, r.col;
        ELSIF r.length IS NOT NULL THEN
            RAISE EXCEPTION 'vidgen: column "%" of table %.% is too short:'
                ' ALTER TABLE % ALTER COLUMN % TYPE text', r.col,
                vidgen.tables_schema(), r.tab, r.tab, r.col;
        END IF;
        RAISE EXCEPTION 'vidgen: column "%" of table %.% is of type %, and'
            ' not of %', r.col, vidgen.tables_schema(), r.tab, r.type, r.kind;
    END LOOP;
END $$;


-- Columns that we know nothing of must not want a value.

DO $$
DECLARE
    r  record;
BEGIN
    FOR r IN
        SELECT w.tab, a.attname AS col
          FROM (VALUES
                    ('video_jobs', ARRAY['id', 'user_id', 'model_id', 'prompt',
                        'provider_name', 'status', 'credits_used',
                        'provider_attempts', 'created_at']),
                    ('idempotency_log', ARRAY['idempotency_key', 'created_at']),
                    ('provider_failover_log', ARRAY['job_id', 'from_provider',
                        'to_provider', 'reason', 'created_at']),
                    ('provider_health_log', ARRAY['provider_name', 'status',
                        'response_time_ms', 'consecutive_failures',
                        'checked_at'])
               ) AS w (tab, given)
          JOIN pg_attribute a ON a.attrelid = to_regclass(w.tab)
         WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull
           AND NOT a.atthasdef AND a.attidentity = '' AND a.attgenerated = ''
           AND a.attname <> ALL (w.given)
    LOOP
        RAISE EXCEPTION 'vidgen: column "%" of table %.% is NOT NULL and has'
            ' no default: give it one, for the functions do not know it',
            r.col, vidgen.tables_schema(), r.tab;
    END LOOP;
END $$;


-- The owner of the functions has to see every row.

DO $$
DECLARE
    v_table  text;
BEGIN
    SELECT c.oid::regclass INTO v_table
      FROM unnest(ARRAY['video_jobs', 'idempotency_log', 'models',
                        'provider_health_log', 'provider_failover_log']) t
      JOIN pg_class c ON c.oid = to_regclass(t)
      JOIN pg_roles r ON r.rolname = current_user
     WHERE c.relrowsecurity AND NOT r.rolsuper AND NOT r.rolbypassrls
       AND (c.relforcerowsecurity OR c.relowner <> r.oid)
     LIMIT 1;

    IF FOUND THEN
        RAISE EXCEPTION 'vidgen: row security of table % hides rows from "%",'
            ' which owns the functions: ALTER TABLE % OWNER TO %, NO FORCE'
            ' ROW LEVEL SECURITY', v_table, current_user, v_table,
            quote_ident(current_user);
    END IF;
END $$;

COMMIT;
