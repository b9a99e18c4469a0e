-- The lock of a job; from attempts to the job, and from a failed job to its
-- refund.

\set ON_ERROR_STOP 1
BEGIN;
DO $$ BEGIN PERFORM vidgen.migration(); END $$;


-- Takes the row locks of jobs and of their generations' keys, until the end of
-- the transaction.  Everybody does so in this order, after advisory locks and
-- before all others: keys, then jobs, each sorted.  Returns the jobs.

CREATE OR REPLACE FUNCTION vidgen.lock_jobs(p_jobs uuid[]) RETURNS uuid[]
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    -- one statement: of a job that appears meanwhile it locks neither

    RETURN array_remove(ARRAY(
        SELECT NULL::uuid
          FROM (SELECT FROM idempotency_log k
                 WHERE k.job_id = ANY (p_jobs)
                 ORDER BY k.idempotency_key
                   FOR NO KEY UPDATE) k
         UNION ALL
        SELECT j.id
          FROM (SELECT i.id FROM video_jobs i
                 WHERE i.id = ANY (p_jobs)
                 ORDER BY i.id
                   FOR NO KEY UPDATE) j), NULL);
END $$;


-- The same for the jobs that a caller names.  Returns them in their places,
-- NULL for one that is not there now: were it to appear during the call, it
-- would be touched without its lock.

CREATE OR REPLACE FUNCTION vidgen.lock_named_jobs(p_job uuid[]) RETURNS uuid[]
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    v_jobs  uuid[] := vidgen.lock_jobs(p_job);
BEGIN
    IF p_job <@ v_jobs THEN
        RETURN p_job;
    END IF;

    RETURN ARRAY(SELECT CASE WHEN n.job = ANY (v_jobs) THEN n.job END
                   FROM unnest(p_job) WITH ORDINALITY n (job, ord)
                  ORDER BY n.ord);
END $$;


-- Derives jobs from their attempts.  The only place where a job's status is
-- changed.  The caller holds the jobs' row locks.
--
-- Returns a row for each job that changed.  A terminal one never does; one
-- without attempts is not touched.  Of those that ended, the generation's key
-- expires after its ttl; the refund of failed ones is vidgen.refund_jobs(),
-- which the caller calls last, for balances come last in the order of locks.
--
--   completed   an attempt is; the job's provider, id and URL are those of the
--               first that was
--   processing  else, one is unknown, or open and said to be in work
--   queued      else, one is open: sending or accepted
--   failed      else; provider and error are those of the attempt that ended
--               last
--
-- An open job shows the latest accepted attempt, else the latest.

CREATE OR REPLACE FUNCTION vidgen.settle_jobs(p_jobs uuid[])
RETURNS TABLE (job_id uuid, status text)
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    v_ended  uuid[];
BEGIN
    FOR job_id, status IN
    UPDATE video_jobs j
       SET status = s.status,
           provider_name = coalesce(nullif(s.provider, ''), j.provider_name),
           provider_job_id = s.provider_job_id,
           provider_attempts = s.attempts,
           video_url = CASE WHEN s.status = 'completed' THEN s.video_url
                            ELSE j.video_url END,
           error_message = CASE WHEN s.status IN ('completed', 'failed')
                                THEN s.error ELSE j.error_message END,
           completed_at = CASE WHEN s.status = 'completed' THEN now()
                               ELSE j.completed_at END
      FROM (SELECT DISTINCT ON (x.job_id) x.*
              FROM (SELECT a.job_id, a.number, a.state, a.since, a.provider,
                           a.provider_job_id, a.video_url, a.error,
                           count(*) OVER w AS attempts,
                           CASE WHEN bool_or(a.state = 'completed') OVER w
                                THEN 'completed'
                                WHEN bool_or(a.state = 'unknown'
                                             OR a.state IN ('sending',
                                                            'accepted')
                                             AND a.progress = 'processing')
                                     OVER w
                                THEN 'processing'
                                WHEN bool_or(a.state IN ('sending',
                                                         'accepted')) OVER w
                                THEN 'queued'
                                ELSE 'failed' END AS status
                      FROM vidgen.attempts a
                     WHERE a.job_id = ANY (p_jobs)
                    WINDOW w AS (PARTITION BY a.job_id)) x
             ORDER BY x.job_id,
                      CASE x.status WHEN 'completed'
                                    THEN x.state <> 'completed'
                                    WHEN 'failed' THEN false
                                    ELSE x.state <> 'accepted' END,
                      CASE WHEN x.status = 'completed' THEN x.since END,
                      CASE WHEN x.status = 'failed' THEN x.since END DESC,
                      CASE WHEN x.status = 'completed' THEN x.number
                           ELSE - x.number END) s
     WHERE j.id = s.job_id
       AND coalesce(j.status, '') NOT IN ('completed', 'failed')
       AND (s.status IN ('completed', 'failed')
            OR (j.status, j.provider_name, j.provider_job_id,
                j.provider_attempts)
               IS DISTINCT FROM
               (s.status, coalesce(nullif(s.provider, ''), j.provider_name),
                s.provider_job_id, s.attempts))
    RETURNING j.id, j.status
    LOOP
        IF status IN ('completed', 'failed') THEN
            v_ended := v_ended || job_id;
        END IF;
        RETURN NEXT;
    END LOOP;

    IF v_ended IS NOT NULL THEN
        UPDATE idempotency_log k
           SET expires_at = now() + k.ttl
         WHERE k.job_id = ANY (v_ended) AND k.expires_at IS NULL
           AND k.ttl IS NOT NULL;
    END IF;
