-- Roles and the schema "vidgen".
--
-- Run all files of this folder in their order, as often as you like:
--
--     for f in sql/*.sql; do psql -X -v ON_ERROR_STOP=1 -f $f; done
--
-- as a superuser, or as a role that has CREATEROLE, owns the database (or may
-- create schemas in it) and owns the tables that exist already or is a member
-- of their owner.  Options, for this file only:
--
--     -v tables_schema=NAME   where video_jobs and its companions are or shall
--                             be; without it: where video_jobs is, else public
--
-- Two roles that cannot log in:
--
--     vidgen_owner  owns what the migrations create, if there is no video_jobs
--                   yet; otherwise the owner of video_jobs does
--     vidgen_edge   may execute the functions that nginx calls, nothing else:
--                   GRANT vidgen_edge TO <the role in vidgen_database>

\set ON_ERROR_STOP 1
\if :{?tables_schema}
\else
\set tables_schema ''
\endif

BEGIN;

SET LOCAL client_min_messages = warning;
SELECT set_config('vidgen.tables_schema', :'tables_schema', true) AS unused
\gset


DO $$
DECLARE
    v_schema   text := nullif(current_setting('vidgen.tables_schema'), '');
    v_schemas  text[];
    v_owner    text;
    v_missing  text[];
BEGIN
    IF current_setting('server_version_num')::integer < 140000 THEN
        RAISE EXCEPTION 'vidgen: PostgreSQL 14 or newer is needed';
    END IF;

    -- where the tables are

    SELECT array_agg(n.nspname::text ORDER BY n.nspname)
      INTO v_schemas
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relname = 'video_jobs' AND c.relkind IN ('r', 'p')
       AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema';

    IF v_schema IS NULL
       AND to_regprocedure('vidgen.tables_schema()') IS NOT NULL
    THEN
        EXECUTE 'SELECT vidgen.tables_schema()' INTO v_schema;
        IF v_schema <> ALL (coalesce(v_schemas, '{}')) THEN
            v_schema := NULL;           -- it was renamed
        END IF;
    END IF;

    IF v_schema IS NULL THEN
        IF cardinality(v_schemas) > 1 THEN
            RAISE EXCEPTION 'vidgen: several schemas have a table video_jobs'
                ' (%): choose one with -v tables_schema=NAME',
                array_to_string(v_schemas, ', ');
        END IF;
        v_schema := coalesce(v_schemas[1], 'public');
    END IF;

    IF to_regnamespace(quote_ident(v_schema)) IS NULL THEN
        RAISE EXCEPTION 'vidgen: there is no schema "%"', v_schema;
    END IF;

    -- roles

    SELECT pg_get_userbyid(c.relowner) INTO v_owner
      FROM pg_class c
     WHERE c.relnamespace = to_regnamespace(quote_ident(v_schema))
       AND c.relname = 'video_jobs';

    SELECT array_agg(r) INTO v_missing
      FROM unnest(ARRAY['vidgen_edge',
                        CASE WHEN v_owner IS NULL THEN 'vidgen_owner' END]) r
     WHERE r IS NOT NULL AND to_regrole(r) IS NULL;

    IF v_missing IS NOT NULL
       AND NOT (SELECT rolsuper OR rolcreaterole FROM pg_roles
                 WHERE rolname = current_user)
    THEN
        RAISE EXCEPTION 'vidgen: the roles % are to be created, and "%" has no'
            ' CREATEROLE', array_to_string(v_missing, ', '), current_user;
    END IF;

    IF 'vidgen_edge' = ANY (v_missing) THEN
        CREATE ROLE vidgen_edge NOLOGIN;
    END IF;

    IF 'vidgen_owner' = ANY (v_missing) THEN
        CREATE ROLE vidgen_owner NOLOGIN;
    END IF;

    IF v_owner IS NULL THEN
        v_owner := 'vidgen_owner';
        IF NOT pg_has_role(current_user, v_owner, 'USAGE') THEN
            EXECUTE format('GRANT vidgen_owner TO %I', current_user);
        END IF;
    END IF;

    IF NOT pg_has_role(current_user, v_owner, 'MEMBER') THEN
        RAISE EXCEPTION 'vidgen: table %.video_jobs belongs to "%": run the'
            ' migrations as that role or as a member of it', v_schema, v_owner;
    END IF;

    -- the schema

    IF to_regnamespace('vidgen') IS NULL THEN
        EXECUTE format('CREATE SCHEMA vidgen AUTHORIZATION %I', v_owner);
    END IF;

    IF NOT has_schema_privilege(v_owner, v_schema, 'USAGE')
       OR NOT has_schema_privilege(v_owner, v_schema, 'CREATE')
    THEN
        EXECUTE format('GRANT USAGE, CREATE ON SCHEMA %I TO %I', v_schema,
                       v_owner);
    END IF;

    IF has_schema_privilege('vidgen_edge', v_schema, 'CREATE') THEN
        RAISE WARNING 'vidgen: every role may create objects in schema "%",'
            ' from which functions of the owner of video_jobs read: REVOKE'
            ' CREATE ON SCHEMA % FROM PUBLIC', v_schema, quote_ident(v_schema);
    END IF;

    PERFORM set_config('role', v_owner, true);

    EXECUTE format($f$
        CREATE OR REPLACE FUNCTION vidgen.tables_schema() RETURNS text
        LANGUAGE sql IMMUTABLE AS %L$f$, format('SELECT %L::text', v_schema));
    REVOKE ALL ON FUNCTION vidgen.tables_schema() FROM PUBLIC;
END $$;


-- What each later file begins with: until the end of its transaction it works
-- as the owner, and unqualified names are those in the tables' schema (after
-- pg_catalog, which comes first unless it is named).  Functions keep that
-- path: SET search_path FROM CURRENT.

CREATE OR REPLACE FUNCTION vidgen.migration() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('search_path', format('%I, pg_temp',
                                             vidgen.tables_schema()), true);
    PERFORM set_config('role', (SELECT pg_get_userbyid(nspowner)
                                  FROM pg_namespace WHERE nspname = 'vidgen'),
                       true);
    PERFORM set_config('client_min_messages', 'warning', true);
END $$;


-- Takes what a database gives by default, also to the roles that are for
-- everybody where it is hosted, from something that the migrations made.

CREATE OR REPLACE FUNCTION vidgen.make_private(p_what text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('REVOKE ALL ON %s FROM %s', p_what,
                   (SELECT string_agg(r, ', ')
                      FROM unnest(ARRAY['PUBLIC', 'anon', 'authenticated']) r
                     WHERE r = 'PUBLIC' OR to_regrole(r) IS NOT NULL));
END $$;

DO $$
BEGIN
    PERFORM vidgen.make_private('FUNCTION vidgen.migration()');
    PERFORM vidgen.make_private('FUNCTION vidgen.make_private(text)');
END $$;

REVOKE ALL ON SCHEMA vidgen FROM PUBLIC;
GRANT USAGE ON SCHEMA vidgen TO vidgen_edge;

COMMIT;
