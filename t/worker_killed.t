#!/usr/bin/perl

# A worker is killed between a provider's acceptance and its record: nothing
# is given back while the attempt is open, and its webhook still completes the
# job.  One that is killed while it applies a webhook does not keep another
# worker from applying it.
#
# Not under valgrind: it kills.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 21;

use VidgenTest::Books qw(balance customer ledger wrong_books);
use VidgenTest::Edge;
use VidgenTest::Http qw(get request send_request wait_answer);
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Session;

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;

my $nginx = VidgenTest::Edge->new(
    db       => $pg->edge_conninfo,
    database => 'timeout=20s',
    fal      => $provider)->start;

$nginx->allow(qr/exited on signal 9/);

my $user = customer($pg, 10);
my @generate = ('POST', $nginx->url('/generate-video'), {},
    qq({"user_id":"$user","model_id":"m","prompt":"p"}));

# Kills the worker while what it has sent waits for a lock on the table, and
# the server's side with it, so that it is not done later.
sub kill_while_waiting {
    my ($session, $function, $call) = @_;
    $session->wait_waiters(1, $function) or die "$function does not wait\n";
    $nginx->kill_worker;
    wait_answer($call);
    $pg->query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE wait_event_type = 'Lock' AND query LIKE '%$function%'");
    $session->run('COMMIT');
}

sub state {
    my ($job) = @_;
    return join ' ', @{ $pg->query("SELECT j.status, a.state
        FROM video_jobs j JOIN vidgen.attempts a ON a.job_id = j.id
        WHERE j.id = '$job'")->[0] }, balance($pg, $user);
}

sub sweep { $pg->query(q{SELECT vidgen.sweep('30m', '24h', 100)}) }

my $session = VidgenTest::Session->new($pg);

# a generation of which the provider's acceptance is not recorded

sub accepted_and_killed {
    $provider->forget;
    $provider->next(wait => 1);
    my $call = send_request(@generate);
    $provider->wait_requests(1);

    $session->run('BEGIN; LOCK TABLE vidgen.attempts IN EXCLUSIVE MODE');
    $provider->release;
    kill_while_waiting($session, 'vidgen.submitted', $call);

    return $pg->value("SELECT id FROM video_jobs ORDER BY created_at DESC
        LIMIT 1");
}

my $job = accepted_and_killed();
is(state($job), 'queued sending 9', 'accepted, not recorded: it is open');
is(get($nginx->url("/jobs/$job"))->{json}{status}, 'queued',
    'as another worker sees it');
sweep();
is(state($job), 'queued sending 9', 'no sweep ends it while its lease lasts');

my $request = $provider->requests->[0];
my ($hook) = $request->{body} =~ /"(http:[^"]+)"/;
$provider->send_webhook($hook, id => $request->{id});
is($provider->wait_webhooks(1)->[0]{answer},
    qq({"success":true,"job_id":"$job"}), 'its webhook is applied');
is(state($job), 'completed completed 9', 'and completes it');
is($pg->value("SELECT provider_job_id FROM video_jobs WHERE id = '$job'"),
    $request->{id}, 'with the id that was never recorded');
is(ledger($pg, $job), 'hold 1', 'it is paid');

# the same, its lease over

$job = accepted_and_killed();
is(state($job), 'queued sending 8', 'another one');
$pg->query('UPDATE vidgen.attempts SET lease = now()');
sweep();
is(state($job), 'processing unknown 8', 'a lease that is over: unknown');
sweep();
is(state($job), 'processing unknown 8', 'nothing is given back');

$request = $provider->requests->[0];
($hook) = $request->{body} =~ /"(http:[^"]+)"/;
$provider->send_webhook($hook, id => $request->{id}, status => 'failed');
is($provider->wait_webhooks(1)->[0]{status}, 200, 'its webhook');
is(state($job), 'failed failed 9', 'fails it');
is(ledger($pg, $job), 'hold 1, refund 1', 'and gives back once');

# a webhook

is(request(@generate)->{status}, 200, 'a job');
$job = $pg->value("SELECT id FROM video_jobs WHERE status = 'queued'");
my @webhook = ('POST', $nginx->url('/video-webhook'),
    $provider->signed_webhook(id => $provider->requests->[1]{id},
        status => 'failed'));

$session->run('BEGIN; LOCK TABLE vidgen.attempts IN EXCLUSIVE MODE');
kill_while_waiting($session, 'vidgen.apply', send_request(@webhook));
is(state($job), 'queued accepted 8', 'a webhook that was not applied');

my $answer = request(@webhook);
is($answer->{body}, qq({"success":true,"job_id":"$job"}),
    'its redelivery is, by another worker');
ok(!exists $answer->{headers}{'x-idempotent-replay'}, 'as no replay');
is(state($job), 'failed failed 9', 'the job has failed');
is(ledger($pg, $job), 'hold 1, refund 1', 'with one refund');
is(request(@webhook)->{headers}{'x-idempotent-replay'}, 'true',
    'a further one is a replay');

is_deeply([wrong_books($pg)], [], 'the books are right');
