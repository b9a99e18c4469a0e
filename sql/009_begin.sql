-- A generation begins: key, price, credits, job and attempt 1 in one
-- transaction.  The order of locks: advisory (jobs, keys, capped providers),
-- keys, balances by user id; the rows that are inserted after that are new.

\set ON_ERROR_STOP 1
BEGIN;
DO $$ BEGIN PERFORM vidgen.migration(); END $$;


-- One hold in a subtransaction of its own.

CREATE OR REPLACE FUNCTION vidgen.hold_one(INOUT c vidgen.generation)
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    c.error := vidgen.hold_credits(c.user_id, c.price, c.job);
    IF c.error IS NOT NULL THEN
        c.outcome := 'insufficient_credits';
    END IF;
EXCEPTION WHEN OTHERS THEN
    IF vidgen.is_passing(SQLSTATE) THEN
        RAISE;
    END IF;
    c.outcome := CASE WHEN SQLSTATE = 'P0001' THEN 'insufficient_credits'
                      ELSE 'hold_failed' END;
    c.error := CASE WHEN SQLSTATE = 'P0001' THEN SQLERRM
                    ELSE SQLSTATE || ': ' || SQLERRM END;
END $$;


-- Takes the credits of the calls that are not decided yet, users in the order
-- of their id.  One subtransaction for all; one for each only where one
-- raised.

CREATE OR REPLACE FUNCTION vidgen.hold_calls(p_calls vidgen.generation[])
RETURNS vidgen.generation[]
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    v_order  integer[];
    v_calls  vidgen.generation[] := p_calls;
    v_error  text;
    i        integer;
BEGIN
    SELECT array_agg(c.ordinality::integer ORDER BY c.user_id, c.ordinality)
      INTO v_order
      FROM unnest(p_calls) WITH ORDINALITY c
     WHERE c.outcome IS NULL AND c.price > 0;

    IF v_order IS NULL THEN
        RETURN p_calls;
    END IF;

    BEGIN
        FOREACH i IN ARRAY v_order LOOP
            v_error := vidgen.hold_credits(v_calls[i].user_id,
                                           v_calls[i].price, v_calls[i].job);
            IF v_error IS NOT NULL THEN
                v_calls[i].outcome := 'insufficient_credits';
                v_calls[i].error := v_error;
            END IF;
        END LOOP;
        RETURN v_calls;
    EXCEPTION WHEN OTHERS THEN
        IF vidgen.is_passing(SQLSTATE) THEN
            RAISE;
        END IF;
    END;

    FOREACH i IN ARRAY v_order LOOP
        p_calls[i] := vidgen.hold_one(p_calls[i]);
    END LOOP;

    RETURN p_calls;
END $$;


-- Calls of different jobs with different keys.

CREATE OR REPLACE FUNCTION vidgen.begin_calls(p_calls vidgen.generation[],
    p_prompt text[])
RETURNS vidgen.generation[]
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    v_call  vidgen.generation;
BEGIN
    IF EXISTS (SELECT FROM unnest(p_calls) c JOIN video_jobs j ON j.id = c.job)
    THEN
        p_calls := vidgen.begin_again(p_calls);
    END IF;

    IF EXISTS (SELECT FROM unnest(p_calls) c WHERE c.key IS NOT NULL) THEN
        p_calls := vidgen.claim_keys(p_calls);
    END IF;

    p_calls := vidgen.route(p_calls);
    p_calls := vidgen.hold_calls(p_calls);

    INSERT INTO video_jobs (id, user_id, model_id, prompt, provider_name,
                            status, credits_used, provider_attempts,
                            created_at)
    SELECT c.job, c.user_id, c.model, p_prompt[c.ord], c.providers[1],
           'queued', c.price, 1, now()
      FROM unnest(p_calls) c WHERE c.outcome IS NULL;

    IF FOUND THEN
        INSERT INTO vidgen.ledger (job_id, entry, user_id, amount)
        SELECT c.job, 'hold', c.user_id, c.price
          FROM unnest(p_calls) c WHERE c.outcome IS NULL AND c.price > 0;

        INSERT INTO vidgen.attempts (id, job_id, number, provider, state,
                                     lease)
        SELECT c.attempt, c.job, 1, c.providers[1], 'sending',
               now() + c.lease_ms * interval '1 millisecond'
          FROM unnest(p_calls) c WHERE c.outcome IS NULL;
    END IF;

    -- what was refused frees its key

    IF EXISTS (SELECT FROM unnest(p_calls) c
                WHERE c.claimed AND c.outcome IS NOT NULL)
    THEN
        DELETE FROM idempotency_log l
         USING unnest(p_calls) c
         WHERE l.idempotency_key = c.key AND c.claimed
           AND c.outcome IS NOT NULL;
    END IF;

    FOR i IN 1 .. cardinality(p_calls) LOOP
        v_call := p_calls[i];
        IF v_call.outcome IS NULL OR v_call.outcome = 'again' THEN
            v_call.outcome := 'go';
            v_call.job_id := v_call.job;
            v_call.attempt_id := v_call.attempt;
            v_call.provider := v_call.providers[1];
            v_call.status := 'queued';
            p_calls[i] := v_call;
        END IF;
    END LOOP;

    RETURN p_calls;
