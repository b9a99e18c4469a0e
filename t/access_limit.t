#!/usr/bin/perl

# limit_req and limit_conn on our locations: what they refuse is neither read
# nor claimed, asks no database and no provider.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 25;

use VidgenTest::Books qw(customer everything wrong_books);
use VidgenTest::Http qw(post raw request send_request wait_answer);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;

my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $pg->edge_conninfo, APP => $provider->url },
    env  => {
        FAL_BASE_URL       => $provider->url,
        FAL_API_KEY        => 'test-api-key',
        FAL_WEBHOOK_SECRET => $provider->secret,
    },
    config => <<'EOT')->start;
%%GLOBALS%%

events { }

http {
    %%HTTP%%

    vidgen_database "%%DB%%";
    vidgen_monitor  off;
    include         %%PROVIDERS%%/fal.conf;

    limit_req_zone   $http_x_caller zone=rate:1m rate=1r/m;
    limit_conn_zone  $http_x_caller zone=conn:1m;
    log_format       short "$uri $status $vidgen_verified";
    access_log       %%PREFIX%%/short.log short;

    server {
        listen 127.0.0.1:%%PORT%%;

        lingering_timeout             100ms;
        vidgen_webhook_url            http://127.0.0.1:%%PORT%%/rate/hook;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        location /rate/ {
            limit_req         zone=rate;
            limit_req_status  429;

            location = /rate/generate { vidgen_generate; }
            location = /rate/hook     { vidgen_webhook; }
            location /rate/jobs/      { vidgen_job; }

            location = /rate/verify {
                vidgen_verify  fal.ai;
                proxy_pass     %%APP%%;
            }
        }

        location /conn/ {
            limit_conn  conn 1;

            location = /conn/generate { vidgen_generate; }
            location = /conn/hook     { vidgen_webhook; }

            location = /conn/verify {
                vidgen_verify  fal.ai;
                proxy_pass     %%APP%%;
            }
        }
    }
}
EOT

my $user = customer($pg, 10);
$pg->query("INSERT INTO models (id, credits_per_generation)
    VALUES ('m', 1)");
my %order = (user_id => $user, model_id => 'm', prompt => 'p');
my $number = 0;

# limit_req

my $answer = post($nginx->url('/rate/generate'), \%order,
    { 'X-Caller' => 'a' });
is($answer->{status}, 200, 'a generation');
my $job = $answer->{json}{job_id};
my $id = $provider->requests->[0]{id};

my ($headers, $body) = $provider->signed_webhook(id => $id);
refused(429, 'limit_req', 'generate', post => \%order, 'a', '/rate/generate');
refused(429, 'limit_req', 'webhook', signed => undef, 'a', '/rate/hook');
refused(429, 'limit_req', 'verify', signed => undef, 'a', '/rate/verify');
is(request('GET', $nginx->url("/rate/jobs/$job"),
    { 'X-Caller' => 'a' })->{status}, 429, 'limit_req, job');

like(raw($nginx->url, "POST /rate/verify HTTP/1.1\r\nHost: a\r\n"
    . "X-Caller: a\r\nContent-Length: 100000\r\nConnection: close\r\n\r\n"),
    qr{^HTTP/1\.1 429}, 'verify is answered before the body is there');
like(raw($nginx->url, "POST /rate/hook HTTP/1.1\r\nHost: a\r\n"
    . "X-Caller: a\r\nContent-Length: 100000\r\nConnection: close\r\n\r\n"),
    qr{^HTTP/1\.1 429}, 'and so is a webhook');

fresh('verify', '/rate/verify', 'b');
fresh('webhook', '/rate/hook', 'c');
is($pg->value("SELECT status FROM video_jobs WHERE id = '$job'"), 'completed',
    'and counts');
is(request('GET', $nginx->url("/rate/jobs/$job"),
    { 'X-Caller' => 'd' })->{json}{status}, 'completed', 'the job can be read');

# limit_conn, while another request of the same caller waits for its answer

$provider->forget;
$provider->answer(wait => 1);
my $waiting = send_request('POST', $nginx->url('/conn/generate'),
    { 'X-Caller' => 'a', 'Content-Type' => 'application/json' },
    JSON::PP->new->encode(\%order));
$provider->wait_requests(1);

($headers, $body) = $provider->signed_webhook(id => 'unknown');
refused(503, 'limit_conn', 'generate', post => \%order, 'a', '/conn/generate');
refused(503, 'limit_conn', 'webhook', signed => undef, 'a', '/conn/hook');
refused(503, 'limit_conn', 'verify', signed => undef, 'a', '/conn/verify');
is(request('POST', $nginx->url('/conn/hook'),
    { %$headers, 'X-Caller' => 'b' }, $body)->{json}{success}, 1,
    'another caller gets through');

$provider->release;
is(wait_answer($waiting)->{status}, 200, 'the generation ends well');
$provider->answer;
fresh('verify', '/conn/verify', 'a');

is_deeply([wrong_books($pg)], [], 'the books are right');
is(scalar(() = $nginx->read_file('short.log')
    =~ m{^/(?:rate|conn)/\w+ (?:429|503) -$}mg), 8,
    'no refused request was verified');


# a request that does nothing but get that status
sub refused {
    my ($status, $by, $what, $how, $data, $caller, $uri) = @_;
    my $before = everything($pg);
    my $asked = @{ $provider->requests };
    my $answer = $how eq 'post'
        ? post($nginx->url($uri), $data, { 'X-Caller' => $caller })
        : request('POST', $nginx->url($uri),
            { %$headers, 'X-Caller' => $caller }, $body);
    is($answer->{status}, $status, "$by, $what");
    ok(everything($pg) eq $before && @{ $provider->requests } == $asked,
        'and nothing else happens');
}

# the same webhook, let through: nobody has seen it before
sub fresh {
    my ($what, $uri, $caller) = @_;
    my $answer = request('POST', $nginx->url($uri),
        { %$headers, 'X-Caller' => $caller }, $body);
    is_deeply([$answer->{status}, $answer->{headers}{'x-idempotent-replay'}],
        [200, undef], "$what: what was refused is new when it comes again");
}
