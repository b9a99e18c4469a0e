#!/usr/bin/perl

# vidgen.begin(): price, providers, credits, keys, and the same call again.

use strict;
use warnings;

use Test::More tests => 69;

use VidgenTest::Postgres;
use VidgenTest::Sql qw(id);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $sql = VidgenTest::Sql->new($pg);

$sql->credits(u1 => 100, u2 => 3, u3 => 0);
$sql->query(q{
    INSERT INTO models (id, name, provider, credits_per_generation, providers)
    VALUES ('own', 'o', 'b', 2, NULL), ('only', 'o', 'b', 1, '{c}'),
           ('free', 'f', NULL, 0, NULL)});


# --- what it writes

my ($r) = $sql->call(begin => { job => 'j1', attempt => 'a1' });
is($r->{outcome}, 'go', 'go');
is("$r->{job_id} $r->{attempt_id}", id('j1') . ' ' . id('a1'), 'its ids');
is("$r->{provider} $r->{providers} $r->{status}", 'a a,b queued',
    'the providers in their order');
my $job = $sql->job('j1');
is("$job->{status} $job->{provider_name} $job->{credits_used}"
    . " $job->{provider_attempts} $job->{prompt} $job->{user_id}",
    'queued a 1 1 a prompt ' . id('u1'), 'the job');
my $attempt = $sql->attempt('a1');
is("$attempt->{state} $attempt->{number} $attempt->{provider}", 'sending 1 a',
    'attempt 1 is written ahead');
is($sql->balance('u1'), 99, 'credits are held');

my ($again) = $sql->call(begin => { job => 'j1', attempt => 'a1' });
is_deeply($again, $r, 'the same call again returns the same');
is($sql->balance('u1'), 99, '... and holds nothing more');


# --- price and providers

my $three = [{ name => 'a' }, { name => 'b' }, { name => 'c' }];
my $route = sub {
    my ($case, %event) = @_;
    my $n = 'route ' . ($case =~ s/\W/_/gr);
    ($r) = $sql->call(begin => { job => "j $n", attempt => "a $n",
        candidates => $three, %event });
    return $r->{providers} // $r->{outcome};
};

is($route->('as given'), 'a,b,c', 'as given');
is($route->('model', model => 'own'), 'b,a,c', "the model's own first");
is($route->('prefer', preferred => 'c', model => 'own'), 'c,b,a',
    'the preferred one before it');
is($route->('listed', model => 'only'), 'b,c', 'only those that serve it');
is($route->('wrong', model => 'only', preferred => 'a'), 'wrong_provider',
    'a preferred one that does not serve the model');
is($route->('gone', preferred => 'x'), 'a,b,c',
    'a preferred one that is not available is passed over');
is($route->('degraded', candidates => [{ name => 'a', degraded => \1 },
    { name => 'b' }]), 'b,a', 'degraded ones after healthy ones');
is($route->('degraded own', model => 'own', candidates => [{ name => 'a' },
    { name => 'b', degraded => \1 }]), 'a,b', '... also the own');
is($route->('degraded preferred', preferred => 'a', candidates =>
    [{ name => 'b' }, { name => 'a', degraded => \1 }]), 'a,b',
    '... but not the preferred one');
is($route->('trial', preferred => 'a', candidates =>
    [{ name => 'a', trial => \1 }, { name => 'b' }]), 'b,a',
    'a trial is the last');
is($route->('none', candidates => []), 'no_provider', 'none');
is($route->('other', model => 'only', candidates => [{ name => 'a' }]),
    'no_provider', 'none that serves the model');
is($sql->job('j route none'), undef, '... and nothing is written');

($r) = $sql->call(begin => { job => 'j2', attempt => 'a2', model => 'own' });
is($sql->job('j2')->{credits_used}, 2, "the model's price");
my $before = $sql->balance('u1');
($r) = $sql->call(begin => { job => 'jf', attempt => 'af', model => 'free' });
is($r->{outcome} . ($before - $sql->balance('u1')), 'go0', 'a free model');
is($sql->value("SELECT count(*) FROM vidgen.ledger WHERE job_id = '"
    . id('jf') . "'"), 0, '... has no ledger rows');
$sql->query("DELETE FROM models WHERE id = '*'");
is($route->('unknown', model => 'zzz'), 'unknown_model', 'an unknown model');
$sql->query("INSERT INTO models VALUES ('*', 'any', NULL, 1)");


