#!/usr/bin/perl

# "master_process off": the one process does all of it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 6;

use VidgenTest::Books qw(customer wrong_books);
use VidgenTest::Edge;
use VidgenTest::Http qw(get many request);
use VidgenTest::Postgres;
use VidgenTest::Provider;

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;

my $nginx = VidgenTest::Edge->new(
    db       => $pg->edge_conninfo,
    database => 'timeout=20s',
    single   => 1,
    fal      => $provider)->start;

my $user = customer($pg, 10);
my @generate = ('POST', $nginx->url('/generate-video'), {},
    qq({"user_id":"$user","model_id":"m","prompt":"p"}));

my $answer = request(@generate);
is($answer->{status}, 200, 'a generation');
my $job = $answer->{json}{job_id};

my @webhook = ('POST', $nginx->url('/video-webhook'),
    $provider->signed_webhook(id => $provider->requests->[0]{id}));
my @answers = many(20, @webhook);
is(scalar(grep { $_->{body} eq qq({"success":true,"job_id":"$job"}) }
    @answers), 20, '20 times its webhook');
is(scalar(grep { !$_->{headers}{'x-idempotent-replay'} } @answers), 1,
    'one of which is no replay');
is(get($nginx->url("/jobs/$job"))->{json}{status}, 'completed', 'the job');

is(() = $nginx->processes, 0, 'no further process');

is_deeply([wrong_books($pg)], [], 'the books are right');
