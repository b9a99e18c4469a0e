#!/usr/bin/perl

# vidgen.next_attempt(), vidgen.submitted() and vidgen.abandon().

use strict;
use warnings;

use Test::More tests => 67;

use VidgenTest::Postgres;
use VidgenTest::Sql qw(id);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $sql = VidgenTest::Sql->new($pg);
$sql->credits(u1 => 1000);

my $r;
my $key_of = sub { $sql->row('idempotency_log', "job_id = '" . id($_[0])
    . "'") };
my $state = sub { my $a = $sql->attempt($_[0]); $a ? $a->{state} : 'none' };


# --- next_attempt

my %move = (job => 'j1', attempt => 'a1', state => 'refused',
    http_status => 503, reason => 'http_503', error => 'busy', next => 'a2',
    provider => 'b');

$sql->call(begin => { job => 'j1', attempt => 'a1' });
($r) = $sql->call(next_attempt => \%move);
is("$r->{outcome} $r->{status} $r->{provider}", 'go queued b', 'go');
my $closed = $sql->attempt('a1');
is("$closed->{state} $closed->{http_status} $closed->{reason} $closed->{error}",
    'refused 503 http_503 busy', 'the attempt is closed');
my $opened = $sql->attempt('a2');
is("$opened->{state} $opened->{number} $opened->{provider}", 'sending 2 b',
    'the next one is open');
my $job = $sql->job('j1');
is("$job->{provider_name} $job->{provider_attempts} $job->{failover_reason}",
    'b 2 http_503', 'the job says so');
my $log = $sql->row('provider_failover_log', "job_id = '" . id('j1') . "'");
is("$log->{from_provider} $log->{to_provider} $log->{reason}", 'a b http_503',
    'the move is logged');

($r) = $sql->call(next_attempt => \%move);
is($r->{outcome}, 'go', 'the same call again');
is($sql->value("SELECT count(*) FROM vidgen.attempts WHERE job_id = '"
    . id('j1') . "'") . $sql->value('SELECT count(*) FROM'
    . ' provider_failover_log'), '21', '... writes nothing');

($r) = $sql->call(next_attempt => { job => 'j1', attempt => 'a2',
    state => 'unsent', reason => 'connect', next => 'a3', provider => 'b' });
is($r->{outcome} . $sql->value('SELECT count(*) FROM provider_failover_log')
    . $sql->job('j1')->{failover_reason}, 'go1http_503',
    'a round at the same provider is no move');

($r) = $sql->call(next_attempt => { job => 'j1', attempt => 'a3',
    state => 'unknown', next => 'a4', provider => 'b' });
is($r->{outcome}, 'stop', 'never a provider with an open attempt');
is($state->('a3') . $state->('a4'), 'unknownnone', '... it is closed');
is($sql->job('j1')->{status}, 'processing', 'unknown: processing');
($r) = $sql->call(next_attempt => { job => 'j1', attempt => 'a3',
    state => 'unknown', next => 'a5', provider => 'c' });
is($r->{outcome}, 'go', '... but another one');
($r) = $sql->call(next_attempt => { job => 'nope', attempt => 'a1',
    next => 'a6' });
is($r->{outcome}, 'stop', 'no such job');

# a webhook has been faster
$sql->call(begin => { job => 'j2', attempt => 'b1' });
$sql->call(apply => { attempt => 'b1', status => 'processing' });
($r) = $sql->call(next_attempt => { job => 'j2', attempt => 'b1',
    next => 'b2' });
is("$r->{outcome} " . $state->('b1'), 'stop accepted',
    'what a webhook has shown to be accepted is not given up');
$sql->call(apply => { attempt => 'b1', provider_job_id => 'pb1' });
($r) = $sql->call(next_attempt => { job => 'j2', attempt => 'b1',
    next => 'b2' });
is("$r->{outcome} $r->{status}", 'stop completed', 'a job that has ended');

# nothing is settled while the operation moves on
$sql->call(begin => { job => 'j3', attempt => 'c1' });
$sql->call(apply => { attempt => 'c1', status => 'processing' });
$sql->call(next_attempt => { job => 'j3', attempt => 'c1', next => 'c2' });
is($sql->job('j3')->{status}, 'processing', 'still open');

# several at once, two of one job
$sql->call(begin => map { { job => "n$_", attempt => "n$_-1" } } 1 .. 3);
my @r = $sql->call(next_attempt => map { { job => "n$_->[0]",
    attempt => "n$_->[0]-1", next => "n$_->[0]-$_->[1]",
    provider => $_->[2] } } [1, 2, 'b'], [2, 2, 'b'], [2, 3, 'c'],
    [3, 2, 'a']);
