-- An operation moves on to another attempt, or gives up.  The order of locks:
-- advisory (capped providers, jobs that are not there), keys, jobs, attempts,
-- balances.

\set ON_ERROR_STOP 1
BEGIN;
DO $$ BEGIN PERFORM vidgen.migration(); END $$;


-- Ends an attempt, as its operation knows it: unsent, refused or unknown.  What
-- a webhook has shown to be accepted, or what has ended, stays so.  The caller
-- holds the job's row lock.

CREATE OR REPLACE FUNCTION vidgen.close_attempt(p_job uuid, p_attempt uuid,
    p_state text, p_http_status integer, p_reason text, p_error text)
RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE vidgen.attempts a
       SET state = p_state,
           since = CASE WHEN a.state <> p_state THEN now() ELSE a.since END,
           http_status = coalesce(p_http_status, a.http_status),
           reason = coalesce(p_reason, a.reason),
           error = coalesce(p_error, a.error),
           lease = NULL
     WHERE a.id = p_attempt AND a.job_id = p_job
       AND a.state IN ('sending', 'unknown');

    IF NOT FOUND THEN
        UPDATE vidgen.attempts a
           SET http_status = coalesce(p_http_status, a.http_status),
               lease = NULL
         WHERE a.id = p_attempt AND a.job_id = p_job AND a.lease IS NOT NULL;
    END IF;
END $$;


-- Whether a move is to a provider that has p_max_jobs open without the attempt
-- that the move closes.  A move that has been made is never.  The caller holds
-- the provider's advisory lock.

CREATE OR REPLACE FUNCTION vidgen.moves_to_full(p_attempt uuid, p_state text,
    p_next uuid, p_provider text, p_max_jobs integer)
RETURNS boolean
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    RETURN vidgen.open_at(p_provider, p_max_jobs + 1)
           - (SELECT count(*) FROM vidgen.attempts a
               WHERE a.id = p_attempt AND a.provider = p_provider
                 AND a.state = 'sending' AND p_state <> 'unknown')
           >= p_max_jobs
           AND NOT EXISTS (SELECT FROM vidgen.attempts a WHERE a.id = p_next);
END $$;


-- One move of vidgen.next_attempt(), under its locks: the outcome, and whether
-- the job has an open attempt now.

CREATE OR REPLACE FUNCTION vidgen.move_on(p_job uuid, p_attempt uuid,
    p_state text, p_http_status integer, p_reason text, p_error text,
    p_next uuid, p_provider text, p_lease_ms integer, p_max_jobs integer,
    OUT outcome text, OUT open boolean)
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    r  record;
BEGIN
    IF p_max_jobs IS NOT NULL
       AND vidgen.moves_to_full(p_attempt, p_state, p_next, p_provider,
                                p_max_jobs)
    THEN
        outcome := 'full';
        RETURN;
    END IF;

    PERFORM vidgen.close_attempt(p_job, p_attempt, p_state, p_http_status,
                                 p_reason, p_error);

    SELECT max(a.number) AS number,
           max(a.provider) FILTER (WHERE a.id = p_attempt) AS provider,
           max(a.state) FILTER (WHERE a.id = p_next) AS made,
           bool_or(a.state IN ('sending', 'accepted')
                   OR a.state = 'unknown' AND a.provider = p_provider)
           AS barred,
           bool_or(a.state IN ('sending', 'accepted', 'unknown')) AS open,
           (SELECT coalesce(j.status, '') IN ('completed', 'failed')
              FROM video_jobs j WHERE j.id = p_job) AS ended
      INTO r
      FROM vidgen.attempts a WHERE a.job_id = p_job;

    outcome := CASE WHEN r.made = 'sending' THEN 'go' ELSE 'stop' END;
    open := r.open;

    IF r.made IS NOT NULL OR r.barred OR r.ended IS DISTINCT FROM false THEN
        RETURN;
    END IF;

    INSERT INTO vidgen.attempts (id, job_id, number, provider, state, lease)
    VALUES (p_next, p_job, r.number + 1, p_provider, 'sending',
            now() + p_lease_ms * interval '1 millisecond')
        ON CONFLICT (id) DO NOTHING;

    IF NOT FOUND THEN
        RETURN;
    END IF;

    outcome := 'go';
    open := true;

    IF r.provider <> p_provider THEN
        INSERT INTO provider_failover_log (job_id, from_provider, to_provider,
                                           reason, created_at)
        VALUES (p_job, r.provider, p_provider, p_reason, now());

        UPDATE video_jobs j SET failover_reason = p_reason WHERE j.id = p_job;
    END IF;
