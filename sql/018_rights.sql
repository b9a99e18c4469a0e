-- Who may do what.  vidgen_edge may execute the functions that nginx calls;
-- everybody else nothing of what the migrations created.

\set ON_ERROR_STOP 1
BEGIN;
DO $$ BEGIN PERFORM vidgen.migration(); END $$;


DO $$
DECLARE
    v_others   text := 'PUBLIC';
    v_role     text;
    r          record;
BEGIN
    -- roles to which a hosted database gives rights by default

    FOREACH v_role IN ARRAY ARRAY['anon', 'authenticated', 'service_role'] LOOP
        IF to_regrole(v_role) IS NOT NULL THEN
            v_others := v_others || ', ' || v_role;
        END IF;
    END LOOP;

    EXECUTE format('REVOKE ALL ON SCHEMA vidgen FROM %s', v_others);
    EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA vidgen FROM %s,'
                   ' vidgen_edge', v_others);
    EXECUTE format('REVOKE ALL ON ALL SEQUENCES IN SCHEMA vidgen FROM %s,'
                   ' vidgen_edge', v_others);
    EXECUTE format('REVOKE ALL ON ALL ROUTINES IN SCHEMA vidgen FROM %s,'
                   ' vidgen_edge', v_others);
END $$;


GRANT USAGE ON SCHEMA vidgen TO vidgen_edge;

DO $$
DECLARE
    r  record;
BEGIN
    FOR r IN
        SELECT p.oid::regprocedure AS function
          FROM pg_proc p
         WHERE p.pronamespace = 'vidgen'::regnamespace
           AND p.proname IN ('hello', 'begin', 'next_attempt', 'submitted',
                             'abandon', 'apply', 'job', 'due', 'polled',
                             'sweep')
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO vidgen_edge',
                       r.function);
    END LOOP;
END $$;

COMMIT;
