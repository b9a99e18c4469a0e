#!/usr/bin/perl

# vidgen.apply(): whose result it is, what it does, and that it does so once.

use strict;
use warnings;

use Test::More tests => 81;

use VidgenTest::Postgres;
use VidgenTest::Sql qw(id);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $sql = VidgenTest::Sql->new($pg);
$sql->credits(u1 => 1000, u2 => 1000);

my ($r, @r);
my $outcomes = sub { join ' ', map { $_->{outcome} } @_ };
my $ledger = sub { $sql->value("SELECT count(*) FROM vidgen.ledger"
    . " WHERE job_id = '" . id($_[0]) . "'") };


# --- a batch of different things

$sql->accepted(job => "j$_", attempt => "a$_", key => "k$_") for 1 .. 5;
my @batch = (
    { provider_job_id => 'p-j1', video_url => 'https://v/1' },
    { provider_job_id => 'p-j2', status => 'failed', error => 'no gpu' },
    { provider_job_id => 'p-j3', status => 'processing' },
    { provider_job_id => 'p-j4', attempt => 'a4', video_url => 'https://v/4' },
    { provider_job_id => 'p-jx' },
    { attempt => 'a5', video_url => 'https://v/5' },
    { attempt => 'a1', provider_job_id => 'p-j2' },
);
@r = $sql->call(apply => @batch);
is($outcomes->(@r), 'applied applied applied applied not_found applied'
    . ' mismatch', 'outcomes');
