-- The operator's hand.

\set ON_ERROR_STOP 1
BEGIN;
DO $$ BEGIN PERFORM vidgen.migration(); END $$;


-- Gives a parked result, and what else is parked under its id, to the latest
-- open attempt of the job at that provider.  Returns the job's status.  Raises
-- where there is no such result or attempt.
--
--     SELECT id, provider, provider_job_id, status, video_url, received
--       FROM vidgen.parked WHERE adopted IS NULL;
--     SELECT vidgen.adopt(17, '018f…');

CREATE OR REPLACE FUNCTION vidgen.adopt(p_parked bigint, p_job uuid)
RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    v_parked   vidgen.parked;
    v_attempt  uuid;
    v_failed   uuid[];
    v_status   text;
BEGIN
    SELECT * INTO v_parked FROM vidgen.parked p WHERE p.id = p_parked;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'vidgen: there is no parked result %', p_parked;
    END IF;

    PERFORM vidgen.lock_names(ARRAY['result:' || v_parked.provider || ':'
                                    || v_parked.provider_job_id]);
    IF vidgen.lock_jobs(ARRAY[p_job]) = '{}' THEN
        RAISE EXCEPTION 'vidgen: there is no job %', p_job;
    END IF;

    SELECT * INTO v_parked FROM vidgen.parked p WHERE p.id = p_parked;
    IF v_parked.adopted IS NOT NULL THEN
        RAISE EXCEPTION 'vidgen: result % has been adopted', p_parked;
    END IF;

    SELECT a.id INTO v_attempt
      FROM vidgen.attempts a
     WHERE a.job_id = p_job AND a.provider = v_parked.provider
       AND a.state IN ('sending', 'unknown', 'accepted')
       AND coalesce(a.provider_job_id = v_parked.provider_job_id, true)
     ORDER BY a.number DESC
     LIMIT 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'vidgen: job % has no open attempt at "%" that could'
            ' have the id "%"', p_job, v_parked.provider,
            v_parked.provider_job_id;
    END IF;

    PERFORM FROM vidgen.attempts a
      WHERE a.provider = v_parked.provider
        AND a.provider_job_id = v_parked.provider_job_id
        AND a.id <> v_attempt;
    IF FOUND THEN
        RAISE EXCEPTION 'vidgen: "%" of "%" is another attempt''s',
            v_parked.provider_job_id, v_parked.provider;
    END IF;

    v_failed := vidgen.take_parked(ARRAY[v_attempt],
                                   ARRAY[v_parked.provider_job_id]);
    PERFORM vidgen.refund_jobs(v_failed);

    SELECT j.status INTO v_status FROM video_jobs j WHERE j.id = p_job;
    RETURN v_status;
END $$;

COMMIT;
