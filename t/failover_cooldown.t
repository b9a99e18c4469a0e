#!/usr/bin/perl

# A 429 is known to all workers: none of them asks that provider before its
# time, not even one that has already decided to.
#
# Not under valgrind: it measures time.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 21;

use VidgenTest::Books qw(customer everything wrong_books);
use VidgenTest::Http qw(many post send_request wait_answer);
use VidgenTest::Jobs qw(attempts);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $standin = VidgenTest::Provider->new;

my $nginx = VidgenTest::Nginx->new(
    vars   => { DB => $pg->edge_conninfo, BASE => $standin->url },
    config => <<'EOT')->start;
%%GLOBALS%%

worker_processes 2;

events { }

http {
    %%HTTP%%

    log_format pids "$pid $status";

    vidgen_database "%%DB%%";

    vidgen_provider a {
        submit { url %%BASE%%/a; job_id /request_id; }
    }
    vidgen_provider b {
        submit { url %%BASE%%/b; job_id /request_id; }
    }
    vidgen_provider c {
        submit { url %%BASE%%/c; job_id /request_id; }
    }
    vidgen_provider d {
        submit { url %%BASE%%/d; job_id /request_id; }
    }

    vidgen_provider e {
        submit { url %%BASE%%/e; job_id /request_id; }
    }

    server {
        listen 127.0.0.1:%%PORT%% reuseport;

        vidgen_retry                  backoff=6s max=6s;
        access_log                    %%PREFIX%%/pids.log pids;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        location = /a    { vidgen_generate a; }
        location = /ab   { vidgen_generate a b; }
        location = /c    { vidgen_generate c; }
        location = /cd   { vidgen_generate c d; }
        location = /d    { vidgen_generate d; }
        location = /e    { vidgen_generate e; vidgen_retry backoff=10ms; }
        location = /long { vidgen_generate d;
                           vidgen_next_provider_timeout 5s; }
    }
}
EOT

my $user = customer($pg, 1000);
my @headers = ({ 'Content-Type' => 'application/json' },
    qq({"user_id":"$user","model_id":"vision-1","prompt":"p"}));

sub ask {
    my ($uri) = @_;
    my $answer = post($nginx->url($uri), $headers[1]);
    return join ' ', $answer->{status}, $answer->{json}{provider}
        // $answer->{json}{code}, $answer->{headers}{'retry-after'} // ();
}

sub asked {
    my ($name) = @_;
    return scalar grep { $_->{uri} eq "/$name" } @{ $standin->requests };
}


# for all workers

$standin->next(status => 429, headers => { 'Retry-After' => 8 });
is(ask('/ab'), '200 b', 'the next one is asked');

my @answers = many(60, 'POST', $nginx->url('/ab'), @headers);
is_deeply([map { "$_->{status} $_->{json}{provider}" } @answers],
    [('200 b') x 60], 'then it only');
my %pids = map { /^(\d+)/ => 1 } split /\n/, $nginx->read_file('pids.log');
is(keys %pids, 2, 'by all workers');
is(asked('a'), 1, 'the other one is left alone');

my $before = everything($pg);
like(ask('/a'), qr/^503 no_provider [1-8]$/,
    'where there is no other: when to come again');
is(everything($pg), $before, 'nothing is held for that');

ok(wait_for { ask('/a') =~ /^200/ }, 'it is asked again in time');
my @times = map { $_->{time} } grep { $_->{uri} eq '/a' }
    @{ $standin->requests };
ok($times[1] - $times[0] >= 7, 'not before') or diag("@times");

# the bounds of what is told

$standin->next(status => 429, headers => { 'Retry-After' => 100000 });
like(ask('/a'), qr/^503 no_provider 60$/, 'a minute at most');
$nginx->reload(wait => 1);
like(ask('/a'), qr/^503 no_provider 60$/, 'also after a reload');
is(asked('a'), 3, 'and it is not asked');

# the first of them that is ready

$standin->script(qr{/c$}, { status => 429, headers => { 'Retry-After' => 50 }
    });
$standin->script(qr{/d$}, { status => 429, headers => { 'Retry-After' => 40 }
    });
like(ask('/cd'), qr/^503 no_provider (?:3\d|40)$/, 'the shortest counts');
like(ask('/c'), qr/^503 no_provider (?:4\d|50)$/, '... of those listed');

# one that is down comes back by a probe or a trial

$standin->on(qr{/e$}, status => 500);
is(ask('/e'), '502 provider_failed', 'three failures in a row');
like(ask('/e'), qr/^503 no_provider (?:5\d|60)$/,
    'it is down: when to come again');

# a failure, a pause; meanwhile another generation learns that it is no use

$nginx->restart;                    # the zone is new
$standin->forget;
$standin->next(status => 503);
my $call = send_request('POST', $nginx->url('/d'), @headers);
$standin->wait_requests(1) or die 'no request';
$nginx->wait_log(qr/provider "d" did not accept: http_503/)
    or die 'no verdict';

$standin->next(status => 429, headers => { 'Retry-After' => 55 });
like(ask('/long'), qr/^503 no_provider 5[0-5]$/, 'it learns that');
my $answer = wait_answer($call);
is("$answer->{status} $answer->{json}{code}", '502 provider_failed',
    'the first one does not ask again');
ok($answer->{time} >= 1, '... after its pause');
is(attempts($pg, $answer->{json}{job_id}), 'd refused 503 http_503',
    'its attempt');
is(asked('d'), 2, 'the requests');

is_deeply([wrong_books($pg)], [], 'the books are right');
