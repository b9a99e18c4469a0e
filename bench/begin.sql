\set i :i + 1
\set n :client_id * :calls + :i
SELECT b.*
FROM bench.generation g,
    vidgen.begin(g.job, g.attempt, g.account, g.model, g.prompt, g.nothing,
        g.nothing, g.ttl_ms, g.candidates, g.nothing, g.lease_ms) b
WHERE g.n = :n;
SELECT s.*
FROM bench.generation g,
    vidgen.submitted(g.job, g.attempt, g.id, g.nothing, g.kept, g.http_status,
        g.estimated_time, g.due_ms) s
WHERE g.n = :n;
