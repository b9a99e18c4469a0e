\set i :i + 1
\set n :client_id * :calls + :i
SELECT a.*
FROM bench.call c,
    vidgen.apply(c.provider, c.attempt, c.provider_job_id, c.status, c.verdict,
        c.video_url, c.error, c.digest, c.body, c.is_default, c.ttl_ms,
        c.source) a
WHERE c.n = :n;