END $$;


-- Closes an attempt and opens the next one, with the caller's id for it.
--
-- p_state, p_http_status, p_reason, p_error   of the attempt to close: unsent,
--                                             refused or unknown
-- p_next, p_provider, p_lease_ms              of the one to open
-- p_max_jobs                                  of its provider, or NULL
--
-- outcome:
--   go    the next attempt is written and may be sent
--   full  that provider has max_jobs open: nothing was written
--   stop  it is not: the job has ended or is not there, an attempt at that
--         provider is open, or another one is being sent or has been accepted
--         meanwhile.  The attempt is closed all the same, but nothing is given
--         back before vidgen.abandon().
-- status and provider are the job's.
--
-- A move to another provider writes a row of provider_failover_log.

CREATE OR REPLACE FUNCTION vidgen.next_attempt(p_job uuid[], p_attempt uuid[],
    p_state text[], p_http_status integer[], p_reason text[], p_error text[],
    p_next uuid[], p_provider text[], p_lease_ms integer[],
    p_max_jobs integer[])
RETURNS TABLE (ord integer, outcome text, status text, provider text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    v_outcomes  text[] := '{}';
    v_open      uuid[] := '{}';
    r           record;
BEGIN
    IF num_nonnulls(VARIADIC p_max_jobs) > 0 THEN
        PERFORM vidgen.lock_names(
            ARRAY(SELECT 'provider:' || n.provider
                    FROM unnest(p_provider, p_max_jobs) n (provider, max_jobs)
                   WHERE n.max_jobs IS NOT NULL));
    END IF;

    p_job := vidgen.lock_named_jobs(p_job);

    FOR i IN 1 .. cardinality(p_job) LOOP
        r := vidgen.move_on(p_job[i], p_attempt[i], p_state[i],
                            p_http_status[i], p_reason[i], p_error[i],
                            p_next[i], p_provider[i], p_lease_ms[i],
                            p_max_jobs[i]);
        v_outcomes := v_outcomes || r.outcome;
        IF r.open THEN
            v_open := v_open || p_job[i];
        END IF;
    END LOOP;

    -- not what is left without an open attempt: its operation is still there

    IF v_open <> '{}' THEN
        PERFORM vidgen.settle_jobs(v_open);
    END IF;

    RETURN QUERY
    SELECT n.ord::integer, n.outcome, j.status::text, j.provider_name::text
      FROM unnest(p_job, v_outcomes) WITH ORDINALITY n (job, outcome, ord)
      LEFT JOIN video_jobs j ON j.id = n.job
     ORDER BY n.ord;
END $$;


-- Finishes or frees the keys of jobs that have just been given up: an answer
-- that says that the request itself was refused is kept, and so is that of a
-- job which a webhook has shown to be accepted; where every attempt is unsent
-- or refused, the client may try again with the same key.

CREATE OR REPLACE FUNCTION vidgen.close_keys(p_job uuid[],
    p_answer_status integer[], p_answer_error text[], p_answer_code text[])
RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE idempotency_log k
       SET http_status = c.status,
           response = jsonb_build_object('job_id', c.job, 'error', c.error,
                                         'code', c.code)
      FROM unnest(p_job, p_answer_status, p_answer_error, p_answer_code)
           c (job, status, error, code)
      JOIN video_jobs j ON j.id = c.job
     WHERE k.job_id = c.job AND k.response IS NULL
       AND c.status = 422 AND j.status = 'failed';

    UPDATE idempotency_log k
       SET http_status = 200,
           response = jsonb_build_object('job_id', j.id,
               'provider', j.provider_name, 'status', j.status)
      FROM video_jobs j
     WHERE j.id = ANY (p_job) AND k.job_id = j.id AND k.response IS NULL
       AND j.status IN ('queued', 'processing')
       AND EXISTS (SELECT FROM vidgen.attempts a
                    WHERE a.job_id = j.id AND a.state = 'accepted');

    DELETE FROM idempotency_log k
     USING unnest(p_job, p_answer_status) c (job, status)
      JOIN video_jobs j ON j.id = c.job
     WHERE k.job_id = c.job AND k.response IS NULL
       AND c.status IS DISTINCT FROM 422 AND j.status = 'failed'
       AND NOT EXISTS (SELECT FROM vidgen.attempts a
                        WHERE a.job_id = c.job
                          AND a.state NOT IN ('unsent', 'refused'));
END $$;


-- That of before did not say what a refund raised.

DO $$
DECLARE
    v_old  regprocedure;
BEGIN
    FOR v_old IN
        SELECT p.oid FROM pg_proc p
         WHERE p.pronamespace = 'vidgen'::regnamespace
           AND p.proname = 'abandon' AND 'refund_error' <> ALL (p.proargnames)
    LOOP
        EXECUTE 'DROP FUNCTION ' || v_old;
    END LOOP;
END $$;


-- Closes the last attempt of an operation that gives up, settles its job and
-- finishes or frees the key.
--
-- p_state … p_error          of the attempt, as for vidgen.next_attempt()
-- p_answer_status, p_answer_error, p_answer_code
--                            what the client will be told
--
-- outcome:
--   closed  the job has ended: status; refunded: its credits are back
--   open    an attempt is open or unknown: credits stay held; provider is the
--           latest attempt's
--   absent  there is no such job, and no vidgen.begin() of it is under way:
--           nothing was held
-- http_status: 200 where an attempt of the job is accepted or completed, whose
-- provider is told; 202 where it is open otherwise; else NULL.
-- refund_error: vidgen.refund_credits() raised; the sweep tries again.

CREATE OR REPLACE FUNCTION vidgen.abandon(p_job uuid[], p_attempt uuid[],
    p_state text[], p_http_status integer[], p_reason text[], p_error text[],
    p_answer_status integer[], p_answer_error text[], p_answer_code text[])
RETURNS TABLE (ord integer, outcome text, status text, provider text,
               refunded boolean, http_status integer, refund_error text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    v_absent  text[];
    v_due     uuid[];
    v_errors  text[];
BEGIN
    -- a begin whose outcome the caller does not know may be committing

    v_absent := ARRAY(SELECT 'job:' || c.job FROM unnest(p_job) c (job)
                       WHERE NOT EXISTS (SELECT FROM video_jobs j
                                          WHERE j.id = c.job));
    IF v_absent <> '{}' THEN
        PERFORM vidgen.lock_names(v_absent);
    END IF;

    p_job := vidgen.lock_named_jobs(p_job);

    FOR i IN 1 .. cardinality(p_job) LOOP
        PERFORM vidgen.close_attempt(p_job[i], p_attempt[i], p_state[i],
                                     p_http_status[i], p_reason[i],
                                     p_error[i]);
    END LOOP;

    PERFORM vidgen.settle_jobs(p_job);
    PERFORM vidgen.close_keys(p_job, p_answer_status, p_answer_error,
                              p_answer_code);

    SELECT array_agg(f.job_id), array_agg(f.error) INTO v_due, v_errors
      FROM vidgen.refund_jobs(p_job) f;

    RETURN QUERY
    SELECT c.ord::integer,
           CASE WHEN j.id IS NULL THEN 'absent'
                WHEN j.status IN ('completed', 'failed') THEN 'closed'
                ELSE 'open' END,
           j.status::text,
           CASE WHEN n.http_status = 200 THEN j.provider_name::text
                ELSE (SELECT a.provider FROM vidgen.attempts a
                       WHERE a.job_id = j.id ORDER BY a.number DESC LIMIT 1)
                END,
           coalesce(j.status = 'failed', false)
           AND NOT vidgen.refund_is_due(c.job),
           n.http_status, v_errors[array_position(v_due, c.job)]
      FROM unnest(p_job) WITH ORDINALITY c (job, ord)
      LEFT JOIN video_jobs j ON j.id = c.job
     CROSS JOIN LATERAL
           (SELECT CASE WHEN j.status = 'completed' THEN 200
                        WHEN j.id IS NULL OR j.status = 'failed' THEN NULL
                        WHEN EXISTS (SELECT FROM vidgen.attempts a
                                      WHERE a.job_id = j.id
                                        AND a.state = 'accepted') THEN 200
                        ELSE 202 END AS http_status) n
     ORDER BY c.ord;
END $$;

COMMIT;