is(join(' ', map { $_->{outcome} } @r), 'go go stop stop',
    'a batch: one of a job, none at an open provider');


# --- submitted

$sql->call(begin => map { { job => "s$_", attempt => "sa$_", key => "s$_" } }
    1 .. 6);
@r = $sql->call(submitted =>
    { job => 's1', attempt => 'sa1', provider_job_id => 'p1' },
    { job => 's2', attempt => 'sa2', provider_job_id => 'p2',
        progress => 'processing', kept => { url => 'https://x' },
        due_ms => 5000, estimated_time => undef },
    { job => 's3', attempt => 'nope', provider_job_id => 'p3' },
    { job => 's4', attempt => 'sa4', provider_job_id => 'p1' });
is(join(' ', map { $_->{outcome} } @r),
    'recorded recorded absent duplicate_id', 'outcomes of a batch');
is("$r[0]{http_status} $r[0]{provider} $r[0]{status} $r[0]{estimated_time}",
    '200 a queued 120', 'the answer');
is("$r[1]{status}", 'processing', 'progress is told');
my $a = $sql->attempt('sa2');
is("$a->{state} $a->{kept}{url} $a->{provider_job_id}",
    'accepted https://x p2', 'what polls need');
isnt($a->{due}, undef, 'it is due');
is($sql->attempt('sa1')->{due}, undef, 'the other one is not');
is($sql->job('s1')->{provider_job_id}, 'p1', "the job has the provider's id");
is("$r[3]{http_status} $r[3]{status} " . $state->('sa4') . ' '
    . $sql->attempt('sa4')->{reason}, '202 processing unknown invalid_answer',
    'an id that is another attempt\'s');
is($key_of->('s1')->{http_status}, 200, 'the key has the answer');
is($key_of->('s4')->{response}, undef, '... not that of an unknown one');

my ($again) = $sql->call(submitted => { job => 's1', attempt => 'sa1',
    provider_job_id => 'p1' });
is_deeply({ %$again }, { %{ $r[0] } }, 'the same call again');
$sql->call(apply => { provider_job_id => 'p1', video_url => 'u' });
($again) = $sql->call(submitted => { job => 's1', attempt => 'sa1',
    provider_job_id => 'p1' });
is("$again->{http_status} $again->{status}", '200 queued',
    '... says what is stored under the key');
($r) = $sql->call(submitted => { job => 's1', attempt => 'sa1',
    provider_job_id => 'other' });
is($sql->attempt('sa1')->{provider_job_id}, 'p1', 'an id never changes');

# two at once with one id
@r = $sql->call(submitted => map { { job => "s$_", attempt => "sa$_",
    provider_job_id => 'same' } } 5, 6);
is(join(' ', map { $_->{outcome} } @r), 'recorded duplicate_id',
    'the same id twice in one call');
$sql->call(begin => { job => 's7', attempt => 'sa7',
    candidates => [{ name => 'z' }] });
($r) = $sql->call(submitted => { job => 's7', attempt => 'sa7',
    provider_job_id => 'same' });
is($r->{outcome}, 'recorded', 'another provider may use the same id');

# late news
$sql->call(begin => { job => 't1', attempt => 'ta1' });
$sql->query("UPDATE vidgen.attempts SET lease = now() - interval '1s',"
    . " since = now() - interval '1h' WHERE id = '" . id('ta1') . "'");
$sql->query("SELECT vidgen.sweep('1s', '1d', 10)");
is($state->('ta1'), 'unknown', 'the sweep has given it up');
($r) = $sql->call(submitted => { job => 't1', attempt => 'ta1',
    provider_job_id => 'pt1' });
is("$r->{http_status} " . $state->('ta1'), '200 accepted', '... too early');
$sql->call(begin => { job => 't2', attempt => 'ta2', key => 't2' });
$sql->call(abandon => { job => 't2', attempt => 'ta2', state => 'unsent' });
($r) = $sql->call(submitted => { job => 't2', attempt => 'ta2',
    provider_job_id => 'pt2' });
is("$r->{http_status} $r->{code} " . $state->('ta2') . ' '
    . $sql->attempt('ta2')->{provider_job_id},
    '502 provider_failed unsent pt2',
    'of a job that has failed: 502, and the id is kept');
($r) = $sql->call(apply => { provider_job_id => 'pt2', video_url => 'late' });
is("$r->{outcome} " . $state->('ta2'), 'late completed',
    '... so that its result is found');


# --- abandon

$sql->call(begin => map { { job => "x$_", attempt => "xa$_", key => "x$_" } }
    1 .. 4);
