#!/usr/bin/perl

# 200 identical webhooks at the same moment: one update of the job, one entry
# of the ledger, and the same answer for all, of which one is not a replay.
# So too after a reload, after a restart that loses the zone, and where two
# nginx instances share the database.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 42;

use VidgenTest::Books qw(balance customer everything ledger wrong_books);
use VidgenTest::Http qw(many post);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;

my %nginx = (
    vars => { DB => $pg->edge_conninfo },
    env  => {
        FAL_BASE_URL       => $provider->url,
        FAL_API_KEY        => 'test-api-key',
        FAL_WEBHOOK_SECRET => $provider->secret,
        VIDGEN_SECRET      => 'test-token-secret',
    },
    config => <<'EOT');
%%GLOBALS%%

worker_processes 2;

events { }

http {
    %%HTTP%%

    vidgen_database "%%DB%%" timeout=1m;
    vidgen_monitor  off;
    vidgen_secret   env:VIDGEN_SECRET;
    include         %%PROVIDERS%%/fal.conf;

    server {
        listen 127.0.0.1:%%PORT%% backlog=1024;

        vidgen_webhook_url            http://127.0.0.1:%%PORT%%/video-webhook;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        location = /generate-video { vidgen_generate; }
        location = /video-webhook  { vidgen_webhook; }
    }
}
EOT
my $nginx = VidgenTest::Nginx->new(%nginx)->start;

# counts what is done to jobs, attempts and the ledger

$pg->query(<<'SQL');
CREATE SCHEMA seen;
CREATE TABLE seen.changes (what text);
CREATE FUNCTION seen.note() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER AS $$
BEGIN
    INSERT INTO seen.changes VALUES (TG_ARGV[0]);
    RETURN NULL;
END $$;
CREATE TRIGGER seen AFTER UPDATE ON video_jobs
    FOR EACH ROW EXECUTE FUNCTION seen.note('job');
CREATE TRIGGER seen AFTER UPDATE ON vidgen.attempts
    FOR EACH ROW EXECUTE FUNCTION seen.note('attempt');
CREATE TRIGGER seen AFTER INSERT ON vidgen.ledger
    FOR EACH ROW EXECUTE FUNCTION seen.note('ledger');
CREATE TRIGGER seen AFTER UPDATE ON user_credits
    FOR EACH ROW EXECUTE FUNCTION seen.note('balance');
SQL

my $user = customer($pg, 100);
$pg->query("INSERT INTO models (id, credits_per_generation)
    VALUES ('vision-1', 3)");


# A job and the request of its webhook.
sub order {
    my (%args) = @_;
    my $answer = post($nginx->url('/generate-video'), { user_id => $user,
        model_id => 'vision-1', prompt => 'p' });
    my $got = $provider->requests->[-1];
    my ($url) = $got->{body} =~ /"webhook_url":"([^"]+)"/;
    my ($headers, $body) = $provider->signed_webhook(id => $got->{id}, %args);
    $pg->query('TRUNCATE seen.changes');
    return ($answer->{json}{job_id}, 'POST', $url, $headers, $body);
}

sub changes {
    return join ', ', map { "$_->[0] $_->[1]" } @{ $pg->query("SELECT what,
        count(*) FROM seen.changes GROUP BY what ORDER BY what") };
}

# Answers that are not as they should be, and how many are no replays.
sub judge {
    my ($job, @answers) = @_;
    my $right = qq(200 {"success":true,"job_id":"$job"});
    my %wrong;
    $wrong{$_}++ for grep { $_ ne $right }
        map { "$_->{status} $_->{body}" } @answers;
    my $first = grep { !$_->{headers}{'x-idempotent-replay'} } @answers;
    return (scalar @answers, \%wrong, $first);
}

# ---- one instance ----------------------------------------------------------

my $balance = 100;
my @known;                          # jobs that have ended, and their webhooks

sub storm {
    my ($what) = @_;

    my ($job, @request) = order(status => 'failed');
    is_deeply([judge($job, many(200, @request))], [200, {}, 1],
        "$what: failed");
    is(changes(), 'attempt 1, balance 1, job 1, ledger 1',
        "$what: one update, one refund");
    is(ledger($pg, $job), 'hold 3, refund 3', "$what: the ledger");
    is(balance($pg, $user), $balance, "$what: the balance");
    push @known, [$job, @request];

    ($job, @request) = order();
    is_deeply([judge($job, many(200, @request))], [200, {}, 1],
        "$what: completed");
    is(changes(), 'attempt 1, job 1', "$what: one update");
    is(ledger($pg, $job), 'hold 3', "$what: the hold is spent");
    push @known, [$job, @request];
    $balance -= 3;
}

# all that came before is a replay
sub again {
    my ($what) = @_;

    my $before = everything($pg);
    for my $known (@known) {
        my ($job, @request) = @$known;
        is_deeply([judge($job, many(50, @request))], [50, {}, 0],
            "$what: replays");
    }
    is(everything($pg), $before, "$what: they change nothing");
}

storm('at first');
again('at first');

ok($nginx->reload, 'reload');
again('after the reload');
storm('after the reload');

$nginx->restart;
again('after the restart');
storm('after the restart');

# ---- two instances ---------------------------------------------------------

my $twin = VidgenTest::Nginx->new(%nginx)->start;
my $port = $nginx->port;
my $twin_port = $twin->port;

my ($job, $method, $url, $headers, $body) = order(status => 'failed');
my @requests = map { [$method, $_, $headers, $body] }
    map { ($url, $url =~ s/:$port/:$twin_port/r) } 1 .. 100;
is_deeply([judge($job, many(@requests))], [200, {}, 1], 'two instances');
is(changes(), 'attempt 1, balance 1, job 1, ledger 1',
    'one update, one refund');
is(balance($pg, $user), $balance, 'the balance');

# their zones know different parts of it, and neither is asked wrongly

my $before = everything($pg);
is_deeply([judge($job, many(@requests))], [200, {}, 0], 'all are replays');
is(everything($pg), $before, 'nothing changes');

# ---- different events of one job at once -----------------------------------

($job, $method, $url, $headers, $body) = order();
my ($failed, $failure) = $provider->signed_webhook(status => 'failed',
    id => $provider->requests->[-1]{id});
@requests = map { ([$method, $_, $headers, $body],
    [$method, $_, $failed, $failure]) }
    map { ($url, $url =~ s/:$port/:$twin_port/r) } 1 .. 50;
my ($n, $wrong, $first) = judge($job, many(@requests));
is_deeply([$n, $wrong, $first], [200, {}, 2],
    'a success and a failure: each has one first');
like(changes(), qr/^attempt [12], (?:balance 1, )?job 1(?:, ledger 1)?$/,
    'one of them decides');

is_deeply([wrong_books($pg)], [], 'the books are right');
is($pg->deadlocks, 0, 'no deadlock');
