#!/usr/bin/perl

# What nobody vouches for puts nothing into the shared zone and asks the
# database nothing: the zone here has room for few events, PostgreSQL logs each
# statement.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw(hmac_sha256_hex);
use POSIX ();
use Test::More tests => 32;

use VidgenTest::Books qw(customer);
use VidgenTest::Http qw(get many post);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(uuid);

my $pg = VidgenTest::Postgres->new(fsync => 0,
    settings => { log_statement => 'all' });
my $provider = VidgenTest::Provider->new;
my $page = POSIX::sysconf(POSIX::_SC_PAGESIZE());

my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $pg->edge_conninfo, SIZE => 8 * $page / 1024 },
    env  => {
        FAL_BASE_URL       => $provider->url,
        FAL_API_KEY        => 'test-api-key',
        FAL_WEBHOOK_SECRET => $provider->secret,
        OTHER_SECRET       => 'another-secret',
        VIDGEN_SECRET      => 'test-token-secret',
    },
    config => <<'EOT')->start;
%%GLOBALS%%

events { worker_connections 4096; }

http {
    %%HTTP%%

    vidgen_database  "%%DB%%" connections=1;
    vidgen_secret    env:VIDGEN_SECRET;
    vidgen_monitor   off;
    vidgen_zone      small:%%SIZE%%k;
    include          %%PROVIDERS%%/fal.conf;

    vidgen_provider other {
        webhook { signature hmac-sha256 header=X-Signature;
                  secret env:OTHER_SECRET; job_id /request_id;
                  status /status; options 204; }
    }
    vidgen_provider timed {
        webhook { signature hmac-sha256 header=X-Signature timestamp=X-Time
                            signed=$vidgen_timestamp.$vidgen_body;
                  secret env:FAL_WEBHOOK_SECRET; job_id /request_id;
                  status /status; challenge /challenge; }
    }
    vidgen_provider tokens {
        webhook { signature token; job_id /request_id; status /status; }
        poll { url http://127.0.0.1:1/$vidgen_provider_job_id;
               status /status; video_url /url; }
    }
    vidgen_provider keys {
        webhook { signature ed25519 header=X-Signature
                            jwks=http://127.0.0.1:1/keys;
                  job_id /request_id; status /status; }
    }
    vidgen_provider secretless {
        webhook { signature hmac-sha256 header=X-Signature;
                  job_id /request_id; status /status; }
    }
    vidgen_provider polled {
        poll { url http://127.0.0.1:1/$vidgen_provider_job_id;
               status /status; video_url /url; }
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        client_max_body_size          1k;
        vidgen_webhook_url            http://127.0.0.1:%%PORT%%/video-webhook;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        location = /generate-video  { vidgen_generate; }
        location = /video-webhook   { vidgen_webhook; }
        location = /provider-health { vidgen_health; }

        location /video-jobs/ {
            vidgen_user_id $http_x_user;
            vidgen_job;
        }

        location = /session {
            vidgen_user_id $http_x_user;
            vidgen_generate;
        }

        location = /closed {
            deny all;
            vidgen_webhook;
        }
    }
}
EOT

my $user = customer($pg, 10);
$pg->query("INSERT INTO models (id, credits_per_generation)
    VALUES ('model-1', 3)");

my $job = post($nginx->url('/generate-video'), { user_id => $user,
    model_id => 'model-1', prompt => 'p' })->{json}{job_id};
my $request = $provider->requests->[0];
my $id = $request->{id};
my ($url) = $request->{body} =~ /"webhook_url":"([^"]+)"/;
my ($attempt) = $url =~ /attempt=([^&]+)/;
my $hooks = $nginx->url('/video-webhook');

# a result, and what the zone knows of it

is(outcome(genuine('first')), '200 1', 'a genuine result asks the database');
is(outcome(genuine('first')), 'replay 0', 'its replay does not');

# a hundred of each kind of what nobody vouches for

