#!/usr/bin/perl

# Webhooks that are refused: each with its status and code, and nothing
# changed in the database.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw(hmac_sha256_hex hmac_sha512_hex);
use JSON::PP;
use Test::More;

use VidgenTest::Books qw(customer everything wrong_books);
use VidgenTest::Http qw(post raw request);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(uuid);

my $secret = 'webhook-secret';
my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new(secret => $secret);

my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $pg->edge_conninfo, PROVIDER => $provider->url },
    env  => {
        FAL_BASE_URL          => $provider->url,
        FAL_API_KEY           => 'test-api-key',
        FAL_WEBHOOK_SECRET    => $secret,
        RUNWAY_API_KEY        => 'test-api-key',
        RUNWAY_WEBHOOK_SECRET => 'other-secret',
        PIKA_API_KEY          => 'test-api-key',
        VIDGEN_SECRET         => 'test-token-secret',
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
    include         %%PROVIDERS%%/runway.conf;
    include         %%PROVIDERS%%/pika.conf;

    vidgen_provider signs-in-base64 {
        webhook {
            signature  hmac-sha256 header=X-Signature encoding=base64;
            secret     env:FAL_WEBHOOK_SECRET;
            job_id     /request_id;
            status     /status;
        }
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        vidgen_webhook_url            http://127.0.0.1:%%PORT%%/video-webhook;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        location = /generate-video { vidgen_generate fal.ai; }
        location = /video-webhook  { vidgen_webhook; }
        location = /of-nobody      { vidgen_webhook $http_x_who; }
    }
}
EOT

# a job that waits for its webhook

my $user = customer($pg, 10);
my $job = post($nginx->url('/generate-video'), { user_id => $user,
    model_id => 'vision-1', prompt => 'p' })->{json}{job_id};
