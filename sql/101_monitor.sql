-- What the monitor of each nginx tells and asks: health, alerts, orphans.

\set ON_ERROR_STOP 1
BEGIN;
DO $$ BEGIN PERFORM vidgen.migration(); END $$;


-- Outages, one row for each subject that ever had one: a provider's name, or
-- *database, *clock, *orphans of nginx itself.  Every nginx asks
-- vidgen.alert() what it may say; what one says, no other says again.
--
-- status     down: an outage; up: it has ended
-- since      when that began
-- began      up: when the outage that ended had begun
-- announced  when the message about it was delivered; NULL: not yet
-- tried      somebody has tried to deliver it
-- said       when an outage was last announced
-- lease      until then holder is at it

ALTER TABLE vidgen.alerts
    ADD COLUMN IF NOT EXISTS began timestamptz,
    ADD COLUMN IF NOT EXISTS said timestamptz,
    ADD COLUMN IF NOT EXISTS tried boolean NOT NULL DEFAULT false,
    ADD COLUMN IF NOT EXISTS holder text;


-- Rows for provider_health_log: one for each probe, and for each change by
-- live traffic.  A call that is made again adds nothing.

CREATE OR REPLACE FUNCTION vidgen.health_log(p_provider text[],
    p_status text[], p_response_time_ms integer[], p_failures integer[],
    p_checked_ms bigint[])
