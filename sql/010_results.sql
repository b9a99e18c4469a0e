-- What a result does to its attempt and job: the common part of all that
-- brings results (webhook, poll, what was parked, the operator's hand).

\set ON_ERROR_STOP 1
BEGIN;
DO $$ BEGIN PERFORM vidgen.migration(); END $$;


-- An event on its way; the fields of what became of it are those that
-- vidgen.apply() returns.

DO $$
BEGIN
    IF to_regtype('vidgen.event') IS NULL THEN
        CREATE TYPE vidgen.event AS (
            ord              integer,
            provider         text,
            provider_job_id  text,
            status           text,
            verdict          boolean,   -- the status may be believed as it is
            video_url        text,
            error            text,
            digest           text,
            first            boolean,   -- the provider is nginx's first one
            ttl_ms           bigint,
            source           text,
            job              uuid,      -- found
            attempt          uuid,      -- found
            taken            boolean,   -- the id is another attempt's
            sure             boolean    -- nobody may give its id to another
        );
    END IF;

    IF to_regtype('vidgen.applied') IS NULL THEN
        CREATE TYPE vidgen.applied AS (
            ord           integer,
            outcome       text,
            job_id        uuid,
            attempt_id    uuid,
            status        text,
            replay        boolean,
            differs       boolean,
            changed       boolean,
            user_id       uuid,
            refund_error  text,
            final         boolean
        );
    END IF;
END $$;


-- Moves attempts, at most one of each job, and settles their jobs.  The caller
-- holds the jobs' row locks, and calls vidgen.refund_jobs() last.
--
--   event                  attempt           job open       job ended
--   queued, processing     completed,failed  ignored        ignored
--                          any other         applied        ignored
--   completed              completed         replay         replay
--                          any other         applied        late
--   failed                 failed            replay         replay
--                          completed         ignored        ignored
--                          any other         applied        ignored
--   not to be believed     any               no_verdict     no_verdict
--   another provider's, another id           mismatch       mismatch
--
-- The identity of a completed or failed is (attempt, status): the first writes
-- a row of idempotency_log, whatever its outcome, and those that find one are
-- replays.  Repeated progress is no replay, for it has no final answer.
--
-- Any event that fits teaches its attempt the provider's id; one that shows
-- the provider at work on an attempt that was thought to be unsent, refused
-- or lost opens it again while the job is open.  What is not to be believed
-- makes the attempt due for a poll, unless it comes from one; such an attempt
-- opens again even if the job has ended, for it may be money lost.

CREATE OR REPLACE FUNCTION vidgen.move_attempts(p_events vidgen.event[])
RETURNS vidgen.applied[]
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    v_results  vidgen.applied[];
    v_changed  uuid[];
BEGIN
    WITH judged AS MATERIALIZED (
        SELECT e.*, a.state, a.provider AS attempt_provider,
               a.provider_job_id AS attempt_provider_job_id,
               j.id AS job_id, j.user_id, j.status::text AS job_status,
               coalesce(j.status, '') NOT IN ('completed', 'failed') AS open,
               coalesce(e.status IN ('completed', 'failed'), false) AS ending,
               l.idempotency_key IS NOT NULL AS logged,
               l.fingerprint,
               CASE
               WHEN a.provider <> e.provider
                    AND NOT (a.provider = '' AND e.first)
                    OR a.provider_job_id <> e.provider_job_id
                    OR a.provider_job_id IS NULL AND e.taken
               THEN 'mismatch'
               WHEN e.status IS NULL OR NOT e.verdict
               THEN 'no_verdict'
               WHEN e.status IN ('completed', 'failed')
                    AND (a.state = e.status OR l.idempotency_key IS NOT NULL)
               THEN 'replay'
               WHEN e.status = 'completed'
               THEN CASE WHEN coalesce(j.status, '')
                              NOT IN ('completed', 'failed')
                         THEN 'applied' ELSE 'late' END
               WHEN coalesce(j.status, '') IN ('completed', 'failed')
                    OR a.state IN ('completed', 'failed')
               THEN 'ignored'
               ELSE 'applied' END AS outcome
          FROM unnest(p_events) e
          JOIN vidgen.attempts a ON a.id = e.attempt
          JOIN video_jobs j ON j.id = a.job_id
          LEFT JOIN idempotency_log l
            ON l.idempotency_key = 'webhook:' || e.attempt || ':' || e.status
    ), moved AS (
        UPDATE vidgen.attempts a
           SET state = n.state,
               progress = CASE WHEN m.outcome = 'applied'
                                    AND m.status = 'processing'
                               THEN m.status ELSE a.progress END,
               provider = m.provider,
               provider_job_id = coalesce(a.provider_job_id,
                                          m.provider_job_id),
               video_url = CASE WHEN n.state = 'completed'
                                     AND a.state <> 'completed'
                                THEN m.video_url ELSE a.video_url END,
               error = CASE WHEN n.state = 'failed' AND a.state <> 'failed'
                            THEN m.error
                            WHEN n.state IN ('accepted', 'completed')
                            THEN NULL ELSE a.error END,
               late = a.late OR m.outcome = 'late',
               since = CASE WHEN n.state <> a.state THEN now()
                            ELSE a.since END,
               due = CASE WHEN n.state <> 'accepted' THEN NULL
                          WHEN m.outcome = 'no_verdict'
                               AND m.source IS DISTINCT FROM 'poll'
                          THEN now() ELSE a.due END,
               deadline = CASE WHEN n.state <> a.state THEN NULL
                               ELSE a.deadline END
          FROM judged m,
               LATERAL (SELECT CASE
                        WHEN m.outcome IN ('applied', 'late', 'ignored')
                             AND m.ending
                        THEN CASE WHEN m.state IN ('completed', 'failed')
                                       AND m.outcome = 'ignored'
                                  THEN m.state ELSE m.status END
                        WHEN m.state IN ('sending', 'unknown')
                             AND coalesce(m.attempt_provider_job_id,
                                          m.provider_job_id) IS NOT NULL
                        THEN 'accepted'
                        WHEN m.outcome = 'applied'
                             OR m.outcome = 'no_verdict'
                                AND m.source IS DISTINCT FROM 'poll'
                                AND m.state IN ('unsent', 'refused', 'lost')
                                AND coalesce(m.attempt_provider_job_id,
                                             m.provider_job_id) IS NOT NULL
                        THEN 'accepted'
                        ELSE m.state END AS state) n
         WHERE a.id = m.attempt
           AND m.outcome NOT IN ('mismatch', 'replay')
           AND (n.state <> a.state
                OR m.outcome = 'applied' AND m.status = 'processing'
                   AND a.progress = 'queued'
                OR m.outcome = 'no_verdict'
                OR a.provider <> m.provider
                OR a.provider_job_id IS NULL
                   AND m.provider_job_id IS NOT NULL)
        RETURNING a.job_id
    ), logged AS (
        INSERT INTO idempotency_log (idempotency_key, response, created_at,
                                     fingerprint, expires_at)
        SELECT 'webhook:' || m.attempt || ':' || m.status,
               jsonb_build_object('success', true, 'job_id', m.job_id),
               now(), m.digest, now() + m.ttl_ms * interval '1 millisecond'
          FROM judged m
         WHERE m.ending AND m.outcome IN ('applied', 'late', 'ignored')
            ON CONFLICT (idempotency_key) DO NOTHING
    )
    SELECT array_agg(ROW(m.ord, m.outcome,
                         CASE WHEN m.outcome <> 'mismatch' THEN m.job_id END,
                         CASE WHEN m.outcome <> 'mismatch' THEN m.attempt END,
                         CASE WHEN m.outcome <> 'mismatch'
                              THEN m.job_status END,
                         m.outcome = 'replay',
                         m.outcome = 'replay'
                         AND coalesce(m.fingerprint <> m.digest, false),
                         false,
                         CASE WHEN m.outcome <> 'mismatch' THEN m.user_id END,
                         NULL,
                         m.ending AND m.outcome NOT IN ('mismatch',
                                                        'no_verdict')
                        )::vidgen.applied ORDER BY m.ord),
           array_agg(m.job_id) FILTER (WHERE m.open AND m.outcome IN
                                       ('applied', 'no_verdict'))
      INTO v_results, v_changed
      FROM judged m;

    IF v_changed IS NULL THEN
        RETURN v_results;
    END IF;

    SELECT array_agg(ROW(r.ord, r.outcome, r.job_id, r.attempt_id,
                         coalesce(s.status, r.status), r.replay, r.differs,
                         s.job_id IS NOT NULL, r.user_id, NULL, r.final
                        )::vidgen.applied ORDER BY r.ord)
      INTO v_results
      FROM unnest(v_results) r
      LEFT JOIN vidgen.settle_jobs(v_changed) s ON s.job_id = r.job_id;

    RETURN v_results;
END $$;

-- The same for any number of events of a job: the first of each, then the
-- second, and so on.  What repeats an event of the same batch is not looked up
-- again.

CREATE OR REPLACE FUNCTION vidgen.move_in_turns(p_events vidgen.event[])
RETURNS vidgen.applied[]
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    v_results  vidgen.applied[];
    v_turns    integer[];
    v_twins    integer[];
BEGIN
    -- the event of which each is a copy, or NULL; whose turn it is

    SELECT array_agg(t.twin ORDER BY t.i) INTO v_twins
      FROM (SELECT e.ordinality AS i,
                   CASE WHEN e.verdict AND e.status IN ('completed', 'failed')
                        THEN nullif(first_value(e.ordinality) OVER
                                        (PARTITION BY e.attempt, e.status,
                                             e.verdict, e.provider,
                                             e.provider_job_id
                                         ORDER BY e.ordinality),
                                    e.ordinality) END AS twin
              FROM unnest(p_events) WITH ORDINALITY e) t;

    SELECT array_agg(t.turn ORDER BY t.i) INTO v_turns
      FROM (SELECT e.ordinality AS i,
                   CASE WHEN v_twins[e.ordinality] IS NULL
                        THEN row_number() OVER
                                 (PARTITION BY e.job,
                                      v_twins[e.ordinality] IS NULL
                                  ORDER BY e.ordinality) END AS turn
              FROM unnest(p_events) WITH ORDINALITY e) t;

    FOR v_turn IN 1 .. (SELECT max(t) FROM unnest(v_turns) t) LOOP
        v_results := v_results || vidgen.move_attempts(
            ARRAY(SELECT p_events[t.ordinality]
                    FROM unnest(v_turns) WITH ORDINALITY t (turn)
                   WHERE t.turn = v_turn));
    END LOOP;

    RETURN v_results || ARRAY(
        SELECT ROW(e.ord,
                   CASE WHEN r.final THEN 'replay' ELSE r.outcome END,
                   r.job_id, r.attempt_id, r.status, r.final,
                   r.final AND (r.differs
                                OR coalesce(e.digest <> o.digest, false)),
                   false, r.user_id, NULL, r.final)::vidgen.applied
          FROM unnest(v_twins) WITH ORDINALITY t (twin)
          JOIN unnest(p_events) WITH ORDINALITY e
            ON e.ordinality = t.ordinality
          JOIN unnest(p_events) WITH ORDINALITY o ON o.ordinality = t.twin
          JOIN unnest(v_results) r ON r.ord = o.ord
         WHERE t.twin IS NOT NULL);
END $$;

-- Applies what was parked under the ids of attempts.  The caller holds the ids'
-- advisory locks and the jobs' row locks, and calls vidgen.refund_jobs() last
-- for the jobs that are returned: they failed.

CREATE OR REPLACE FUNCTION vidgen.take_parked(p_attempts uuid[],
    p_provider_job_ids text[])
RETURNS uuid[]
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    v_ids     bigint[];
    v_events  vidgen.event[];
BEGIN
    SELECT array_agg(p.id),
           array_agg(ROW(p.ord, p.provider, p.provider_job_id,
                         nullif(p.status, 'unknown'), p.verdict, p.video_url,
                         p.error, p.digest, false, p.ttl_ms, 'parked',
                         p.job_id, p.attempt, false, true)::vidgen.event
                     ORDER BY p.ord)
      INTO v_ids, v_events
      FROM (SELECT k.*, a.id AS attempt, a.job_id,
                   row_number() OVER (ORDER BY k.received, k.id)::integer
                   AS ord
              FROM unnest(p_attempts, p_provider_job_ids)
                   t (attempt, provider_job_id)
              JOIN vidgen.attempts a ON a.id = t.attempt
              JOIN vidgen.parked k
                ON k.provider = a.provider
                   AND k.provider_job_id = t.provider_job_id
             WHERE k.adopted IS NULL
               AND coalesce(a.provider_job_id = k.provider_job_id, true)) p;

    IF v_ids IS NULL THEN
        RETURN '{}';
    END IF;

    UPDATE vidgen.parked p SET adopted = now() WHERE p.id = ANY (v_ids);

    RETURN ARRAY(SELECT r.job_id FROM unnest(vidgen.move_in_turns(v_events)) r
                  WHERE r.changed AND r.status = 'failed');
END $$;

COMMIT;
