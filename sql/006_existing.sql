-- Jobs that are there already: each gets an attempt and a hold, so that its
-- result is found and its refund is made once.  In flight: accepted, and it
-- ends as every other.  Nothing is deducted or given back.  A provider's name
-- that is missing is that of the first one that nginx knows ('').
--
-- A job without an id of its provider has none yet: the application that is
-- about to submit it will set it, and the first result finds it then.

\set ON_ERROR_STOP 1
BEGIN;
DO $$ BEGIN PERFORM vidgen.migration(); END $$;


-- Gives jobs that others made their attempt and their hold.  Nothing is
-- deducted: whoever made the job has done that.  A job that has ended gets an
-- attempt that has, and a failed one the refund that it had.

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
               CASE WHEN j.status IN ('completed', 'failed')
                    THEN j.status::text ELSE 'accepted' END,
               CASE WHEN j.status = 'processing' THEN 'processing'
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


-- Open ones first: of two jobs that say to have the same id, one can be right.

DO $$
DECLARE
    r  record;
BEGIN
    FOR r IN
        SELECT array_agg(x.id) AS jobs, array_agg(x.provider) AS providers
          FROM (SELECT j.id, coalesce(j.provider_name::text, '') AS provider,
                       row_number() OVER (ORDER BY
                           j.status IN ('completed', 'failed'),
                           j.created_at DESC NULLS LAST) AS rank
                  FROM video_jobs j
                 WHERE j.provider_job_id IS NOT NULL
                   AND NOT EXISTS (SELECT FROM vidgen.attempts a
                                    WHERE a.job_id = j.id)) x
         GROUP BY x.rank / 1000
         ORDER BY x.rank / 1000
    LOOP
        PERFORM vidgen.take_in(r.jobs, r.providers);
    END LOOP;
END $$;

COMMIT;
