#!/usr/bin/perl

# Our locations over HTTP/2, which share what they know with HTTP/1.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;
use Test::More tests => 24;

use VidgenTest::Books qw(customer everything wrong_books);
use VidgenTest::Http qw(http2 request);
use VidgenTest::Http2;
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

    limit_req_zone  $http_x_caller zone=rate:1m rate=1r/m;

    server {
        listen 127.0.0.1:%%PORT%%;
        listen 127.0.0.1:%%PORT_H2%% http2;

        vidgen_webhook_url            http://127.0.0.1:%%PORT%%/hook;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        limit_req  zone=rate;
        location = /generate { vidgen_generate; }
        location = /hook     { vidgen_webhook; }
        location /jobs/      { vidgen_job; }

        location = /verify {
            vidgen_verify  fal.ai;
            proxy_pass     %%APP%%;
        }
    }
}
EOT

my $user = customer($pg, 10);
$pg->query("INSERT INTO models (id, credits_per_generation)
    VALUES ('m', 1)");
my $order = JSON::PP->new->canonical->encode({ user_id => $user,
    model_id => 'm', prompt => 'p' x 10_000 });

# generate and job

my $answer = http2('POST', url('/generate'), { 'Idempotency-Key' => 'k' },
    $order);
is($answer->{status}, 200, 'a generation');
my $job = $answer->{json}{job_id};
my $replay = http2('POST', url('/generate'), { 'Idempotency-Key' => 'k' },
    $order);
is_deeply([$replay->{body}, $replay->{headers}{'x-idempotent-replay'}],
    [$answer->{body}, 'true'], 'its replay');
is(http2('GET', url("/jobs/$job"))->{json}{status}, 'queued', 'the job');

# verify

my $id = $provider->requests->[0]{id};
my ($headers, $body) = $provider->signed_webhook(id => $id);
my $before = everything($pg);

is(http2('GET', url('/verify'))->{status}, 405, 'verify: a GET');
is(http2('POST', url('/verify'), {}, $body)->{status}, 401,
    'verify: not signed');
is(http2('POST', url('/verify'), { %$headers, 'X-Caller' => 'a' },
    $body)->{headers}{'x-idempotent-replay'}, undef, 'verify: passed on');
my $asked = @{ $provider->requests };
is($provider->requests->[-1]{body}, $body, 'as it was sent');
is(VidgenTest::Http2->new(url(''))->status('POST', '/verify',
    { %$headers, 'X-Caller' => 'a' }, $body), 503, 'verify: limit_req');
is(http2('POST', url('/verify'), $headers, $body)->{headers}{
    'x-idempotent-replay'}, 'true', 'verify: a replay');
is(request('POST', $nginx->url('/verify'), $headers, $body)->{headers}{
    'x-idempotent-replay'}, 'true', 'over HTTP/1 as well');
is(@{ $provider->requests }, $asked, 'the application got one');

# webhook

is(VidgenTest::Http2->new(url(''))->status('PUT', '/hook', {}, $body), 405,
    'webhook: a PUT');
is(http2('POST', url('/hook'), {}, $body)->{status}, 401,
    'webhook: not signed');
is(VidgenTest::Http2->new(url(''))->status('POST', '/hook',
    { %$headers, 'X-Caller' => 'a' }, $body), 503, 'webhook: limit_req');
ok(everything($pg) eq $before, 'all that left the database alone');
$answer = http2('POST', url('/hook'), { %$headers, 'X-Caller' => 'b' }, $body);
is_deeply([$answer->{body}, $answer->{headers}{'x-idempotent-replay'}],
    [qq({"success":true,"job_id":"$job"}), undef], 'webhook: applied');
is(http2('POST', url('/hook'), $headers, $body)->{headers}{
    'x-idempotent-replay'}, 'true', 'webhook: a replay');
is(http2('GET', url("/jobs/$job"))->{json}{status}, 'completed', 'the job');

# one connection, whose streams end in many ways

my $h2 = VidgenTest::Http2->new(url(''));
($headers, $body) = $provider->signed_webhook(id => 'job-2');
is($h2->status('POST', '/verify', {}, $body), 401, 'a stream that is refused');
is($h2->status('POST', '/verify', $headers, $body), 200, 'one that passes');
is($h2->status('PUT', '/verify', $headers, $body), 405, 'one that may not');
is($h2->status('POST', '/verify', $headers, $body), 200, 'a replay');
is(@{ $provider->requests }, $asked + 1, 'the application got one more');

is_deeply([wrong_books($pg)], [], 'the books are right');


sub url { return $nginx->url($_[0], 'H2') }
