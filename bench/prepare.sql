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


-- The generations first .. last as the arguments of vidgen.begin() and
-- vidgen.submitted(), size of them for each call.
CREATE FUNCTION bench.generations(first bigint, last bigint, size integer)
RETURNS TABLE (
    n              bigint,
    job            uuid[],
    attempt        uuid[],
    account        uuid[],
    model          text[],
    prompt         text[],
    nothing        text[],
    ttl_ms         bigint[],
    candidates     jsonb[],
    lease_ms       integer[],
    id             text[],
    kept           jsonb[],
    http_status    integer[],
    estimated_time integer[],
    due_ms         integer[]
)
LANGUAGE sql STABLE AS
$$
    SELECT (g - first) / size + 1,
        array_agg(bench.job(g)),
        array_agg(bench.attempt(g)),
        array_agg(bench.account(g % p.users)),
        array_agg('video-model'::text),
        array_agg('a lighthouse in a storm'::text),
        array_agg(NULL::text),
        array_agg(259200000::bigint),
        array_agg('[{"name": "fal.ai"}]'::jsonb),
        array_agg(70000),
        array_agg('bench-' || g),
        array_agg(NULL::jsonb),
        array_agg(200),
        array_agg(120),
        array_agg(NULL::integer)
    FROM bench.parameter p, generate_series(first, last) g
    GROUP BY 1
$$;

-- The jobs first .. last, accepted by the provider as "bench-N".
CREATE PROCEDURE bench.prepare(first bigint, last bigint) LANGUAGE plpgsql AS
$$
DECLARE
    low  bigint;
BEGIN
    FOR low IN SELECT generate_series(first, last, 64) LOOP
        PERFORM b.*
        FROM bench.generations(low, least(low + 63, last), 64) g,
            vidgen.begin(g.job, g.attempt, g.account, g.model, g.prompt,
                g.nothing, g.nothing, g.ttl_ms, g.candidates, g.nothing,
                g.lease_ms) b;

        PERFORM s.*
        FROM bench.generations(low, least(low + 63, last), 64) g,
            vidgen.submitted(g.job, g.attempt, g.id, g.nothing, g.kept,
                g.http_status, g.estimated_time, g.due_ms) s;

        COMMIT;
    END LOOP;
END
$$;

-- The generations first .. last for pgbench, one for each pair of calls.
CREATE TABLE bench.generation AS
SELECT * FROM bench.generations(1, 0, 1);
ALTER TABLE bench.generation ADD PRIMARY KEY (n);
GRANT SELECT ON bench.generation TO PUBLIC;

CREATE PROCEDURE bench.begins(first bigint, last bigint) LANGUAGE plpgsql AS
$$
BEGIN
    TRUNCATE bench.generation;
    INSERT INTO bench.generation SELECT * FROM bench.generations(first, last,
        1);
    ANALYZE bench.generation;
END
$$;


-- What the least durable commit changes.
CREATE TABLE bench.counter AS SELECT 0::bigint AS n;
GRANT SELECT, UPDATE ON bench.counter TO PUBLIC;


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


-- What is not as it must be, as sentences: after so many events, jobs made by
-- the bench itself, generations through nginx, and moves of those from one
-- provider to another.
CREATE FUNCTION bench.wrong(credits bigint, sent bigint, prepared bigint,
    generated bigint, moved bigint)
RETURNS SETOF text LANGUAGE sql AS
$$
    WITH job AS (
        SELECT j.id, j.user_id, j.status, j.credits_used,
            p.is_prepared, j.provider_attempts,
            CASE WHEN p.is_prepared THEN
                bench.is_failed(substr(j.provider_job_id, 7)::bigint) END AS f,
            count(*) FILTER (WHERE l.entry = 'hold'
                AND l.amount = j.credits_used) AS holds,
            count(*) FILTER (WHERE l.entry = 'refund'
                AND l.amount = j.credits_used) AS refunds,
            count(l.entry) AS entries
        FROM video_jobs j
            LEFT JOIN vidgen.ledger l ON l.job_id = j.id
            CROSS JOIN LATERAL (SELECT j.provider_job_id LIKE 'bench-%'
                AS is_prepared) p
        GROUP BY j.id, p.is_prepared
    ), ended AS (
        SELECT * FROM job WHERE status IN ('completed', 'failed')
    ), attempt AS (
        SELECT a.job_id, count(*) AS n,
            count(*) FILTER (WHERE a.state IN ('accepted', 'completed',
                'failed') AND a.provider = 'fal.ai'
                AND a.provider_job_id IS NOT NULL) AS accepted,
            count(*) FILTER (WHERE a.state = 'unsent'
                AND a.reason = 'connect' AND a.provider = 'refusing') AS unsent
        FROM vidgen.attempts a GROUP BY a.job_id
    ), account AS (
        SELECT c.user_id, c.balance, coalesce(sum(CASE l.entry
            WHEN 'hold' THEN -l.amount ELSE l.amount END), 0) AS booked
        FROM user_credits c LEFT JOIN vidgen.ledger l USING (user_id)
        GROUP BY c.user_id
    ), wrong(what, n) AS (
        SELECT 'more ended jobs than events', count(*) - sent FROM ended
        UNION ALL
        SELECT 'jobs ended the wrong way', count(*) FROM ended
        WHERE (status = 'failed') IS DISTINCT FROM f
        UNION ALL
        SELECT 'more jobs of the bench than it made', count(*) - prepared
        FROM job WHERE is_prepared
        UNION ALL
        SELECT 'more jobs of nginx than generations', count(*) - generated
        FROM job WHERE is_prepared IS NOT TRUE
        UNION ALL
        SELECT 'jobs without exactly one accepted attempt', count(*)
        FROM job j LEFT JOIN attempt a ON a.job_id = j.id
        WHERE (a.accepted = 1 AND a.accepted + a.unsent = a.n
            AND a.n = j.provider_attempts) IS NOT TRUE
        UNION ALL
        SELECT 'more refused attempts than there were',
            coalesce(sum(unsent), 0) - moved FROM attempt
        UNION ALL
        SELECT 'more moves in the log than there were', count(*) - moved
        FROM provider_failover_log
        WHERE from_provider = 'refusing' AND to_provider = 'fal.ai'
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
