-- What nobody else ends.

\set ON_ERROR_STOP 1
BEGIN;
DO $$ BEGIN PERFORM vidgen.migration(); END $$;


-- Those of before did not say which jobs have changed, nor did they know whom
-- nginx polls.

DROP FUNCTION IF EXISTS vidgen.sweep(interval, interval, integer);
DROP FUNCTION IF EXISTS vidgen.end_attempts(interval, interval, integer);


-- Whether an accepted attempt that has expired may go a step further: it has
-- no deadline yet, or that has passed and its last poll was answered.  Where
-- nobody can ask, the deadline alone decides; another nginx can whose
-- configuration has a poll for it, if ever it was polled.  Nobody waits for
-- ever.

CREATE OR REPLACE FUNCTION vidgen.may_end(a vidgen.attempts,
    p_expire interval, p_polled text[])
RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT a.deadline IS NULL
           OR a.deadline <= now()
              AND (a.last_poll IS NULL
                   OR a.provider_job_id IS NULL
                   OR p_polled IS NULL
                   OR a.polls = 0 AND a.provider <> ALL (p_polled)
                   OR a.deadline <= now()
                                    - greatest(p_expire,
                                               least(4 * p_expire,
                                                     interval '1 hour')))
$$;


-- Ends attempts whose time has come, of jobs that no other transaction has
-- locked, and settles these.  Returns the counts, the jobs that changed, and
-- those of them that failed.
--
--   sending   whose lease is over     unknown, never unsent
--   unknown   for p_unknown           lost
--   accepted  for p_expire            due for a last poll, then lost, with
--                                     ten minutes between, or p_expire if that
--                                     is less

CREATE OR REPLACE FUNCTION vidgen.end_attempts(p_unknown interval,
    p_expire interval, p_limit integer, p_polled text[], OUT unknown integer,
    OUT last_polls integer, OUT lost integer, OUT changed uuid[],
    OUT failed uuid[])
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    v_jobs  uuid[];
BEGIN
    unknown := 0;
    last_polls := 0;
    lost := 0;
    changed := '{}';
    failed := '{}';

    SELECT array_agg(DISTINCT x.job_id ORDER BY x.job_id) INTO v_jobs
      FROM ((SELECT a.job_id FROM vidgen.attempts a
              WHERE a.state = 'sending' AND a.lease <= now()
              LIMIT p_limit)
            UNION ALL
            (SELECT a.job_id FROM vidgen.attempts a
              WHERE a.state = 'unknown' AND a.since <= now() - p_unknown
              LIMIT p_limit)
            UNION ALL
            (SELECT a.job_id FROM vidgen.attempts a
              WHERE a.state = 'accepted' AND a.since <= now() - p_expire
                AND vidgen.may_end(a, p_expire, p_polled)
              LIMIT p_limit)) x;

    IF v_jobs IS NULL THEN
        RETURN;
    END IF;

    -- as vidgen.lock_jobs() does, but without waiting for a job

    PERFORM FROM idempotency_log k
      WHERE k.job_id = ANY (v_jobs)
      ORDER BY k.idempotency_key
        FOR NO KEY UPDATE;

    v_jobs := ARRAY(SELECT j.id FROM video_jobs j
                     WHERE j.id = ANY (v_jobs)
                     ORDER BY j.id
                       FOR NO KEY UPDATE SKIP LOCKED);

    WITH ended AS (
        UPDATE vidgen.attempts a
           SET state = CASE WHEN a.state = 'sending' THEN 'unknown'
                            WHEN a.state = 'accepted' AND a.deadline IS NULL
                            THEN a.state
                            ELSE 'lost' END,
               since = CASE WHEN a.state = 'accepted' AND a.deadline IS NULL
                            THEN a.since ELSE now() END,
               error = CASE WHEN a.state = 'unknown'
                            THEN coalesce(a.error, 'no result came')
                            WHEN a.state = 'accepted'
                                 AND a.deadline IS NOT NULL
                            THEN 'no result came' ELSE a.error END,
               lease = NULL,
               due = CASE WHEN a.state = 'accepted' AND a.deadline IS NULL
                          THEN now() END,
               deadline = CASE WHEN a.state = 'accepted'
                                    AND a.deadline IS NULL
                               THEN now() + least(p_expire,
                                                  interval '10 minutes') END,
               last_poll = CASE WHEN a.state = 'accepted'
                                     AND a.deadline IS NULL
                                THEN a.polls END
         WHERE a.job_id = ANY (v_jobs)
           AND (a.state = 'sending' AND a.lease <= now()
                OR a.state = 'unknown' AND a.since <= now() - p_unknown
                OR a.state = 'accepted' AND a.since <= now() - p_expire
                   AND vidgen.may_end(a, p_expire, p_polled))
        RETURNING a.state)
    SELECT count(*) FILTER (WHERE e.state = 'unknown'),
           count(*) FILTER (WHERE e.state = 'accepted'),
           count(*) FILTER (WHERE e.state = 'lost')
      INTO unknown, last_polls, lost
      FROM ended e;

    SELECT coalesce(array_agg(s.job_id), '{}'),
           coalesce(array_agg(s.job_id) FILTER (WHERE s.status = 'failed'),
                    '{}')
      INTO changed, failed
      FROM vidgen.settle_jobs(v_jobs) s;
