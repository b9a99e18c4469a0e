#!/usr/bin/perl

# A database without the migrations: only our locations answer 503, and one
# [crit] line of each worker says what to run; after the migrations all works
# without a reload.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 10;

use VidgenTest::Edge;
use VidgenTest::Http qw(get post request);
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(uuid wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0, migrate => 0,
    settings => { log_connections => 'on' });
$pg->query("CREATE ROLE edge LOGIN PASSWORD 'edge'");

my $provider = VidgenTest::Provider->new;

my $nginx = VidgenTest::Edge->new(
    db       => $pg->edge_conninfo,
    database => 'timeout=2s connections=2',
    fal      => $provider,
    server   => 'location = /fast { return 200 "fast"; }')->start;

my $user = uuid();
my %order = (user_id => $user, model_id => 'm', prompt => 'p');
my @webhook = ('POST', $nginx->url('/video-webhook'),
    $provider->signed_webhook(id => 'unknown'));

my $answer = post($nginx->url('/generate-video'), \%order);
is("$answer->{status} $answer->{headers}{'retry-after'}", '503 5',
    'generate: 503');
is(request(@webhook)->{status}, 503, 'webhook: 503');
is(get($nginx->url("/jobs/$user"))->{status}, 503, 'job: 503');
is(get($nginx->url('/fast'))->{body}, 'fast', 'others serve');
is(@{ $provider->requests }, 0, 'the provider was not asked');

# by now it has tried more than once

ok(wait_for { 4 <= (() = $pg->log =~ /connection authorized: user=edge/g) },
    'it tries again');
my @crit = grep { /\[crit\]/ } split /\n/, $nginx->error_log;
is(@crit, 1, 'one [crit] line') or diag(join "\n", @crit);
like($crit[0], qr{vidgen: .* old schema .*: run the migrations in sql/},
    'it says what to run');

$pg->migrate;
$pg->query("INSERT INTO user_credits (user_id, balance)
    VALUES ('$user', 1)");

wait_for {
    $answer = post($nginx->url('/generate-video'), \%order);
    $answer->{status} != 503;
};
is($answer->{status}, 200, 'after the migrations: generate');
is(request(@webhook)->{status}, 404, 'and webhook');
