#!/usr/bin/perl

# vidgen.next_attempt() to providers that are full, and what vidgen.abandon()
# says of a job that a webhook has shown to be accepted.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 33;
use Time::HiRes qw(time);

use VidgenTest::Postgres;
use VidgenTest::Session;
use VidgenTest::Sql qw(id);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $sql = VidgenTest::Sql->new($pg);
$sql->credits(u1 => 1000);

my ($r, @r);
my $state = sub { my $a = $sql->attempt($_[0]); $a ? $a->{state} : 'none' };
my $open_at = sub { $sql->value("SELECT vidgen.open_at('$_[0]', 99)") };
my $one = [{ name => 'one', max_jobs => 1 }];

sub move {
    my ($n, %more) = @_;
    return { job => "j$n", attempt => "j$n a", state => 'refused',
        next => "j$n b", provider => 'one', max_jobs => 1, %more };
}


# --- full

$sql->call(begin => { job => 'holder', attempt => 'holder a',
    candidates => $one });
$sql->call(begin => map { { job => "j$_", attempt => "j$_ a" } } 1 .. 9);

($r) = $sql->call(next_attempt => move(1));
is("$r->{outcome} $r->{status} $r->{provider}", 'full queued a', 'full');
is($state->('j1 a') . ' ' . $state->('j1 b'), 'sending none',
    '... nothing is closed, nothing opened');
is($sql->value('SELECT count(*) FROM provider_failover_log'), 0,
    '... nothing is logged');
($r) = $sql->call(next_attempt => move(1, max_jobs => 2));
is($r->{outcome}, 'go', 'room for another one');
is($state->('j1 a') . ' ' . $state->('j1 b'), 'refused sending', '... done');
($r) = $sql->call(next_attempt => move(1, max_jobs => 2));
is($r->{outcome}, 'go', 'the same call again, though it is full by now');
($r) = $sql->call(next_attempt => move(2, max_jobs => 2));
is($r->{outcome}, 'full', '... for others');
($r) = $sql->call(next_attempt => move(2, max_jobs => undef));
is($r->{outcome}, 'go', 'without a bound');

# what counts

$sql->call(submitted => { job => 'holder', attempt => 'holder a',
    provider_job_id => 'p1' });
is($open_at->('one'), 3, 'accepted ones count');
$sql->call(apply => { provider => 'one', provider_job_id => 'p1' });
is($open_at->('one'), 2, 'completed ones do not');
$sql->call(abandon => { job => 'j1', attempt => 'j1 b', state => 'unknown' });
is($open_at->('one'), 2, 'unknown ones do');
$sql->call(abandon => { job => 'j2', attempt => 'j2 b', state => 'unsent' });
is($open_at->('one'), 1, 'unsent ones do not');

# a round at the same provider

($r) = $sql->call(next_attempt => move(3, provider => 'own'));
($r) = $sql->call(next_attempt => { job => 'j3', attempt => 'j3 b',
    state => 'refused', next => 'j3 c', provider => 'own', max_jobs => 1 });
is($r->{outcome}, 'go', 'what is closed makes room');
($r) = $sql->call(next_attempt => { job => 'j3', attempt => 'j3 c',
    state => 'unknown', next => 'j3 d', provider => 'own', max_jobs => 1 });
is($r->{outcome}, 'full', '... but not if the provider may have it');
is($state->('j3 c'), 'sending', '... which is not closed then');

# in one call

@r = $sql->call(next_attempt => map { move($_, max_jobs => 3) } 4 .. 7);
is(join(' ', map { $_->{outcome} } @r), 'go go full full',
    'a batch: as many as there is room for');
is($state->('j5 b') . ' ' . $state->('j6 b') . ' ' . $state->('j6 a'),
    'sending none sending', '... and no more');
@r = $sql->call(next_attempt => move(6), move(8, provider => 'other',
    max_jobs => undef), move(7, max_jobs => 4));
is(join(' ', map { $_->{outcome} } @r), 'full go go',
    'a batch of different ones');

# at the same time

my @sessions = map { VidgenTest::Sql->new($pg) } 1 .. 4;
$sql->call(begin => map { { job => "c$_", attempt => "c$_ a" } } 1 .. 40);
for my $round (0 .. 9) {
    $sessions[$_]->start_call(next_attempt => { job => 'c' . ($round * 4 + $_
        + 1), attempt => 'c' . ($round * 4 + $_ + 1) . ' a',
        next => 'c' . ($round * 4 + $_ + 1) . ' b', provider => 'ten',
        max_jobs => 10 }) for 0 .. 3;
    $_->finish_call for @sessions;
}
is($open_at->('ten'), 10, 'from several sessions');


# --- abandon: a webhook has shown that a provider has it

my $abandon = sub {
    my ($n, $status, %more) = @_;
    $sql->call(begin => { job => "k$n", attempt => "k$n a", key => "k$n" });
    $sql->call(next_attempt => { job => "k$n", attempt => "k$n a",
        next => "k$n b", provider => 'b' });
    $sql->call(apply => { provider => 'a', attempt => "k$n a",
        provider_job_id => "k$n", status => $status }) if $status;
    ($r) = $sql->call(abandon => { job => "k$n", attempt => "k$n b", %more });
    return join ' ', map { $_ // '-' } @$r{qw(outcome status provider
        http_status)};
};
my $stored = sub {
    my $k = $sql->row('idempotency_log', "job_id = '" . id($_[0]) . "'");
    return $k ? join ' ', map { $_ // '-' } $k->{http_status},
        @{ $k->{response} // {} }{qw(provider status)} : 'none';
};

is($abandon->(1, 'queued'), 'open queued a 200', 'accepted');
is($stored->('k1'), '200 a queued', '... the key has the answer');
is($abandon->(2, 'processing', state => 'unknown'), 'open processing a 200',
    'accepted, the other one unknown');
is($stored->('k2'), '200 a processing', '... the key has the answer');
is($abandon->(3, 'completed'), 'closed completed a 200', 'completed');
is($abandon->(4, 'failed'), 'closed failed b -', 'failed');
is($stored->('k4'), '- - -', '... the key stays with it');
is($abandon->(5, undef), 'open processing b 202', 'unknown');
is($stored->('k5'), '- - -', '... the key waits');
is($abandon->(6, 'queued', answer_status => 422), 'open queued a 200',
    'accepted, the other one refused the content');
is($stored->('k6'), '200 a queued', '... the key has the better answer');

# --- another transaction has the lock: longer than the caller waits for a row

my $session = VidgenTest::Session->new($pg);
$session->run("BEGIN; SELECT vidgen.lock_names('{provider:one}')");
my $began = time;
is(scalar $pg->sqlstate("SET lock_timeout = '1ms';
    SELECT vidgen.lock_names('{provider:one}')"), '55P03', 'locked');
cmp_ok(time - $began, '>', 0.49, '... which is waited for');
$session->close;

is($pg->deadlocks, 0, 'no deadlock');
