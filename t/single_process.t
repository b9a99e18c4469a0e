#!/usr/bin/perl

# "master_process off": the one process does all of it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 6;

use VidgenTest::Books qw(customer wrong_books);
use VidgenTest::Http qw(get many request);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;

my $nginx = VidgenTest::Nginx->new(
    single => 1,
    vars => { DB => $pg->edge_conninfo },
    env  => {
        FAL_BASE_URL       => $provider->url,
        FAL_API_KEY        => 'test-api-key',
        FAL_WEBHOOK_SECRET => $provider->secret,
    },
    config => <<'EOT')->start;
%%GLOBALS%%

master_process off;

events { }

http {
    %%HTTP%%

    vidgen_database "%%DB%%" timeout=20s;
    include         %%PROVIDERS%%/fal.conf;

    server {
        listen 127.0.0.1:%%PORT%%;

        vidgen_webhook_url            https://example.com/hook;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        location = /generate-video { vidgen_generate; }
        location = /video-webhook { vidgen_webhook; }
        location /jobs/ { vidgen_job; }
    }
}
EOT

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
