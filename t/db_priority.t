#!/usr/bin/perl

# Among calls that wait for PostgreSQL those that close a generation go first,
# then those that begin one, then those that only read, whatever came first.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 5;

use VidgenTest::Books qw(customer wrong_books);
use VidgenTest::Edge;
use VidgenTest::Http qw(get request send_request wait_answer);
use VidgenTest::PgProxy;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0,
    settings => { log_statement => 'all' });
my $proxy = VidgenTest::PgProxy->new($pg);
my $provider = VidgenTest::Provider->new;

my $nginx = VidgenTest::Edge->new(
    db       => $proxy->conninfo,
    database => 'connections=1 timeout=20s',
    fal      => $provider,
    server   => 'location = /status { stub_status; }')->start;

sub wait_requests {
    my ($n) = @_;
    return wait_for {
        my ($now) = get($nginx->url('/status'))->{body} =~ /Writing: (\d+)/;
        $now == $n + 1;
    };
}

my $user = customer($pg, 10);
my @generate = ('POST', $nginx->url('/generate-video'), {},
    qq({"user_id":"$user","model_id":"m","prompt":"p"}));
my @job = ('GET', $nginx->url("/jobs/$user"));

$provider->next(wait => 1);
$provider->next(wait => 1, status => 401);
my @calls = (send_request(@generate), send_request(@generate));
ok($provider->wait_requests(2), 'two generations are being submitted');

# what is least urgent has been served longest ago

request(@job);
request(@generate);
$provider->next(status => 401);
request(@generate);

$proxy->hold('both');
my $before = length $pg->log;

for my $request (\@generate, \@job, \@job, \@generate, \@job, \@generate) {
    push @calls, send_request(@$request);
    wait_requests(scalar @calls);
}

$provider->release;
$provider->requests;                # by now its answers have left
get($nginx->url('/status')) for 1 .. 2;     # and nginx has read them
$proxy->release;

is(join(' ', sort map { wait_answer($_)->{status} } @calls),
    '200 200 200 200 404 404 404 502', 'all are answered');

my @order = substr($pg->log, $before) =~ /execute vidgen_(\w+):/g;
is(shift @order, 'begin', 'what is under way already');
my %first;
$first{ $order[$_] } //= $_ for 0 .. $#order;
is(join(' ', sort { $first{$a} <=> $first{$b} }
    grep { exists $first{$_} } qw(submitted abandon begin job))
    =~ s/abandon submitted/submitted abandon/r,
    'submitted abandon begin job', 'then the most urgent first')
    or diag("@order");

is_deeply([wrong_books($pg)], [], 'the books are right');
