-- How a generation begins: the parts of vidgen.begin() that come before
-- credits.

\set ON_ERROR_STOP 1
BEGIN;
DO $$ BEGIN PERFORM vidgen.migration(); END $$;


-- A call on its way through vidgen.begin(); outcome NULL: not decided yet.

DO $$
BEGIN
    IF to_regtype('vidgen.generation') IS NULL THEN
        CREATE TYPE vidgen.generation AS (
            ord             integer,
            job             uuid,
            attempt         uuid,
            user_id         uuid,
            model           text,
            key             text,       -- of idempotency_log
            fingerprint     text,
            ttl_ms          bigint,
            candidates      jsonb,
            preferred       text,
            lease_ms        integer,
            claimed         boolean,    -- its row in idempotency_log is ours
            price           integer,
            providers       text[],     -- in their final order
            caps            integer[],  -- their max_jobs
            outcome         text,       -- 'again': the call came before
            job_id          uuid,
            attempt_id      uuid,
            http_status     integer,
            provider        text,
            status          text,
            estimated_time  integer,
            error           text,
            code            text
        );
    END IF;
END $$;


-- Advisory locks until the end of the transaction, in one order for everybody.
-- Whoever takes them takes them before any other lock, so those before us have
-- short transactions: for these it is worth to wait longer than nginx waits for
-- a row, which anybody may hold for ever.

CREATE OR REPLACE FUNCTION vidgen.lock_names(p_names text[]) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT SET lock_timeout = '500ms' AS $$
DECLARE
    v_done  text;
BEGIN
    IF cardinality(p_names) = 1 THEN        -- most often; no query
        v_done := pg_advisory_xact_lock(hashtextextended('vidgen:'
                                                         || p_names[1], 0));
        RETURN;
    END IF;

    PERFORM pg_advisory_xact_lock(n.hash)
       FROM (SELECT DISTINCT hashtextextended('vidgen:' || name, 0) AS hash
               FROM unnest(p_names) AS name
              WHERE name IS NOT NULL
              ORDER BY 1) n;
END $$;


-- Of a job that exists: what vidgen.begin() answers to the same call again, or
-- to its key without a stored answer.
--
--   running      its operation is still at work
--   processing   open, and nobody works on it
--   replay       ended: 200, 502, or 504 while the credits are not back yet

CREATE OR REPLACE FUNCTION vidgen.answer_of_job(INOUT g vidgen.generation,
    p_job uuid)
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    j  record;
BEGIN
    SELECT v.status::text AS status, v.provider_name::text AS provider_name,
           EXISTS (SELECT FROM vidgen.attempts a
                    WHERE a.job_id = v.id AND a.lease > clock_timestamp())
           AS leased
      INTO j
      FROM video_jobs v WHERE v.id = p_job;

    g.job_id := p_job;
    g.provider := j.provider_name;

    IF j.status = 'completed' THEN
        g.outcome := 'replay';
        g.http_status := 200;
        g.status := j.status;
    ELSIF j.status = 'failed' THEN
        g.outcome := 'replay';
        g.http_status := 502;
        g.status := j.status;
        g.error := 'the generation failed';
        g.code := 'provider_failed';
        IF vidgen.refund_is_due(p_job) THEN
            g.http_status := 504;
            g.error := NULL;
            g.code := 'outcome_unknown';
        END IF;
    ELSE
        g.outcome := CASE WHEN j.leased THEN 'running' ELSE 'processing' END;
        g.status := 'processing';
    END IF;
END $$;


-- What the first of two identical calls did.  An attempt 1 that is still being
-- sent is the caller's own: it goes on with it.

CREATE OR REPLACE FUNCTION vidgen.begin_again(p_calls vidgen.generation[])
RETURNS vidgen.generation[]
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    r  record;
BEGIN
    FOR r IN
        SELECT c.ordinality AS i, c.job, a.provider
          FROM unnest(p_calls) WITH ORDINALITY c
          JOIN video_jobs j ON j.id = c.job
          LEFT JOIN vidgen.attempts a
            ON a.id = c.attempt AND a.job_id = c.job AND a.number = 1
               AND a.state = 'sending'
    LOOP
        IF r.provider IS NOT NULL THEN
            p_calls[r.i].outcome := 'again';
            p_calls[r.i].provider := r.provider;
            CONTINUE;
        END IF;

        p_calls[r.i] := vidgen.answer_of_job(p_calls[r.i], r.job);
        IF p_calls[r.i].outcome = 'running' THEN
            p_calls[r.i].outcome := 'processing';
        END IF;
    END LOOP;

    RETURN p_calls;
END $$;


