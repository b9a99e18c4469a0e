#!/usr/bin/perl

# The migrations: twice, by a role that is not a superuser, on databases that
# have tables and functions already, and where they have to stop.

use strict;
use warnings;

use File::Temp;
use Test::More tests => 60;

use VidgenTest::Postgres;
use VidgenTest::Sql qw(id);

my $pg = VidgenTest::Postgres->new(fsync => 0, migrate => 0);
my @files = sort glob($pg->root . '/sql/*.sql');

# the tables as the application had them before
my $older = q{
    CREATE TABLE %1$s.video_jobs (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id uuid NOT NULL,
        model_id text NOT NULL, prompt text NOT NULL,
        provider_job_id text NOT NULL, status text NOT NULL,
        credits_used integer NOT NULL, video_url text, error_message text,
        completed_at timestamptz);
    CREATE TABLE %1$s.idempotency_log (idempotency_key text PRIMARY KEY,
        response jsonb NOT NULL, created_at timestamptz NOT NULL);
    CREATE TABLE %1$s.user_credits (user_id uuid PRIMARY KEY,
        balance integer NOT NULL);
    CREATE TABLE %1$s.models (id text PRIMARY KEY, name text NOT NULL,
        provider text NOT NULL, credits_per_generation integer NOT NULL);
};
$older =~ s/%1\$s\./public./g;

my $n = 0;
my $database = sub {
    my ($setup) = @_;
    my $name = 'm' . ++$n;
    $pg->create_database($name);
    $pg->query($setup, database => $name) if $setup;
    return $name;
};

my $all = File::Temp->new;
print $all map { "\\i $_\n" } @files;
close $all;
chmod 0644, $all->filename;

