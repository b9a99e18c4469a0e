#!/usr/bin/perl

# The same and related calls at the same time, over sessions of their own.

use strict;
use warnings;

use Test::More tests => 50;
use Time::HiRes qw(sleep time);

use VidgenTest::Postgres;
use VidgenTest::Sql qw(id);

my $pg = VidgenTest::Postgres->new;         # with real commits
my $sql = VidgenTest::Sql->new($pg);
$sql->credits(u1 => 1000, u2 => 7);
my @sessions = map { VidgenTest::Sql->new($pg, role => 'edge') } 1 .. 20;
$_->value('SELECT backend_pid FROM vidgen.hello()') for @sessions;
my ($one, $two) = map { VidgenTest::Sql->new($pg) } 1, 2;

# $rounds calls in each session, all at the same time
my $storm = sub {
    my ($rounds, $events) = @_;
    my @rows;
    for my $round (1 .. $rounds) {
        my $n = 0;
        $_->start_call($events->($n++)) for @sessions;
        push @rows, $_->finish_call for @sessions;
    }
    return @rows;
};
my $count = sub {
    my ($field, @rows) = @_;
    my %count;
    $count{ $_->{$field} // '' }++ for @rows;
    return join ' ', map { "$_=$count{$_}" } sort keys %count;
};
my $rows = sub { $sql->value("SELECT count(*) FROM $_[0]") };

# until a session waits for a lock
my $waits = sub {
    my ($session) = @_;
    my $pid = $session->{backend};
    my $end = time + 20;
    while (time < $end) {
        return 1 if $sql->value('SELECT count(*) FROM pg_locks WHERE NOT'
            . " granted AND pid = $pid");
        sleep 0.01;
    }
    return 0;
};
$_->{backend} = $_->value('SELECT pg_backend_pid()') for $one, $two;


# --- 200 identical events

for my $status (qw(completed failed)) {
    $sql->accepted(job => "j$status", attempt => "a$status");
    my %event = (provider_job_id => "p-j$status", status => $status);
    my @r = $storm->(10, sub { apply => { %event } });
    is(scalar @r, 200, "200 times $status");
    is($count->(replay => @r), '0=1 1=199', '... one is no replay');
    is($count->(changed => @r), '0=199 1=1', '... one changes the job');
    is($count->(outcome => @r), 'applied=1 replay=199', '... one is applied');
    is($rows->("idempotency_log WHERE idempotency_key = 'webhook:"
        . id("a$status") . ":$status'"), 1, '... one row of the log');
}
is($rows->("vidgen.ledger WHERE entry = 'refund'"), 1, 'one refund');
is($sql->balance('u1'), 999, '... of one credit');

$sql->accepted(job => "k$_", attempt => "ka$_") for 1 .. 5;
my @r = $storm->(1, sub {
    my ($n) = @_;
    my @jobs = map { 1 + ($n + $_) % 5 } 0 .. 9;
    return (apply => map { { provider_job_id => "p-k$_",
        status => 'failed' } } @jobs);
});
is($count->(replay => @r), '0=5 1=195', 'in batches, in any order');
is($rows->("vidgen.ledger WHERE entry = 'refund'"), 6, '... five refunds');

# of an attempt whose id nobody knows yet
$sql->call(begin => { job => 'l1', attempt => 'la1' });
@r = $storm->(2, sub { apply => { attempt => 'la1', provider_job_id => 'pl1',
    video_url => 'u' } });
is($count->(replay => @r), '0=1 1=39', 'by the attempt, with an id to learn');
$sql->query("INSERT INTO video_jobs (id, user_id, model_id, prompt, status,"
    . " provider_name, provider_job_id, credits_used) VALUES ('" . id('o1')
    . "', '" . id('u1') . "', 'm', 'p', 'queued', 'a', 'po1', 1)");
@r = $storm->(2, sub { apply => { provider_job_id => 'po1',
    video_url => 'u' } });
is($count->(replay => @r), '0=1 1=39', 'of a job that others made');
$sql->query("UPDATE test_start SET balance = balance + 1 WHERE user_id = '"
    . id('u1') . "'");


# --- begin

@r = $storm->(1, sub { begin => { job => 'b1', attempt => 'ba1',
    key => 'b1' } });
is($count->(outcome => @r), 'go=20', 'the same begin in 20 sessions');
is($rows->("vidgen.ledger WHERE job_id = '" . id('b1') . "'"), 1,
    '... holds once');
@r = $storm->(1, sub { begin => { job => "c$_[0]", attempt => "ca$_[0]",
    key => 'same' } });
is($count->(outcome => @r), 'go=1 running=19', 'the same key: one goes');
@r = $storm->(1, sub {
    my ($n) = @_;
    return (begin => map { { job => "d$n-$_", attempt => "da$n-$_",
        key => 'same ' . (1 + ($n + $_) % 4) } } 1 .. 4);
});
is($count->(outcome => @r), 'go=4 running=76', '... in batches in any order');
@r = $storm->(1, sub { begin => { job => "e$_[0]", attempt => "ea$_[0]",
    user => 'u2' } });
is($count->(outcome => @r), 'go=7 insufficient_credits=13',
    'no more credits than there are');
is($sql->balance('u2'), 0, '... to the last one');
@r = $storm->(1, sub { begin => { job => "f$_[0]", attempt => "fa$_[0]",
    candidates => [{ name => 'small', max_jobs => 3 }] } });
is($count->(outcome => @r), 'go=3 no_provider=17', 'max_jobs is a limit');


# --- parking and submitted

$sql->call(begin => map { { job => "q$_", attempt => "qa$_" } } 1 .. 2);
$one->query('BEGIN');
$one->call(submitted => { job => 'q1', attempt => 'qa1',
    provider_job_id => 'pq1' });
$two->start_call(apply => { provider_job_id => 'pq1', video_url => 'u' });
ok($waits->($two), 'a result waits for its id to be recorded');
$one->query('COMMIT');
is(($two->finish_call)[0]{outcome}, 'applied', '... and is applied');

$one->query('BEGIN');
is(($one->call(apply => { provider_job_id => 'pq2',
    video_url => 'u' }))[0]{outcome}, 'parked', 'a result is parked');
$two->start_call(submitted => { job => 'q2', attempt => 'qa2',
    provider_job_id => 'pq2' });
ok($waits->($two), '... its id waits to be recorded');
$one->query('COMMIT');
is(($two->finish_call)[0]{status}, 'completed', '... and takes it');

$sql->call(begin => map { { job => "r$_", attempt => "ra$_" } } 0 .. 63);
@r = $storm->(1, sub {
    my ($n) = @_;
    return (($n % 2 ? 'apply' : 'submitted') => map { {
        job => "r$_", attempt => $n % 2 ? undef : "ra$_",
        provider_job_id => "pr$_",
        video_url => 'u' } } sort { $a % ($n + 2) <=> $b % ($n + 2) } 0 .. 63);
});
is($rows->("video_jobs WHERE status = 'completed' AND provider_job_id"
    . " LIKE 'pr%'"), 64, 'results and their ids at the same time: none lost');


# --- begin and abandon

for my $case (['COMMIT', 'closed'], ['ROLLBACK', 'absent']) {
    my ($end, $outcome) = @$case;
    $one->query('BEGIN');
    $one->call(begin => { job => "x$end", attempt => "xa$end" });
    $two->start_call(abandon => { job => "x$end", attempt => "xa$end",
        state => 'unsent' });
    ok($waits->($two), 'abandon waits for a begin');
    $one->query($end);
    is(($two->finish_call)[0]{outcome}, $outcome, "... $end: $outcome");
}


# --- a key whose operation ends while another call looks at its job

$sql->query(q{
    ALTER FUNCTION vidgen.answer_of_job RENAME TO answer_of_job_now;
    CREATE FUNCTION vidgen.answer_of_job(INOUT g vidgen.generation,
        p_job uuid)
    LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock(42);
        g := vidgen.answer_of_job_now(g, p_job);
    END $$});

for my $case (
    ['is accepted', 'replay 200', submitted => { provider_job_id => 'py' }],
    ['may have it', 'processing -', abandon => { state => 'unknown' }],
    ['was refused', 'replay 422', abandon => { answer_status => 422,
        answer_error => 'no', answer_code => 'provider_refused' }],
    ['has failed', 'go -', abandon => { state => 'unsent' }])
{
    my ($name, $outcome, $call, $args) = @$case;
    $sql->call(begin => { job => "y $name", attempt => "ya $name",
        key => $name });
    $one->query('SELECT pg_advisory_lock(42)');
    $two->start_call(begin => { job => "z $name", attempt => "za $name",
        key => $name });
    ok($waits->($two), "$name: another call waits");
    $sql->call($call => { job => "y $name", attempt => "ya $name", %$args });
    $one->query('SELECT pg_advisory_unlock(42)');
    my ($r) = $two->finish_call;
    is("$r->{outcome} " . ($r->{http_status} // '-'), $outcome,
        "... and is told what is true now");
}


# --- a commit that fails is no commit

$sql->query(q{
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'refused'; END $$;
    CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON video_jobs
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()});
$sql->query('ALTER TABLE video_jobs DISABLE TRIGGER refuse');
$sql->accepted(job => 'z1', attempt => 'za1');
$sql->query('ALTER TABLE video_jobs ENABLE TRIGGER refuse');
my $event = VidgenTest::Sql::text(apply => { provider_job_id => 'p-z1',
    status => 'failed' });
is($sql->state($event), 'P0001', 'a trigger that refuses at commit');
is($sql->job('z1')->{status} . $rows->("vidgen.ledger WHERE job_id = '"
    . id('z1') . "'"), 'queued1', '... nothing has happened');
$sql->query('DROP TRIGGER refuse ON video_jobs');
my ($r) = $sql->call(apply => { provider_job_id => 'p-z1',
    status => 'failed' });
is("$r->{outcome} $r->{status} $r->{replay}", 'applied failed 0',
    '... and the redelivery is applied');

$sql->check('in the end');
is($pg->deadlocks, 0, 'no deadlock');
