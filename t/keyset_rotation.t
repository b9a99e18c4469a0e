#!/usr/bin/perl

# Signatures by a key set that the monitor fetches over HTTPS: the scheme that
# fal.ai documents, from a stand-in, with no file placed by hand; keys that
# are exchanged, fetches that fail.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw(sha256_hex);
use JSON::PP;
use Test::More tests => 28;

use VidgenTest::Books qw(customer wrong_books);
use VidgenTest::Ed25519;
use VidgenTest::Http qw(post);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(root slurp wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new(tls => 1);
my $user = customer($pg, 100);
my ($old, $new, $foreign) = map { VidgenTest::Ed25519->new } 1 .. 3;
my $json = JSON::PP->new->canonical;

# the shipped definition, but for the address of the key set

my $base = $provider->url;
my $definition = slurp(root() . '/providers/fal-queue.conf');
is($definition =~ s{jwks=https://rest\.fal\.ai/}{jwks=$base/}, 1,
    'the shipped definition has the key set of today');
$definition =~ s{url +https://api\.fal\.ai/}{url $base/};

my $nginx = VidgenTest::Nginx->new(
    vars  => { DB => $pg->edge_conninfo, CA => $provider->ca },
    env   => { FAL_API_KEY => 'fal-api-key', FAL_QUEUE_BASE_URL => $base },
    files => { 'fal.conf' => $definition },
    config => <<'EOT');
%%GLOBALS%%
worker_processes 2;
events { }
http {
    %%HTTP%%
    vidgen_database "%%DB%%";
    vidgen_monitor  interval=1h timeout=10s;

    include %%PREFIX%%/fal.conf;

    server {
        listen 127.0.0.1:%%PORT%%;
        proxy_ssl_trusted_certificate %%CA%%;
        include                       %%PROVIDERS%%/vidgen_pass.conf;
        vidgen_webhook_url            http://127.0.0.1:%%PORT%%/video-webhook;
        location = /generate-video    { vidgen_generate; }
        location = /video-webhook     { vidgen_webhook; }
    }
}
EOT

sub publish {
    my (@keys) = @_;
    $provider->on(qr{/\.well-known/jwks\.json},
        body => { keys => [map { $_->jwk } @keys] });
}

sub fetches {
    return scalar grep { ($_->{uri} // '') =~ /jwks/ }
        @{ $provider->requests };
}

# A generation: its webhook's URL and the provider's id.
sub generate {
    my $answer = post($nginx->url('/generate-video'), { user_id => $user,
        model_id => 'fal-ai/pika/v2.2/text-to-video', prompt => 'p' });
    my ($request) = grep { $_->{method} eq 'POST' }
        reverse @{ $provider->requests };
    my ($url) = $request->{uri} =~ /fal_webhook=([^&]+)/;
    $url =~ s/%([0-9A-F]{2})/chr hex $1/ge;
    return ($answer->{json}{job_id}, $request->{id}, $url);
}

# The webhook of it, signed by a key; tried until it gets that status.
sub webhook {
    my ($key, $id, $url, %opt) = @_;
    my $body = $json->encode({ request_id => $id, gateway_request_id => $id,
        status => 'OK',
        payload => { video => { url => 'https://v.test/1' } } });
    my $now = time;
    my %headers = (
        'Content-Type'             => 'application/json',
        'X-Fal-Webhook-Request-Id' => $id,
        'X-Fal-Webhook-User-Id'    => 'user-1',
        'X-Fal-Webhook-Timestamp'  => $now,
    );
    $headers{'X-Fal-Webhook-Signature'} = unpack 'H*', $key->sign(
        join "\n", $id, 'user-1', $now, sha256_hex($body));
    my $answer;
    wait_for {
        $answer = post($url, $body, \%headers);
        !$opt{until} || $answer->{status} == $opt{until};
    };
    return $answer;
}

sub status {
    my ($job) = @_;
    return $pg->value("SELECT status FROM video_jobs WHERE id = '$job'");
}


# no key set yet: later

$provider->on(qr{/\.well-known}, status => 503);
$nginx->start;
my ($job, $id, $url) = generate();
like($id, qr/\S/, 'accepted over TLS');
my $answer = webhook($old, $id, $url);
is($answer->{status}, 503, 'no key set yet');
is($answer->{headers}{'retry-after'}, 5, 'to be sent again');
is($answer->{json}{code}, 'no_key_set', 'the code');
ok($nginx->wait_log(qr/\[error\].*key\ set\ of\ provider\ "fal-queue"\ could
    \ not\ be\ fetched\ \(HTTP\ 503\).*its\ webhooks\ get\ 503/x), 'a line');

# it comes, and the webhook with it

publish($old);
is(webhook($old, $id, $url, until => 200)->{status}, 200, 'the keys came');
ok((wait_for { status($job) eq 'completed' }), 'the job is completed');
is(webhook($foreign, $id, $url)->{status}, 401, 'not by another key');

my $file = $nginx->prefix . '/state/fal-queue.jwks.json';
is_deeply($json->decode(slurp($file))->{keys}, [$old->jwk],
    'they are on the disk');

# the monitor asked with the certificates of the vidgen_pass location

is(scalar(() = $nginx->error_log =~ /fetched/g), 1, 'one failure only');


# keys are exchanged: a signature by the new one brings them

($job, $id, $url) = generate();
publish($new, $old);
my $before = fetches();
$answer = webhook($new, $id, $url, until => 200);
is($answer->{status}, 200, 'the new key');
is(status($job), 'completed', 'the job is completed');
is(fetches(), $before + 1, 'one fetch');
($job, $id, $url) = generate();
is(webhook($old, $id, $url)->{status}, 200, 'the old one is still there');
my $began = time;
webhook($foreign, $id, $url) while time < $began + 9;
cmp_ok(fetches(), '<=', $before + 5, 'forgeries do not cause a fetch each');


# fetches that fail: what is there is kept

$provider->on(qr{/\.well-known}, status => 500);
($job, $id, $url) = generate();
ok($nginx->reload(wait => 1), 'a reload');
is(webhook($new, $id, $url)->{status}, 200, 'with the keys of before');

for my $case (
    ['an error', status => 500],
    ['no key set', body => 'oops'],
    ['keys of another kind', body => { keys => [{ kty => 'RSA', n => 'AQAB',
        e => 'AQAB' }] }],
    ['no end', body => 'x' x 200_000],
) {
    my ($what, @answer) = @$case;
    $provider->on(qr{/\.well-known}, @answer);
    my $failures = () = $nginx->error_log =~ /could not be fetched/g;
    utime 1, 1, $file;
    $nginx->quit;
    $nginx->start;
    ok((wait_for { (() = $nginx->error_log =~ /could not be fetched/g)
        > $failures }), "$what instead");
    ($job, $id, $url) = generate();
    is(webhook($new, $id, $url)->{status}, 200, 'the set is kept');
}

is_deeply($json->decode(slurp($file))->{keys}, [$new->jwk, $old->jwk],
    'it is whole');
is_deeply([wrong_books($pg)], [], 'the books are right');