END $$;


-- Makes refunds that are due: of the jobs given, and those where
-- vidgen.refund_credits() raised before.  Users in the order of their id, each
-- in a subtransaction of its own.

CREATE OR REPLACE FUNCTION vidgen.make_refunds(p_failed uuid[],
    p_limit integer, OUT refunds integer, OUT refund_errors integer)
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    r  record;
BEGIN
    refunds := 0;
    refund_errors := 0;

    IF p_failed <> '{}' THEN
        INSERT INTO vidgen.ledger (job_id, entry, user_id, amount, refund_due)
        SELECT h.job_id, 'refund', h.user_id, h.amount, true
          FROM vidgen.ledger h
         WHERE h.job_id = ANY (p_failed) AND h.entry = 'hold'
            ON CONFLICT DO NOTHING;
    END IF;

    FOR r IN
        SELECT d.*
          FROM (SELECT l.job_id, l.user_id, l.amount
                  FROM vidgen.ledger l
                 WHERE l.entry = 'refund' AND l.refund_due
                 ORDER BY l.job_id <> ALL (p_failed), l.created_at
                 LIMIT p_limit + cardinality(p_failed)
                   FOR NO KEY UPDATE SKIP LOCKED) d
         ORDER BY d.user_id, d.job_id
    LOOP
        IF vidgen.refund_one(r.user_id, r.amount, r.job_id) IS NULL THEN
            UPDATE vidgen.ledger l SET refund_due = false
             WHERE l.job_id = r.job_id AND l.entry = 'refund';
            refunds := refunds + 1;
        ELSE
            refund_errors := refund_errors + 1;
        END IF;
    END LOOP;
END $$;


-- To be called every now and then, by anybody, also by several at a time.
--
-- p_unknown   how long an attempt may be unknown before it is lost
-- p_expire    how long an accepted one may last before its last poll
-- p_limit     of each kind of thing in one call
-- p_polled    providers that can be polled, as for vidgen.due(); NULL: none, so
--             that the deadline alone decides
--
--   unknown, last_polls, lost   attempts; last_polls are due now
--   refunds, refund_errors      made; still due
--   keys, parked, health        rows deleted: expired, 30 days old
--   orphans                     parked results that belong to nothing yet
--   refunds_due                 refunds not made yet
--   more                        a limit was reached: call again
--   changed                     the jobs that are not what they were

CREATE OR REPLACE FUNCTION vidgen.sweep(p_unknown interval, p_expire interval,
    p_limit integer, p_polled text[] DEFAULT NULL)
RETURNS TABLE (unknown integer, last_polls integer, lost integer,
               refunds integer, refund_errors integer, keys integer,
               parked integer, health integer, orphans integer,
               refunds_due integer, more boolean, changed uuid[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    v_ended  record;
    v_made   record;
BEGIN
    SELECT * INTO v_ended
      FROM vidgen.end_attempts(p_unknown, p_expire, p_limit, p_polled);
    unknown := v_ended.unknown;
    last_polls := v_ended.last_polls;
    lost := v_ended.lost;
    changed := v_ended.changed;

    SELECT * INTO v_made FROM vidgen.make_refunds(v_ended.failed, p_limit);
    refunds := v_made.refunds;
    refund_errors := v_made.refund_errors;

    -- last, for who holds locks of these rows may not wait for others

    DELETE FROM idempotency_log l
     WHERE l.idempotency_key = ANY (ARRAY(
               SELECT x.idempotency_key FROM idempotency_log x
                WHERE x.expires_at <= now()
                ORDER BY x.expires_at LIMIT p_limit FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS keys = ROW_COUNT;

    DELETE FROM vidgen.parked p
     WHERE p.id = ANY (ARRAY(
               SELECT x.id FROM vidgen.parked x
                WHERE x.received <= now() - interval '30 days'
                ORDER BY x.received LIMIT p_limit FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS parked = ROW_COUNT;

    DELETE FROM provider_health_log h
     WHERE h.id = ANY (ARRAY(
               SELECT x.id FROM provider_health_log x
                WHERE x.checked_at <= now() - interval '30 days'
                ORDER BY x.checked_at LIMIT p_limit FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS health = ROW_COUNT;

    SELECT count(*) INTO orphans FROM vidgen.parked p WHERE p.adopted IS NULL;
    SELECT count(*) INTO refunds_due
      FROM vidgen.ledger l WHERE l.refund_due;

    more := greatest(unknown, last_polls, lost, keys, parked, health)
            >= p_limit;

    RETURN NEXT;
END $$;


-- of what may have been made anew while nginx is at work

DO $$
BEGIN
    PERFORM vidgen.make_private(
        'FUNCTION vidgen.may_end(vidgen.attempts, interval, text[])');
    PERFORM vidgen.make_private(
        'FUNCTION vidgen.end_attempts(interval, interval, integer, text[])');
    PERFORM vidgen.make_private(
        'FUNCTION vidgen.sweep(interval, interval, integer, text[])');
END $$;

GRANT EXECUTE ON FUNCTION vidgen.sweep(interval, interval, integer, text[])
    TO vidgen_edge;

COMMIT;