my $got = $provider->requests->[0];
my $id = $got->{id};
my ($args) = $got->{body} =~ /\/video-webhook\?([^"]+)"/;
my ($attempt) = $args =~ /attempt=([^&]+)/;

my $url = '/video-webhook?provider=fal.ai';
my $own = "/video-webhook?$args";

my $good = qq({"request_id":"$id","status":"completed",)
    . '"output":{"video_url":"https://cdn.test/v.mp4"}}';
my $good_mac = hmac_sha256_hex($good, $secret);


# The good body with some JSON text for a member.
sub text { my ($name, $text) = @_; return $good =~ s/\}$/,"$name":$text}/r }
sub nest { my ($depth) = @_; return '[' x $depth . ']' x $depth }

# The good body with another id.
sub by { my ($text) = @_; return $good =~ s/"\Q$id\E"/$text/r }


my $signature = '401 bad_signature';
my $json = '400 bad_json';
my $field = '400 bad_field';
my $unknown = '404 unknown_job';

# What is wrong, and the answer; where; the body (the good one); its signature
# (undef: none; the right one if it is left out) or all headers.
my @bad = (
    # signatures
    ['no signature',            $signature, $own, $good, undef],
    ['an empty one',            $signature, $own, $good, ''],
    ['of another secret',       $signature, $own, $good,
        hmac_sha256_hex($good, 'wrong')],
    ['of no secret',            $signature, $own, $good,
        hmac_sha256_hex($good, '')],
    ["another provider's",      $signature, $own, $good,
        'sha256=' . hmac_sha256_hex($good, 'other-secret')],
    ['of another body',         $signature, $own, "$good\n", $good_mac],
    ['by a digit too short',    $signature, $own, $good,
        substr $good_mac, 0, 63],
    ['by a byte too short',     $signature, $own, $good,
        substr $good_mac, 0, 62],
    ['one byte of it',          $signature, $own, $good,
        substr $good_mac, 0, 2],
    ['by a byte too long',      $signature, $own, $good, "${good_mac}00"],
    ['twice',                   $signature, $own, $good, $good_mac x 2],
    ['a list',                  $signature, $own, $good,
        "$good_mac,$good_mac"],
    ['over-long',               $signature, $own, $good, $good_mac x 64],
    ['SHA-512',                 $signature, $own, $good,
        hmac_sha512_hex($good, $secret)],
    ['not hex',                 $signature, $own, $good,
        $good_mac =~ s/..$/zz/r],
    ['a blank inside',          $signature, $own, $good,
        $good_mac =~ s/^(.{32})/$1 /r],
    ['base64',                  $signature, $own, $good,
        base64(pack 'H*', $good_mac)],
    ['with a prefix',           $signature, $own, $good, "sha256=$good_mac"],
    ['without its prefix',      $signature, '/video-webhook?provider=runway',
        $good, hmac_sha256_hex($good, 'other-secret')],
    ['hex where base64 is due', $signature,
        '/video-webhook?provider=signs-in-base64', $good, $good_mac],
    ['under another name',      $signature, $own, $good,
        { 'X-Signature-256' => $good_mac }],
    ['underscores',             $signature, $own, $good,
        { 'X_Signature' => $good_mac }],

    # one byte of the body
    (map { ["byte $_ changed", $signature, $own, flip($good, $_), $good_mac] }
        0, 10, length($good) - 1),
    ['a byte less',             $signature, $own, substr($good, 0, -1),
        $good_mac],
    ['empty body, unsigned',    $signature, $own, '', undef],
    ['nonsense, unsigned',      $signature, $own, "\0[[[", undef],

    # bodies, rightly signed
    ['empty body',              $json, $own, ''],
    ['not JSON',                $json, $own, 'status=completed'],
    ['cut off',                 $json, $own, substr $good, 0, -1],
    ['something behind it',     $json, $own, "${good}x"],
    ['NUL behind it',           $json, $own, "$good\0"],
    ['a raw NUL',               $json, $own, text(x => "\"a\0b\"")],
    ['invalid UTF-8',           $json, $own, text(x => "\"\xff\xfe\"")],
    ['cut UTF-8',               $json, $own, text(x => "\"\xe2\x82\"")],
    ['a lone surrogate',        $json, $own, text(x => '"\ud83d"')],
    ['UTF-16',                  $json, $own, pack 'n*', unpack 'C*', $good],
    ['over a double',           $json, $own, text(x => '1e999')],
    ['minus that',              $json, $own, text(x => '-1e999')],
    ['10,000 levels',           $json, $own, text(x => nest(10_000))],
    ['10,000 levels, open',     $json, $own, '{"a":' x 10_000],
    ['513 levels',              $json, $own, text(x => nest(512))],
    ['array',                   '400 not_an_object', $own, "[$good]"],
    ['text',                    '400 not_an_object', $own, '"completed"'],
    ['number',                  '400 not_an_object', $own, '1'],
    ['null',                    '400 not_an_object', $own, 'null'],

    # what they say
    ['no id',                   $field, $url, '{"status":"completed"}'],
    ['an empty id',             $field, $url, by('""')],
    ['null as id',              $field, $url, by('null')],
    ['an object as id',         $field, $url, by('{"a":1}')],
    ['an array as id',          $field, $url, by('["a"]')],
    ['an id too long',          $field, $own, by('"' . 'i' x 256 . '"')],
    ['an id with NUL',          $field, $own, by('"a\u0000b"')],
    ['an id with LF',           $field, $own, by('"a\nb"')],
    ['a URL too long',          $field, $own,
        $good =~ s/v\.mp4/'v' x 2048/er],
    ['a URL with LF',           $field, $own, $good =~ s/v\.mp4/\\nv/r],
    ['attempt no UUID, no id',  $field, "$url&attempt=1",
        '{"status":"completed"}'],

    # whose
    ['unknown provider',        '400 unknown_provider',
        '/video-webhook?provider=nobody'],
    ['provider in upper case',  '400 unknown_provider',
        '/video-webhook?provider=FAL.AI'],
    ['empty provider',          '400 unknown_provider',
        '/video-webhook?provider='],
    ['provider with NUL',       '400 unknown_provider',
        '/video-webhook?provider=fal.ai%00'],
    ['header X-Provider',       '400 unknown_provider', '/video-webhook',
        $good, { 'X-Provider' => 'nobody', 'X-Signature' => $good_mac }],
    ['location of nobody',      '400 unknown_provider', '/of-nobody'],
    ['provider without webhook', $signature, '/video-webhook?provider=pika'],

    ['unknown job',             $unknown, $url, by('"other"')],
    ['part of the id',          $unknown, $url, by('"' . substr($id, 0, -1)
        . '"')],
    ['the id in upper case',    $unknown, $url, by("\"\U$id\"")],
    ['a number as id',          $unknown, $url, by('12345')],
    ['a huge number as id',     $unknown, $url, by('9' x 200)],
    ['the last of two names',   $unknown, $url,
        text(request_id => '"other"')],
    ['unknown attempt and id',  $unknown, "$url&attempt=" . uuid(),
        by('"other"')],
    ['unknown attempt, no id',  $unknown, "$url&attempt=" . uuid(),
        '{"status":"completed"}'],

    ['another id than the attempt has', '401 wrong_job', $own,
        by('"other"')],
    ['another provider than the attempt has', '401 wrong_job',
        $own =~ s/fal\.ai/runway/r,
        $good =~ s/request_id/id/r =~ s/completed/succeeded/r
            =~ s/"output":\{"video_url":(.*)\}\}/"output_url":$1}/r,
        { runway => 1 }],
);

