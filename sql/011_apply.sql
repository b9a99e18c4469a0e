-- Results from webhooks and polls.  The order of locks: advisory (provider and
-- id, only where an event's attempt is not known by its id), jobs by id, their
-- attempts, balances by user id.

\set ON_ERROR_STOP 1
BEGIN;
DO $$ BEGIN PERFORM vidgen.migration(); END $$;


-- Finds the attempts of events: by the hint of their URL, else by (provider,
-- provider's id).  What stays without one, vidgen.find_more() looks for.

CREATE OR REPLACE FUNCTION vidgen.find_attempts(p_events vidgen.event[],
    p_hints uuid[])
RETURNS vidgen.event[]
LANGUAGE sql SET search_path FROM CURRENT AS $$
    SELECT array_agg(ROW(e.ord, e.provider, e.provider_job_id, e.status,
                         e.verdict, e.video_url, e.error, e.digest, e.first,
                         e.ttl_ms, e.source, coalesce(h.job_id, b.job_id),
                         coalesce(h.id, b.id),
                         h.provider_job_id IS NULL AND h.id <> b.id,
                         CASE WHEN h.id IS NOT NULL
                                   AND (e.provider_job_id IS NULL
                                        OR h.provider_job_id IS NOT NULL)
                                   OR h.id IS NULL AND b.id IS NOT NULL
                              THEN 1 END
                        )::vidgen.event ORDER BY e.ord)
      FROM unnest(p_events) e
      LEFT JOIN vidgen.attempts h ON h.id = p_hints[e.ord]
      LEFT JOIN vidgen.attempts b
        ON b.provider = e.provider AND b.provider_job_id = e.provider_job_id
$$;


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


-- Gives such jobs, whose row locks the caller holds, their attempt and their
-- hold.  Nothing is deducted: whoever made the job has done that.  A job that
-- has ended gets an attempt that has, and a failed one the refund that it had.

CREATE OR REPLACE FUNCTION vidgen.take_in(p_jobs uuid[], p_providers text[])
RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
#variable_conflict use_column
BEGIN
    WITH taken AS (
        INSERT INTO vidgen.attempts (id, job_id, number, provider,
                                     provider_job_id, state, progress,
                                     video_url, error, created_at)
        SELECT gen_random_uuid(), j.id, 1, t.provider, j.provider_job_id,
               CASE WHEN j.status IN ('completed', 'failed') THEN j.status
                    ELSE 'accepted' END,
               CASE WHEN j.status = 'processing' THEN j.status
                    ELSE 'queued' END,
               CASE WHEN j.status = 'completed' THEN j.video_url END,
               CASE WHEN j.status = 'failed' THEN j.error_message END,
               coalesce(j.created_at, now())
          FROM unnest(p_jobs, p_providers) t (job, provider)
          JOIN video_jobs j ON j.id = t.job
         WHERE NOT EXISTS (SELECT FROM vidgen.attempts o WHERE o.job_id = j.id)
            ON CONFLICT DO NOTHING
        RETURNING job_id)
    INSERT INTO vidgen.ledger (job_id, entry, user_id, amount)
    SELECT j.id, x.entry, j.user_id, j.credits_used
      FROM taken t
      JOIN video_jobs j ON j.id = t.job_id
     CROSS JOIN (VALUES ('hold'), ('refund')) x (entry)
     WHERE j.credits_used > 0 AND (x.entry = 'hold' OR j.status = 'failed')
        ON CONFLICT DO NOTHING;
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

COMMIT;