# --- max_jobs

my $capped = [{ name => 'full', max_jobs => 2 }, { name => 'b' }];
my @r = $sql->call(begin => map { { job => "jc$_", attempt => "ac$_",
    candidates => $capped } } 1 .. 4);
is(join(' ', map { $_->{providers} } @r), 'full,b full,b b b',
    'a provider that is full is passed over, in one call');
($r) = $sql->call(begin => { job => 'jc5', attempt => 'ac5',
    candidates => [$capped->[0]] });
is($r->{outcome}, 'no_provider', '... and in the next');
$sql->call(abandon => { job => 'jc1', attempt => 'ac1' });
($r) = $sql->call(begin => { job => 'jc5', attempt => 'ac5',
    candidates => [$capped->[0]] });
is($r->{outcome}, 'go', '... until one of its jobs ends');


# --- credits

@r = $sql->call(begin => map { { job => "ju$_", attempt => "au$_",
    user => 'u2' } } 1 .. 5);
is(join(' ', map { $_->{outcome} } @r), 'go go go insufficient_credits'
    . ' insufficient_credits', 'no more than there are, in one call');
is($sql->balance('u2'), 0, '... to the last');
is($r[4]{error}, 'insufficient credits', '... with a sentence');
($r) = $sql->call(begin => { job => 'ju6', attempt => 'au6', user => 'u4' });
is($r->{outcome}, 'insufficient_credits', 'a user without a balance');
is($sql->value("SELECT count(*) FROM vidgen.ledger WHERE user_id IN ('"
    . id('u2') . "', '" . id('u4') . "')"), 3, 'holds are those that go');

$sql->query(q{
    CREATE OR REPLACE FUNCTION vidgen.hold_credits(p_user uuid,
        p_amount integer, p_job uuid) RETURNS text LANGUAGE plpgsql AS $$
    BEGIN
        IF p_user = md5('raise')::uuid THEN
            RAISE EXCEPTION 'account is closed';
        ELSIF p_user = md5('broken')::uuid THEN
            PERFORM 1 / 0;
        END IF;
        RETURN NULL;
    END $$});
@r = $sql->call(begin => map { { job => "jh$_", attempt => "ah$_",
    user => $sql->value("SELECT md5('$_')::uuid"), key => $_ } }
    qw(one raise two broken three));
is(join(' ', map { $_->{outcome} } @r), 'go insufficient_credits go'
    . ' hold_failed go', 'a hook that raises harms nobody else');
is($r[1]{error}, 'account is closed', 'P0001: its sentence');
like($r[3]{error}, qr/^22012: /, 'another one: SQLSTATE and message');
is($sql->value("SELECT count(*) FROM idempotency_log"), 3,
    '... and what is refused has freed its key');
$sql->query(q{
    CREATE OR REPLACE FUNCTION vidgen.hold_credits(p_user uuid,
        p_amount integer, p_job uuid) RETURNS text LANGUAGE sql AS $$
        SELECT deduct_credits(p_user, p_amount, 'x') ->> 'error' $$});


# --- keys

my %key = (key => 'k1', fingerprint => 'f1');
@r = $sql->call(begin => { job => 'k1', attempt => 'ka1', %key },
    { job => 'k2', attempt => 'ka2', %key },
    { job => 'k3', attempt => 'ka3', %key, fingerprint => 'f2' });
is(join(' ', map { $_->{outcome} } @r), 'go running mismatch',
    'a key three times in one call');
is($sql->job('k2'), undef, '... is one job');
is($r[1]{job_id}, id('k1'), '... whose id is told');
($r) = $sql->call(begin => { job => 'k4', attempt => 'ka4', %key });
is($r->{outcome}, 'running', 'running while the lease lasts');
($r) = $sql->call(begin => { job => 'k4', attempt => 'ka4', %key,
    candidates => [], user => 'u3' });
is($r->{outcome}, 'running', '... before availability and credits');
$sql->query("UPDATE vidgen.attempts SET lease = now() - interval '1s'"
    . " WHERE id = '" . id('ka1') . "'");
($r) = $sql->call(begin => { job => 'k4', attempt => 'ka4', %key });
is("$r->{outcome} $r->{provider} $r->{status}", 'processing a processing',
    'processing when it is over: never a second submission');
is($r->{job_id}, id('k1'), '... with the job');

$sql->call(submitted => { job => 'k1', attempt => 'ka1',
    provider_job_id => 'pk1' });
