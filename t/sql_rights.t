#!/usr/bin/perl

# Who may do what: an ordinary role nothing, vidgen_edge the functions that
# nginx calls, and what these do does not depend on the caller.

use strict;
use warnings;

use Test::More tests => 49;

use VidgenTest::Postgres;
use VidgenTest::Sql qw(id);

my $pg = VidgenTest::Postgres->new(fsync => 0, migrate => 0);
$pg->query("CREATE ROLE $_ LOGIN PASSWORD '$_'")
    for qw(anon authenticated ordinary);

# as hosted databases have it
$pg->query('ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES'
    . ' TO anon, authenticated;'
    . ' ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON FUNCTIONS'
    . ' TO anon, authenticated;'
    . ' ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON SEQUENCES'
    . ' TO anon, authenticated');
$pg->migrate;

my $sql = VidgenTest::Sql->new($pg);
$sql->credits(u1 => 10);

my @mission = qw(video_jobs idempotency_log models user_credits
    provider_health_log provider_failover_log);
my @own = map { "vidgen.$_" } qw(attempts ledger parked alerts);
my @edge = sort qw(begin next_attempt submitted abandon apply job hello due
    polled sweep health_log health_seed orphans alert alerted);

# every function that there is, called with NULLs
my %call;
for my $row (@{ $sql->query(q{
    SELECT p.oid::regprocedure FROM pg_proc p
     WHERE p.pronamespace IN ('vidgen'::regnamespace,
                              'public'::regnamespace)}) })
{
    my ($name, $types) = $row->[0] =~ /^(.*)\((.*)\)$/;
    $call{ $row->[0] } = "SELECT $name("
        . join(', ', map { "NULL::$_" } split /,/, $types) . ')';
}
cmp_ok(scalar keys %call, '>', 30, 'functions');

for my $role (qw(ordinary anon authenticated)) {
    my $as = VidgenTest::Sql->new($pg, conninfo => 'host=127.0.0.1 port='
        . $pg->port . " user=$role password=$role dbname=postgres");

    my @may = grep { $as->state($call{$_}) ne '42501' } sort keys %call;
    is("@may", '', "$role: no function");

    for my $verb ('SELECT FROM %s', 'DELETE FROM %s', 'TRUNCATE %s') {
        @may = grep { $as->state(sprintf $verb, $_) ne '42501' } @mission,
            @own;
        is("@may", '', "$role: $verb");
    }
    for my $statement (
        "INSERT INTO user_credits VALUES ('" . id('x') . "', 1)",
        'UPDATE user_credits SET balance = 1000',
        "SELECT nextval('provider_health_log_id_seq')",
        'CREATE FUNCTION vidgen.x() RETURNS int LANGUAGE sql AS $$SELECT 1$$',
        'CREATE TABLE vidgen.x ()', 'SET ROLE vidgen_owner',
        'SET ROLE vidgen_edge')
    {
        is($as->state($statement), '42501', "$role: $statement");
    }
}

# the edge
my $edge = VidgenTest::Sql->new($pg, role => 'edge');
my @may = grep { $edge->state($call{$_}) ne '42501' } sort keys %call;
is(join(' ', sort map { /^vidgen\.(\w+)/ ? $1 : $_ } @may),
    join(' ', sort @edge, 'get_provider_health(text)'),
    'vidgen_edge: the functions that nginx calls');
for my $verb ('SELECT FROM %s', 'DELETE FROM %s') {
    @may = grep { $edge->state(sprintf $verb, $_) ne '42501' } @mission, @own;
    is("@may", '', "vidgen_edge: $verb");
}

my ($r) = $edge->call(begin => { job => 'j1', attempt => 'a1', key => 'k' });
is($r->{outcome}, 'go', 'begin');
($r) = $edge->call(next_attempt => { job => 'j1', attempt => 'a1',
    next => 'a2', state => 'refused' });
is($r->{outcome}, 'go', 'next_attempt');
($r) = $edge->call(submitted => { job => 'j1', attempt => 'a2',
    provider_job_id => 'p1', due_ms => 0 });
is($r->{outcome}, 'recorded', 'submitted');
is($edge->value("SELECT provider_job_id FROM vidgen.due('{b}', '1 h', 1,"
    . " '1 s')"), 'p1', 'due');
($r) = $edge->call(apply => { provider => 'b', provider_job_id => 'p1',
    status => 'failed' });
is("$r->{outcome} $r->{status}", 'applied failed', 'apply');
is(scalar @{ $edge->query("SELECT * FROM vidgen.sweep('1 h', '1 h', 1)") }, 1,
    'sweep');
is($sql->balance('u1'), 10, 'credits went and came');

# whose objects, and with which path
is(join(' ', map { $_->[0] } @{ $sql->query(q{
    SELECT DISTINCT pg_get_userbyid(c.relowner)
      FROM pg_class c
     WHERE c.relname = ANY ('{video_jobs,idempotency_log,models,user_credits,
                              attempts,ledger,parked,alerts}')}) }),
    'vidgen_owner', 'the tables are of vidgen_owner');
is($sql->value(q{SELECT string_agg(rolname, ' ' ORDER BY 1) FROM pg_roles
    WHERE rolname LIKE 'vidgen%' AND (rolcanlogin OR rolsuper)}), undef,
    'who cannot log in');
is(join(' ', map { $_->[0] } @{ $sql->query(q{
    SELECT p.oid::regproc FROM pg_proc p
     WHERE p.pronamespace IN ('vidgen'::regnamespace, 'public'::regnamespace)
       AND p.prosecdef
       AND NOT coalesce(array_to_string(p.proconfig, ' '), '')
               LIKE '%search_path=public, pg_temp%'}) }), '',
    'who runs as its owner has a fixed path');

# nothing in the caller's own schema or path gets in the way
$sql->query('CREATE SCHEMA edge AUTHORIZATION edge');
$edge->query(q{
    SET search_path = edge, public;
    CREATE TABLE edge.video_jobs (id uuid);
    CREATE TEMP TABLE video_jobs (id uuid);
    CREATE TEMP TABLE idempotency_log (id uuid);
    CREATE FUNCTION edge.now() RETURNS timestamptz LANGUAGE sql AS
        $$ SELECT NULL::timestamptz $$});
($r) = $edge->call(begin => { job => 'j2', attempt => 'a3', key => 'k2' });
is($r->{outcome}, 'go', "a caller's temporary tables are not used");
is($sql->job('j2')->{status}, 'queued', '... for the job');
