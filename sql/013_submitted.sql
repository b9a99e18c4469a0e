-- A provider has accepted an attempt.  The order of locks: advisory (provider
-- and id), keys, jobs, attempts, balances.

\set ON_ERROR_STOP 1
BEGIN;
DO $$ BEGIN PERFORM vidgen.migration(); END $$;


-- Writes what the provider answered to its attempts.  An attempt whose id is
-- another's becomes unknown: vidgen.submitted() says why.

CREATE OR REPLACE FUNCTION vidgen.accept_attempts(p_job uuid[],
    p_attempt uuid[], p_provider_job_id text[], p_progress text[],
    p_kept jsonb[], p_http_status integer[], p_estimated_time integer[],
    p_due_ms integer[])
RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE vidgen.attempts a
       SET state = n.state,
           provider_job_id = CASE WHEN g.taken THEN a.provider_job_id
                                  ELSE coalesce(a.provider_job_id,
                                                g.provider_job_id) END,
           progress = CASE WHEN g.progress = 'processing' AND NOT g.taken
                           THEN g.progress ELSE a.progress END,
           kept = coalesce(g.kept, a.kept),
           http_status = coalesce(g.http_status, a.http_status),
           estimated_time = coalesce(g.estimated_time, a.estimated_time),
           reason = CASE WHEN n.state = 'accepted' THEN NULL
                         WHEN g.taken THEN 'invalid_answer'
                         ELSE a.reason END,
           error = CASE WHEN n.state = 'accepted' THEN NULL
                        WHEN g.taken
                        THEN 'the provider''s job id is another attempt''s'
                        ELSE a.error END,
           since = CASE WHEN n.state <> a.state THEN now() ELSE a.since END,
           due = CASE WHEN n.state = 'accepted'
                      THEN coalesce(a.due, now() + g.due_ms
                                           * interval '1 millisecond') END,
           lease = NULL
      FROM (SELECT c.*, t.id AS id, t.state AS was,
                   j.status IN ('completed', 'failed') AS ended,
                   t.provider_job_id IS NULL AND c.provider_job_id IS NOT NULL
                   AND (row_number() OVER (PARTITION BY t.provider,
                                               c.provider_job_id
                                           ORDER BY c.ord) > 1
                        OR EXISTS (SELECT FROM vidgen.attempts o
                                    WHERE o.provider = t.provider
                                      AND o.provider_job_id
                                          = c.provider_job_id)) AS taken
              FROM (SELECT DISTINCT ON (x.attempt) x.*
                      FROM unnest(p_job, p_attempt, p_provider_job_id,
                                  p_progress, p_kept, p_http_status,
                                  p_estimated_time, p_due_ms)
                           WITH ORDINALITY x (job, attempt, provider_job_id,
                                              progress, kept, http_status,
                                              estimated_time, due_ms, ord)
                     ORDER BY x.attempt, x.ord) c
              JOIN vidgen.attempts t ON t.id = c.attempt AND t.job_id = c.job
              JOIN video_jobs j ON j.id = c.job) g,
           LATERAL (SELECT CASE
                    WHEN g.taken
                    THEN CASE WHEN g.was = 'sending' THEN 'unknown'
                              ELSE g.was END
                    WHEN g.was IN ('sending', 'unknown')
                         OR g.was IN ('unsent', 'refused', 'lost')
                            AND g.ended IS NOT TRUE
                    THEN 'accepted' ELSE g.was END AS state) n
     WHERE a.id = g.id;
END $$;


-- The answers to vidgen.submitted(): as stored under the key, else from the job
-- and the attempt as they are.  504: the job has failed, but its credits are
-- not back yet.

CREATE OR REPLACE FUNCTION vidgen.answers(p_job uuid[], p_attempt uuid[],
    p_provider_job_id text[])
RETURNS TABLE (ord integer, outcome text, job_id uuid, http_status integer,
               provider text, status text, estimated_time integer, error text,
               code text, stored boolean)
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT c.ord::integer,
           CASE WHEN a.id IS NULL THEN 'absent'
                WHEN n.http_status = 202 AND a.provider_job_id IS NULL
                     AND c.provider_job_id IS NOT NULL THEN 'duplicate_id'
                ELSE 'recorded' END,
           j.id,
           CASE WHEN k.response IS NOT NULL THEN k.http_status
                ELSE n.http_status END,
           CASE WHEN k.response IS NOT NULL THEN k.response ->> 'provider'
                WHEN n.http_status < 500 THEN a.provider END,
           CASE WHEN k.response IS NOT NULL THEN k.response ->> 'status'
                WHEN n.http_status = 200 THEN j.status::text
                WHEN n.http_status = 202 THEN 'processing' END,
           CASE WHEN k.response IS NOT NULL
                THEN (k.response ->> 'estimated_time')::integer
                WHEN n.http_status = 200 THEN a.estimated_time END,
           CASE WHEN k.response IS NOT NULL THEN k.response ->> 'error'
                WHEN n.http_status = 502 THEN 'the generation failed' END,
           CASE WHEN k.response IS NOT NULL THEN k.response ->> 'code'
                WHEN n.http_status = 502 THEN 'provider_failed'
                WHEN n.http_status = 504 THEN 'outcome_unknown' END,
           k.response IS NOT NULL
      FROM unnest(p_job, p_attempt, p_provider_job_id)
           WITH ORDINALITY c (job, attempt, provider_job_id, ord)
      LEFT JOIN vidgen.attempts a ON a.id = c.attempt AND a.job_id = c.job
      LEFT JOIN video_jobs j ON j.id = a.job_id
      LEFT JOIN LATERAL
           (SELECT l.response::jsonb AS response, l.http_status
              FROM idempotency_log l WHERE l.job_id = j.id LIMIT 1) k ON true
     CROSS JOIN LATERAL
           (SELECT CASE WHEN j.id IS NULL THEN NULL
                        WHEN j.status = 'failed'
                        THEN CASE WHEN vidgen.refund_is_due(j.id) THEN 504
                                  ELSE 502 END
                        WHEN j.status = 'completed' OR a.state = 'accepted'
                        THEN 200
                        ELSE 202 END AS http_status) n
     ORDER BY c.ord;