-- Claims the keys of calls, or answers from what is stored under them: mismatch
-- before replay, running and processing.  The caller holds the advisory locks
-- of the keys, so nobody else claims them; but a row may get its answer or go
-- away meanwhile, for its generation failed and freed it, or has expired.

CREATE OR REPLACE FUNCTION vidgen.claim_keys(p_calls vidgen.generation[])
RETURNS vidgen.generation[]
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    v_call     vidgen.generation;
    v_claimed  text[];
    v_gone     boolean;
    r          record;
BEGIN
    FOR try IN 1 .. 3 LOOP
        WITH claimed AS (
            INSERT INTO idempotency_log (idempotency_key, response, created_at,
                                         fingerprint, job_id, ttl)
            SELECT c.key, NULL, now(), c.fingerprint, c.job,
                   c.ttl_ms * interval '1 millisecond'
              FROM unnest(p_calls) c
             WHERE c.key IS NOT NULL AND c.outcome IS NULL
               AND c.claimed IS NOT TRUE
             ORDER BY c.key
                ON CONFLICT (idempotency_key) DO NOTHING
            RETURNING idempotency_key)
        SELECT array_agg(k.idempotency_key) INTO v_claimed FROM claimed k;

        v_gone := false;

        FOR r IN
            SELECT c.ordinality AS i, c.fingerprint AS wanted, c.key,
                   c.key = ANY (v_claimed) AS claimed,
                   l.idempotency_key IS NULL AS missing,
                   l.expires_at <= now()
                   OR l.response IS NULL AND j.id IS NULL AS stale,
                   l.fingerprint, l.job_id, l.http_status,
                   l.response::jsonb AS response
              FROM unnest(p_calls) WITH ORDINALITY c
              LEFT JOIN idempotency_log l ON l.idempotency_key = c.key
              LEFT JOIN video_jobs j ON j.id = l.job_id
             WHERE c.key IS NOT NULL AND c.outcome IS NULL
               AND c.claimed IS NOT TRUE
             ORDER BY c.key
        LOOP
            IF r.claimed THEN
                p_calls[r.i].claimed := true;

            ELSIF r.missing THEN
                v_gone := true;

            ELSIF r.stale THEN
                DELETE FROM idempotency_log l
                 WHERE l.idempotency_key = r.key;
                v_gone := true;

            ELSIF r.fingerprint IS DISTINCT FROM r.wanted THEN
                p_calls[r.i].outcome := 'mismatch';

            ELSIF r.response IS NOT NULL THEN
                p_calls[r.i].outcome := 'replay';
                p_calls[r.i].job_id := r.job_id;
                p_calls[r.i].http_status := r.http_status;
                p_calls[r.i].provider := r.response ->> 'provider';
                p_calls[r.i].status := r.response ->> 'status';
                p_calls[r.i].estimated_time :=
                    (r.response ->> 'estimated_time')::integer;
                p_calls[r.i].error := r.response ->> 'error';
                p_calls[r.i].code := r.response ->> 'code';

            ELSE
                v_call := vidgen.answer_of_job(p_calls[r.i], r.job_id);

                -- unless its operation has ended since the row was read

                IF v_call.outcome = 'running'
                   OR EXISTS (SELECT FROM idempotency_log l
                               WHERE l.idempotency_key = r.key
                                 AND l.job_id = r.job_id
                                 AND l.response IS NULL)
                THEN
                    p_calls[r.i] := v_call;
                ELSE
                    v_gone := true;
                END IF;
            END IF;
        END LOOP;

        EXIT WHEN NOT v_gone;
    END LOOP;

    FOR i IN 1 .. cardinality(p_calls) LOOP
        IF p_calls[i].key IS NOT NULL AND p_calls[i].outcome IS NULL
           AND p_calls[i].claimed IS NOT TRUE
        THEN
            p_calls[i].outcome := 'running';
        END IF;
    END LOOP;

    RETURN p_calls;
END $$;


-- The price of a call's model, and the providers to ask in their order: the
-- preferred one, the model's own, then as given; degraded ones after healthy
-- ones, a trial last; none that does not serve the model or is full.

CREATE OR REPLACE FUNCTION vidgen.route(p_calls vidgen.generation[])
RETURNS vidgen.generation[]
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    v_capped  boolean := false;
    r         record;
