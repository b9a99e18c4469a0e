#!/usr/bin/perl

# The queue of calls for PostgreSQL is full: whoever comes then gets 503 at
# once, but what closes a generation has its place.
#
# Not under valgrind: it measures time.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 17;

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

my $user = customer($pg, 20);
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

# seven jobs, and two generations whose provider does not answer yet

my @jobs = map { request(@generate)->{json}{job_id} } 1 .. 7;
is(grep({ defined } @jobs), 7, 'seven jobs');
my @webhooks = map { ['POST', $nginx->url('/video-webhook'),
    $provider->signed_webhook(id => $_->{id})] } @{ $provider->requests };

$provider->next(wait => 1);
$provider->next(wait => 1, status => 401);
my @open = (send_request(@generate), send_request(@generate));
ok($provider->wait_requests(9), 'and two that are being submitted');

# the database does not answer; two of the eight places are reserved

$proxy->hold('both');
my @waiting = map { send_request(@$_) } @webhooks;
ok(wait_requests(9), 'one webhook under way, six wait: full');

for ([webhook => @{ $webhooks[0] }], [generate => @generate],
    [job => 'GET', $nginx->url("/jobs/$jobs[0]")])
{
    my ($name, @request) = @$_;
    my $answer = request(@request);
    is("$answer->{status} $answer->{json}{code}", '503 unavailable',
        "$name: 503");
    is($answer->{headers}{'retry-after'}, 5, "$name: Retry-After");
    cmp_ok($answer->{time}, '<', 5, "$name: at once");
}

is(@{ $provider->requests }, 9, 'the provider is not asked meanwhile');

# the closers are taken all the same

$provider->release;
$provider->requests;                # by now its answers have left
get($nginx->url('/status')) for 1 .. 2;     # and nginx has read them
$proxy->release;
my @answers = sort map { wait_answer($_)->{status} } @open;
is("@answers", '200 502', 'submitted and abandon go through');
@answers = map { wait_answer($_)->{status} } @waiting;
is("@answers", '200 200 200 200 200 200 200', 'and who waited is served');

is(request(@generate)->{status}, 200, 'there is room again');
is_deeply([wrong_books($pg)], [], 'the books are right');