END $$;


-- p_job, p_attempt   ids made by the caller; the same call again with the same
--                    p_job does nothing and returns what the first did
-- p_key              lower-case hex SHA-256 of user and Idempotency-Key, or
--                    NULL; p_fingerprint: of the request's fields; p_ttl_ms:
--                    how long the key is kept after the job has ended
-- p_candidates       what may be asked, in order: [{"name": "a"}, {"name": "b",
--                    "degraded": true, "trial": true, "max_jobs": 10}]
-- p_preferred        the provider that was asked for, or NULL
-- p_lease_ms         how long the operation may work on attempt 1 until it is
--                    taken for dead
--
-- outcome:
--   go                    credits held, job and attempt 1 written; providers:
--                         those to ask in their order, attempt 1 is the first's
--   replay                the answer stored under the key (or, where there is
--                         none, of its ended job): http_status and either
--                         job_id, provider, status, estimated_time or job_id,
--                         error, code
--   running               the key's job is open and its operation at work
--   processing            it is open, and nobody works on it: job_id, provider
--   mismatch              the key was used with another fingerprint
--   unknown_model, wrong_provider (p_preferred does not serve the model),
--   no_provider, insufficient_credits (error: a sentence for the user)
--   hold_failed           vidgen.hold_credits() raised: error
--
-- All but the first three hold nothing and free the key.

CREATE OR REPLACE FUNCTION vidgen.begin(p_job uuid[], p_attempt uuid[],
    p_user uuid[], p_model text[], p_prompt text[], p_key text[],
    p_fingerprint text[], p_ttl_ms bigint[], p_candidates jsonb[],
    p_preferred text[], p_lease_ms integer[])
RETURNS TABLE (ord integer, outcome text, job_id uuid, attempt_id uuid,
               providers text, http_status integer, provider text, status text,
               estimated_time integer, error text, code text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    v_calls  vidgen.generation[];
    v_done   vidgen.generation[];
    v_first  vidgen.generation[];
    v_rest   vidgen.generation[];
BEGIN
    -- vidgen.abandon() waits for a begin of its job that is under way

    PERFORM vidgen.lock_names(
        ARRAY(SELECT 'job:' || j FROM unnest(p_job) j)
        || ARRAY(SELECT 'key:' || k FROM unnest(p_key) k WHERE k IS NOT NULL)
        || ARRAY(SELECT 'provider:' || (x ->> 'name')
                   FROM unnest(p_candidates) c, jsonb_array_elements(c) x
                  WHERE x ? 'max_jobs'));

    SELECT array_agg(ROW(c.ord, c.job, c.attempt, c.user_id, c.model,
                         'generate:' || c.key, c.fingerprint, c.ttl_ms,
                         c.candidates, c.preferred, c.lease_ms, NULL, NULL,
                         NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
                         NULL, NULL)::vidgen.generation ORDER BY c.ord)
      INTO v_calls
      FROM unnest(p_job, p_attempt, p_user, p_model, p_key, p_fingerprint,
                  p_ttl_ms, p_candidates, p_preferred, p_lease_ms)
           WITH ORDINALITY c (job, attempt, user_id, model, key, fingerprint,
                              ttl_ms, candidates, preferred, lease_ms, ord);

    -- a job or key that occurs twice: the first of them, then the rest

    WHILE v_calls IS NOT NULL LOOP
        v_first := v_calls;
        v_rest := NULL;

        IF cardinality(v_calls) > 1 THEN
            SELECT array_agg(v_calls[c.i] ORDER BY c.i) FILTER (WHERE c.first),
                   array_agg(v_calls[c.i] ORDER BY c.i)
                       FILTER (WHERE NOT c.first)
              INTO v_first, v_rest
              FROM (SELECT o.ordinality AS i,
                           row_number() OVER (PARTITION BY o.job
                                              ORDER BY o.ordinality) = 1
                           AND (o.key IS NULL
                                OR row_number() OVER (PARTITION BY o.key
                                                      ORDER BY o.ordinality)
                                   = 1) AS first
                      FROM unnest(v_calls) WITH ORDINALITY o) c;
        END IF;

        v_done := v_done || vidgen.begin_calls(v_first, p_prompt);
        v_calls := v_rest;
    END LOOP;

    RETURN QUERY
    SELECT d.ord, d.outcome, d.job_id, d.attempt_id,
           CASE WHEN d.outcome = 'go'
                THEN array_to_string(d.providers, ',') END,
           d.http_status, d.provider, d.status, d.estimated_time, d.error,
           d.code
      FROM unnest(v_done) d
     ORDER BY d.ord;
END $$;

COMMIT;
