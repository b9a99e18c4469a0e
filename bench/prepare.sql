-- What the bench needs in its database.  Variables: users, credits.

CREATE SCHEMA bench;
GRANT USAGE ON SCHEMA bench TO PUBLIC;

CREATE FUNCTION bench.account(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS
$$ SELECT ('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid $$;

CREATE FUNCTION bench.job(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS
$$ SELECT ('01900000-0000-7000-9000-' || lpad(to_hex(n), 12, '0'))::uuid $$;

CREATE FUNCTION bench.attempt(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS
$$ SELECT ('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid $$;

CREATE TABLE bench.parameter AS
SELECT :users::bigint AS users, :credits::bigint AS credits;

INSERT INTO user_credits (user_id, balance)
SELECT bench.account(n), :credits FROM generate_series(0, :users - 1) n;


-- The jobs first .. last, accepted by the provider as "bench-N".
CREATE PROCEDURE bench.prepare(first bigint, last bigint) LANGUAGE plpgsql AS
$$
DECLARE
    users bigint := (SELECT p.users FROM bench.parameter p);
    low   bigint;
    high  bigint;
BEGIN
    FOR low IN SELECT generate_series(first, last, 64) LOOP
        high := least(low + 63, last);

        PERFORM b.* FROM (
            SELECT array_agg(bench.job(n)) AS job,
                array_agg(bench.attempt(n)) AS attempt,
                array_agg(bench.account(n % users)) AS account,
                array_agg('video-model'::text) AS model,
                array_agg('a lighthouse in a storm'::text) AS prompt,
                array_agg(NULL::text) AS none,
                array_agg(259200000::bigint) AS ttl_ms,
                array_agg('[{"name": "fal.ai"}]'::jsonb) AS candidates,
                array_agg(70000) AS lease_ms
            FROM generate_series(low, high) n) v,
            vidgen.begin(v.job, v.attempt, v.account, v.model, v.prompt,
                v.none, v.none, v.ttl_ms, v.candidates, v.none, v.lease_ms) b;

        PERFORM s.* FROM (
            SELECT array_agg(bench.job(n)) AS job,
                array_agg(bench.attempt(n)) AS attempt,
                array_agg('bench-' || n) AS id,
                array_agg(NULL::text) AS progress,
                array_agg(NULL::jsonb) AS kept,
                array_agg(200) AS http_status,
                array_agg(120) AS estimated_time,
                array_agg(NULL::integer) AS due_ms
            FROM generate_series(low, high) n) v,
            vidgen.submitted(v.job, v.attempt, v.id, v.progress, v.kept,
                v.http_status, v.estimated_time, v.due_ms) s;

        COMMIT;
    END LOOP;
END
$$;


-- The events of jobs first .. last as the arguments of vidgen.apply(), size of
-- them for each call.  One in ten is a failure.
CREATE TABLE bench.call (
    n               bigint PRIMARY KEY,
    provider        text[],
    attempt         uuid[],
    provider_job_id text[],
    status          text[],
    verdict         boolean[],
    video_url       text[],
    error           text[],
    digest          text[],
    body            text[],
    is_default      boolean[],
    ttl_ms          bigint[],
    source          text[]
);
GRANT SELECT ON bench.call TO PUBLIC;

CREATE FUNCTION bench.is_failed(n bigint) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$ SELECT n % 10 = 0 $$;

CREATE PROCEDURE bench.calls(first bigint, last bigint, size integer)
LANGUAGE plpgsql AS
$$
BEGIN
    TRUNCATE bench.call;

    INSERT INTO bench.call
    SELECT (e.n - first) / size + 1,
        array_agg('fal.ai'::text),
        array_agg(bench.attempt(e.n)),
        array_agg('bench-' || e.n),
        array_agg(CASE WHEN f THEN 'failed' ELSE 'completed' END),
        array_agg(true),
        array_agg(CASE WHEN NOT f THEN e.url END),
        array_agg(CASE WHEN f THEN 'out of memory' END),
        array_agg(encode(sha256(e.body::bytea), 'hex')),
        array_agg(e.body),
        array_agg(true),
        array_agg(259200000::bigint),
        array_agg('webhook'::text)
    FROM (
        SELECT n, bench.is_failed(n) AS f,
            'https://cdn.test/bench-' || n || '.mp4' AS url,
            format('{"request_id":"bench-%s","status":"%s"}', n,
                CASE WHEN bench.is_failed(n) THEN 'failed'
                    ELSE 'completed' END) AS body
        FROM generate_series(first, last) n) e
    GROUP BY 1;

    ANALYZE bench.call;
END
$$;


-- What is not as it must be after that many events, as sentences.
CREATE FUNCTION bench.wrong(sent bigint, credits bigint) RETURNS SETOF text
LANGUAGE sql AS
$$
    WITH job AS (
        SELECT j.id, j.user_id, j.status, j.credits_used,
            bench.is_failed(substr(j.provider_job_id, 7)::bigint) AS f,
            count(*) FILTER (WHERE l.entry = 'hold'
                AND l.amount = j.credits_used) AS holds,
            count(*) FILTER (WHERE l.entry = 'refund'
                AND l.amount = j.credits_used) AS refunds,
            count(*) AS entries
        FROM video_jobs j JOIN vidgen.ledger l ON l.job_id = j.id
        GROUP BY j.id
    ), ended AS (
        SELECT * FROM job WHERE status IN ('completed', 'failed')
    ), account AS (
        SELECT c.user_id, c.balance, coalesce(sum(CASE l.entry
            WHEN 'hold' THEN -l.amount ELSE l.amount END), 0) AS booked
        FROM user_credits c LEFT JOIN vidgen.ledger l USING (user_id)
        GROUP BY c.user_id
    ), wrong(what, n) AS (
        SELECT 'more ended jobs than events', count(*) - sent FROM ended
        UNION ALL
        SELECT 'jobs ended the wrong way', count(*) FROM ended
        WHERE (status = 'failed') <> f
        UNION ALL
        SELECT 'jobs without exactly one hold', count(*) FROM job
        WHERE holds <> 1
        UNION ALL
        SELECT 'jobs without exactly one refund if failed, else none',
            count(*) FROM job
        WHERE refunds <> (status = 'failed')::integer
            OR entries <> holds + refunds
        UNION ALL
        SELECT 'accounts that do not balance', count(*) FROM account
        WHERE balance <> credits + booked
    )
    SELECT n || ' ' || what FROM wrong WHERE n <> 0
$$;
