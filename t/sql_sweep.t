#!/usr/bin/perl

# vidgen.due(), vidgen.polled(), vidgen.sweep(), vidgen.adopt(),
# vidgen.settle(), vidgen.job(), vidgen.hello() and get_provider_health().

use strict;
use warnings;

use Test::More tests => 87;

use VidgenTest::Postgres;
use VidgenTest::Sql qw(id);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $sql = VidgenTest::Sql->new($pg);
$sql->credits(u1 => 1000, u2 => 0);

my $r;
my $sweep = sub {
    my ($unknown, $expire, $limit, $polled) = @_;
    my $row = $sql->query("SELECT row_to_json(x) FROM vidgen.sweep('"
        . ($unknown // '30 min') . "', '" . ($expire // '1 day') . "', "
        . ($limit // 100) . ', ' . ($polled // "'{a,b}'") . ') x');
    return VidgenTest::Sql::decode($row->[0][0]);
};
my $age = sub {
    my ($attempt, $time) = @_;
    $sql->query("UPDATE vidgen.attempts SET since = since - interval '$time',"
        . " due = due - interval '$time', lease = lease - interval '$time',"
        . " poll_lease = poll_lease - interval '$time',"
        . " deadline = deadline - interval '$time' WHERE id = '"
        . id($attempt) . "'");
};
my $due = sub {
    my ($providers, %opt) = @_;
    my $rows = $sql->query("SELECT provider_job_id, polls, model_id, user_id,"
        . " prompt, kept ->> 'url', provider FROM vidgen.due('{$providers}', "
        . ($opt{overdue} ? "'$opt{overdue}'" : 'NULL') . ', '
        . ($opt{limit} // 10) . ", '30 s')");
    return join ' ', sort map { "$_->[0]/$_->[1]" } @$rows unless $opt{rows};
    return $rows;
};


# --- due

$sql->accepted(job => "j$_", attempt => "a$_", due_ms => 0,
    kept => { url => 'https://x' }) for 1 .. 3;
$sql->accepted(job => 'j4', attempt => 'a4');
$sql->accepted(job => 'j5', attempt => 'a5', due_ms => 60000);
$sql->call(begin => { job => 'j6', attempt => 'a6' });

is($due->('b'), '', 'nothing of another provider');
is($due->('a,b', limit => 2), 'p-j1/1 p-j2/1', 'as many as wanted');
my ($row) = @{ $due->('a', rows => 1) };
is_deeply($row, ['p-j3', 1, 'm1', id('u1'), 'a prompt', 'https://x', 'a'],
    'what a poll needs');
is($due->('a'), '', 'leased');
$age->('a1', '31 s');
is($due->('a'), 'p-j1/2', 'the lease is over');
is($sql->value("SELECT vidgen.polled(ARRAY['" . id('a2') . "', '" . id('a6')
    . "', '" . id('nope') . "']::uuid[], ARRAY[0, 0, 0])"), 1, 'polled');
is($due->('a'), 'p-j2/2', '... says when again');
is($due->('a', overdue => '10 min'), '', 'a silent one has time');
$age->('a4', '11 min');
is($due->('a', overdue => '10 min'), 'p-j4/1', '... to a limit');
is($due->('a', overdue => '10 min'), '', '... and is leased too');
$sql->call(apply => { provider_job_id => 'p-j4', video_url => 'u' });
$age->('a4', '1 day');
is($due->('a', overdue => '0 s'), '', 'what has ended is not polled');

# a row that somebody has locked is passed over
my $other = VidgenTest::Sql->new($pg);
$age->("a$_", '1 h') for 1, 2;
$other->query("BEGIN; SELECT 1 FROM vidgen.attempts WHERE id = '" . id('a1')
    . "' FOR UPDATE");
is($due->('a'), 'p-j2/3', 'a locked one is passed over');
is($sql->value("SELECT vidgen.polled(ARRAY['" . id('a1') . "']::uuid[],"
    . ' ARRAY[0])'), 0, '... and never waited for');
$other->query('ROLLBACK');

# at the same time, none twice
$sql->accepted(job => "m$_", attempt => "ma$_", due_ms => 0,
    candidates => [{ name => 'm' }]) for 1 .. 40;
my @sessions = map { VidgenTest::Sql->new($pg) } 1 .. 4;
my %seen;
for (1 .. 4) {
    $_->start("SELECT provider_job_id FROM vidgen.due('{m}', NULL, 5, '1 h')")
        for @sessions;
    for my $session (@sessions) {
        $seen{ $_->[0] }++ for @{ $session->finish };
    }
}
is(scalar(keys %seen) . ' ' . join(',', grep { $_ > 1 } values %seen), '40 ',
    'several pollers: each job once');


# --- sweep: ends

is(join(',', map { $sweep->()->{$_} } qw(unknown last_polls lost)), '0,0,0',
    'nothing to end');
is_deeply($sweep->()->{changed}, [], '... and no job changes');
$age->('a6', '2 min');
$r = $sweep->();
is("$r->{unknown} " . $sql->attempt('a6')->{state} . ' '
    . $sql->job('j6')->{status}, '1 unknown processing',
    'sending, lease over: unknown, never unsent');
is_deeply($r->{changed}, [id('j6')], '... the job has changed');
is($sql->balance('u1'), 1000 - 46, '... credits held');
$age->('a6', '31 min');
$r = $sweep->();
is("$r->{lost} $r->{refunds} " . $sql->attempt('a6')->{state} . ' '
    . $sql->job('j6')->{status}, '1 1 lost failed', 'unknown: lost');
is($sql->balance('u1'), 1000 - 45, '... credits are back');
is($sql->job('j6')->{error_message}, 'no result came', '... and why');
is_deeply($r->{changed}, [id('j6')], '... the job has changed');

$age->('a5', '25 h');
$r = $sweep->();
is("$r->{last_polls} $r->{lost} " . $sql->attempt('a5')->{state},
    '1 0 accepted', 'accepted: a last poll first');
is_deeply($r->{changed}, [], '... the job stays what it was');
is($due->('a'), 'p-j1/3 p-j5/1', '... it is due');
is(join(',', map { $sweep->()->{$_} } qw(last_polls lost)), '0,0',
    '... and has time for it');
$age->('a5', '11 min');
is($sweep->()->{lost}, 0, '... and is not lost without an answer');
is($sweep->(undef, undef, undef, "'{b}'")->{lost}, 0,
    '... nor by an nginx that cannot ask, since another one can');
$sql->query("SELECT vidgen.polled(ARRAY['" . id('a5') . "']::uuid[],"
    . ' ARRAY[60000], ARRAY[1], ARRAY[true])');
$r = $sweep->();
is("$r->{lost} " . $sql->job('j5')->{status}, '1 failed', '... then lost');
is_deeply($r->{changed}, [id('j5')], '... and changed');

# where nobody polls, the deadline is enough
$sql->call(begin => { job => 'np', attempt => 'npa' });
$sql->call(submitted => { job => 'np', attempt => 'npa',
    provider_job_id => 'p-np' });
$age->('npa', '25 h');
is($sweep->(undef, undef, undef, 'NULL')->{last_polls}, 1, 'nobody polls');
$age->('npa', '11 min');
is($sweep->(undef, undef, undef, 'NULL')->{lost}, 1, '... lost all the same');

# nor where no nginx ever did, of which this one knows only itself
$sql->accepted(job => 'nq', attempt => 'nqa');
$age->('nqa', '25 h');
is($sweep->(undef, undef, undef, "'{b}'")->{last_polls}, 1, 'not here');
$age->('nqa', '11 min');
is($sweep->(undef, undef, undef, "'{b}'")->{lost}, 1, '... nor elsewhere');

# nobody is waited for without end, the less the sooner all is to end
$sql->accepted(job => 'ne', attempt => 'nea', due_ms => 0);
$age->('nea', '3 min');
$sweep->(undef, '1 min');
$due->('a');
my @lost = map { $age->('nea', $_); $sweep->(undef, '1 min')->{lost} }
    '4 min', '2 min';
is("@lost", '0 1', 'no answer for 4 times the time: lost');

# a locked job is passed over
$sql->call(begin => { job => "l$_", attempt => "la$_" }) for 1 .. 2;
$age->("la$_", '2 min') for 1, 2;
$other->query("BEGIN; SELECT 1 FROM video_jobs WHERE id = '" . id('l1')
    . "' FOR UPDATE");
is($sweep->()->{unknown}, 1, 'a locked job is left for the next time');
$other->query('ROLLBACK');
is($sweep->()->{unknown}, 1, '... and found then');

# small batches
$sql->call(begin => map { { job => "s$_", attempt => "sa$_" } } 1 .. 5);
$age->("sa$_", '2 min') for 1 .. 5;
my @counts = map { my $s = $sweep->(undef, undef, 2);
    $s->{unknown} . $s->{more} . @{ $s->{changed} } } 1 .. 3;
is("@counts", '212 212 101', 'no more than asked for');


# --- sweep: refunds that are due

$sql->query(q{
    CREATE TABLE allowed (user_id uuid);
    CREATE OR REPLACE FUNCTION vidgen.refund_credits(p_user uuid,
        p_amount integer, p_job uuid) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        IF NOT EXISTS (SELECT FROM public.allowed) THEN
            RAISE EXCEPTION 'closed';
        END IF;
        PERFORM public.rollback_credits(p_user, p_amount);
    END $$;
    GRANT SELECT ON allowed TO vidgen_owner});
$sql->accepted(job => "f$_", attempt => "fa$_") for 1 .. 3;
my $before = $sql->balance('u1');
$sql->call(apply => map { { provider_job_id => "p-f$_",
    status => 'failed' } } 1 .. 2);
$age->('fa3', '3 days');
$sweep->();
$age->('fa3', '3 days');
$r = $sweep->();
is("$r->{lost} $r->{refunds} $r->{refund_errors} $r->{refunds_due}",
    '1 0 3 3', 'a refund function that raises');
is($sql->job('f3')->{status} . ($sql->balance('u1') - $before), 'failed0',
    '... harms only the credits');
$sql->check('refunds due');
$sql->query("INSERT INTO allowed VALUES ('" . id('u1') . "')");
$r = $sweep->();
is("$r->{refunds} $r->{refund_errors} $r->{refunds_due}", '3 0 0',
    'they are made when it works');
is($sql->balance('u1') - $before, 3, '... once');
is($sweep->()->{refunds} . ($sql->balance('u1') - $before), '03',
    '... and not again');


# --- sweep: what is old

$sql->query('DELETE FROM idempotency_log');
$sql->accepted(job => "k$_", attempt => "ka$_", key => "k$_",
    ttl_ms => $_ == 3 ? 1e9 : 1) for 1 .. 3;
$sql->call(apply => map { { provider_job_id => "p-k$_", video_url => 'u',
    ttl_ms => 1 } } 1, 3);
$sql->query("SELECT pg_sleep(0.01)");
is($sweep->()->{keys}, 3, 'expired keys');
is(join(' ', map { $_->[0] } @{ $sql->query('SELECT job_id FROM'
    . ' idempotency_log ORDER BY created_at') }), join(' ', map { id($_) }
    qw(k2 k3)), '... not that of a running one, nor before its time');

$sql->query("INSERT INTO vidgen.parked (provider, provider_job_id, status,"
    . " verdict, video_url, received) VALUES ('a', 'old', 'completed', true,"
    . " 'u', now() - interval '31 days'), ('a', 'orphan', 'completed', true,"
    . " 'o.mp4', now() - interval '29 days');"
    . " INSERT INTO provider_health_log (provider_name, status,"
    . " response_time_ms, checked_at) VALUES ('a', 'down', 1, now()"
    . " - interval '31 days'), ('a', 'degraded', 70, now() - interval '1 h'),"
    . " ('a', 'healthy', 50, '2026-01-02 03:04:05+00')");
$sql->query("UPDATE provider_health_log SET checked_at = now()"
    . " WHERE status = 'healthy'");
$r = $sweep->();
is("$r->{parked} $r->{health} $r->{orphans}", '1 1 1',
    'old results and health rows; one orphan');


# --- adopt

my $parked = $sql->value('SELECT id FROM vidgen.parked WHERE adopted IS NULL');
my $adopt = sub { $sql->state("SELECT vidgen.adopt($_[0], '" . id($_[1])
    . "')") };
$sql->call(begin => { job => 'd1', attempt => 'da1' });
$sql->call(next_attempt => { job => 'd1', attempt => 'da1',
    state => 'unknown', next => 'da2', provider => 'b' });
is($adopt->(0, 'd1'), 'P0001', 'no such result');
is($adopt->($parked, 'nope'), 'P0001', 'no such job');
is($adopt->($parked, 'f1'), 'P0001', 'a job without an open attempt');
is($sql->value("SELECT vidgen.adopt($parked, '" . id('d1') . "')"),
    'completed', 'adopted');
is($sql->job('d1')->{video_url} . ' ' . $sql->attempt('da1')->{state} . ' '
    . $sql->attempt('da1')->{provider_job_id}, 'o.mp4 completed orphan',
    '... by the open attempt at its provider');
is($adopt->($parked, 'd1'), 'P0001', 'only once');
is($sweep->()->{orphans}, 0, 'no orphan is left');


# --- settle

$sql->accepted(job => 't1', attempt => 'ta1');
is($sql->value("SELECT vidgen.settle('" . id('t1') . "')"), 'queued',
    'settle says the status');
$sql->query("UPDATE vidgen.attempts SET state = 'failed' WHERE id = '"
    . id('ta1') . "'");
is($sql->value("SELECT vidgen.settle('" . id('t1') . "')"), 'failed',
    '... as it follows from the attempts');
is($sql->value("SELECT vidgen.settle('" . id('nope') . "')"), undef,
    '... of a job that is there');
$sql->query("INSERT INTO video_jobs (id, user_id, model_id, prompt) VALUES ('"
    . id('t2') . "', '" . id('u1') . "', 'm', 'p')");
is($sql->value("SELECT vidgen.settle('" . id('t2') . "')"), 'queued',
    'a job without attempts is not touched');


# --- job

my @jobs = $sql->call(job => { job => 'j4' }, { job => 'nope' },
    { job => 'j4', user => 'u2' }, { job => 'f1', user => 'u1' });
is($jobs[0]{job_id}, id('j4'), 'a job');
like($jobs[0]{created_at}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/,
    '... when it was made');
like($jobs[0]{completed_at}, qr/^\d{4}-.*Z$/, '... and completed');
is(join(' ', map { $jobs[0]{$_} } qw(provider status video_url estimated_time
    provider_attempts credits_used)), 'a completed u 120 1 1', '... and what');
is($jobs[1]{job_id} // $jobs[2]{job_id}, undef,
    'unknown, or of another user: nothing');
is("$jobs[3]{status} " . ($jobs[3]{completed_at} // '-'), 'failed -',
    'a failed one is not completed');


# --- hello, health

$r = VidgenTest::Sql::decode($sql->value(
    'SELECT row_to_json(x) FROM vidgen.hello() x'));
is("$r->{schema_version} $r->{timeline}", '1 1', 'hello');
like($r->{system_identifier}, qr/^\d{15,20}$/, '... system identifier');
is($r->{backend_pid}, $sql->value('SELECT pg_backend_pid()'), '... pid');
cmp_ok(abs($r->{clock_ms} / 1000 - time), '<', 5, '... clock');
like($r->{warnings}, qr/^fsync is off/, '... a warning');
$r = $sql->value("SET synchronous_commit = off;"
    . ' SELECT warnings FROM vidgen.hello()');
like($r, qr/synchronous_commit is off.*fsync is off/, '... and another');
$sql->query("SET default_transaction_isolation = 'serializable'");
like($sql->value('SELECT warnings FROM vidgen.hello()'),
    qr/must be "read committed"/, '... and a third');
$sql->query('RESET default_transaction_isolation; RESET synchronous_commit');

$r = VidgenTest::Sql::decode($sql->value("SELECT get_provider_health('a')"));
is("$r->{provider} $r->{status} $r->{response_time}", 'a healthy 50',
    'the latest health');
like($r->{last_check}, qr/^\d{4}-/, '... and when');
$r = VidgenTest::Sql::decode($sql->value("SELECT get_provider_health('x')"));
is_deeply($r, { provider => 'x', status => undef, response_time => undef,
    last_check => undef }, 'of a provider that is not known');

# --- a sweep that did not say which jobs have changed

$pg->query(q{
    DROP FUNCTION vidgen.sweep(interval, interval, integer, text[]);
    CREATE FUNCTION vidgen.sweep(p_unknown interval, p_expire interval,
        p_limit integer) RETURNS TABLE (unknown integer) LANGUAGE sql
        AS 'SELECT 1';
    DROP FUNCTION vidgen.end_attempts(interval, interval, integer, text[]);
    CREATE FUNCTION vidgen.end_attempts(interval, interval, integer,
        OUT unknown integer, OUT failed uuid[]) LANGUAGE sql
        AS 'SELECT 1, NULL::uuid[]';
    ALTER FUNCTION vidgen.sweep OWNER TO vidgen_owner;
    ALTER FUNCTION vidgen.end_attempts OWNER TO vidgen_owner});
$pg->psql_file($pg->root . '/sql/015_sweep.sql');
is_deeply($sweep->()->{changed}, [], 'is replaced');
is($pg->value("SELECT proacl FROM pg_proc WHERE proname = 'sweep'"),
    '{vidgen_owner=X/vidgen_owner,vidgen_edge=X/vidgen_owner}',
    '... for the edge');

$sql->check('in the end');
is($pg->deadlocks, 0, 'no deadlock');
