#!/usr/bin/perl

# nginx starts while PostgreSQL is not there: it serves what needs no
# database, and all once PostgreSQL has come.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 11;

use VidgenTest::Books qw(customer wrong_books);
use VidgenTest::Edge;
use VidgenTest::Http qw(get post request);
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $user = customer($pg, 10);
$pg->stop;

my $provider = VidgenTest::Provider->new;

my $nginx = VidgenTest::Edge->new(
    db       => $pg->edge_conninfo,
    database => 'timeout=3s',
    workers  => 2,
    fal      => $provider,
    server   => 'location = /fast { return 200 "fast"; }');

my ($passed, $said) = $nginx->config_test;
ok($passed, 'nginx -t') or diag($said);

$nginx->start;
my @workers = $nginx->workers;

my %order = (user_id => $user, model_id => 'm', prompt => 'p');
my @webhook = ('POST', $nginx->url('/video-webhook'),
    $provider->signed_webhook(id => 'unknown'));

is(get($nginx->url('/fast'))->{body}, 'fast', 'what needs no database');

my $answer = post($nginx->url('/generate-video'), \%order);
is("$answer->{status} $answer->{headers}{'retry-after'}", '503 5',
    'generate: 503');
$answer = request(@webhook);
is("$answer->{status} $answer->{headers}{'retry-after'}", '503 5',
    'webhook: 503');
is(@{ $provider->requests }, 0, 'the provider was not asked');
like($nginx->error_log, qr/\[error\].*vidgen: database is unreachable: \S/,
    'the log says why');

$pg->start;

wait_for {
    $answer = post($nginx->url('/generate-video'), \%order);
    $answer->{status} != 503;
};
is($answer->{status}, 200, 'generate, once it has come');
wait_for { ($answer = request(@webhook))->{status} != 503 };
is($answer->{status}, 404, 'webhook of a job that nobody knows');
@webhook = ('POST', $nginx->url('/video-webhook'),
    $provider->signed_webhook(id => $provider->requests->[-1]{id}));
wait_for { ($answer = request(@webhook))->{status} != 503 };
is($answer->{status}, 200, 'webhook of one that is known');

is_deeply([$nginx->workers], \@workers, 'by the same workers');
is_deeply([wrong_books($pg)], [], 'the books are right');
