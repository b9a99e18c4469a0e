-- Credits.  vidgen calls two functions, which are yours to replace:
--
--     vidgen.hold_credits(p_user uuid, p_amount integer, p_job uuid) → text
--         takes the amount from the user's balance.  NULL: done; a sentence:
--         not enough, and the user is told it.  May raise: P0001 means not
--         enough too, anything else that nothing could be done (503).
--
--     vidgen.refund_credits(p_user uuid, p_amount integer, p_job uuid) → void
--         gives it back.  Called at most once for a job, unless it raises:
--         then again by the sweep until it does not.
--
-- They run in the transaction that records why, as the owner of video_jobs,
-- with search_path = <schema of video_jobs>, users in the order of their id.
-- A replaced one is kept when the migrations run again.
--
-- Shipped, they call deduct_credits() and rollback_credits(), which are
-- created only where there are none; with them user_credits.

\set ON_ERROR_STOP 1
BEGIN;
DO $$ BEGIN PERFORM vidgen.migration(); END $$;


-- Which of them are the deployment's own?

DO $$
DECLARE
    r  record;
BEGIN
    FOR r IN
        SELECT p.oid::regprocedure AS found, w.hook
          FROM (VALUES
                    ('deduct_credits', 'hold_credits',
                     ARRAY[to_regprocedure('deduct_credits'
                                           '(uuid,integer,text)')],
                     ARRAY['jsonb'::regtype, 'json'::regtype]),
                    ('rollback_credits', 'refund_credits',
                     ARRAY[to_regprocedure('rollback_credits'
                                           '(uuid,uuid,integer)'),
                           to_regprocedure('rollback_credits(uuid,integer)')],
                     '{}'::regtype[])
               ) AS w (name, hook, known, results)
          JOIN pg_proc p ON p.proname = w.name
               AND p.pronamespace = vidgen.tables_schema()::regnamespace
         WHERE to_regprocedure(format('vidgen.%I(uuid,integer,uuid)', w.hook))
               IS NULL
           AND (coalesce(p.oid <> ALL (w.known), true)
                OR w.results <> '{}'
                   AND p.prorettype::regtype <> ALL (w.results))
    LOOP
        RAISE EXCEPTION 'vidgen: there is a function % that vidgen.% does not'
            ' know how to call: create vidgen.%(p_user uuid, p_amount integer,'
            ' p_job uuid) yourself, as sql/005_credits.sql says, then run the'
            ' migrations again', r.found, r.hook, r.hook;
    END LOOP;
END $$;


-- user_credits, and the functions that work on it

DO $$
DECLARE
    v_hold    boolean := to_regprocedure('vidgen.hold_credits'
                                         '(uuid,integer,uuid)') IS NULL;
    v_refund  boolean := to_regprocedure('vidgen.refund_credits'
                                         '(uuid,integer,uuid)') IS NULL;