is(join(' ', map { $_->{status} // '-' } @r),
    'completed failed processing completed - completed -', 'statuses');
is(join('', map { $_->{changed} } @r), '1111010', 'changed');
is(join('', map { $_->{final} } @r), '1101010', 'final');
is(join('', map { $_->{replay} } @r), '0000000', 'no replay');
is($r[0]{job_id} . $r[0]{attempt_id} . $r[0]{user_id},
    id('j1') . id('a1') . id('u1'), 'ids');
is($r[6]{job_id} // $r[6]{attempt_id} // $r[6]{user_id}, undef,
    'a mismatch tells nothing');

my $job = $sql->job('j1');
is("$job->{status} $job->{video_url} $job->{provider_job_id}",
    'completed https://v/1 p-j1', 'a completed job');
isnt($job->{completed_at}, undef, '... and when');
$job = $sql->job('j2');
is("$job->{status} $job->{error_message} " . $ledger->('j2'),
    'failed no gpu 2', 'a failed job and its refund');
is($job->{completed_at}, undef, '... which is not completed');
is($sql->balance('u1'), 1000 - 5 + 1, 'the balance');
is_deeply($sql->row('idempotency_log', "idempotency_key = 'webhook:"
    . id('a1') . ":completed'")->{response}, { success => 1,
    job_id => id('j1') }, 'the log of webhooks');
is($sql->value("SELECT count(*) FROM idempotency_log WHERE idempotency_key"
    . " LIKE 'webhook:%'"), 4, '... has what is final only');


# --- replays

@r = $sql->call(apply => @batch);
is($outcomes->(@r), 'replay replay applied replay not_found replay mismatch',
    'the same again');
is(join('', map { $_->{replay} } @r), '1101010', 'replays of what is final');
is(join('', map { $_->{changed} } @r), '0000000', 'nothing changes');
is($ledger->('j2') . $sql->balance('u1'), '2996', 'nothing is refunded');
($r) = $sql->call(apply => { %{ $batch[0] }, digest => 'd2' });
is("$r->{outcome} $r->{differs}", 'replay 1', 'a replay that differs');
is($sql->job('j1')->{video_url}, 'https://v/1', '... changes nothing');
($r) = $sql->call(apply => { %{ $batch[0] }, digest => undef });
is($r->{differs}, 0, 'a poll has no digest');
$sql->query('DELETE FROM idempotency_log');
($r) = $sql->call(apply => $batch[1]);
is("$r->{outcome} $r->{replay}", 'replay 1',
    'a replay is known from the attempt when the log has forgotten it');

# within one call
$sql->accepted(job => "k$_", attempt => "ka$_") for 1 .. 3;
@r = $sql->call(apply =>
    (map { { provider_job_id => 'p-k1', video_url => 'u', digest => "d$_" } }
        1 .. 5),
    { provider_job_id => 'p-k2', status => 'processing' },
    { provider_job_id => 'p-k2', status => 'failed' },
    { provider_job_id => 'p-k2', status => 'failed' },
    { provider_job_id => 'p-k2', status => 'completed', video_url => 'u' },
    { provider_job_id => 'p-k3', video_url => 'u' },
    { attempt => 'ka3', provider_job_id => 'p-k3', video_url => 'u' });
is($outcomes->(@r), 'applied replay replay replay replay applied applied'
    . ' replay late applied replay', 'repeats in one call are in turn');
is(join('', map { $_->{replay} } @r), '01111001001', 'one is no replay');
is(join('', map { $_->{differs} } @r), '01111000000', 'those that differ');
is(join('', map { $_->{changed} } @r), '10000110010', 'one changes the job');
is($r[6]{status} . $r[8]{status} . $ledger->('k2'), 'failedfailed2',
    'failed is final');


# --- late, contradictory, and no verdict

my $attempt = $sql->attempt('ka2');
is("$attempt->{state} $attempt->{late} $attempt->{video_url}",
    'completed 1 u', 'a late success is kept on its attempt');
@r = map { $sql->call(apply => { provider_job_id => 'p-k1', status => $_ }) }
    qw(failed queued processing failed);
is($outcomes->(@r), 'ignored ignored ignored replay',
    'after a success nothing changes');
is($sql->job('k1')->{status} . $ledger->('k1'), 'completed1', '... at all');

$sql->accepted(job => "v$_", attempt => "va$_") for 1 .. 2;
@r = $sql->call(apply =>
    { provider_job_id => 'p-v1', status => 'completed', verdict => 'f' },
    { provider_job_id => 'p-v2', status => undef });
is($outcomes->(@r), 'no_verdict no_verdict', 'no verdict');
is(join('', map { $_->{final} . $_->{replay} } @r), '0000',
    '... is not final');
isnt($sql->attempt("va$_")->{due}, undef, "va$_ is polled at once") for 1, 2;
is($sql->job('v1')->{status}, 'queued', 'the job is as it was');
$sql->query("UPDATE vidgen.attempts SET due = NULL WHERE id = '"
    . id('va1') . "'");
$sql->call(apply => { provider_job_id => 'p-v1', status => undef,
    source => 'poll' });
is($sql->attempt('va1')->{due}, undef, '... but not by a poll');
($r) = $sql->call(apply => { provider_job_id => 'p-v1', source => 'poll',
    video_url => 'u' });
is($r->{outcome}, 'applied', 'a poll decides');
($r) = $sql->call(apply => { provider_job_id => 'p-v1', video_url => 'u' });
is("$r->{outcome} $r->{replay}", 'replay 1', 'one verdict, many messengers');

# progress
$sql->accepted(job => 'w1', attempt => 'wa1');
@r = map { $sql->call(apply => { provider_job_id => 'p-w1', status => $_ }) }
    qw(queued processing queued processing);
is($outcomes->(@r), 'applied applied applied applied', 'progress');
is(join(' ', map { "$_->{changed}$_->{replay}" } @r), '00 10 00 00',
    '... never goes back and is never a replay');
is($sql->job('w1')->{status}, 'processing', '... is that of the job');


# --- by the attempt, and what it teaches

$sql->call(begin => map { { job => "h$_", attempt => "ha$_" } } 1 .. 6);
($r) = $sql->call(apply => { attempt => 'ha1', provider_job_id => 'ph1',
    status => 'processing' });
$attempt = $sql->attempt('ha1');
is("$r->{outcome} $attempt->{state} $attempt->{provider_job_id}",
    'applied accepted ph1', 'an attempt learns its id');
($r) = $sql->call(submitted => { job => 'h1', attempt => 'ha1',
    provider_job_id => 'ph1' });
is("$r->{outcome} $r->{http_status} $r->{status}", 'recorded 200 processing',
    '... before its answer');
is($sql->attempt('ha1')->{progress}, 'processing', 'progress stays');
($r) = $sql->call(apply => { attempt => 'ha2', provider_job_id => 'ph1' });
is($r->{outcome} . $sql->attempt('ha2')->{state}, 'mismatchsending',
    'not the id of another');
($r) = $sql->call(apply => { attempt => 'ha2', provider => 'b' });
is($r->{outcome}, 'mismatch', 'not another provider');
@r = $sql->call(apply => { attempt => 'ha3', provider_job_id => 'ph3',
        status => 'processing' }, { attempt => 'ha4',
        provider_job_id => 'ph3', status => 'processing' });
is($outcomes->(@r), 'applied mismatch', 'an id taught twice in one call')
    or diag explain \@r;
($r) = $sql->call(apply => { attempt => 'nope', provider_job_id => 'ph3' });
is("$r->{outcome} $r->{attempt_id}", 'applied ' . id('ha3'),
    'an unknown attempt is no hint');
($r) = $sql->call(apply => { attempt => 'ha5', verdict => 'f',
    provider_job_id => 'ph5' });
$attempt = $sql->attempt('ha5');
is("$r->{outcome} $attempt->{state} $attempt->{provider_job_id}",
    'no_verdict accepted ph5', 'also what is not believed teaches');

# believed whatever the attempt was thought to be
for my $state (qw(unsent refused)) {
    $sql->call(begin => { job => "b$state", attempt => "ba$state" });
    $sql->call(abandon => { job => "b$state", attempt => "ba$state",
        state => $state });
    ($r) = $sql->call(apply => { attempt => "ba$state", video_url => 'u',
        provider_job_id => "pb$state" });
    is("$r->{outcome} $r->{status} " . $sql->attempt("ba$state")->{state},
        'late failed completed', "a success of what was $state");
}
$sql->call(begin => { job => 'c1', attempt => 'ca1' });
$sql->call(next_attempt => { job => 'c1', attempt => 'ca1', next => 'ca2',
    state => 'refused', reason => 'http_503' });
($r) = $sql->call(apply => { attempt => 'ca1', provider_job_id => 'pc1',
    status => 'processing' });
is("$r->{outcome} " . $sql->attempt('ca1')->{state}, 'applied accepted',
    'work on what was refused opens it again');

# and polled where the webhook itself is not believed
$sql->call(begin => { job => 'c2', attempt => 'cb1' });
$sql->call(next_attempt => { job => 'c2', attempt => 'cb1', next => 'cb2',
    state => 'refused', reason => 'http_500' });
$sql->call(submitted => { job => 'c2', attempt => 'cb2',
    provider_job_id => 'pcb2' });
$sql->call(apply => { attempt => 'cb1', provider_job_id => 'pcb1',
    verdict => 'f', video_url => 'u' });
$attempt = $sql->attempt('cb1');
ok($attempt->{state} eq 'accepted' && $attempt->{due},
    'what was refused is due for a poll');
($r) = $sql->call(apply => { provider => 'b', provider_job_id => 'pcb2',
    status => 'failed' });
is("$r->{outcome} $r->{status}", 'applied queued',
    '... and the job does not fail before it');

$sql->call(begin => { job => 'c3', attempt => 'cc1' });
$sql->call(abandon => { job => 'c3', attempt => 'cc1', state => 'unsent' });
($r) = $sql->call(apply => { attempt => 'cc1', provider_job_id => 'pcc1',
    verdict => 'f', video_url => 'u' });
is("$r->{outcome} $r->{status}", 'no_verdict failed', 'the job has ended');
ok($sql->attempt('cc1')->{due}, '... and its attempt is due all the same');
($r) = $sql->call(apply => { attempt => 'cc1', provider_job_id => 'pcc1',
    status => undef, verdict => 'f', source => 'poll' });
is($sql->attempt('cc1')->{state}, 'accepted', 'a poll that says nothing');
($r) = $sql->call(apply => { attempt => 'cc1', provider_job_id => 'pcc1',
    video_url => 'u', source => 'poll' });
is("$r->{outcome} $r->{status} " . $sql->attempt('cc1')->{late},
    'late failed 1', 'the poll has the result, late');


# --- parked

$sql->call(begin => { job => 'q1', attempt => 'qa1', key => 'q1',
    candidates => [{ name => 'q' }] });
@r = $sql->call(apply =>
    { provider => 'q', provider_job_id => 'pq1', status => 'failed',
        error => 'nsfw' },
    { provider => 'q', provider_job_id => 'pq1', status => 'failed' },
    { provider => 'q', provider_job_id => 'pq2', video_url => 'u' },
    { provider => 'none', provider_job_id => 'pq1' });
is($outcomes->(@r), 'parked parked parked not_found',
    'parked while an attempt has no id');
is(join('', map { $_->{replay} . $_->{final} } @r), '00000000',
    '... and no replay');
($r) = $sql->call(submitted => { job => 'q1', attempt => 'qa1',
    provider_job_id => 'pq1' });
is("$r->{outcome} $r->{http_status} $r->{code}",
    'recorded 502 provider_failed', 'submitted takes it');
is($sql->job('q1')->{error_message} . $ledger->('q1'), 'nsfw2',
    '... and refunds');
my $parked = $sql->row('vidgen.parked', "provider_job_id = 'pq1'");
isnt($parked->{adopted}, undef, '... and says so');
($r) = $sql->call(begin => { job => 'q1b', attempt => 'qa1b', key => 'q1' });
is("$r->{outcome} $r->{http_status} $r->{job_id}", 'replay 502 ' . id('q1'),
    '... and the key has the answer');
($r) = $sql->call(apply => { provider => 'q', provider_job_id => 'pq1',
    status => 'failed' });
is("$r->{outcome} $r->{replay}", 'replay 1', '... the next one is a replay');
($r) = $sql->call(apply => { provider => 'q', provider_job_id => 'pq3' });
is($r->{outcome}, 'not_found', 'nobody waits for an id now');

# what came first is first
$sql->call(begin => { job => 'q4', attempt => 'qa4',
    candidates => [{ name => 'q' }] });
$sql->call(apply => { provider => 'q', provider_job_id => 'pq4',
    video_url => 'u' });
($r) = $sql->call(apply => { provider => 'q', attempt => 'qa4',
    provider_job_id => 'pq4', status => 'failed' });
is("$r->{outcome} $r->{status}", 'ignored completed',
    'an id that is learnt takes what was parked before it');


# --- jobs that others made

$sql->query("INSERT INTO video_jobs (id, user_id, model_id, prompt, status,"
    . " provider_name, provider_job_id, credits_used) VALUES ('" . id($_->[0])
    . "', '" . id('u2') . "', 'm', 'p', '$_->[1]', $_->[2], '$_->[3]', 3)")
    for ['o1', 'processing', "'a'", 'po1'], ['o2', 'queued', 'NULL', 'po2'],
        ['o3', 'queued', "'a'", 'po3'], ['o4', 'queued', "'a'", 'po3'],
        ['o5', 'completed', "'a'", 'po5'], ['o6', 'failed', "'a'", 'po6'];
@r = $sql->call(apply =>
    { provider_job_id => 'po1', status => 'failed' },
    { provider_job_id => 'po2', video_url => 'u' },
    { provider_job_id => 'po3' });
is($outcomes->(@r), 'applied parked parked',
    'a job of others; not without its provider, nor by guess');
is($ledger->('o1') . $sql->balance('u2'), '21003',
    '... nothing deducted, and its refund');
@r = $sql->call(apply => { provider_job_id => 'po2', video_url => 'u',
    default => 't' }, { provider_job_id => 'po5' },
    { provider_job_id => 'po6', status => 'failed' });
is($outcomes->(@r), 'applied replay replay',
    "the first provider's; ended ones");
is($sql->job('o2')->{status} . $sql->job('o2')->{provider_name},
    'completeda', '... has its name then');
is($ledger->('o6') . $sql->balance('u2'), '21003', 'no second refund');

# four holds and one refund of these were somebody else's doing
$sql->query("UPDATE test_start SET balance = balance + 4 * 3 - 3"
    . " WHERE user_id = '" . id('u2') . "'");


# --- a refund that raises harms nobody else

$sql->query(q{
    CREATE OR REPLACE FUNCTION vidgen.refund_credits(p_user uuid,
        p_amount integer, p_job uuid) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        IF p_job IN (SELECT id FROM video_jobs WHERE prompt = 'broken') THEN
            RAISE EXCEPTION 'no such account';
        END IF;
        PERFORM rollback_credits(p_user, p_amount);
    END $$});
my $before = $sql->balance('u1');
$sql->accepted(job => "x$_", attempt => "xa$_",
    prompt => $_ == 2 ? 'broken' : 'fine') for 1 .. 3;
@r = $sql->call(apply => map { { provider_job_id => "p-x$_",
    status => 'failed' } } 1 .. 3);
is(join('|', map { $_->{refund_error} // '' } @r),
    '|P0001: no such account|', 'its error is told');
is($outcomes->(@r) . $sql->balance('u1'), 'applied applied applied'
    . ($before - 1), 'the others have their refund');
is($sql->row('vidgen.ledger', "entry = 'refund' AND job_id = '" . id('x2')
    . "'")->{refund_due}, 1, 'it is due');

$sql->query("DELETE FROM video_jobs WHERE id IN ('" . id('o3') . "', '"
    . id('o4') . "')");
$sql->check('in the end');
is($pg->deadlocks, 0, 'no deadlock');
