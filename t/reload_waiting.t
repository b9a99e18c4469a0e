#!/usr/bin/perl

# A reload while 100 statements wait behind a row lock: new workers serve at
# once, the old one answers all and exits.
#
# Not under valgrind: it measures time.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 13;

use VidgenTest::Books qw(balance customer wrong_books);
use VidgenTest::Edge;
use VidgenTest::Http qw(get request send_request wait_answer);
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Session;
use VidgenTest::Util qw(alive wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;

my $nginx = VidgenTest::Edge->new(
    db       => $pg->edge_conninfo,
    database => 'timeout=20s',
    server   => 'location = /status { stub_status; }',
    fal      => $provider)->start;

my $user = customer($pg, 200);
my $other = customer($pg, 10);

sub generate {
    my ($user) = @_;
    return ('POST', $nginx->url('/generate-video'), {},
        qq({"user_id":"$user","model_id":"m","prompt":"p"}));
}

request(generate($user)) for 1 .. 50;
my @webhooks = map { ['POST', $nginx->url('/video-webhook'),
    $provider->signed_webhook(id => $_->{id}, status => 'failed')] }
    @{ $provider->requests };
is(@webhooks, 50, 'fifty jobs');

# holds and refunds of one user wait for his balance

my $session = VidgenTest::Session->new($pg);
$session->run("BEGIN; SELECT FROM user_credits WHERE user_id = '$user'
    FOR UPDATE");

my @calls = map { send_request(@$_) } @webhooks, map { [generate($user)] }
    1 .. 50;
ok(wait_for { get($nginx->url('/status'))->{body} =~ /Writing: 101 / },
    '100 requests wait');
ok($session->wait_waiters(1), 'behind a lock');

my ($old) = $nginx->workers;
ok($nginx->reload, 'reloaded');
is(request(generate($other))->{status}, 200, 'a new worker serves');
ok(alive($old), 'the old one still waits');
is(@{ $provider->requests }, 51, 'nothing was submitted meanwhile');

$session->run('COMMIT');

my %count;
$count{ wait_answer($_)->{status} }++ for @calls;
is_deeply(\%count, { 200 => 100 }, 'all are answered');
ok(wait_for { !alive($old) }, 'the old worker exits');

is_deeply($pg->query("SELECT status, count(*) FROM video_jobs
    WHERE user_id = '$user' GROUP BY status ORDER BY status"),
    [['failed', 50], ['queued', 50]], 'and all was done');
is(balance($pg, $user), 150, 'the balance');
ok((wait_for { $pg->value("SELECT count(*) FROM pg_stat_activity
    WHERE usename = 'edge'") == 2 }), 'the old connections are closed');

is_deeply([wrong_books($pg)], [], 'the books are right');