BEGIN
    -- with the hooks in place, only what they are known to call is made

    v_hold := v_hold
              AND to_regprocedure('deduct_credits(uuid,integer,text)') IS NULL;
    v_refund := v_refund
                AND to_regprocedure('rollback_credits(uuid,uuid,integer)')
                    IS NULL;

    IF NOT v_hold AND NOT v_refund THEN
        RETURN;
    END IF;

    IF v_hold <> v_refund AND to_regclass('user_credits') IS NULL THEN
        RAISE EXCEPTION 'vidgen: there is only one of deduct_credits and'
            ' rollback_credits, and no table user_credits: create vidgen.%'
            '(p_user uuid, p_amount integer, p_job uuid) yourself, as'
            ' sql/005_credits.sql says, then run the migrations again',
            CASE WHEN v_hold THEN 'hold_credits' ELSE 'refund_credits' END;
    END IF;

    IF to_regclass('user_credits') IS NULL THEN
        CREATE TABLE user_credits (
            user_id  uuid PRIMARY KEY,
            balance  integer NOT NULL DEFAULT 0 CHECK (balance >= 0)
        ) WITH (fillfactor = 50);
        PERFORM vidgen.make_private('TABLE user_credits');
    END IF;

    IF (SELECT count(*) FROM pg_attribute
         WHERE attrelid = 'user_credits'::regclass AND NOT attisdropped
           AND (attname = 'user_id' AND atttypid = 'uuid'::regtype
                OR attname = 'balance'
                AND atttypid IN ('integer'::regtype, 'bigint'::regtype,
                                 'numeric'::regtype))) <> 2
    THEN
        RAISE EXCEPTION 'vidgen: table %.user_credits has no columns user_id'
            ' uuid and balance integer: create vidgen.hold_credits and'
            ' vidgen.refund_credits yourself, as sql/005_credits.sql says,'
            ' then run the migrations again', vidgen.tables_schema();
    END IF;

    IF NOT EXISTS
       (SELECT FROM pg_index i JOIN pg_attribute a
            ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
         WHERE i.indrelid = 'user_credits'::regclass AND a.attname = 'user_id'
           AND i.indisunique AND i.indisvalid AND i.indimmediate
           AND i.indpred IS NULL AND i.indnkeyatts = 1)
    THEN
        RAISE EXCEPTION 'vidgen: table %.user_credits has no unique key on'
            ' "user_id": ALTER TABLE user_credits ADD UNIQUE (user_id)',
            vidgen.tables_schema();
    END IF;

    IF EXISTS (SELECT FROM pg_class c JOIN pg_roles r
                   ON r.rolname = current_user
                WHERE c.oid = 'user_credits'::regclass
                  AND (NOT has_table_privilege(c.oid, 'SELECT')
                       OR NOT has_table_privilege(c.oid, 'INSERT')
                       OR NOT has_table_privilege(c.oid, 'UPDATE')
                       OR c.relrowsecurity
                       AND NOT r.rolsuper AND NOT r.rolbypassrls
                       AND (c.relforcerowsecurity OR c.relowner <> r.oid)))
    THEN
        RAISE EXCEPTION 'vidgen: "%", which owns the functions, cannot change'
            ' every row of table %.user_credits: ALTER TABLE user_credits'
            ' OWNER TO %, NO FORCE ROW LEVEL SECURITY', current_user,
            vidgen.tables_schema(), quote_ident(current_user);
    END IF;

    -- deduct_credits → {"success": true} or {"success": false, "error": text}

    IF v_hold THEN
        CREATE FUNCTION deduct_credits(p_user_id uuid, p_amount integer,
            p_reason text)
        RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER
        SET search_path FROM CURRENT AS $f$
        BEGIN
            IF p_amount IS NULL OR p_amount < 0 THEN
                RAISE EXCEPTION 'deduct_credits: amount %', p_amount
                    USING ERRCODE = 'invalid_parameter_value';
            END IF;
            UPDATE user_credits SET balance = balance - p_amount
             WHERE user_id = p_user_id AND balance >= p_amount;
            IF FOUND THEN
                RETURN '{"success": true}'::jsonb;
            END IF;
            RETURN '{"success": false, "error": "insufficient credits"}'::jsonb;
        END $f$;
        PERFORM vidgen.make_private('FUNCTION deduct_credits'
                                    '(uuid,integer,text)');
    END IF;

    -- rollback_credits inserts a balance that is missing

    IF to_regprocedure('rollback_credits(uuid,integer)') IS NULL THEN
        CREATE FUNCTION rollback_credits(p_user_id uuid, p_amount integer)
        RETURNS void LANGUAGE plpgsql SECURITY DEFINER
        SET search_path FROM CURRENT AS $f$
        BEGIN
            IF p_amount IS NULL OR p_amount < 0 THEN
                RAISE EXCEPTION 'rollback_credits: amount %', p_amount
                    USING ERRCODE = 'invalid_parameter_value';
            END IF;
            UPDATE user_credits SET balance = balance + p_amount
             WHERE user_id = p_user_id;
            IF NOT FOUND THEN
                INSERT INTO user_credits AS c (user_id, balance)
                VALUES (p_user_id, p_amount)
                ON CONFLICT (user_id) DO UPDATE
                   SET balance = c.balance + excluded.balance;
            END IF;
        END $f$;
        PERFORM vidgen.make_private('FUNCTION rollback_credits(uuid,integer)');
    END IF;

    IF v_refund THEN
        CREATE FUNCTION rollback_credits(p_job_id uuid, p_user_id uuid,
            p_credits_to_refund integer)
        RETURNS void LANGUAGE plpgsql SECURITY DEFINER
        SET search_path FROM CURRENT AS $f$
        BEGIN
            PERFORM rollback_credits(p_user_id, p_credits_to_refund);
        END $f$;
        PERFORM vidgen.make_private('FUNCTION rollback_credits'
                                    '(uuid,uuid,integer)');
    END IF;
END $$;


-- The hooks as shipped.  Their callers plan for small sets of keys; what a
-- deployment's own functions do must not be planned so.

DO $$
BEGIN
    IF to_regprocedure('vidgen.hold_credits(uuid,integer,uuid)') IS NULL THEN
        CREATE FUNCTION vidgen.hold_credits(p_user uuid, p_amount integer,
            p_job uuid)
        RETURNS text LANGUAGE plpgsql
        SET search_path FROM CURRENT
        SET enable_seqscan = on
        SET enable_bitmapscan = on
        SET enable_hashjoin = on
        SET enable_mergejoin = on AS $f$
        DECLARE
            v_result  jsonb;
        BEGIN
            v_result := deduct_credits(p_user, p_amount,
                                       'video_generation'::text);
            IF (v_result ->> 'success')::boolean THEN
                RETURN NULL;
            END IF;
            RETURN coalesce(v_result ->> 'error', 'insufficient credits');
        END $f$;
    END IF;

    IF to_regprocedure('vidgen.refund_credits(uuid,integer,uuid)') IS NULL THEN
        CREATE FUNCTION vidgen.refund_credits(p_user uuid, p_amount integer,
            p_job uuid)
        RETURNS void LANGUAGE plpgsql
        SET search_path FROM CURRENT
        SET enable_seqscan = on
        SET enable_bitmapscan = on
        SET enable_hashjoin = on
        SET enable_mergejoin = on AS $f$
        BEGIN
            PERFORM rollback_credits(p_job, p_user, p_amount);
        END $f$;
    END IF;
END $$;

COMMIT;
