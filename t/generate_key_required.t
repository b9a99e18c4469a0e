#!/usr/bin/perl

# vidgen_idempotency required, and a ttl after which a key may be used anew.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 8;

use VidgenTest::Books qw(customer everything wrong_books);
use VidgenTest::Http qw(post);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;

my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $pg->edge_conninfo },
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

    vidgen_database    "%%DB%%" timeout=1m;
    vidgen_monitor     off;
    vidgen_idempotency required ttl=1s;
    include            %%PROVIDERS%%/fal.conf;

    server {
        listen 127.0.0.1:%%PORT%%;

        vidgen_webhook_url            https://example.com/hook;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        location = /generate-video { vidgen_generate; }
        location = /video-webhook  { vidgen_webhook; }
    }
}
EOT

my $user = customer($pg, 10);
my @order = ($nginx->url('/generate-video'),
    { user_id => $user, model_id => 'vision-1', prompt => 'p' });

my $before = everything($pg);
my $answer = post(@order);
is("$answer->{status} $answer->{json}{code}", '400 bad_idempotency_key',
    'none');
is(everything($pg), $before, 'nothing is written');

my %key = ('Idempotency-Key' => 'k');
my $first = post(@order, \%key);
is($first->{status}, 200, 'one');

# an open job keeps its key, however long it takes

$pg->query("UPDATE idempotency_log SET created_at = created_at
    - interval '1 day'; UPDATE video_jobs SET created_at = created_at
    - interval '1 day'");
is(post(@order, \%key)->{body}, $first->{body}, 'it is kept while open');

my ($headers, $body) = $provider->signed_webhook(
    id => $provider->requests->[0]{id});
is(post($nginx->url('/video-webhook'), $body, $headers)->{status}, 200,
    'completed');

my $second = wait_for {
    my $now = post(@order, \%key);
    return $now->{body} ne $first->{body} && $now;
};
is($second->{status}, 200, 'a second later the key makes another job');
ok(!$second->{headers}{'x-idempotent-replay'}, 'which is no replay');

is_deeply([wrong_books($pg)], [], 'the books are right');
