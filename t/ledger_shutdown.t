#!/usr/bin/perl

# Not under valgrind: a reload would wait for the worker that is held up
#
# A worker that has to end closes the connections of generations that are
# under way (worker_shutdown_timeout): what a provider may have is unknown,
# what was refused is given back, what was accepted is recorded, and nobody is
# asked any more.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 21;

use VidgenTest::Books qw(balance customer ledger wrong_books);
use VidgenTest::Http qw(get leave send_request wait_answer);
use VidgenTest::Jobs qw(attempts job);
use VidgenTest::Nginx;
use VidgenTest::PgProxy;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $proxy = VidgenTest::PgProxy->new($pg);
my $standin = VidgenTest::Provider->new;

my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $proxy->conninfo, BASE => $standin->url },
    config => <<'EOT')->start;
%%GLOBALS%%

worker_processes        1;
worker_shutdown_timeout 500ms;

events { }

http {
    %%HTTP%%

    vidgen_database "%%DB%%" timeout=20s;
    vidgen_monitor  off;

    vidgen_provider a {
        base %%BASE%%;
        submit { url $vidgen_base/$vidgen_prompt; job_id /request_id; }
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        vidgen_attempt_timeout        60s;
        vidgen_next_provider_timeout  60s;
        vidgen_retry                  backoff=50s max=50s;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        location = /generate-video { vidgen_generate; }
        location = /health         { vidgen_health; }
        location = /status         { stub_status; }
    }
}
EOT

# What the provider does; then the attempt, the status of its job, its credits.
my %cases = (
    silent  => [{ hang => 1 }, 'unknown - reset', 'processing', 'hold 1'],
    half    => [{ stall => 1 }, 'unknown 200 reset', 'processing', 'hold 1'],
    no      => [{ status => 503, stall => 1 }, 'unknown 503 reset',
        'processing', 'hold 1'],
    content => [{ status => 422, stall => 1 }, 'unknown 422 reset',
        'processing', 'hold 1'],
    pause   => [{ status => 503 }, 'refused 503 http_503', 'failed',
        'hold 1, refund 1'],
);

my $user = customer($pg, 100);

sub generate {
    my ($name) = @_;
    return send_request('POST', $nginx->url('/generate-video'), {},
        qq({"user_id":"$user","model_id":"m","prompt":"$name"}));
}

sub job_of {
    my ($name) = @_;
    return $pg->value("SELECT id FROM video_jobs WHERE prompt = '$name'");
}

# By now nginx has read all that the provider has sent.
sub settle {
    $standin->requests;
    get($nginx->url('/status')) for 1 .. 2;
}

$standin->on(qr{/$_$}, %{ $cases{$_}[0] }) for keys %cases;
my @calls = map { generate($_) } sort keys %cases;
$standin->wait_requests(scalar keys %cases) or die 'no requests';
wait_for { $nginx->error_log =~ /did not accept: http_503/ } or die 'no pause';
settle();
$nginx->reload;

for my $name (sort keys %cases) {
    my (undef, $attempt, $status, $credits) = @{ $cases{$name} };
    my $job = job_of($name);
    wait_for { attempts($pg, $job) !~ /sending/ };
    is(attempts($pg, $job), "a $attempt", "$name: the attempt");
    is(job($pg, $job), "$status a 1 -", "$name: the job");
    is(ledger($pg, $job), $credits, "$name: the credits");
}

is(@{ $standin->requests }, keys %cases, 'nobody was asked again');
is(get($nginx->url('/health?provider=a'))->{json}{consecutive_failures}, 1,
    'of the provider only the answer that it gave is held against it');

# while an acceptance is recorded

$standin->forget_requests;
$standin->next(wait => 1);
push @calls, generate('accepted');
$standin->wait_requests(1) or die 'no request';
$proxy->hold('both');
$standin->release;
settle();
$nginx->reload;
is(wait_answer($calls[-1])->{status}, 0, 'the client is cut off');
$proxy->release;
wait_for { attempts($pg, job_of('accepted')) !~ /sending/ };
is(attempts($pg, job_of('accepted')), 'a accepted 200 -',
    'an acceptance is recorded all the same');

leave($_) for @calls;
is(balance($pg, $user), 100 - 5, 'what may still come is paid for');
is_deeply([wrong_books($pg)], [], 'the books are right');