my $first = $sql->call('begin', { job => 'k5', attempt => 'ka5', %key });
is("$first->{outcome} $first->{http_status} $first->{status}"
    . " $first->{estimated_time} $first->{provider}", 'replay 200 queued 120 a',
    'the stored answer');
is($first->{job_id}, id('k1'), '... is of the first job');
$sql->call(apply => { provider_job_id => 'pk1', video_url => 'u' });
is_deeply($sql->call('begin', { job => 'k5', attempt => 'ka5', %key }),
    $first, '... and stays the same when the job has ended');
($r) = $sql->call(begin => { job => 'k5', attempt => 'ka5', %key,
    fingerprint => 'f2' });
is($r->{outcome}, 'mismatch', 'a mismatch comes before a replay');
isnt($sql->row('idempotency_log', "job_id = '" . id('k1') . "'")->{expires_at},
    undef, 'the key expires once the job has ended');

# without a stored answer
$sql->call(begin => { job => 'l1', attempt => 'la1', key => 'l' });
$sql->call(apply => { attempt => 'la1', provider_job_id => 'pl1',
    video_url => 'u' });
($r) = $sql->call(begin => { job => 'l2', attempt => 'la2', key => 'l' });
is("$r->{outcome} $r->{http_status} $r->{status}", 'replay 200 completed',
    'completed: from the job');
$sql->call(begin => { job => 'm1', attempt => 'ma1', key => 'm' });
$sql->call(apply => { attempt => 'ma1', provider_job_id => 'pm1',
    status => 'failed' });
($r) = $sql->call(begin => { job => 'm2', attempt => 'ma2', key => 'm' });
is("$r->{outcome} $r->{http_status} $r->{code} $r->{job_id}",
    'replay 502 provider_failed ' . id('m1'), 'failed: 502 with its id');

# expired, and a job that the user has deleted
$sql->query("UPDATE idempotency_log SET expires_at = now() - interval '1s'"
    . " WHERE job_id = '" . id('m1') . "'");
($r) = $sql->call(begin => { job => 'm3', attempt => 'ma3', key => 'm' });
is($r->{outcome}, 'go', 'an expired key is free');
$sql->query("DELETE FROM video_jobs WHERE id = '" . id('m3') . "'");
($r) = $sql->call(begin => { job => 'm4', attempt => 'ma4', key => 'm' });
is($r->{outcome}, 'go', '... as is that of a job which is gone');
$sql->query("DELETE FROM vidgen.ledger WHERE job_id = '" . id('m3')
    . "'; UPDATE user_credits SET balance = balance + 1 WHERE user_id = '"
    . id('u1') . "'");

# what is refused frees its key
for my $case (['unknown_model', model => undef],
              ['no_provider', candidates => []],
              ['insufficient_credits', user => 'u3'],
              ['wrong_provider', model => 'only', preferred => 'a'])
{
    my ($outcome, %event) = @$case;
    $sql->query("DELETE FROM models WHERE id = '*'") if exists $event{model};
    ($r) = $sql->call(begin => { job => 'n1', attempt => 'na1', key => 'n',
        %event });
    is($r->{outcome}, $outcome, $outcome);
    $sql->query("INSERT INTO models VALUES ('*', 'any', NULL, 1)"
        . ' ON CONFLICT DO NOTHING');
    is($sql->row('idempotency_log', "idempotency_key = 'generate:"
        . Digest::SHA::sha256_hex('n') . "'"), undef, '... frees its key');
}

# the same call again, later
$sql->call(begin => { job => 'o1', attempt => 'oa1', key => 'o' });
($r) = $sql->call(begin => { job => 'o1', attempt => 'oa1', key => 'o' });
is("$r->{outcome} $r->{attempt_id}", 'go ' . id('oa1'),
    'the same call with a key goes again');
$sql->call(next_attempt => { job => 'o1', attempt => 'oa1', next => 'oa2' });
($r) = $sql->call(begin => { job => 'o1', attempt => 'oa1', key => 'o' });
is("$r->{outcome} $r->{provider}", 'processing b',
    '... but not when its attempt 1 has been closed');

$sql->query("DELETE FROM video_jobs WHERE user_id = md5('one')::uuid"
    . " OR user_id IN (md5('two')::uuid, md5('three')::uuid)");
$sql->check('in the end');
is($pg->deadlocks, 0, 'no deadlock');
