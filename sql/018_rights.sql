-- Who may do what.  vidgen_edge may execute the functions that nginx calls
-- (not those that move credits by themselves); everybody else nothing of what
-- the migrations created.

\set ON_ERROR_STOP 1
BEGIN;
DO $$ BEGIN PERFORM vidgen.migration(); END $$;


DO $$
BEGIN
    PERFORM vidgen.make_private('SCHEMA vidgen');
    PERFORM vidgen.make_private('ALL TABLES IN SCHEMA vidgen');
    PERFORM vidgen.make_private('ALL SEQUENCES IN SCHEMA vidgen');
    PERFORM vidgen.make_private('ALL ROUTINES IN SCHEMA vidgen');
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
            OR p.oid = to_regprocedure('get_provider_health(text)')
           AND p.prosecdef
           AND p.proowner = to_regrole(quote_ident(current_user))
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO vidgen_edge',
                       r.function);
    END LOOP;
END $$;

COMMIT;