my $before = $sql->balance('u1');
@r = $sql->call(abandon =>
    { job => 'x1', attempt => 'xa1', state => 'unsent', reason => 'connect' },
    { job => 'x2', attempt => 'xa2', state => 'unknown' },
    { job => 'nope', attempt => 'nope', state => 'unsent' },
    { job => 'x3', attempt => 'xa3', state => 'refused', answer_status => 422,
        error => 'no cats', answer_error => 'no cats',
        answer_code => 'provider_refused' });
is(join(' ', map { $_->{outcome} } @r), 'closed open absent closed',
    'outcomes of a batch');
is(join(' ', map { $_->{refunded} } @r), '1 0 0 1', 'refunded');
is("$r[0]{status} $r[1]{status} $r[1]{provider}", 'failed processing a',
    'status and provider');
is($sql->balance('u1') - $before, 2, 'credits are back');
is($sql->job('x3')->{error_message}, 'no cats', 'the job has the message');
is($key_of->('x1'), undef, 'the key of what was unsent is free');
is($key_of->('x2')->{response}, undef, 'that of an unknown one is bound');
($r) = $sql->call(begin => { job => 'x3b', attempt => 'xa3b', key => 'x3' });
is("$r->{outcome} $r->{http_status} $r->{code} $r->{error} $r->{job_id}",
    'replay 422 provider_refused no cats ' . id('x3'),
    'a refusal of the content is replayed');
($r) = $sql->call(begin => { job => 'x1b', attempt => 'xa1b', key => 'x1' });
is($r->{outcome}, 'go', 'a freed key is free');

($again) = $sql->call(abandon => { job => 'x1', attempt => 'xa1',
    state => 'unsent' });
is("$again->{outcome} $again->{refunded}", 'closed 1', 'the same call again');
is($sql->balance('u1') - $before, 1, '... gives nothing more back');
isnt($key_of->('x1b'), undef, '... and leaves the key to who has it now');

# an unknown one that fails later keeps the key
$sql->call(apply => { attempt => 'xa2', provider_job_id => 'px2',
    status => 'failed' });
($r) = $sql->call(begin => { job => 'x2b', attempt => 'xa2b', key => 'x2' });
is("$r->{outcome} $r->{http_status}", 'replay 502',
    'a generation that a provider had is not submitted again');

# the outcome of moving on was unknown: both attempts are closed
$sql->call(next_attempt => { job => 'x4', attempt => 'xa4', state => 'unsent',
    next => 'xa5' });
@r = $sql->call(abandon => { job => 'x4', attempt => 'xa4',
    state => 'unsent' }, { job => 'x4', attempt => 'xa5', state => 'unsent' });
is(join(' ', map { $_->{outcome} } @r), 'closed closed',
    'two attempts of a job in one call');

# a result that is faster than its answer
$sql->call(begin => { job => 'y1', attempt => 'ya1' });
$sql->call(apply => { attempt => 'ya1', provider_job_id => 'py1',
    video_url => 'u' });
($r) = $sql->call(abandon => { job => 'y1', attempt => 'ya1',
    state => 'unknown' });
is("$r->{outcome} $r->{status} $r->{refunded} $r->{provider}",
    'closed completed 0 a', 'completed meanwhile');

# a refund function that raises
$sql->query(q{
    CREATE OR REPLACE FUNCTION vidgen.refund_credits(p_user uuid,
        p_amount integer, p_job uuid) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'no'; END $$});
$sql->call(begin => map { { job => "z$_", attempt => "za$_", key => "z$_" } }
    1, 2);
($r) = $sql->call(abandon => { job => 'z1', attempt => 'za1',
    state => 'unsent' });
is("$r->{outcome} $r->{refunded}", 'closed 0', 'a refund that is due');
like($r->{refund_error}, qr/^\w{5}: /, '... and why');
$sql->call(apply => { attempt => 'za2', status => 'failed' });
for my $code ('504 outcome_unknown', '502 provider_failed') {
    ($r) = $sql->call(submitted => { job => 'z2', attempt => 'za2',
        provider_job_id => 'pz2' });
    is("$r->{http_status} $r->{code}", $code, "submitted: $code");
    is($r->{refund_error}, undef, '... it was not this call that raised');
    is($key_of->('z2')->{response}, undef, '... which is not kept');
    ($r) = $sql->call(begin => { job => 'z3', attempt => 'za3',
        key => 'z2' });
    is("$r->{outcome} $r->{http_status} $r->{code} $r->{job_id}",
        "replay $code " . id('z2'), "the key: $code");
    $sql->query("UPDATE vidgen.ledger SET refund_due = NOT refund_due
        WHERE entry = 'refund' AND job_id = '" . id('z2') . "'");
}

$sql->check('in the end');
is($pg->deadlocks, 0, 'no deadlock');