END $$;


-- That of before did not say what a refund raised.

DO $$
DECLARE
    v_old  regprocedure;
BEGIN
    FOR v_old IN
        SELECT p.oid FROM pg_proc p
         WHERE p.pronamespace = 'vidgen'::regnamespace
           AND p.proname = 'submitted' AND 'refund_error' <> ALL (p.proargnames)
    LOOP
        EXECUTE 'DROP FUNCTION ' || v_old;
    END LOOP;
END $$;


-- Records the provider's job id of an attempt, consumes what was parked for it
-- and finishes the generation's key with the answer.
--
-- p_progress   of the provider's answer: queued, processing, or NULL
-- p_kept       object of texts for polls, or NULL
-- p_due_ms     first poll in so many milliseconds; NULL: when it is overdue
--
-- outcome:
--   recorded      http_status 200 with job_id, provider, estimated_time and the
--                 job's status; 502 with error and code where the job failed
--                 (what was parked said so, or it had failed before), 504 with
--                 code where its refund is still due; 202 with status
--                 processing where this attempt has ended without a result and
--                 another one is open.  200 is stored under the key.
--   duplicate_id  another attempt has that id at this provider: an answer that
--                 cannot be true.  The attempt is unknown (reason
--                 invalid_answer), as one without an id would be: 202
--   absent        there is no such attempt of this job
-- refund_error: the job failed and vidgen.refund_credits() raised; the sweep
-- tries again
--
-- The same call again returns what is stored under the key, or, without a key,
-- the job as it is now.  An attempt that has ended by then stays so, and one
-- that has learnt another id by a webhook keeps it.

CREATE OR REPLACE FUNCTION vidgen.submitted(p_job uuid[], p_attempt uuid[],
    p_provider_job_id text[], p_progress text[], p_kept jsonb[],
    p_http_status integer[], p_estimated_time integer[], p_due_ms integer[])
RETURNS TABLE (ord integer, outcome text, job_id uuid, http_status integer,
               provider text, status text, estimated_time integer, error text,
               code text, refund_error text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    v_names   text[];
    v_failed  uuid[];
    v_due     uuid[];
    v_errors  text[];
BEGIN
    -- the attempts that are there: no other is touched, the locks are theirs

    SELECT array_agg(a.id ORDER BY c.ord),
           array_agg('result:' || a.provider || ':' || c.provider_job_id)
      INTO p_attempt, v_names
      FROM unnest(p_job, p_attempt, p_provider_job_id) WITH ORDINALITY
           c (job, attempt, provider_job_id, ord)
      LEFT JOIN vidgen.attempts a ON a.id = c.attempt AND a.job_id = c.job;

    PERFORM vidgen.lock_names(v_names);

    p_job := vidgen.lock_named_jobs(p_job);

    PERFORM vidgen.accept_attempts(p_job, p_attempt, p_provider_job_id,
        p_progress, p_kept, p_http_status, p_estimated_time, p_due_ms);
    PERFORM vidgen.settle_jobs(p_job);

    v_failed := vidgen.take_parked(p_attempt, p_provider_job_id);

    IF EXISTS (SELECT FROM idempotency_log k
                WHERE k.job_id = ANY (p_job) AND k.response IS NULL)
    THEN
        UPDATE idempotency_log k
           SET http_status = n.http_status,
               response = jsonb_strip_nulls(jsonb_build_object(
                   'job_id', n.job_id, 'provider', n.provider,
                   'status', n.status, 'estimated_time', n.estimated_time))
          FROM vidgen.answers(p_job, p_attempt, p_provider_job_id) n
         WHERE k.job_id = n.job_id AND k.response IS NULL AND NOT n.stored
           AND n.http_status = 200;
    END IF;

    IF v_failed <> '{}' THEN
        SELECT array_agg(f.job_id), array_agg(f.error) INTO v_due, v_errors
          FROM vidgen.refund_jobs(v_failed) f;
    END IF;

    RETURN QUERY
    SELECT n.ord, n.outcome, n.job_id, n.http_status, n.provider, n.status,
           n.estimated_time, n.error, n.code,
           v_errors[array_position(v_due, n.job_id)]
      FROM vidgen.answers(p_job, p_attempt, p_provider_job_id) n;
END $$;

COMMIT;
