#!/usr/bin/perl

# Somebody, with a transaction that takes long, has locked a row of a job, of
# an attempt or of a balance.  Only what needs that row waits for it, also if
# it comes again and again together with others, and is done once when the row
# is free, or answered 503 at its timeout.
#
# Not under valgrind: it measures time.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 44;
use Time::HiRes qw(sleep time);

use VidgenTest::Books qw(balance customer ledger wrong_books);
use VidgenTest::Edge;
use VidgenTest::Http qw(many request send_request send_together wait_answer);
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Session;
use VidgenTest::Util qw(wait_for);

my $held = 3;                       # seconds
my $rounds = 8;                     # meanwhile
my $fast = 1.5;                     # seconds that the others may take

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;

sub nginx {
    my ($options) = @_;
    return VidgenTest::Edge->new(db => $pg->edge_conninfo, fal => $provider,
        database => $options, listen => 'backlog=1024',
        events => 'worker_connections 1024;')->start;
}

my $user = customer($pg, 10000);
my $other = customer($pg, 10000);
my $session = VidgenTest::Session->new($pg);
my $nginx = nginx('timeout=10s');

sub generate {
    my ($user) = @_;
    return ('POST', $nginx->url('/generate-video'), {},
        qq({"user_id":"$user","model_id":"m","prompt":"p"}));
}

# The provider's ids of $n new jobs.
sub jobs {
    my ($user, $n) = @_;
    my @ids;
    while (@ids < $n) {
        $provider->forget_requests;
        many($n < 50 ? $n : 50, generate($user));
        push @ids, map { $_->{id} } @{ $provider->requests };
    }
    return @ids;
}

sub webhook {
    my ($id, $status) = @_;
    return ['POST', $nginx->url('/video-webhook'),
        $provider->signed_webhook(id => $id, status => $status)];
}

# Until a webhook has met a lock alone.
sub wait_blocked {
    my $log = length $pg->log;
    wait_for { 2 <= (() = substr($pg->log, $log) =~ /due to lock timeout/g) }
        or die 'no lock timeout';
}

sub statuses {
    my %count;
    $count{ $_->{status} }++ for @_;
    return join ' ', map { "$_: $count{$_}" } sort keys %count;
}

# Rounds of webhooks of fifty other jobs with some for the row between them,
# while it is locked.
sub while_locked {
    my ($name, $lock, @blocked) = @_;

    my @others = jobs($other, 50 * $rounds);
    $session->run("BEGIN; $lock FOR UPDATE");

    my $began = time;
    my (@waiting, @answers);

    for my $round (1 .. $rounds) {
        my @calls = send_together(
            (map { webhook($_, 'completed') } splice @others, 0, 20),
            @blocked,
            (map { webhook($_, 'completed') } splice @others, 0, 25),
            (map { webhook($_, 'failed') } splice @others, 0, 5));
        push @waiting, splice @calls, 20, scalar @blocked;
        push @answers, map { wait_answer($_) } @calls;

        my $rest = $began + $held * $round / $rounds - time;
        sleep $rest if $rest > 0;
    }

    my ($slowest) = sort { $b <=> $a } map { $_->{time} } @answers;
    is(statuses(@answers), '200: ' . 50 * $rounds,
        "$name: the others are applied");
    cmp_ok($slowest, '<', $fast, "$name: soon");
    note(sprintf '%s: at most %d ms', $name, 1000 * $slowest);
    ok(!grep({ $_->{answer} } @waiting), "$name: those of the row wait");

    $session->run('COMMIT');
    my $free = time;
    @answers = map { wait_answer($_) } @waiting;
    is(statuses(@answers), '200: ' . @waiting, "$name: and are applied then");
    cmp_ok(time - $free, '<', 3, "$name: soon");
    is(scalar(grep { !$_->{headers}{'x-idempotent-replay'} } @answers),
        scalar(@blocked), "$name: once");
}

# ---- rows of a job, of an attempt, of a balance -----------------------------

my ($id) = jobs($user, 1);
while_locked('a job', "SELECT FROM video_jobs WHERE provider_job_id = '$id'",
    webhook($id, 'failed'));

($id) = jobs($user, 1);
while_locked('an attempt',
    "SELECT FROM vidgen.attempts WHERE provider_job_id = '$id'",
    webhook($id, 'completed'));

my @ids = jobs($user, 3);
while_locked('a balance',
    "SELECT FROM user_credits WHERE user_id = '$user'",
    map { webhook($_, 'failed') } @ids);

# ---- for longer than a call may take ----------------------------------------

