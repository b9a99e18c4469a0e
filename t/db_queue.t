#!/usr/bin/perl

# The queue of calls for PostgreSQL is full: whoever comes then gets 503 at
# once, but what closes a generation has its place, which is none of the queue:
# generations at a slow provider keep no webhook out.
#
# Not under valgrind: it measures time.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 24;

use VidgenTest::Books qw(customer wrong_books);
use VidgenTest::Edge;
use VidgenTest::Http qw(get request send_request wait_answer);
use VidgenTest::PgProxy;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $proxy = VidgenTest::PgProxy->new($pg);
my $provider = VidgenTest::Provider->new;

my $nginx = VidgenTest::Edge->new(
    db       => $proxy->conninfo,
    database => 'queue=8 timeout=20s',
    fal      => $provider,
    server   => 'location = /status { stub_status; }')->start;

my $user = customer($pg, 100);
my @generate = ('POST', $nginx->url('/generate-video'), {},
    qq({"user_id":"$user","model_id":"m","prompt":"p"}));

# Waits until nginx has read $n requests that it cannot answer yet.
sub wait_requests {
    my ($n) = @_;
    return wait_for {
        my ($now) = get($nginx->url('/status'))->{body} =~ /Writing: (\d+)/;
        $now == $n + 1;
    };
}

# The webhooks of $n new jobs.
sub webhooks {
    my ($n) = @_;
    $provider->forget_requests;
    request(@generate) for 1 .. $n;
    return map { ['POST', $nginx->url('/video-webhook'),
        $provider->signed_webhook(id => $_->{id})] } @{ $provider->requests };
}

# The provider answers, and nginx has read it, while the database does not.
sub release_provider {
    $provider->release;
    $provider->requests;                # by now its answers have left
    get($nginx->url('/status')) for 1 .. 2;
}

# nine jobs, and two generations whose provider does not answer yet

my @webhooks = webhooks(9);
is(@webhooks, 9, 'nine jobs');
my $job = $pg->value('SELECT id FROM video_jobs LIMIT 1');

$provider->next(wait => 1);
$provider->next(wait => 1, status => 401);
my @open = (send_request(@generate), send_request(@generate));
ok($provider->wait_requests(11), 'and two that are being submitted');

# the database does not answer

$proxy->hold('both');
my @waiting = map { send_request(@$_) } @webhooks;
ok(wait_requests(11), 'one webhook under way, eight wait: full');

for ([webhook => @{ $webhooks[0] }], [generate => @generate],
    [job => 'GET', $nginx->url("/jobs/$job")])
{
    my ($name, @request) = @$_;
    my $answer = request(@request);
    is("$answer->{status} $answer->{json}{code}", '503 unavailable',
        "$name: 503");
    is($answer->{headers}{'retry-after'}, 5, "$name: Retry-After");
    cmp_ok($answer->{time}, '<', 5, "$name: at once");
}

is(@{ $provider->requests }, 11, 'the provider is not asked meanwhile');

# the closers are taken all the same

release_provider();
$proxy->release;
my @answers = sort map { wait_answer($_)->{status} } @open;
is("@answers", '200 502', 'submitted and abandon go through');
@answers = map { wait_answer($_)->{status} } @waiting;
is("@answers", join(' ', (200) x 9), 'and who waited is served');

is(request(@generate)->{status}, 200, 'there is room again');

# five times as many generations as the queue is long, whose provider hangs

my @more = webhooks(14);
$provider->forget_requests;
@open = map {
    $provider->next(wait => 1);
    my $call = send_request(@generate);
    $provider->wait_requests($_);
    $call;
} 1 .. 40;
is(@{ $provider->requests }, 40, 'forty generations are being submitted');

@answers = map { request(@$_)->{status} } splice @more, 0, 5;
is("@answers", '200 200 200 200 200', 'webhooks are applied');
is(request(@generate)->{status}, 200, 'another generation begins');

$proxy->hold('both');
@waiting = map { send_request(@$_) } @more;
ok(wait_requests(49), 'the queue is full of webhooks');
is(request(@generate)->{status}, 503, 'which no other generation enters');
release_provider();
$proxy->release;
@answers = map { wait_answer($_)->{status} } @open;
is("@answers", join(' ', (200) x 40), 'all forty are closed');
@answers = map { wait_answer($_)->{status} } @waiting;
is("@answers", join(' ', (200) x 9), 'and the webhooks applied');

is_deeply([wrong_books($pg)], [], 'the books are right');
