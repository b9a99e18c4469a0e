-- Results from webhooks and polls.  The order of locks: advisory (provider and
-- id, only where an event's attempt is not known by its id), keys, jobs,
-- attempts, balances.

\set ON_ERROR_STOP 1
BEGIN;
DO $$ BEGIN PERFORM vidgen.migration(); END $$;


-- Finds the attempts of events: by the hint of their URL, else by (provider,
-- provider's id).

CREATE OR REPLACE FUNCTION vidgen.find_attempts(p_events vidgen.event[],
    p_hints uuid[])
RETURNS vidgen.event[]
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    RETURN (
    SELECT array_agg(ROW(e.ord, e.provider, e.provider_job_id, e.status,
                         e.verdict, e.video_url, e.error, e.digest, e.first,
                         e.ttl_ms, e.source, coalesce(h.job_id, b.job_id),
                         coalesce(h.id, b.id),
                         h.provider_job_id IS NULL AND h.id <> b.id,
                         CASE WHEN h.id IS NULL THEN b.id IS NOT NULL
                              ELSE h.provider_job_id IS NOT NULL
                                   OR e.provider_job_id IS NULL END
                        )::vidgen.event ORDER BY e.ord)
      FROM unnest(p_events) e
      LEFT JOIN vidgen.attempts h ON h.id = p_hints[e.ord]
      LEFT JOIN vidgen.attempts b
        ON b.provider = e.provider AND b.provider_job_id = e.provider_job_id
    );
END $$;


-- Of attempts that would learn the same id from one call, the first may.

CREATE OR REPLACE FUNCTION vidgen.teach_once(p_events vidgen.event[])
RETURNS vidgen.event[]
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    r  record;
BEGIN
    FOR r IN
        SELECT x.i
          FROM (SELECT e.ordinality AS i, e.attempt,
                       first_value(e.attempt) OVER
                           (PARTITION BY e.provider, e.provider_job_id
                            ORDER BY e.ordinality) AS first
                  FROM unnest(p_events) WITH ORDINALITY e
                 WHERE NOT e.sure AND e.attempt IS NOT NULL
                   AND e.provider_job_id IS NOT NULL) x
         WHERE x.attempt <> x.first
    LOOP
        p_events[r.i].taken := true;
    END LOOP;

    RETURN p_events;
END $$;


-- Jobs that others made: in flight at the migration with no provider's name, or
-- inserted by the user's own application.  Exactly one job without attempts
-- must fit.  Called with the advisory locks of the events' ids; fills in the
-- job, and the attempt where there is one.

CREATE OR REPLACE FUNCTION vidgen.find_strangers(p_events vidgen.event[])
RETURNS vidgen.event[]
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    r  record;
BEGIN
    FOR r IN
        SELECT e.ordinality AS i, a.id AS attempt, a.job_id,
               s.jobs
          FROM unnest(p_events) WITH ORDINALITY e
          LEFT JOIN vidgen.attempts a
            ON e.first AND a.provider = ''
               AND a.provider_job_id = e.provider_job_id
          LEFT JOIN LATERAL
               (SELECT array_agg(j.id) AS jobs
                  FROM video_jobs j
                 WHERE j.provider_job_id = e.provider_job_id
                   AND (j.provider_name = e.provider
                        OR j.provider_name IS NULL AND e.first)
                   AND NOT EXISTS (SELECT FROM vidgen.attempts o
                                    WHERE o.job_id = j.id)) s ON true
         WHERE e.attempt IS NULL AND e.provider_job_id IS NOT NULL
    LOOP
        IF r.attempt IS NOT NULL THEN
            p_events[r.i].attempt := r.attempt;
            p_events[r.i].job := r.job_id;
        ELSIF cardinality(r.jobs) = 1 THEN
            p_events[r.i].job := r.jobs[1];
        END IF;
    END LOOP;

    RETURN p_events;
END $$;


-- Keeps events that belong to nothing known while some attempt of their
-- provider has no id yet, so that vidgen.submitted() finds them.  Called with
-- the advisory locks of the events' ids.  Returns their outcomes.

CREATE OR REPLACE FUNCTION vidgen.park(p_events vidgen.event[], p_body text[])
RETURNS vidgen.applied[]
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    v_results  vidgen.applied[];
    v_parked   boolean;
    e          vidgen.event;
BEGIN
    FOREACH e IN ARRAY p_events LOOP
        v_parked := e.provider_job_id IS NOT NULL
                    AND EXISTS (SELECT FROM vidgen.attempts a
                                 WHERE a.provider = e.provider
                                   AND a.state IN ('sending', 'unknown'));

        IF v_parked THEN
            INSERT INTO vidgen.parked AS p (provider, provider_job_id, status,
                verdict, video_url, error, digest, body, ttl_ms)
            VALUES (e.provider, e.provider_job_id,
                    coalesce(e.status, 'unknown'),
                    e.verdict AND e.status IS NOT NULL, e.video_url, e.error,
                    e.digest, p_body[e.ord], e.ttl_ms)
                ON CONFLICT (provider, provider_job_id, status) DO UPDATE
                   SET verdict = true, video_url = excluded.video_url,
                       error = excluded.error, digest = excluded.digest,
                       body = excluded.body
                 WHERE excluded.verdict AND NOT p.verdict;
        END IF;

        v_results := v_results
            || ROW(e.ord, CASE WHEN v_parked THEN 'parked' ELSE 'not_found' END,
                   NULL, NULL, NULL, false, false, false, NULL, NULL, false
                  )::vidgen.applied;
    END LOOP;

    RETURN v_results;
END $$;

-- The attempts of events, under the jobs' row locks that it takes.

CREATE OR REPLACE FUNCTION vidgen.find_and_lock(p_events vidgen.event[],
    p_hints uuid[])
RETURNS vidgen.event[]
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    p_events := vidgen.find_attempts(p_events, p_hints);

    -- What is not found may just be recorded by vidgen.submitted(), which takes
    -- the same locks: look again, in new statements.

    IF EXISTS (SELECT FROM unnest(p_events) e WHERE NOT e.sure) THEN
        PERFORM vidgen.lock_names(
            ARRAY(SELECT 'result:' || e.provider || ':' || e.provider_job_id
                    FROM unnest(p_events) e WHERE NOT e.sure));
        p_events := vidgen.find_attempts(p_events, p_hints);
        p_events := vidgen.teach_once(p_events);
        p_events := vidgen.find_strangers(p_events);
    END IF;

    PERFORM vidgen.lock_jobs(ARRAY(SELECT DISTINCT e.job FROM unnest(p_events) e
                                    WHERE e.job IS NOT NULL));

    IF EXISTS (SELECT FROM unnest(p_events) e
                WHERE e.job IS NOT NULL AND e.attempt IS NULL)
    THEN
        PERFORM vidgen.take_in(array_agg(e.job), array_agg(e.provider))
           FROM (SELECT DISTINCT ON (x.job) x.job, x.provider
                   FROM unnest(p_events) x
                  WHERE x.job IS NOT NULL AND x.attempt IS NULL) e;
        p_events := vidgen.find_attempts(p_events, p_hints);
        p_events := vidgen.teach_once(p_events);
        p_events := vidgen.find_strangers(p_events);
    END IF;

    RETURN p_events;
END $$;


-- p_attempt          the attempt that the webhook's URL names, or NULL
-- p_provider_job_id  the provider's id in the body, or NULL
-- p_status           queued, processing, completed, failed; NULL: an unknown
--                    word
-- p_verdict          the status may be believed as it is; false: it only makes
--                    the attempt due for a poll
-- p_digest           of the event; a replay with another one "differs"
-- p_body             kept if the event has to be parked; NULL: too large
-- p_default          the provider is nginx's first one
-- p_ttl_ms           how long its idempotency row is kept
-- p_source           webhook, poll, sweep
--
-- outcome:
--   applied      the attempt took it (changed: the job's row changed too)
--   replay       a completed or failed that came before
--   late         completed after the job had ended: kept on the attempt
--   ignored      contradicts what is known, or came too late to matter
--   no_verdict   not to be believed: the attempt is polled at once
--   parked       kept for an attempt whose id is not known yet
--   not_found    belongs to nothing
--   mismatch     not the job that the URL names; nothing is said about it
--
-- status is the job's afterwards.  final: the same event has the same answer
-- for ever.  refund_error: the job failed and vidgen.refund_credits() raised.
-- Of identical events, in one call or at the same time, exactly one of a
-- completed or failed has replay = false.

CREATE OR REPLACE FUNCTION vidgen.apply(p_provider text[], p_attempt uuid[],
    p_provider_job_id text[], p_status text[], p_verdict boolean[],
    p_video_url text[], p_error text[], p_digest text[], p_body text[],
    p_default boolean[], p_ttl_ms bigint[], p_source text[])
RETURNS TABLE (ord integer, outcome text, job_id uuid, attempt_id uuid,
               status text, replay boolean, differs boolean, changed boolean,
               user_id uuid, refund_error text, final boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    v_events   vidgen.event[];
    v_found    vidgen.event[];
    v_lost     vidgen.event[];
    v_results  vidgen.applied[];
    v_failed   uuid[] := '{}';
    v_due      uuid[];
    v_errors   text[];
    v_jobs     integer;
BEGIN
    SELECT array_agg(ROW(e.ord, e.provider, e.provider_job_id, e.status,
                         coalesce(e.verdict, false), e.video_url, e.error,
                         e.digest, coalesce(e.first, false), e.ttl_ms,
                         e.source, NULL, NULL, NULL, NULL)::vidgen.event
                     ORDER BY e.ord)
      INTO v_events
      FROM unnest(p_provider, p_provider_job_id, p_status, p_verdict,
                  p_video_url, p_error, p_digest, p_default, p_ttl_ms,
                  p_source)
           WITH ORDINALITY e (provider, provider_job_id, status, verdict,
                              video_url, error, digest, first, ttl_ms, source,
                              ord);

    v_events := vidgen.find_and_lock(v_events, p_attempt);

    SELECT array_agg(v_events[e.ordinality]) FILTER (WHERE e.attempt
                                                     IS NOT NULL),
           array_agg(v_events[e.ordinality]) FILTER (WHERE e.attempt IS NULL),
           count(DISTINCT e.job)
      INTO v_found, v_lost, v_jobs
      FROM unnest(v_events) WITH ORDINALITY e;

    -- an id that is learnt now may be known from what was parked: that came
    -- first

    IF EXISTS (SELECT FROM unnest(v_found) e WHERE NOT e.sure) THEN
        SELECT vidgen.take_parked(array_agg(e.attempt),
                                  array_agg(e.provider_job_id))
          INTO v_failed
          FROM (SELECT DISTINCT ON (x.attempt) x.attempt, x.provider_job_id
                  FROM unnest(v_found) x
                 WHERE NOT x.sure AND NOT coalesce(x.taken, false)
                 ORDER BY x.attempt, x.ord) e;
    END IF;

    IF v_found IS NOT NULL THEN
        v_results := CASE WHEN v_jobs = cardinality(v_found)
                          THEN vidgen.move_attempts(v_found)
                          ELSE vidgen.move_in_turns(v_found) END;
    END IF;

    IF v_lost IS NOT NULL THEN
        v_results := v_results || vidgen.park(v_lost, p_body);
    END IF;

    v_failed := v_failed || ARRAY(SELECT r.job_id FROM unnest(v_results) r
                                   WHERE r.changed AND r.status = 'failed');

    IF v_failed <> '{}' THEN
        SELECT array_agg(f.job_id), array_agg(f.error) INTO v_due, v_errors
          FROM vidgen.refund_jobs(v_failed) f;
    END IF;

    RETURN QUERY
    SELECT e.ord, coalesce(r.outcome, 'not_found'), r.job_id, r.attempt_id,
           r.status, coalesce(r.replay, false), coalesce(r.differs, false),
           coalesce(r.changed, false), r.user_id,
           CASE WHEN r.changed
                THEN v_errors[array_position(v_due, r.job_id)] END,
           coalesce(r.final, false)
      FROM unnest(v_events) e
      LEFT JOIN unnest(v_results) r ON r.ord = e.ord
     ORDER BY e.ord;
END $$;

COMMIT;
