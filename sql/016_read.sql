-- What is only read.

\set ON_ERROR_STOP 1
BEGIN;
DO $$ BEGIN PERFORM vidgen.migration(); END $$;


-- The first call on each connection.
--
--   schema_version     of these migrations
--   system_identifier  and
--   timeline           of the server: others after a promotion or a restore
--   clock_ms           its clock, milliseconds since the epoch
--   backend_pid        another than the client's own idea of it: a pooler
--   warnings           '' or sentences about settings that break a promise

CREATE OR REPLACE FUNCTION vidgen.hello()
RETURNS TABLE (schema_version integer, system_identifier text,
               timeline integer, clock_ms bigint, backend_pid integer,
               warnings text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_column
BEGIN
    schema_version := 1;

    SELECT s.system_identifier::text INTO system_identifier
      FROM pg_control_system() s;

    -- in recovery there is no timeline to write on

    timeline := CASE WHEN pg_is_in_recovery()
        THEN (SELECT c.timeline_id FROM pg_control_checkpoint() c)
        ELSE ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))
             ::bit(32)::integer END;

    clock_ms := extract(epoch FROM clock_timestamp()) * 1000;
    backend_pid := pg_backend_pid();

    warnings := concat_ws(', ',
        CASE WHEN current_setting('synchronous_commit') = 'off'
             THEN 'synchronous_commit is off: the last answers given before a'
                  ' crash may be lost' END,
        CASE WHEN current_setting('fsync') = 'off'
             THEN 'fsync is off: a crash may lose or break the data' END,
        CASE WHEN current_setting('transaction_isolation') <> 'read committed'
             THEN 'default_transaction_isolation must be "read committed"'
             END);

    RETURN NEXT;
END $$;


-- Jobs as the user sees them; p_user NULL: whoever's.  One row for each
-- ordinal; job_id NULL: no such job, or another user's.

CREATE OR REPLACE FUNCTION vidgen.job(p_job uuid[], p_user uuid[])
RETURNS TABLE (ord integer, job_id uuid, provider text, status text,
               video_url text, error text, estimated_time integer,
               provider_attempts integer, credits_used integer,
               created_at text, completed_at text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT q.ord::integer, j.id, j.provider_name::text, j.status::text,
           j.video_url::text, j.error_message::text,
           (SELECT a.estimated_time FROM vidgen.attempts a
             WHERE a.job_id = j.id AND a.estimated_time IS NOT NULL
             ORDER BY a.state IN ('accepted', 'completed') DESC, a.number DESC
             LIMIT 1),
           (SELECT count(*)::integer FROM vidgen.attempts a
             WHERE a.job_id = j.id),
           j.credits_used::integer,
           to_char(j.created_at::timestamptz AT TIME ZONE 'UTC',
                   'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
           to_char(j.completed_at::timestamptz AT TIME ZONE 'UTC',
                   'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
      FROM unnest(p_job, p_user) WITH ORDINALITY AS q (job, owner, ord)
      LEFT JOIN video_jobs j
        ON j.id = q.job AND (q.owner IS NULL OR j.user_id = q.owner)
     ORDER BY q.ord;
END $$;


-- The latest entry of the health log about a provider.

DO $$
BEGIN
    IF to_regprocedure('get_provider_health(text)') IS NULL THEN
        CREATE FUNCTION get_provider_health(p_provider_name text)
        RETURNS jsonb LANGUAGE plpgsql STABLE SECURITY DEFINER
        SET search_path FROM CURRENT AS $f$
        DECLARE
            v_latest  record;
        BEGIN
            SELECT h.* INTO v_latest FROM provider_health_log h
             WHERE h.provider_name = p_provider_name
             ORDER BY h.checked_at DESC LIMIT 1;

            RETURN jsonb_build_object(
                'provider', p_provider_name,
                'status', v_latest.status,
                'last_check', v_latest.checked_at,
                'response_time', v_latest.response_time_ms);
        END $f$;
        PERFORM vidgen.make_private('FUNCTION get_provider_health(text)');
    END IF;
END $$;

COMMIT;