END $$;


-- Gives back the holds of those of the jobs that are failed and have no refund
-- yet.  The last that a transaction does: it locks balances, by user id.
--
-- Returns a row for each refund that it could not make, with what
-- vidgen.refund_credits() raised: that one stays due on the ledger, and the
-- sweep tries again.  Errors that a repetition of the whole may cure are
-- raised.

CREATE OR REPLACE FUNCTION vidgen.refund_jobs(p_jobs uuid[])
RETURNS TABLE (job_id uuid, error text)
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    v_refunds  vidgen.ledger[];
    r          record;
BEGIN
    WITH refunds AS (
        INSERT INTO vidgen.ledger (job_id, entry, user_id, amount)
        SELECT h.job_id, 'refund', h.user_id, h.amount
          FROM vidgen.ledger h JOIN video_jobs j ON j.id = h.job_id
         WHERE h.job_id = ANY (p_jobs) AND h.entry = 'hold'
           AND j.status = 'failed'
            ON CONFLICT DO NOTHING
        RETURNING ledger)
    SELECT array_agg(f.ledger ORDER BY (f.ledger).user_id, (f.ledger).job_id)
      INTO v_refunds
      FROM refunds f;

    IF v_refunds IS NULL THEN
        RETURN;
    END IF;

    -- one subtransaction for all; one for each only where one of them raised

    BEGIN
        FOR r IN SELECT f.* FROM unnest(v_refunds) f LOOP
            PERFORM vidgen.refund_credits(r.user_id, r.amount, r.job_id);
        END LOOP;
        RETURN;
    EXCEPTION WHEN OTHERS THEN
        IF vidgen.is_passing(SQLSTATE) THEN
            RAISE;
        END IF;
    END;

    FOR r IN SELECT f.* FROM unnest(v_refunds) f LOOP
        error := vidgen.refund_one(r.user_id, r.amount, r.job_id);
        IF error IS NOT NULL THEN
            UPDATE vidgen.ledger l SET refund_due = true
             WHERE l.job_id = r.job_id AND l.entry = 'refund';
            job_id := r.job_id;
            RETURN NEXT;
        END IF;
    END LOOP;
END $$;


-- Whether the credits of a failed job are still to come back.

CREATE OR REPLACE FUNCTION vidgen.refund_is_due(p_job uuid) RETURNS boolean
LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT EXISTS (SELECT FROM vidgen.ledger l
                    WHERE l.job_id = p_job AND l.entry = 'refund'
                      AND l.refund_due)
$$;


-- One refund in a subtransaction of its own.  NULL, or what was raised.

CREATE OR REPLACE FUNCTION vidgen.refund_one(p_user uuid, p_amount integer,
    p_job uuid)
RETURNS text
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM vidgen.refund_credits(p_user, p_amount, p_job);
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    IF vidgen.is_passing(SQLSTATE) THEN
        RAISE;
    END IF;
    RETURN SQLSTATE || ': ' || SQLERRM;
END $$;


-- Errors that say nothing of the call: deadlock, serialisation, resources,
-- a server that goes down.  The same call again may succeed.

CREATE OR REPLACE FUNCTION vidgen.is_passing(p_sqlstate text)
RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT left(p_sqlstate, 2) IN ('08', '40', '53', '57', '58')
           OR p_sqlstate = '55P03'
$$;


-- One job, for the operator and for tests.  Returns its status; NULL: there is
-- no such job.

CREATE OR REPLACE FUNCTION vidgen.settle(p_job uuid) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    v_status  text;
BEGIN
    IF vidgen.lock_jobs(ARRAY[p_job]) = '{}' THEN
        RETURN NULL;
    END IF;

    PERFORM vidgen.settle_jobs(ARRAY[p_job]);
    PERFORM vidgen.refund_jobs(ARRAY[p_job]);

    SELECT j.status INTO v_status FROM video_jobs j WHERE j.id = p_job;
    RETURN v_status;
END $$;

COMMIT;
