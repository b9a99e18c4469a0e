#!/usr/bin/perl

# PostgreSQL does not answer, as behind a dead network: whoever waits is
# answered at the timeout with what is known, and once it answers again what
# was begun comes to its end.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 25;

use VidgenTest::Books qw(balance customer ledger wrong_books);
use VidgenTest::Edge;
use VidgenTest::Http qw(get post request send_request wait_answer);
use VidgenTest::PgProxy;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(patience wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $proxy = VidgenTest::PgProxy->new($pg);
my $provider = VidgenTest::Provider->new;

my $nginx = VidgenTest::Edge->new(
    db       => $proxy->conninfo,
    database => 'timeout=2s',
    fal      => $provider,
    server   => 'location = /fast { return 200 "fast"; }')->start;

my $user = customer($pg, 10);
my @generate = ('POST', $nginx->url('/generate-video'), {},
    qq({"user_id":"$user","model_id":"m","prompt":"p"}));

sub jobs { $pg->value('SELECT count(*) FROM video_jobs') }

# Waits until the newest job has that status.
sub wait_job {
    my ($status, $seconds) = @_;
    return wait_for { ($pg->value('SELECT status FROM video_jobs
        ORDER BY created_at DESC, id DESC LIMIT 1') // '') eq $status }
        $seconds;
}

# Answers of all calls have come in until now, so that the next one works.
sub release {
    $proxy->release;
    wait_for { get($nginx->url("/jobs/$user"))->{status} == 404 };
}

my $answer = request(@generate);
my $job = $answer->{json}{job_id};
is($answer->{status}, 200, 'before it');

# The same, but what was sent is lost, so that it has to be sent again.
sub lose {
    $proxy->drop;
    release();
}

# begin: it is not known whether it was done, so nothing is sent

$proxy->hold;
$answer = request(@generate);
is("$answer->{status} $answer->{headers}{'retry-after'}", '503 5',
    'begin, done, its answer late: 503');
cmp_ok($answer->{time}, '<', 5 * patience(), 'at the timeout');
is(get($nginx->url('/fast'))->{body}, 'fast', 'others serve');
release();
ok(wait_job('failed'), 'it is closed');
is(jobs(), 2, 'there was one');
is(@{ $provider->requests }, 1, 'the provider was not asked');
is(balance($pg, $user), 9, 'its credits are back');

# one that reaches the server after its closing call is the sweep's

$proxy->hold('both');
$answer = request(@generate);
is("$answer->{status} $answer->{headers}{'retry-after'}", '503 5',
    'begin that itself is late: 503');
cmp_ok($answer->{time}, '<', 5 * patience(), 'at the timeout');
release();
ok(wait_for { jobs() == 3 }, 'it arrives');
is(@{ $provider->requests }, 1, 'the provider was not asked');
ok(wait_for {
    $pg->query(q{UPDATE vidgen.attempts SET lease = now()
        WHERE state = 'sending'});
    $pg->query(q{SELECT vidgen.sweep('0', '24h', 100)});
    wait_job('failed', 0);
}, 'it comes to its end');
is(balance($pg, $user), 9, 'its credits are back');

# submitted

my $call;
$provider->next(wait => 1);
$call = send_request(@generate);
$provider->wait_requests(2);
$proxy->hold('both');
$provider->release;
$answer = wait_answer($call);
is("$answer->{status} $answer->{json}{status}", '202 processing',
    'an acceptance whose record is lost: 202');
$job = $answer->{json}{job_id};
lose();
ok(wait_for { $pg->value("SELECT state FROM vidgen.attempts
    WHERE job_id = '$job'") eq 'accepted' }, 'it is recorded in the end');
my $id = $provider->requests->[1]{id};
is($pg->value("SELECT provider_job_id FROM video_jobs WHERE id = '$job'"),
    $id, 'with its id');

# abandon

$provider->next(wait => 1, status => 401);
$call = send_request(@generate);
$provider->wait_requests(3);
$proxy->hold('both');
$provider->release;
$answer = wait_answer($call);
like("$answer->{status} " . ($answer->{json}{job_id} // ''), qr/^504 [0-9a-f]/,
    'a refusal whose record is lost: 504 with the job');
lose();
ok(wait_job('failed'), 'it is closed in the end');
is(ledger($pg, $answer->{json}{job_id}), 'hold 1, refund 1',
    'and its credits are back');

# a webhook

my @webhook = ('POST', $nginx->url('/video-webhook'),
    $provider->signed_webhook(id => $id));
$proxy->hold('both');
$answer = request(@webhook);
is("$answer->{status} $answer->{headers}{'retry-after'}", '503 5',
    'a webhook: 503');
lose();
is(request(@webhook)->{body}, qq({"success":true,"job_id":"$job"}),
    'its redelivery is answered');
is($pg->value("SELECT status FROM video_jobs WHERE id = '$job'"),
    'completed', 'and done once');

is(balance($pg, $user), 8, 'the balance');
is_deeply([wrong_books($pg)], [], 'the books are right');