my $wrong = 'f' x 64;
my $old = time - 310;
my @kinds = (
    ['no signature', 401, $url, sub { {} }],
    ['a wrong signature', 401, $url, sub { sign($wrong) }],
    ['a malformed one', 401, $url, sub { sign('x' x 64) }],
    ['a signature of another body', 401, $url,
        sub { sign(hmac_sha256_hex("$_[0] ", $provider->secret)) }],
    ['a signature with a secret of another provider', 401, $url,
        sub { sign(hmac_sha256_hex($_[0], 'another-secret')) }],
    ['another provider in the URL', 401,
        "$hooks?provider=other&attempt=$attempt",
        sub { sign(hmac_sha256_hex($_[0], $provider->secret)) }],
    ['an old timestamp', 401, "$hooks?provider=timed", sub { sign(
        hmac_sha256_hex("$old.$_[0]", $provider->secret), $old) }],
    ['a challenge that nobody signed', 401, "$hooks?provider=timed",
        sub { sign($wrong, time) }, '{"challenge":"%s"}'],
    ['no token', 401, "$hooks?provider=tokens&attempt=$attempt", sub { {} }],
    ['a wrong token', 401, "$hooks?provider=tokens&attempt=$attempt&token="
        . 'f' x 32, sub { {} }],
    ['a token without its attempt', 401, "$hooks?provider=tokens&"
        . ($url =~ /(token=\w+)/)[0], sub { {} }],
    ['a key set that is not there', 503, "$hooks?provider=keys",
        sub { sign($wrong x 2) }],
    ['a provider without a secret', 401, "$hooks?provider=secretless",
        sub { sign(hmac_sha256_hex($_[0], '')) }],
    ['a provider without webhooks', 401, "$hooks?provider=polled",
        sub { sign($wrong) }],
    ['an unknown provider', 400, "$hooks?provider=none",
        sub { sign(hmac_sha256_hex($_[0], $provider->secret)) }],
    ['a body that is too large', 413, $url,
        sub { sign(hmac_sha256_hex($_[0], $provider->secret)) },
        '{"request_id":"%s","more":"' . 'x' x 1024 . '"}'],
    ['another method', 405, $url, sub {
        sign(hmac_sha256_hex($_[0], $provider->secret)) }, undef, 'PUT'],
    ['OPTIONS', 204, "$hooks?provider=other", sub { {} }, undef, 'OPTIONS'],
    ['a location that is closed', 403, $nginx->url('/closed'),
        sub { sign(hmac_sha256_hex($_[0], $provider->secret)) }],
    ['a generation that is no JSON', 400, $nginx->url('/generate-video'),
        sub { {} }, '{"user_id":"%s'],
    ['a generation without a prompt', 400, $nginx->url('/generate-video'),
        sub { {} }, "{\"user_id\":\"$user\",\"model_id\":\"%s\"}"],
    ['a generation for somebody else', 403, $nginx->url('/session'),
        sub { { 'X-User' => uuid() } }, "{\"user_id\":\"$user\",\"model_id\":"
        . '"model-1","prompt":"%s"}'],
    ['a generation by nobody', 403, $nginx->url('/session'),
        sub { {} }, "{\"user_id\":\"$user\",\"model_id\":\"model-1\","
        . '"prompt":"%s"}'],
    ['a job that is no UUID', 404, $nginx->url('/video-jobs/x'), sub { {} },
        undef, 'GET'],
    ['a job, asked for by nobody', 404, $nginx->url("/video-jobs/$job"),
        sub { {} }, undef, 'GET'],
    ['health', 200, $nginx->url('/provider-health'), sub { {} }, undef,
        'GET'],
);

for my $kind (@kinds) {
    my ($name, $status, $to, $headers, $format, $method) = @$kind;

    my @requests = map {
        my $body = sprintf $format // '{"request_id":"' . $id . '","status":'
            . '"completed","n":"%s"}', $_;
        [$method // 'POST', $to, $headers->($body), $body];
    } 1 .. 100;

    my $before = statements();
    my @answers = many(@requests);
    is_deeply([status_counts(@answers), statements() - $before],
        ["$status: 100", 0], $name);
}

# it has pushed out nothing, though there is no room for so many

is(outcome(genuine('first')), 'replay 0', 'the zone still knows the result');

my $before = statements();
my @answers = many(map { genuine($_) } 1 .. 400);
is(status_counts(@answers), '200: 400', 'as many genuine ones');
cmp_ok(statements(), '>', $before, 'ask the database');
is(outcome(genuine('first')), 'replay 1', 'and push out the oldest');


# A signed completion, its body made different by this word.
sub genuine {
    my ($word) = @_;
    my ($headers, $body) = $provider->signed_webhook(id => $id,
        more => { n => "$word" });
    return ['POST', $url, $headers, $body];
}

sub sign {
    my ($signature, $time) = @_;
    return { 'X-Signature' => $signature,
        defined $time ? ('X-Time' => $time) : () };
}

# What a request got, and how many statements it took.
sub outcome {
    my ($request) = @_;
    my $before = statements();
    my ($answer) = many($request);
    return ($answer->{headers}{'x-idempotent-replay'} ? 'replay'
        : $answer->{status}) . ' ' . (statements() - $before);
}

# How many statements nginx has sent so far.
sub statements {
    my @found = $pg->log =~ /edge LOG:  (?:statement|execute)/g;
    return scalar @found;
}

sub status_counts {
    my %count;
    $count{ $_->{status} }++ for @_;
    return join ', ', map { "$_: $count{$_}" } sort keys %count;
}
