-- Polls.

\set ON_ERROR_STOP 1
BEGIN;
DO $$ BEGIN PERFORM vidgen.migration(); END $$;


-- That of before could not be told which poll it was.

DROP FUNCTION IF EXISTS vidgen.polled(uuid[], integer[]);


-- Leases accepted attempts that are to be polled: due by now, or silent since
-- p_overdue (NULL: none of these) without a time of their own.  Nobody else
-- gets them before p_lease has passed, or vidgen.polled() has said when; also
-- what becomes due meanwhile, by a webhook that is no verdict, waits for that.
--
-- p_providers  those that can be polled; with '' also the jobs of before there
--              was a provider's name, which are nginx's first provider's
-- polls        how often the attempt has been leased, this time included
--
-- Takes what no other transaction has locked, and never waits.

CREATE OR REPLACE FUNCTION vidgen.due(p_providers text[], p_overdue interval,
    p_limit integer, p_lease interval)
RETURNS TABLE (attempt_id uuid, job_id uuid, provider text,
               provider_job_id text, polls integer, user_id uuid,
               model_id text, prompt text, kept jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    v_ids  uuid[];
BEGIN
    -- by provider, so that each is found in the order of its index

    v_ids := ARRAY(SELECT d.id
                     FROM unnest(p_providers) p (provider),
                          LATERAL
                          (SELECT a.id, a.due FROM vidgen.attempts a
                            WHERE a.state = 'accepted'
                              AND a.provider = p.provider AND a.due <= now()
                              AND coalesce(a.poll_lease <= now(), true)
                              AND a.provider_job_id IS NOT NULL
                            ORDER BY a.due
                            LIMIT p_limit
                              FOR NO KEY UPDATE SKIP LOCKED) d
                    ORDER BY d.due
                    LIMIT p_limit);

    IF p_overdue IS NOT NULL AND cardinality(v_ids) < p_limit THEN
        v_ids := v_ids
            || ARRAY(SELECT d.id
                       FROM unnest(p_providers) p (provider),
                            LATERAL
                            (SELECT a.id FROM vidgen.attempts a
                              WHERE a.state = 'accepted'
                                AND a.provider = p.provider AND a.due IS NULL
                                AND a.since <= now() - p_overdue
                                AND a.provider_job_id IS NOT NULL
                              LIMIT p_limit - cardinality(v_ids)
                                FOR NO KEY UPDATE SKIP LOCKED) d
                      LIMIT p_limit - cardinality(v_ids));
    END IF;

    IF v_ids = '{}' THEN
        RETURN;
    END IF;

    RETURN QUERY
    WITH leased AS (
        UPDATE vidgen.attempts a
           SET due = now() + p_lease, poll_lease = now() + p_lease,
               polls = a.polls + 1
         WHERE a.id = ANY (v_ids)
        RETURNING a.*)
    SELECT l.id, l.job_id, l.provider, l.provider_job_id, l.polls, j.user_id,
           j.model_id::text, j.prompt::text, l.kept
      FROM leased l JOIN video_jobs j ON j.id = l.job_id;
END $$;


-- When to poll again attempts whose poll has not ended them.  Returns how many
-- it has set; one that is locked keeps its lease.
--
-- p_polls     which poll it was, as vidgen.due() counted: nothing happens where
--             its lease has passed on; NULL: the latest
-- p_answered  the provider has said how the job stands; NULL: it has.  What
--             became due while it was asked is due at once then, and the
--             last poll before an attempt is given up has been made.

CREATE OR REPLACE FUNCTION vidgen.polled(p_attempt uuid[], p_due_ms integer[],
    p_polls integer[] DEFAULT NULL, p_answered boolean[] DEFAULT NULL)
RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_ids  uuid[];
    v_set  integer;
BEGIN
    v_ids := ARRAY(SELECT a.id FROM vidgen.attempts a
                    WHERE a.id = ANY (p_attempt) AND a.state = 'accepted'
                      FOR NO KEY UPDATE SKIP LOCKED);

    UPDATE vidgen.attempts a
       SET due = CASE WHEN a.due < a.poll_lease
                           AND coalesce(p.answered, true)
                      THEN a.due
                      ELSE now() + p.due_ms * interval '1 millisecond' END,
           poll_lease = NULL,
           last_poll = CASE WHEN a.polls > a.last_poll
                                 AND coalesce(p.answered, true)
                            THEN NULL ELSE a.last_poll END
      FROM unnest(p_attempt, p_due_ms, p_polls, p_answered)
           p (attempt, due_ms, polls, answered)
     WHERE a.id = p.attempt AND a.id = ANY (v_ids)
       AND a.polls = coalesce(p.polls, a.polls);

    GET DIAGNOSTICS v_set = ROW_COUNT;
    RETURN v_set;
END $$;


-- of what may have been made anew while nginx is at work

DO $$
BEGIN
    PERFORM vidgen.make_private('FUNCTION vidgen.polled(uuid[], integer[],'
                                ' integer[], boolean[])');
END $$;

GRANT EXECUTE
    ON FUNCTION vidgen.polled(uuid[], integer[], integer[], boolean[])
    TO vidgen_edge;

COMMIT;