$nginx->quit;
$nginx = nginx('timeout=2s');
($id) = jobs($user, 1);
my ($next) = jobs($other, 1);
$session->run("BEGIN; SELECT FROM video_jobs WHERE provider_job_id = '$id'
    FOR UPDATE");
my $began = time;
my @calls = map { send_request(@{ webhook($id, 'failed') }) } 1 .. 3;
is(request(@{ webhook($next, 'completed') })->{status}, 200,
    'another is applied');
cmp_ok(time - $began, '<', $fast, 'soon');
my @answers = map { wait_answer($_) } @calls;
is(join(' ', map { "$_->{status} $_->{headers}{'retry-after'}" } @answers),
    '503 5 503 5 503 5', 'those of the row: 503');
cmp_ok(time - $began, '>', 1.9, 'at the timeout');
cmp_ok(time - $began, '<', 5, 'and not later');
my $job = $pg->value("SELECT id FROM video_jobs WHERE provider_job_id = '$id'");
is(ledger($pg, $job), 'hold 1', 'nothing was done');
$session->run('COMMIT');
is(request(@{ webhook($id, 'failed') })->{status}, 200, 'a redelivery: 200');
is(ledger($pg, $job), 'hold 1, refund 1', 'and done');

# ---- generations: their begin and their end ---------------------------------

$nginx->quit;
$nginx = nginx('timeout=10s');
$provider->forget_requests;
$provider->next(wait => 1);
my $open = send_request(generate($user));
$provider->wait_requests(1);
$session->run("BEGIN; SELECT FROM video_jobs WHERE status = 'queued'
    AND user_id = '$user' FOR UPDATE;
    SELECT FROM user_credits WHERE user_id = '$user' FOR UPDATE");
$provider->release;
my @begins = send_together(20, generate($user));
$session->wait_waiters(1, 'vidgen.begin') or die 'no begin waits';
my @others;
for (1 .. 5) {
    push @others, many(20, generate($other));
}
is(statuses(@others), '200: 100', 'generations of another user begin and end');
my ($slowest) = sort { $b <=> $a } map { $_->{time} } @others;
cmp_ok($slowest, '<', $fast, 'soon');
is(@{ $provider->requests }, 101, 'the others wait');
$session->run('COMMIT');
is(statuses(map { wait_answer($_) } $open, @begins), '200: 21',
    'and go on then');

# ---- with a single connection ------------------------------------------------

$nginx->quit;
$nginx = nginx('timeout=10s connections=1');
($id) = jobs($user, 1);
while_locked('one connection',
    "SELECT FROM video_jobs WHERE provider_job_id = '$id'",
    webhook($id, 'failed'));

# ---- more of them than half of the queue -------------------------------------

$nginx->quit;
$nginx = nginx('timeout=20s queue=16');
($id) = jobs($user, 1);
($next) = jobs($other, 1);
$session->run("BEGIN; SELECT FROM video_jobs WHERE provider_job_id = '$id'
    FOR UPDATE");
@calls = send_request(@{ webhook($id, 'failed') });
wait_blocked();
push @calls, send_together((webhook($id, 'failed')) x 20);
ok(wait_for {
    $calls[-1]{stream}{loop}->run(undef, 0.01);
    13 == grep { $_->{answer} } @calls;
}, 'of 21 for the row 8 wait');
is(statuses(map { $_->{answer} } grep { $_->{answer} } @calls), '503: 13',
    'the others are refused');
is(request(@{ webhook($next, 'completed') })->{status}, 200,
    'there is room for another');
$session->run('COMMIT');
is(statuses(map { wait_answer($_) } @calls), '200: 8 503: 13',
    'those that waited are applied');

# ---- and the server is started again -----------------------------------------

($id) = jobs($user, 1);
$session->run("BEGIN; SELECT FROM video_jobs WHERE provider_job_id = '$id'
    FOR UPDATE");
@calls = send_request(@{ webhook($id, 'failed') });
wait_blocked();
push @calls, send_together((webhook($id, 'failed')) x 3,
    (webhook($next, 'completed')) x 3);
$pg->restart('immediate');
@answers = map { wait_answer($_) } @calls;
is(statuses(@answers), '200: 7', 'the server is started again: all are done');

is($pg->deadlocks, 0, 'no deadlock');
is(balance($pg, $other), 10000 - $pg->value("SELECT count(*) FROM video_jobs
    WHERE user_id = '$other' AND status <> 'failed'"), 'the balance');
is_deeply([wrong_books($pg)], [], 'the books are right');
