#!/usr/bin/perl

# A generation that its provider accepts: the client's answer, what the
# provider received, and what is written down.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw(hmac_sha256_hex);
use JSON::PP;
use Test::More tests => 22;

use VidgenTest::Books qw(balance customer ledger wrong_books);
use VidgenTest::Http qw(post request);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;

my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $pg->edge_conninfo },
    env  => {
        FAL_BASE_URL       => $provider->url,
        FAL_API_KEY        => 'test-api-key',
        FAL_WEBHOOK_SECRET => $provider->secret,
        VIDGEN_SECRET      => 'test-token-secret',
    },
    config => <<'EOT')->start;
%%GLOBALS%%

events { }

http {
    %%HTTP%%

    vidgen_database "%%DB%%" timeout=1m;
    vidgen_monitor  off;
    vidgen_secret   env:VIDGEN_SECRET;
    include         %%PROVIDERS%%/fal.conf;

    server {
        listen 127.0.0.1:%%PORT%%;

        vidgen_webhook_url            https://example.com/hook?a=b;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        location = /generate-video { vidgen_generate; }
    }
}
EOT

my $user = customer($pg, 10);
$pg->query("INSERT INTO models (id, credits_per_generation)
    VALUES ('vision-1', 3)");

my $prompt = "a \"lighthouse\"\\ in\ta storm\r\n\x7f \xc3\xa9\xf0\x9f\x8c\x8a";
my $json = JSON::PP->new->canonical;

my $answer = post($nginx->url('/generate-video?prompt=no&token=no'),
    $json->encode({ user_id => $user, model_id => 'vision-1',
        prompt => $prompt, surplus => [1, { a => 'b' }] }),
    {
        'Accept'            => 'text/html',
        'Accept-Encoding'   => 'gzip',
        'Authorization'     => 'Bearer client',
        'Cookie'            => 'session=client',
        'Expect'            => '100-continue',
        'Range'             => 'bytes=0-0',
        'Referer'           => 'http://client.test/',
        'User-Agent'        => 'client',
        'X-Forwarded-For'   => '192.0.2.1',
        'X-Signature'       => 'client',
    });

# the client

is($answer->{status}, 200, 'accepted');
my $job = $answer->{json}{job_id};
like($job, qr/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}
    -[0-9a-f]{12}$/x, 'the job has a UUID of version 7');
is($answer->{body}, qq({"job_id":"$job","provider":"fal.ai",)
    . qq("status":"queued","estimated_time":120}), 'the answer');
is($answer->{headers}{'content-type'}, 'application/json', 'it is JSON');
ok(!exists $answer->{headers}{'x-idempotent-replay'}, 'it is no replay');

# the provider

my ($got, @more) = @{ $provider->requests };
is(@more, 0, 'the provider was asked once');
is("$got->{method} $got->{uri}", 'POST /fal-ai/video-model', 'where');
is_deeply($got->{headers}, {
    'accept'         => 'application/json',
    'authorization'  => 'Key test-api-key',
    'connection'     => 'close',
    'content-length' => length $got->{body},
    'content-type'   => 'application/json',
    'host'           => $provider->host,
    'user-agent'     => 'ngx_http_vidgen_module',
}, 'with its headers, and none of the client');

my $sent = JSON::PP->new->utf8->decode($got->{body});
my $hook = delete $sent->{webhook_url};
utf8::decode(my $characters = $prompt);
is_deeply($sent, { prompt => $characters, model_id => 'vision-1' },
    'what is to be made');

my ($attempt) = $hook =~ /attempt=([^&]+)/;
my $token = substr hmac_sha256_hex($attempt, 'test-token-secret'), 0, 32;
is($hook, 'https://example.com/hook?a=b&provider=fal.ai'
    . "&attempt=$attempt&token=$token", 'where its webhook is to go');

# the database

is_deeply($pg->query("SELECT user_id, model_id, prompt, provider_name,
        provider_job_id, status, credits_used, provider_attempts,
        failover_reason, video_url, error_message, completed_at,
        created_at BETWEEN now() - interval '1 minute' AND now()
    FROM video_jobs"),
    [[$user, 'vision-1', $prompt, 'fal.ai', $got->{id}, 'queued', 3, 1,
        (undef) x 4, 't']], 'the job');
is_deeply($pg->query('SELECT id, job_id, number, provider, provider_job_id,
        state, progress, http_status, error, video_url, late, estimated_time
    FROM vidgen.attempts'),
    [[$attempt, $job, 1, 'fal.ai', $got->{id}, 'accepted', 'queued', 200,
        undef, undef, 'f', 120]], 'the attempt');
is(ledger($pg, $job), 'hold 3', 'the hold');
is(balance($pg, $user), 7, 'the balance');
is($pg->value('SELECT count(*) FROM idempotency_log'), 0, 'no key');
is($pg->value('SELECT count(*) FROM provider_failover_log'), 0, 'no failover');

# the least that a price needs, and one credit too few

my %order = (user_id => $user, model_id => 'vision-1', prompt => 'p');
is(post($nginx->url('/generate-video'), \%order)->{status}, 200,
    'again: another job');
is(post($nginx->url('/generate-video'), \%order)->{status}, 200,
    'and again');
$answer = post($nginx->url('/generate-video'), \%order);
is($answer->{status}, 400, 'until the credits do not suffice');
is($answer->{json}{code}, 'insufficient_credits', 'which is said');
is_deeply([scalar @{ $provider->requests }, balance($pg, $user),
    $pg->value('SELECT count(*) FROM video_jobs')], [3, 1, 3],
    'nothing is asked, held or written for that');

is_deeply([wrong_books($pg)], [], 'the books are right');
