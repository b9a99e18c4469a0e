#!/usr/bin/perl

# if and limit_except blocks in our locations: they are the location itself,
# and what they refuse is neither read nor claimed.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 19;

use VidgenTest::Books qw(customer everything wrong_books);
use VidgenTest::Http qw(get post request);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;
my $other = VidgenTest::Provider->new;

my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $pg->edge_conninfo, APP => $provider->url,
        OTHER => $other->url },
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

    server {
        listen 127.0.0.1:%%PORT%%;

        vidgen_webhook_url            http://127.0.0.1:%%PORT%%/hook;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        location = /generate {
            if ($http_x_stop) { return 403; }
            if ($http_x_tag)  { add_header X-Tag $http_x_tag; }
            limit_except POST { deny all; }
            vidgen_generate;
        }

        location = /hook {
            if ($http_x_stop) { return 403; }
            if ($http_x_tag)  { add_header X-Tag $http_x_tag; }
            limit_except POST { deny all; }
            vidgen_webhook;
        }

        location /jobs/ {
            if ($http_x_stop) { return 403; }
            if ($http_x_tag)  { add_header X-Tag $http_x_tag; }
            limit_except GET { deny all; }
            vidgen_job;
        }

        location = /verify {
            if ($http_x_stop)  { return 403; }
            if ($http_x_tag)   { add_header X-Tag $http_x_tag; }
            if ($http_x_other) { proxy_pass %%OTHER%%; }
            limit_except POST  { deny all; }
            vidgen_verify      fal.ai;
            proxy_pass         %%APP%%;
        }
    }
}
EOT

my $user = customer($pg, 10);
$pg->query("INSERT INTO models (id, credits_per_generation)
    VALUES ('m', 1)");
my %order = (user_id => $user, model_id => 'm', prompt => 'p');

# generate

nothing(403, 'if', post => '/generate', \%order, { 'X-Stop' => 1 });
nothing(403, 'limit_except', request => 'GET', '/generate');
my $answer = post($nginx->url('/generate'), \%order, { 'X-Tag' => 'a' });
is_deeply([$answer->{status}, $answer->{headers}{'x-tag'}], [200, 'a'],
    'a block that matches generates');
my $job = $answer->{json}{job_id};
my $id = $provider->requests->[0]{id};

# verify

my ($headers, $body) = $provider->signed_webhook(id => $id);
my %forged = ('X-Signature' => 'f' x 64);
nothing(403, 'if', request => 'POST', '/verify', { %$headers, 'X-Stop' => 1 },
    $body);
nothing(403, 'limit_except', request => 'PUT', '/verify', $headers, $body);
nothing(401, 'a block verifies', request => 'POST', '/verify',
    { %forged, 'X-Tag' => 'a' }, $body);
nothing(401, 'with a proxy_pass of its own, too', request => 'POST', '/verify',
    { %forged, 'X-Other' => 1 }, $body);
is(@{ $other->requests }, 0, 'the other application got nothing');

$answer = request('POST', $nginx->url('/verify'),
    { %$headers, 'X-Other' => 1 }, $body);
is_deeply([$answer->{status}, $answer->{headers}{'x-idempotent-replay'}],
    [200, undef], 'what is genuine passes, and is new');
is($other->requests->[0]{body}, $body, 'to the other application');
$answer = request('POST', $nginx->url('/verify'),
    { %$headers, 'X-Tag' => 'a' }, $body);
is($answer->{headers}{'x-idempotent-replay'}, 'true',
    'a block is the same location');

# webhook

nothing(403, 'if', request => 'POST', '/hook', { %$headers, 'X-Stop' => 1 },
    $body);
nothing(403, 'limit_except', request => 'PUT', '/hook', $headers, $body);
nothing(401, 'a block verifies', request => 'POST', '/hook',
    { %forged, 'X-Tag' => 'a' }, $body);
$answer = request('POST', $nginx->url('/hook'), { %$headers, 'X-Tag' => 'a' },
    $body);
is_deeply([$answer->{status}, @{ $answer->{headers} }{qw(x-tag
    x-idempotent-replay)}], [200, 'a', undef], 'and applies');

# job

nothing(403, 'if', request => 'GET', "/jobs/$job", { 'X-Stop' => 1 });
nothing(403, 'limit_except', post => "/jobs/$job", {});
$answer = get($nginx->url("/jobs/$job"), { 'X-Tag' => 'a' });
is_deeply([$answer->{json}{status}, $answer->{headers}{'x-tag'}],
    ['completed', 'a'], 'a block reads the job');

is_deeply([wrong_books($pg)], [], 'the books are right');


sub nothing {
    my ($status, $what, $how, @request) = @_;
    my $before = everything($pg);
    my $asked = @{ $provider->requests };
    my $uri = $how eq 'post' ? $request[0] : $request[1];
    my $answer = $how eq 'post'
        ? post($nginx->url(shift @request), @request)
        : request(shift @request, $nginx->url(shift @request), @request);
    ok($answer->{status} == $status && everything($pg) eq $before
        && @{ $provider->requests } == $asked,
        "$uri, $what: $status and nothing else") or diag($answer->{status});
}