BEGIN
    FOR r IN
        SELECT c.ordinality AS i, m.id AS model,
               greatest(coalesce(m.credits_per_generation, 1), 0)::integer
               AS price,
               c.preferred IS NOT NULL AND m.serving IS NOT NULL
               AND c.preferred <> ALL (m.serving) AS wrong,
               o.providers, o.caps, o.capped
          FROM unnest(p_calls) WITH ORDINALITY c
          LEFT JOIN LATERAL
               (SELECT m.id, m.provider, m.credits_per_generation,
                       CASE WHEN m.providers IS NOT NULL
                            THEN array_remove(m.providers || m.provider::text,
                                              NULL) END AS serving
                  FROM models m
                 WHERE m.id = ANY (ARRAY[c.model, '*'])
                 ORDER BY m.id = '*'
                 LIMIT 1) m ON true
          LEFT JOIN LATERAL
               (SELECT array_agg(x.name ORDER BY x.rank) AS providers,
                       array_agg(x.max_jobs ORDER BY x.rank) AS caps,
                       bool_or(x.max_jobs IS NOT NULL) AS capped
                  FROM (SELECT n.name, n.max_jobs,
                               row_number() OVER (ORDER BY
                                   coalesce(n.trial, false),
                                   n.name IS NOT DISTINCT FROM c.preferred
                                       DESC,
                                   coalesce(n.degraded, false),
                                   n.name IS NOT DISTINCT FROM m.provider
                                       DESC,
                                   n.ordinality) AS rank
                          FROM ROWS FROM (jsonb_to_recordset(c.candidates)
                                   AS (name text, degraded boolean,
                                       trial boolean, max_jobs integer))
                               WITH ORDINALITY n
                         WHERE m.serving IS NULL
                            OR n.name = ANY (m.serving)) x) o ON true
         WHERE c.outcome IS NULL OR c.outcome = 'again'
    LOOP
        p_calls[r.i].price := r.price;
        p_calls[r.i].providers := r.providers;

        IF p_calls[r.i].outcome = 'again' THEN
            p_calls[r.i].providers := p_calls[r.i].provider
                || array_remove(r.providers, p_calls[r.i].provider);
        ELSIF r.model IS NULL THEN
            p_calls[r.i].outcome := 'unknown_model';
        ELSIF r.wrong THEN
            p_calls[r.i].outcome := 'wrong_provider';
        ELSIF r.providers IS NULL THEN
            p_calls[r.i].outcome := 'no_provider';
        ELSIF r.capped THEN
            p_calls[r.i].caps := r.caps;
            v_capped := true;
        END IF;
    END LOOP;

    IF v_capped THEN
        p_calls := vidgen.pass_over_full(p_calls);
    END IF;

    RETURN p_calls;
END $$;


-- The attempts that a provider has open, by the index of each kind, but counted
-- no further than p_most.

CREATE OR REPLACE FUNCTION vidgen.open_at(p_provider text, p_most integer)
RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    RETURN (SELECT count(*)
              FROM ((SELECT FROM vidgen.attempts a
                      WHERE a.provider = p_provider
                        AND a.state IN ('sending', 'unknown')
                      LIMIT p_most)
                    UNION ALL
                    (SELECT FROM vidgen.attempts a
                      WHERE a.provider = p_provider AND a.state = 'accepted'
                      LIMIT p_most)
                    LIMIT p_most) o);
END $$;


-- Takes away providers that have max_jobs of theirs open, those that this
-- batch adds included.  The caller holds the advisory locks of capped ones.

CREATE OR REPLACE FUNCTION vidgen.pass_over_full(p_calls vidgen.generation[])
RETURNS vidgen.generation[]
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    v_open  jsonb;
    v_left  text[];
    v_call  vidgen.generation;
BEGIN
    SELECT jsonb_object_agg(n.name, vidgen.open_at(n.name, n.cap)) INTO v_open
      FROM (SELECT p.name, max(p.cap) AS cap
              FROM unnest(p_calls) c, unnest(c.providers, c.caps) p (name, cap)
             WHERE p.cap IS NOT NULL
             GROUP BY p.name) n;

    FOR i IN 1 .. cardinality(p_calls) LOOP
        v_call := p_calls[i];
        CONTINUE WHEN v_call.outcome IS NOT NULL;

        SELECT array_agg(p.name ORDER BY p.ordinality) INTO v_left
          FROM unnest(v_call.providers, v_call.caps) WITH ORDINALITY
               p (name, cap, ordinality)
         WHERE p.cap IS NULL OR (v_open ->> p.name)::integer < p.cap;

        IF v_left IS NULL THEN
            p_calls[i].outcome := 'no_provider';
            CONTINUE;
        END IF;

        p_calls[i].providers := v_left;

        IF v_open ? v_left[1] THEN
            v_open := jsonb_set(v_open, v_left[1:1], to_jsonb(
                                (v_open ->> v_left[1])::integer + 1));
        END IF;
    END LOOP;

    RETURN p_calls;
END $$;

COMMIT;