# Runs the files; returns the error, or ''.
my $migrate = sub {
    my ($name, %opt) = @_;
    my $conninfo = $pg->conninfo($name);
    $conninfo =~ s/user=postgres/user=$opt{user}/ if $opt{user};
    for my $file ($opt{apart} ? @files : $all->filename) {
        eval { $pg->psql_file($file, conninfo => $conninfo,
            variables => $opt{variables} // {}); 1 } or return $@;
    }
    return '';
};
my $stops = sub {
    my ($setup, $message, $name) = @_;
    my $db = $database->($setup);
    like($migrate->($db), qr/vidgen: $message/, $name);
    return $db;
};
my $shape = sub {
    my ($name) = @_;
    return join "\n", map { join '|', map { $_ // '' } @$_ } @{ $pg->query(q{
        SELECT a.attrelid::regclass::text, a.attname::text,
               a.atttypid::regtype::text, a.attnotnull,
               pg_get_expr(d.adbin, d.adrelid)
          FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
          LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid
               AND d.adnum = a.attnum
         WHERE c.relnamespace::regnamespace::text IN ('public', 'vidgen',
                                                      'app')
           AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind <> 'S'
         UNION ALL
        SELECT p.oid::regprocedure::text, md5(p.prosrc), p.proacl::text,
               p.prosecdef, p.proconfig::text FROM pg_proc p
         WHERE p.pronamespace::regnamespace::text IN ('public', 'vidgen')
         ORDER BY 1, 2}, database => $name) };
};


# --- nothing there

my $db = $database->();
is($migrate->($db, apart => 1), '', 'an empty database');
my $first = $shape->($db);
$pg->query("INSERT INTO user_credits VALUES ('" . id('u1') . "', 10)",
    database => $db);
is($migrate->($db, apart => 1), '', '... twice');
is($shape->($db), $first, '... changes nothing');
is($pg->value("SELECT id || ' ' || credits_per_generation FROM models",
    database => $db), '* 1', 'a price for any model');

my $sql = VidgenTest::Sql->new($pg, database => $db);
$sql->accepted(job => 'j1', attempt => 'a1');
$pg->query(q{
    CREATE OR REPLACE FUNCTION vidgen.refund_credits(p_user uuid,
        p_amount integer, p_job uuid) RETURNS void LANGUAGE sql AS
        'SELECT NULL::void'}, database => $db);
is($migrate->($db), '', '... with jobs under way');
my ($r) = $sql->call(apply => { provider_job_id => 'p-j1',
    status => 'failed' });
is("$r->{outcome} $r->{status} " . $sql->balance('u1'), 'applied failed 9',
    'a replaced hook is kept');


# --- by a plain role that owns the database

$pg->query('CREATE ROLE plain LOGIN CREATEROLE; CREATE ROLE poor LOGIN');
$pg->query('CREATE DATABASE plain OWNER plain; CREATE DATABASE poor OWNER'
    . ' poor');
$pg->query('DROP OWNED BY vidgen_owner, vidgen_edge', database => $db);
$sql->close;
$pg->query("DROP DATABASE $db");
$pg->query('DROP ROLE vidgen_owner, vidgen_edge');
like($migrate->('poor', user => 'poor'),
    qr/vidgen: the roles .* has no CREATEROLE/, 'without CREATEROLE');
is($migrate->('plain', user => 'plain'), '', 'with CREATEROLE');
is($migrate->('plain', user => 'plain'), '', '... twice');
is($migrate->('plain'), '', '... and by a superuser');
is($pg->value("SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname ="
    . " 'video_jobs'", database => 'plain'), 'vidgen_owner', 'its owner');


# --- tables that are there

$db = $database->($older . join '', map { my ($job, $status, $id, $user) = @$_;
    "INSERT INTO video_jobs (id, user_id, model_id, prompt, provider_job_id,"
    . " status, credits_used, error_message, video_url) VALUES ('" . id($job)
    . "', '" . id('u1') . "', 'm', 'p', '$id', '$status', 2,"
    . ($status eq 'failed' ? "'broken'" : 'NULL') . ','
    . ($status eq 'completed' ? "'old.mp4'" : 'NULL') . ");\n" }
    ['o1', 'processing', 'p1'], ['o2', 'queued', 'p2'],
    ['o3', 'completed', 'p3'], ['o4', 'failed', 'p4'],
    ['o5', 'pending', 'p5']);
$pg->query('CREATE ROLE anon');
$pg->query("INSERT INTO user_credits VALUES ('" . id('u1') . "', 92);"
    . "INSERT INTO models VALUES ('m', 'M', 'a', 2);"
    . "INSERT INTO idempotency_log VALUES ('webhook:p3', '{}', now());"
    . join('', map { "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON"
        . " $_ TO anon;" } qw(TABLES FUNCTIONS SEQUENCES)), database => $db);
is($migrate->($db), '', 'older tables');
$first = $shape->($db);
is($migrate->($db), '', '... twice');
is($shape->($db), $first, '... changes nothing');

$sql = VidgenTest::Sql->new($pg, database => $db);
is(join(' ', map { "$_->[0]/$_->[1]/$_->[2]" } @{ $sql->query(q{
    SELECT a.state, a.progress, a.provider FROM vidgen.attempts a
      JOIN video_jobs j ON j.id = a.job_id ORDER BY j.provider_job_id}) }),
    'accepted/processing/ accepted/queued/ completed/queued/ failed/queued/'
    . ' accepted/queued/', 'jobs have attempts');
is(join(' ', map { "$_->[0]:$_->[1]" } @{ $sql->query(q{
    SELECT entry, sum(amount) FROM vidgen.ledger GROUP BY 1 ORDER BY 1}) }),
    'hold:10 refund:2', '... and holds, a failed one its refund');
is($sql->balance('u1'), 92, '... and nothing is moved');
is(join(' ', map { $_->[0] } @{ $sql->query(q{
    SELECT c.relname FROM pg_class c
     WHERE c.relnamespace IN ('public'::regnamespace, 'vidgen'::regnamespace)
       AND c.relacl::text LIKE '%anon%' AND c.relkind IN ('r', 'S')
     UNION ALL
    SELECT p.proname FROM pg_proc p
     WHERE p.pronamespace IN ('public'::regnamespace, 'vidgen'::regnamespace)
       AND (p.proacl IS NULL
            OR EXISTS (SELECT FROM aclexplode(p.proacl) x
                        WHERE x.grantee IN (0, to_regrole('anon'))))}) }), '',
    "what is new is nobody else's");
my @r = $sql->call(apply =>
    { provider_job_id => 'p1', status => 'failed', default => 't' },
    { provider_job_id => 'p2', video_url => 'new.mp4', default => 't' },
    { provider_job_id => 'p3', video_url => 'old.mp4', default => 't' },
    { provider_job_id => 'p4', status => 'failed', default => 't' },
    { provider_job_id => 'p5', video_url => 'new.mp4', default => 'f' });
is(join(' ', map { $_->{outcome} } @r), 'applied applied replay replay'
    . ' not_found', 'their results arrive, from the first provider');
is($sql->balance('u1') . $sql->job('o2')->{provider_name}, '94a',
    '... with a refund, and the name is known then');
is($sql->value("SELECT provider_job_id FROM vidgen.due('{\"\"}', '0 s', 5,"
    . " '1 s')"), 'p5', '... and polls find them');
($r) = $sql->call(begin => { job => 'n1', attempt => 'n1', model => 'm',
    key => 'k' });
is("$r->{outcome} $r->{providers}", 'go a,b', 'new ones begin');
($r) = $sql->call(begin => { job => 'n2', attempt => 'n2', model => 'x' });
is($r->{outcome}, 'unknown_model', 'the models are those of before');
is($sql->job('o1')->{created_at}, undef, 'what is not known stays so');
$sql->query("INSERT INTO video_jobs (id, user_id, model_id, prompt, status,"
    . " credits_used, provider_job_id) VALUES ('" . id('o6') . "', '"
    . id('u1') . "', 'm', 'p', 'queued', 0, 'p6')");
is($migrate->($db), '', 'a free job');
is($sql->value("SELECT count(*) FROM vidgen.ledger WHERE job_id = '"
    . id('o6') . "'"), 0, '... has no hold');
$sql->close;


# --- in another schema, and owned by somebody

my $app = $older =~ s/public\./app./gr;
$db = $database->("CREATE SCHEMA app; $app ALTER TABLE app.video_jobs OWNER TO"
    . ' plain; ALTER TABLE app.video_jobs ENABLE ROW LEVEL SECURITY');
like($migrate->($db), qr/vidgen: table app.idempotency_log belongs to /,
    'its owner has to have the other tables too');
$pg->query("ALTER TABLE app.$_ OWNER TO plain", database => $db)
    for qw(idempotency_log models user_credits);
$pg->query('ALTER TABLE app.user_credits OWNER TO postgres',
    database => $db);
like($migrate->($db), qr/cannot change every row of table app.user_credits/,
    '... and that of the credits');
$pg->query('ALTER TABLE app.user_credits OWNER TO plain', database => $db);
is($migrate->($db), '', 'tables in another schema');
is($pg->value("SELECT count(*) FROM pg_class WHERE relname IN ('video_jobs',"
    . " 'models', 'provider_health_log') AND relnamespace ="
    . " 'public'::regnamespace", database => $db), 0, '... stay there');
is($pg->value("SELECT DISTINCT pg_get_userbyid(proowner) FROM pg_proc"
    . " WHERE pronamespace = 'vidgen'::regnamespace", database => $db),
    'plain', 'the functions are of their owner');
$sql = VidgenTest::Sql->new($pg, database => $db);
$sql->query("INSERT INTO app.models VALUES ('m1', 'x', 'a', 1);"
    . " INSERT INTO app.user_credits VALUES ('" . id('u1') . "', 1)");
($r) = $sql->call(begin => { job => 'j1', attempt => 'a1' });
is($r->{outcome}, 'go', '... and work, row security or not');
$sql->close;
$pg->query('ALTER SCHEMA app RENAME TO app2', database => $db);
is($migrate->($db), '', 'a schema that was renamed');

$db = $stops->("CREATE SCHEMA app; $app $older", 'several schemas have a table'
    . ' video_jobs \(app, public\)', 'two of them');
is($migrate->($db, variables => { tables_schema => 'app' }), '',
    '... and which is said');
is($migrate->($db), '', '... once');
is($pg->value('SELECT vidgen.tables_schema()', database => $db), 'app',
    '... for good');
like($migrate->($database->(), variables => { tables_schema => 'nope' }),
    qr/vidgen: there is no schema "nope"/, 'a schema that is not there');


# --- own credit functions

my $own = q{
    CREATE TABLE wallet (owner uuid PRIMARY KEY, coins integer);
    CREATE FUNCTION deduct_credits(u uuid, n integer, why text) RETURNS json
    LANGUAGE sql AS $$
        WITH x AS (UPDATE wallet SET coins = coins - n WHERE owner = u
                      AND coins >= n RETURNING 1)
        SELECT CASE WHEN EXISTS (SELECT FROM x) THEN '{"success": true}'
                    ELSE '{"success": false, "error": "no coins"}' END::json
    $$;
    CREATE FUNCTION rollback_credits(j uuid, u uuid, n integer) RETURNS boolean
    LANGUAGE sql AS
        'UPDATE wallet SET coins = coins + n WHERE owner = u RETURNING true';
};
$db = $database->($own);
is($migrate->($db) . $migrate->($db), '', 'own functions');
$sql = VidgenTest::Sql->new($pg, database => $db);
is($sql->value("SELECT to_regclass('user_credits')"), undef,
    '... need no user_credits');
$sql->query("INSERT INTO wallet VALUES ('" . id('u1') . "', 1);"
    . ' GRANT ALL ON wallet TO vidgen_owner');
@r = $sql->call(begin => map { { job => "j$_", attempt => "a$_" } } 1, 2);
is(join(' ', map { $_->{outcome} . ($_->{error} // '') } @r),
    'go insufficient_creditsno coins', '... are asked');
$sql->call(abandon => { job => 'j1', attempt => 'a1', state => 'unsent' });
is($sql->value('SELECT coins FROM wallet'), 1, '... and given back to');
$sql->close;

$db = $stops->('CREATE FUNCTION deduct_credits(u uuid, n numeric) RETURNS'
    . " jsonb LANGUAGE sql AS 'SELECT NULL::jsonb'", 'there is a function'
    . ' deduct_credits\(uuid,numeric\) that vidgen.hold_credits does not know',
    'a function of other types: the hook is named');
$pg->query('CREATE FUNCTION vidgen.hold_credits(p_user uuid, p_amount integer,'
    . " p_job uuid) RETURNS text LANGUAGE sql AS 'SELECT NULL';"
    . 'CREATE FUNCTION vidgen.refund_credits(p_user uuid, p_amount integer,'
    . " p_job uuid) RETURNS void LANGUAGE sql AS 'SELECT'", database => $db);
is($migrate->($db), '', '... and once it is there, all is well');
is($pg->value("SELECT to_regclass('user_credits')", database => $db), undef,
    '... without user_credits');
$stops->('CREATE FUNCTION rollback_credits(x text) RETURNS void LANGUAGE sql'
    . " AS 'SELECT'", 'there is a function rollback_credits\(text\) that'
    . ' vidgen.refund_credits', 'the same of the other');
$stops->('CREATE FUNCTION deduct_credits(uuid, integer, text) RETURNS boolean'
    . " LANGUAGE sql AS 'SELECT true'", 'there is a function deduct_credits'
    . '\(uuid,integer,text\) that vidgen.hold_credits', 'another result');
$stops->('CREATE FUNCTION deduct_credits(uuid, integer, text) RETURNS jsonb'
    . " LANGUAGE sql AS 'SELECT NULL::jsonb'", 'there is only one of'
    . ' deduct_credits and rollback_credits', 'half of them');
$stops->('CREATE TABLE user_credits (user_id uuid PRIMARY KEY, coins int)',
    'table public.user_credits has no columns user_id uuid and balance',
    'credits of another shape');
$stops->('CREATE TABLE user_credits (user_id uuid, balance int)',
    'table public.user_credits has no unique key on "user_id"',
    'credits without a key');


# --- where it has to stop

$stops->($older =~ s/idempotency_key text PRIMARY KEY/idempotency_key text/r,
    'table public.idempotency_log has no unique key on "idempotency_key"',
    'no unique key of idempotency_log');
$stops->($older =~ s/id uuid PRIMARY KEY/id uuid/r,
    'table public.video_jobs has no unique key on "id"',
    'no unique key of video_jobs');
$stops->($older =~ s/id text PRIMARY KEY/id text/r,
    'table public.models has no unique key on "id"',
    'no unique key of models');
$stops->($older =~ s/user_id uuid NOT/user_id text NOT/r,
    'column "user_id" of table public.video_jobs is of type text',
    'another type');
$stops->("CREATE TYPE st AS ENUM ('queued');"
    . ($older =~ s/status text/status st/r),
    'column "status" of table public.video_jobs is of type st', 'an enum');
$stops->($older =~ s/video_url text/video_url varchar(100)/r,
    'column "video_url" of table public.video_jobs is too short',
    'too short');
$stops->($older =~ s/model_id text NOT NULL,//r,
    'table public.video_jobs has no column "model_id"', 'a missing column');
$stops->($older =~ s/completed_at timestamptz\)/region text NOT NULL)/r,
    'column "region" of table public.video_jobs is NOT NULL and has no'
    . ' default', 'a column that wants a value');
$stops->("$older ALTER TABLE video_jobs OWNER TO plain; ALTER TABLE"
    . ' idempotency_log OWNER TO plain; ALTER TABLE models OWNER TO plain;'
    . ' ALTER TABLE user_credits OWNER TO plain;'
    . ' ALTER TABLE models ENABLE ROW LEVEL SECURITY;'
    . ' ALTER TABLE models FORCE ROW LEVEL SECURITY',
    'row security of table models hides rows from "plain"', 'row security');
$db = $database->($older);
$pg->query("ALTER DATABASE $db OWNER TO plain");
like($migrate->($db, user => 'plain'), qr/vidgen: table public.video_jobs/,
    'tables of somebody else');
