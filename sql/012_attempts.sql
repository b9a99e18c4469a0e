-- An operation moves on to another attempt, or gives up.  The order of locks:
-- advisory (capped providers, jobs that are not there), keys, jobs, attempts,
-- balances.

\set ON_ERROR_STOP 1
BEGIN;
DO $$ BEGIN PERFORM vidgen.migration(); END $$;


-- Ends attempts, as their operation knows them: unsent, refused or unknown.
-- What a webhook has shown to be accepted, or what has ended, stays so.  The
-- caller holds the jobs' row locks.

CREATE OR REPLACE FUNCTION vidgen.close_attempts(p_job uuid[],
    p_attempt uuid[], p_state text[], p_http_status integer[],
    p_reason text[], p_error text[])
RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE vidgen.attempts a
       SET state = CASE WHEN a.state IN ('sending', 'unknown') THEN c.state
                        ELSE a.state END,
           since = CASE WHEN a.state IN ('sending', 'unknown')
                             AND a.state <> c.state
                        THEN now() ELSE a.since END,
           http_status = coalesce(c.http_status, a.http_status),
           reason = CASE WHEN a.state IN ('sending', 'unknown')
                         THEN coalesce(c.reason, a.reason)
                         ELSE a.reason END,
           error = CASE WHEN a.state IN ('sending', 'unknown')
                        THEN coalesce(c.error, a.error) ELSE a.error END,
           lease = NULL
      FROM (SELECT DISTINCT ON (x.attempt) x.*
              FROM unnest(p_job, p_attempt, p_state, p_http_status, p_reason,
                          p_error)
                   WITH ORDINALITY x (job, attempt, state, http_status, reason,
                                      error, ord)
             ORDER BY x.attempt, x.ord) c
     WHERE a.id = c.attempt AND a.job_id = c.job
       AND (a.state IN ('sending', 'unknown') OR a.lease IS NOT NULL);
END $$;


-- Of the moves in the order of the arrays: the new ids of those to a provider
-- that has max_jobs open without the attempt that is closed by the move.  The
-- caller holds the advisory locks of capped providers.  Moves of one call to
-- one provider count all, also those that will not be made.

CREATE OR REPLACE FUNCTION vidgen.moves_to_full(p_attempt uuid[],
    p_state text[], p_next uuid[], p_provider text[], p_max_jobs integer[])
RETURNS uuid[]
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    v_full   uuid[] := '{}';
    v_taken  jsonb := '{}';
    r        record;
BEGIN
    FOR r IN
        SELECT n.next, n.provider, n.max_jobs,
               EXISTS (SELECT FROM vidgen.attempts a
                        WHERE a.id = n.attempt AND a.provider = n.provider
                          AND a.state = 'sending'
                          AND n.state <> 'unknown')::integer AS closes
          FROM unnest(p_attempt, p_state, p_next, p_provider, p_max_jobs)
               WITH ORDINALITY n (attempt, state, next, provider, max_jobs,
                                  ord)
         WHERE n.max_jobs IS NOT NULL
           AND NOT EXISTS (SELECT FROM vidgen.attempts a WHERE a.id = n.next)
         ORDER BY n.ord
    LOOP
        IF NOT v_taken ? r.provider THEN
            v_taken := v_taken || jsonb_build_object(r.provider,
                                      vidgen.open_at(r.provider));
        END IF;

        IF (v_taken ->> r.provider)::integer - r.closes >= r.max_jobs THEN
            v_full := v_full || r.next;
        ELSE
            v_taken := jsonb_set(v_taken, ARRAY[r.provider],
                to_jsonb((v_taken ->> r.provider)::integer + 1 - r.closes));
        END IF;
    END LOOP;

    RETURN v_full;
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
--         provider is open, or an attempt has been accepted meanwhile.  The
--         attempt is closed all the same, but nothing is given back before
--         vidgen.abandon().
-- status and provider are the job's.
--
-- A move to another provider writes a row of provider_failover_log.

CREATE OR REPLACE FUNCTION vidgen.next_attempt(p_job uuid[], p_attempt uuid[],
    p_state text[], p_http_status integer[], p_reason text[], p_error text[],
    p_next uuid[], p_provider text[], p_lease_ms integer[],
    p_max_jobs integer[])