RETURNS TABLE (ord integer, added boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH given AS (
        SELECT e.ord, e.provider, e.status, e.response_time_ms, e.failures,
               to_timestamp(e.checked_ms / 1000.0) AS checked_at
          FROM unnest(p_provider, p_status, p_response_time_ms, p_failures,
                      p_checked_ms) WITH ORDINALITY
               AS e (provider, status, response_time_ms, failures, checked_ms,
                     ord)
    ), new AS (
        INSERT INTO provider_health_log AS h (provider_name, status,
               response_time_ms, consecutive_failures, checked_at)
        SELECT g.provider, g.status, g.response_time_ms, g.failures,
               g.checked_at
          FROM given g
         WHERE NOT EXISTS (SELECT FROM provider_health_log o
                            WHERE o.provider_name = g.provider
                              AND o.checked_at = g.checked_at
                              AND o.response_time_ms = g.response_time_ms)
         ORDER BY g.ord
        RETURNING h.id)
    SELECT g.ord::integer, (SELECT count(*) FROM new) > 0
      FROM given g ORDER BY g.ord;
END $$;


-- What the log knows of providers, for an nginx that knows nothing: status
-- NULL where there is no row.  since: when it came into that status, as far as
-- the latest 10000 rows say, else when the log begins; NULL: it has always been
-- healthy.  Seconds since the epoch.

CREATE OR REPLACE FUNCTION vidgen.health_seed(p_provider text[])
RETURNS TABLE (ord integer, status text, response_time_ms integer,
               failures integer, checked_at bigint, since bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT
SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT e.ord::integer, l.status::text, l.response_time_ms::integer,
           l.consecutive_failures::integer,
           floor(extract(epoch FROM l.checked_at::timestamptz))::bigint,
           floor(extract(epoch FROM f.since::timestamptz))::bigint
      FROM unnest(p_provider) WITH ORDINALITY AS e (provider, ord)
      LEFT JOIN LATERAL
           (SELECT h.* FROM provider_health_log h
             WHERE h.provider_name = e.provider AND h.checked_at <= now()
             ORDER BY h.checked_at DESC LIMIT 1) l ON true
      LEFT JOIN LATERAL
           (SELECT o.checked_at
              FROM (SELECT r.checked_at, r.status
                      FROM provider_health_log r
                     WHERE r.provider_name = e.provider
                     ORDER BY r.checked_at DESC LIMIT 10000) o
             WHERE o.status <> l.status
             ORDER BY o.checked_at DESC LIMIT 1) c ON true
      LEFT JOIN LATERAL
           (SELECT min(h.checked_at) AS since FROM provider_health_log h
             WHERE h.provider_name = e.provider
               AND h.checked_at > coalesce(c.checked_at, '-infinity')) f
        ON l.status <> 'healthy' OR c.checked_at IS NOT NULL
     ORDER BY e.ord;
END $$;


-- Parked results that nothing has claimed for so long.

CREATE OR REPLACE FUNCTION vidgen.orphans(p_age interval)
RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    RETURN (SELECT count(*) FROM vidgen.parked p
             WHERE p.adopted IS NULL AND p.received <= now() - p_age);
END $$;


-- One step of vidgen.alert(): what may be said of a subject, whose row is
-- locked here.

CREATE OR REPLACE FUNCTION vidgen.alert_step(p_subject text, p_word text,
    p_since timestamptz, p_every interval, p_repeat interval,
    p_lease interval, p_holder text, OUT outcome text, OUT kind text,
    OUT began timestamptz, OUT wait interval)
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    a  vidgen.alerts;
BEGIN
    outcome := 'done';

    IF p_word = 'down' THEN
        INSERT INTO vidgen.alerts (provider, status, since)
        VALUES (p_subject, 'down', p_since)
            ON CONFLICT (provider) DO NOTHING;
    END IF;

    SELECT * INTO a FROM vidgen.alerts x
     WHERE x.provider = p_subject FOR NO KEY UPDATE;

    IF NOT FOUND OR p_word = 'again' AND a.status <> 'down' THEN
        RETURN;
    END IF;

    -- somebody is delivering what is due

    IF a.lease > now() AND a.holder IS DISTINCT FROM p_holder THEN
        outcome := 'wait';
        wait := a.lease - now();
        RETURN;
    END IF;

    -- what is to be said about what is due

    IF a.announced IS NOT NULL OR NOT a.tried THEN

        IF p_word = 'down' AND (a.status = 'up' OR a.announced IS NULL) THEN
            UPDATE vidgen.alerts x
               SET status = 'down', since = p_since, announced = NULL,
                   tried = false, lease = NULL
             WHERE x.provider = p_subject;
            wait := a.said + p_every - now();
            outcome := CASE WHEN wait > interval '0' THEN 'wait'
                            ELSE 'send' END;

        -- not of an outage that another has seen since

        ELSIF p_word = 'up' AND a.status = 'down'
              AND (p_since >= a.since OR a.holder = p_holder)
        THEN
            UPDATE vidgen.alerts x
               SET status = 'up', began = a.since, since = p_since,
                   announced = CASE WHEN a.announced IS NULL THEN now() END,
                   tried = false, lease = NULL
             WHERE x.provider = p_subject;
            outcome := CASE WHEN a.announced IS NULL THEN 'done'
                            ELSE 'send' END;

        ELSIF p_word = 'again' AND a.announced IS NOT NULL THEN
            wait := a.announced + p_repeat - now();
            outcome := CASE WHEN wait > interval '0' THEN 'wait'
                            ELSE 'send' END;
        END IF;

    ELSE
        outcome := 'send';
    END IF;

    IF outcome = 'send' THEN
        UPDATE vidgen.alerts x
           SET tried = true, lease = now() + p_lease, holder = p_holder
         WHERE x.provider = p_subject
        RETURNING x.status, CASE WHEN x.status = 'up' THEN x.began
                                 ELSE x.since END
          INTO kind, began;
    END IF;
END $$;


-- What this nginx may say of a subject by now.
--
-- p_word     down, up: what it sees; again: whether to repeat an outage
-- p_every    between two announced outages of a subject
-- p_lease    for which others leave it to p_holder to deliver the message
--
-- outcome:
--   send   deliver it and call vidgen.alerted(); kind: what it is about, an
--          outage (down) or its end (up), which may be another than the word,
--          for what was not delivered comes first; began: of the outage
--   wait   for wait_ms: another is at it, or it is too early
--   done   there is nothing to say
--
-- Seconds since the epoch.

CREATE OR REPLACE FUNCTION vidgen.alert(p_subject text[], p_word text[],
    p_since bigint[], p_every_ms bigint[], p_repeat_ms bigint[],
    p_lease_ms bigint[], p_holder text[])
RETURNS TABLE (ord integer, outcome text, kind text, began bigint,
               wait_ms bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    v_ms  interval := interval '1 millisecond';
    e     record;
    s     record;
BEGIN
    FOR e IN
        SELECT x.* FROM unnest(p_subject, p_word, p_since, p_every_ms,
                               p_repeat_ms, p_lease_ms, p_holder)
               WITH ORDINALITY AS x (subject, word, since, every_ms,
                                     repeat_ms, lease_ms, holder, ord)
         ORDER BY x.subject, x.ord
    LOOP
        s := vidgen.alert_step(e.subject, e.word, to_timestamp(e.since),
                               e.every_ms * v_ms, e.repeat_ms * v_ms,
                               e.lease_ms * v_ms, e.holder);
        ord := e.ord;
        outcome := s.outcome;
        kind := s.kind;
        began := floor(extract(epoch FROM s.began));
        wait_ms := ceil(extract(epoch FROM s.wait) * 1000);
        RETURN NEXT;
    END LOOP;
END $$;


-- What became of a message.  p_sent false: it could not be delivered, and is
-- not to be tried by anybody before p_pause_ms.  p_alone: this nginx has said
-- it while the database was away, so that it is known from now on; but not
-- that the database itself was, where another one has seen it since.

CREATE OR REPLACE FUNCTION vidgen.alerted(p_subject text[], p_kind text[],
    p_since bigint[], p_sent boolean[], p_alone boolean[],
    p_pause_ms bigint[], p_holder text[])
RETURNS TABLE (ord integer, noted boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    e  record;
BEGIN
    FOR e IN
        SELECT x.* FROM unnest(p_subject, p_kind, p_since, p_sent, p_alone,
                               p_pause_ms, p_holder)
               WITH ORDINALITY AS x (subject, kind, since, sent, alone,
                                     pause_ms, holder, ord)
         ORDER BY x.subject, x.ord
    LOOP
        IF e.alone THEN
            INSERT INTO vidgen.alerts AS a (provider, status, since, announced,
                                            said, tried)
            VALUES (e.subject, e.kind, to_timestamp(e.since), now(),
                    CASE WHEN e.kind = 'down' THEN now() END, true)
                ON CONFLICT (provider) DO UPDATE
               SET status = excluded.status, since = excluded.since,
                   announced = now(), said = coalesce(excluded.said, a.said),
                   tried = true, lease = NULL
             WHERE a.provider <> '*database' OR a.status = 'down'
                OR a.since < excluded.since;

        ELSIF e.sent THEN
            UPDATE vidgen.alerts a
               SET announced = now(), lease = NULL,
                   said = CASE WHEN a.status = 'down' THEN now()
                               ELSE a.said END
             WHERE a.provider = e.subject AND a.status = e.kind;

        ELSE
            UPDATE vidgen.alerts a
               SET lease = now() + e.pause_ms * interval '1 millisecond'
             WHERE a.provider = e.subject AND a.status = e.kind
               AND a.holder = e.holder;
        END IF;

        ord := e.ord;
        noted := true;
        RETURN NEXT;
    END LOOP;
END $$;


DO $$
DECLARE
    v_others  text := 'PUBLIC';
    r         record;
BEGIN
    SELECT v_others || coalesce(string_agg(', ' || quote_ident(rolname), ''),
                                '')
      INTO v_others
      FROM pg_roles
     WHERE rolname IN ('anon', 'authenticated', 'service_role');

    FOR r IN
        SELECT p.oid::regprocedure AS function, p.proname
          FROM pg_proc p
         WHERE p.pronamespace = 'vidgen'::regnamespace
           AND p.proname IN ('health_log', 'health_seed', 'orphans', 'alert',
                             'alert_step', 'alerted')
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s', r.function,
                       v_others);
        IF r.proname <> 'alert_step' THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO vidgen_edge',
                           r.function);
        END IF;
    END LOOP;
END $$;

COMMIT;