# what other methods get; nginx itself answers TRACE
my @methods = qw(GET HEAD PUT DELETE PATCH OPTIONS PROPFIND);

plan tests => 2 * @bad + 2 * @methods + 15;

my $before = everything($pg);
my %said;                           # answers of refused signatures

for my $case (@bad) {
    my ($what, $answer, $where, $body, @mac) = @$case;
    $body //= $good;

    my $headers = @mac ? $mac[0] : hmac_sha256_hex($body, $secret);
    $headers = { 'X-Signature' => 'sha256='
        . hmac_sha256_hex($body, 'other-secret') }
        if ref $headers && $headers->{runway};
    $headers = { defined $headers ? ('X-Signature' => $headers) : () }
        unless ref $headers;

    my $got = post($nginx->url($where), $body, $headers);
    is("$got->{status} " . ($got->{json}{code} // ''), $answer, $what);
    is(everything($pg), $before, "$what: nothing changes");
    $said{$got->{body}}++ if $answer eq $signature;
}

is_deeply([keys %said], ['{"error":"the signature is missing or wrong",'
    . '"code":"bad_signature"}'], 'a refusal does not tell why');

for my $method (@methods) {
    my $got = request($method, $nginx->url($own),
        { 'X-Signature' => $good_mac }, $good);
    is("$got->{status} $got->{headers}{allow}", '405 POST', $method);
    is(everything($pg), $before, "$method: nothing changes");
}

# too large, with and without a length

my $large = text(x => '"' . 'x' x 2_000_000 . '"');
my $large_mac = hmac_sha256_hex($large, $secret);
is(post($nginx->url($own), $large, { 'X-Signature' => $large_mac })->{status},
    413, '2 MB');
like(raw($nginx->url(), "POST $own HTTP/1.1\r\nHost: a\r\n"
    . "X-Signature: $large_mac\r\nTransfer-Encoding: chunked\r\n"
    . "Connection: close\r\n\r\n"
    . sprintf("%x\r\n%s\r\n0\r\n\r\n", length $large, $large)),
    qr{^HTTP/1\.1 413 }, '2 MB in chunks');
is(everything($pg), $before, 'nothing changes');

# what looks bad and is not: the job is completed at last

my $lenient = '{"request_id":"other","request_id":"' . $id . '","big":'
    . '9' x 30 . ',"bad\u0000name":"\u0000","deep":' . nest(500)
    . ',"status":"failed","status":"completed","output":{"video_url":1,'
    . '"video_url":"https://cdn.test/v.mp4"}}';
$got = post($nginx->url($own), $lenient,
    { 'X-Signature' => uc hmac_sha256_hex($lenient, $secret) });
is("$got->{status} $got->{body}",
    qq(200 {"success":true,"job_id":"$job"}), 'an odd one is right');
ok(!$got->{headers}{'x-idempotent-replay'}, 'and the first that counts');
is($pg->value("SELECT status || ' ' || video_url FROM video_jobs"),
    'completed https://cdn.test/v.mp4', 'the job is completed');

# a known event needs its signature all the same

$before = everything($pg);
$got = post($nginx->url($own), $lenient, { 'X-Signature' => $good_mac });
is($got->{status}, 401, 'a replay with a wrong signature');
$got = post($nginx->url($own), $lenient);
is($got->{status}, 401, 'and without one');
is(everything($pg), $before, 'nothing changes');

is_deeply([wrong_books($pg)], [], 'the books are right');

ok($nginx->wait_log(qr/\[info\] .*vidgen: webhook refused: provider "$_->[0]": /
    . "$_->[1], client: 127\\.0\\.0\\.1\$"), "the operator is told: $_->[1]")
    for ['fal\.ai', 'no signature'], ['fal\.ai', 'malformed signature'],
        ['signs-in-base64', 'wrong signature'], ['pika', 'it sends none'];


sub flip {
    my ($text, $i) = @_;
    substr($text, $i, 1) ^= "\x01";
    return $text;
}

sub base64 {
    my ($bytes) = @_;
    require MIME::Base64;
    return MIME::Base64::encode_base64($bytes, '');
}