RETURNS TABLE (ord integer, outcome text, status text, provider text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    v_opened  uuid[];
    v_full    uuid[] := '{}';
BEGIN
    IF num_nonnulls(VARIADIC p_max_jobs) > 0 THEN
        PERFORM vidgen.lock_names(
            ARRAY(SELECT 'provider:' || n.provider
                    FROM unnest(p_provider, p_max_jobs) n (provider, max_jobs)
                   WHERE n.max_jobs IS NOT NULL));
    END IF;

    p_job := vidgen.lock_named_jobs(p_job);

    IF num_nonnulls(VARIADIC p_max_jobs) > 0 THEN
        v_full := vidgen.moves_to_full(p_attempt, p_state, p_next, p_provider,
                                       p_max_jobs);
        p_attempt := ARRAY(SELECT CASE WHEN n.next <> ALL (v_full)
                                       THEN n.attempt END
                             FROM unnest(p_attempt, p_next)
                                  WITH ORDINALITY n (attempt, next, ord)
                            ORDER BY n.ord);
    END IF;

    PERFORM vidgen.close_attempts(p_job, p_attempt, p_state, p_http_status,
                                  p_reason, p_error);

    -- one attempt of a job in one call; a second one finds it open

    WITH opened AS (
        INSERT INTO vidgen.attempts (id, job_id, number, provider, state,
                                     lease)
        SELECT n.next, n.job,
               (SELECT max(a.number) + 1 FROM vidgen.attempts a
                 WHERE a.job_id = n.job),
               n.provider, 'sending',
               now() + n.lease_ms * interval '1 millisecond'
          FROM (SELECT DISTINCT ON (x.job) x.*
                  FROM unnest(p_job, p_next, p_provider, p_lease_ms)
                       WITH ORDINALITY x (job, next, provider, lease_ms, ord)
                 ORDER BY x.job, x.ord) n
          JOIN video_jobs j ON j.id = n.job
         WHERE coalesce(j.status, '') NOT IN ('completed', 'failed')
           AND n.next <> ALL (v_full)
           AND NOT EXISTS
               (SELECT FROM vidgen.attempts a
                 WHERE a.job_id = n.job
                   AND (a.state = 'accepted'
                        OR a.provider = n.provider
                           AND a.state IN ('sending', 'unknown')))
           AND NOT EXISTS (SELECT FROM vidgen.attempts a WHERE a.id = n.next)
        RETURNING id)
    SELECT array_agg(o.id) INTO v_opened FROM opened o;

    IF v_opened IS NOT NULL THEN
        WITH moves AS (
            SELECT n.job, f.provider AS from_provider,
                   n.provider AS to_provider, n.reason
              FROM unnest(p_job, p_attempt, p_reason, p_next, p_provider)
                   n (job, attempt, reason, next, provider)
              JOIN vidgen.attempts f ON f.id = n.attempt AND f.job_id = n.job
             WHERE n.next = ANY (v_opened) AND f.provider <> n.provider
        ), logged AS (
            INSERT INTO provider_failover_log (job_id, from_provider,
                to_provider, reason, created_at)
            SELECT m.job, m.from_provider, m.to_provider, m.reason, now()
              FROM moves m)
        UPDATE video_jobs j SET failover_reason = m.reason
          FROM moves m WHERE j.id = m.job;
    END IF;

    -- what is closed and what is open now, but not what is left without an
    -- open attempt: its operation is still there

    PERFORM vidgen.settle_jobs(
        ARRAY(SELECT DISTINCT a.job_id FROM vidgen.attempts a
               WHERE a.job_id = ANY (p_job)
                 AND a.state IN ('sending', 'accepted', 'unknown')));

    RETURN QUERY
    SELECT n.ord::integer,
           CASE WHEN a.state = 'sending' THEN 'go'
                WHEN n.next = ANY (v_full) THEN 'full' ELSE 'stop' END,
           j.status::text, j.provider_name::text
      FROM unnest(p_job, p_next) WITH ORDINALITY n (job, next, ord)
      LEFT JOIN video_jobs j ON j.id = n.job
      LEFT JOIN vidgen.attempts a ON a.id = n.next AND a.job_id = n.job
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

CREATE OR REPLACE FUNCTION vidgen.abandon(p_job uuid[], p_attempt uuid[],
    p_state text[], p_http_status integer[], p_reason text[], p_error text[],
    p_answer_status integer[], p_answer_error text[], p_answer_code text[])
RETURNS TABLE (ord integer, outcome text, status text, provider text,
               refunded boolean, http_status integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    v_absent  text[];
BEGIN
    -- a begin whose outcome the caller does not know may be committing

    v_absent := ARRAY(SELECT 'job:' || c.job FROM unnest(p_job) c (job)
                       WHERE NOT EXISTS (SELECT FROM video_jobs j
                                          WHERE j.id = c.job));
    IF v_absent <> '{}' THEN
        PERFORM vidgen.lock_names(v_absent);
    END IF;

    p_job := vidgen.lock_named_jobs(p_job);

    PERFORM vidgen.close_attempts(p_job, p_attempt, p_state, p_http_status,
                                  p_reason, p_error);
    PERFORM vidgen.settle_jobs(p_job);
    PERFORM vidgen.close_keys(p_job, p_answer_status, p_answer_error,
                              p_answer_code);
    PERFORM vidgen.refund_jobs(p_job);

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
           AND NOT EXISTS (SELECT FROM vidgen.ledger l
                            WHERE l.job_id = c.job AND l.entry = 'refund'
                              AND l.refund_due),
           n.http_status
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
