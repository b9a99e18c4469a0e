#!/usr/bin/perl

# The knobs of "signature", each by itself: what they accept, what they
# refuse.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw(hmac_sha256 hmac_sha256_base64 hmac_sha256_hex
    hmac_sha512_base64 hmac_sha512_hex sha256_hex);
use MIME::Base64 qw(encode_base64);
use Test::More tests => 107;

use VidgenTest::Ed25519;
use VidgenTest::Http qw(post);
use VidgenTest::Nginx;

my $key = VidgenTest::Ed25519->new;
my $other = VidgenTest::Ed25519->new;

my $nginx = VidgenTest::Nginx->new(
    env => {
        SECRET_PLAIN  => 'plain secret',
        SECRET_HEX    => '00ff6b6579',
        SECRET_BASE64 => encode_base64("\0\xffkey", ''),
        SECRET_WHSEC  => 'whsec_' . encode_base64("\0\xffkey", ''),
        SECRET_BARE   => 'whsec_bare key',
        SECRET_ONE    => 'secret number 1',
        SECRET_TWO    => 'secret number 2',
        SECRET_THREE  => 'secret number 3',
        OTHER_HEX     => unpack('H*', $other->public),
        PUBLIC_HEX    => unpack('H*', $key->public),
        PUBLIC_BASE64 => encode_base64($key->public, ''),
        PUBLIC_WHPK   => 'whpk_' . encode_base64($key->public, ''),
    },
    config => <<'EOT')->start;
%%GLOBALS%%

events { }

http {
    %%HTTP%%

    vidgen_provider plain {
        webhook { signature hmac-sha256 header=X-Sign;
                  secret env:SECRET_PLAIN; job_id /id; status /s; }
    }
    vidgen_provider sha512 {
        webhook { signature hmac-sha512 header=X-Sign;
                  secret env:SECRET_PLAIN; job_id /id; status /s; }
    }
    vidgen_provider base64 {
        webhook { signature hmac-sha256 header=X-Sign encoding=base64;
                  secret env:SECRET_PLAIN; job_id /id; status /s; }
    }
    vidgen_provider sha512-base64 {
        webhook { signature hmac-sha512 header=X-Sign encoding=base64;
                  secret env:SECRET_PLAIN; job_id /id; status /s; }
    }
    vidgen_provider prefix {
        webhook { signature hmac-sha256 header=X-Sign prefix=sha256=;
                  secret env:SECRET_PLAIN; job_id /id; status /s; }
    }
    vidgen_provider comma {
        webhook { signature hmac-sha256 header=X-Sign list=, prefix=v1=;
                  secret env:SECRET_PLAIN; job_id /id; status /s; }
    }
    vidgen_provider space {
        webhook { signature hmac-sha256 header=X-Sign list=space;
                  secret env:SECRET_PLAIN; job_id /id; status /s; }
    }

    vidgen_provider key-hex {
        webhook { signature hmac-sha256 header=X-Sign key=hex;
                  secret env:SECRET_HEX; job_id /id; status /s; }
    }
    vidgen_provider key-base64 {
        webhook { signature hmac-sha256 header=X-Sign key=base64;
                  secret env:SECRET_BASE64; job_id /id; status /s; }
    }
    vidgen_provider key-whsec {
        webhook { signature hmac-sha256 header=X-Sign key=whsec;
                  secret env:SECRET_WHSEC; job_id /id; status /s; }
    }
    vidgen_provider key-whsec-base64 {
        webhook { signature hmac-sha256 header=X-Sign key=whsec;
                  secret env:SECRET_BASE64; job_id /id; status /s; }
    }
    vidgen_provider key-bare {
        webhook { signature hmac-sha256 header=X-Sign key=bare;
                  secret env:SECRET_BARE; job_id /id; status /s; }
    }
    vidgen_provider key-raw {
        webhook { signature hmac-sha256 header=X-Sign key=raw;
                  secret env:SECRET_BARE; job_id /id; status /s; }
    }

    vidgen_provider signed {
        webhook { signature hmac-sha256 header=X-Sign timestamp=X-Time
                  "signed=${http_x_id}:$http_x_no\n$vidgen_body_sha256\n$uri";
                  secret env:SECRET_PLAIN; job_id /id; status /s; }
    }

    vidgen_provider time {
        webhook { signature hmac-sha256 header=X-Sign timestamp=X-Time
                            signed=$vidgen_timestamp.$vidgen_body;
                  secret env:SECRET_PLAIN; job_id /id; status /s; }
    }
    vidgen_provider time-60s {
        webhook { signature hmac-sha256 header=X-Sign timestamp=X-Time
                            signed=$vidgen_timestamp.$vidgen_body
                            tolerance=60s;
                  secret env:SECRET_PLAIN; job_id /id; status /s; }
    }
    vidgen_provider element {
        webhook { signature hmac-sha256 header=X-Sign list=, prefix=v1=
                            timestamp=@ts
                            signed=$vidgen_timestamp.$vidgen_body;
                  secret env:SECRET_PLAIN; job_id /id; status /s; }
    }

    vidgen_provider ed25519-hex {
        webhook { signature ed25519 header=X-Sign key=hex;
                  secret env:PUBLIC_HEX; job_id /id; status /s; }
    }
    vidgen_provider ed25519-base64 {
        webhook { signature ed25519 header=X-Sign key=base64 encoding=base64;
                  secret env:PUBLIC_BASE64; job_id /id; status /s; }
    }
    vidgen_provider ed25519-whpk {
        webhook { signature ed25519 header=webhook-signature key=whsec
                            encoding=base64 list=space prefix=v1a,
                            timestamp=webhook-timestamp
                  signed=$http_webhook_id.$vidgen_timestamp.$vidgen_body;
                  secret env:PUBLIC_WHPK; job_id /id; status /s; }
    }

    vidgen_provider rotated {
        webhook { signature hmac-sha256 header=X-Sign;
                  secret env:SECRET_ONE env:NOT_SET env:SECRET_TWO;
                  secret env:SECRET_THREE; job_id /id; status /s; }
    }
    vidgen_provider rotated-ed25519 {
        webhook { signature ed25519 header=X-Sign key=hex;
                  secret env:OTHER_HEX env:PUBLIC_HEX; job_id /id; status /s; }
    }
    vidgen_provider without {
        webhook { signature hmac-sha256 header=X-Sign;
                  job_id /id; status /s; }
    }

    vidgen_provider svix {
        webhook { signature standard-webhooks header=svix-signature
                            timestamp=svix-timestamp event_id=svix-id
                            signed=$http_svix_id.$vidgen_timestamp.$vidgen_body
                            algorithm=hmac-sha512;
                  secret env:SECRET_WHSEC; job_id /id; status /s; }
    }
    vidgen_provider github {
        webhook { signature github header=X-Sign encoding=base64;
                  secret env:SECRET_PLAIN; job_id /id; status /s; }
    }
    vidgen_provider stripe {
        webhook { signature stripe prefix=v0= header=X-Sign tolerance=60s;
                  secret env:SECRET_PLAIN; job_id /id; status /s; }
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        location / {
            vidgen_verify  $arg_provider;
            proxy_pass     http://127.0.0.1:%%PORT_APP%%;
        }
    }

    server {
        listen 127.0.0.1:%%PORT_APP%%;
        return 204;
    }
}
EOT

my $alphabet = join '', 'A' .. 'Z', 'a' .. 'z', 0 .. 9, '+/';
my $number = 0;
my $secret = 'plain secret';
my $bytes = "\0\xffkey";
my $now = time;


# algorithm, encoding

accepted('plain', 'hex', sub { hmac_sha256_hex($_[0], $secret) });
accepted('plain', 'upper case', sub { uc hmac_sha256_hex($_[0], $secret) });
refused('plain', 'base64', sub { base64_256($_[0], $secret) });
refused('plain', 'half of it',
    sub { substr hmac_sha256_hex($_[0], $secret), 0, 32 });
refused('plain', 'twice', sub { hmac_sha256_hex($_[0], $secret) x 2 });
refused('plain', 'one digit less',
    sub { substr hmac_sha256_hex($_[0], $secret), 1 });
refused('plain', 'nothing', sub { '' });
refused('plain', 'a list', sub { hmac_sha256_hex($_[0], $secret) . ',00' });
refused('plain', 'HMAC-SHA-512', sub { hmac_sha512_hex($_[0], $secret) });
refused('plain', 'the digest alone', sub { sha256_hex($_[0]) });
refused('plain', 'very long', sub { 'ab' x 3000 });

accepted('sha512', 'hex', sub { hmac_sha512_hex($_[0], $secret) });
refused('sha512', 'HMAC-SHA-256', sub { hmac_sha256_hex($_[0], $secret) });

accepted('base64', 'base64', sub { base64_256($_[0], $secret) });
accepted('base64', 'without padding',
    sub { hmac_sha256_base64($_[0], $secret) });
refused('base64', 'hex', sub { hmac_sha256_hex($_[0], $secret) });
refused('base64', 'too much padding',
    sub { base64_256($_[0], $secret) . '=' });
refused('base64', 'other spare bits', sub { base64_256($_[0], $secret)
    =~ s/(.)=$/substr($alphabet, index($alphabet, $1) + 1, 1) . '='/er });
accepted('sha512-base64', 'base64', sub { hmac_sha512_base64($_[0], $secret)
    . '==' });


# prefix, list

accepted('prefix', 'it', sub { 'sha256=' . hmac_sha256_hex($_[0], $secret) });
refused('prefix', 'none', sub { hmac_sha256_hex($_[0], $secret) });
refused('prefix', 'upper case',
    sub { 'SHA256=' . hmac_sha256_hex($_[0], $secret) });
refused('prefix', 'another',
    sub { 'sha512=' . hmac_sha256_hex($_[0], $secret) });
refused('prefix', 'and nothing', sub { 'sha256=' });

for my $list (['only one', '%s'], ['the last', 'v1=00,v0=1,%s'],
    ['the first', '%s,v1=00'], ['with spaces', ' v1=00 ,  %s , v1=00'],
    ['among empty ones', ',,%s,,'])
{
    my ($name, $format) = @$list;
    accepted('comma', $name,
        sub { sprintf $format, 'v1=' . hmac_sha256_hex($_[0], $secret) });
}
refused('comma', 'without its prefix',
    sub { 'v1=00,' . hmac_sha256_hex($_[0], $secret) });
refused('comma', 'separated by spaces',
    sub { 'v1=00 v1=' . hmac_sha256_hex($_[0], $secret) });
refused('comma', 'none right', sub { join ',', ('v1=' . '00' x 32) x 50 });

accepted('space', 'among others',
    sub { "00 ff " . hmac_sha256_hex($_[0], $secret) . '  zz' });
refused('space', 'separated by a comma',
    sub { '00,' . hmac_sha256_hex($_[0], $secret) });


# key

accepted("key-$_", 'the bytes', sub { hmac_sha256_hex($_[0], $bytes) })
    for qw(hex base64 whsec whsec-base64);
refused('key-hex', 'the text', sub { hmac_sha256_hex($_[0], '00ff6b6579') });
refused('key-base64', 'the text',
    sub { hmac_sha256_hex($_[0], encode_base64($bytes, '')) });
accepted('key-bare', 'without whsec_',
    sub { hmac_sha256_hex($_[0], 'bare key') });
refused('key-bare', 'with whsec_',
    sub { hmac_sha256_hex($_[0], 'whsec_bare key') });
accepted('key-raw', 'as it is',
    sub { hmac_sha256_hex($_[0], 'whsec_bare key') });
refused('key-raw', 'without whsec_',
    sub { hmac_sha256_hex($_[0], 'bare key') });


# signed

my %id = ('X-Id' => 'i1', 'X-Time' => $now);
accepted('signed', 'as the text says',
    sub { hmac_sha256_hex("i1:\n" . sha256_hex($_[0]) . "\n/", $secret) },
    %id);
accepted('signed', 'with a header that may be missing',
    sub { hmac_sha256_hex("i1:no\n" . sha256_hex($_[0]) . "\n/", $secret) },
    %id, 'X-No' => 'no');
refused('signed', 'upper-case digest',
    sub { hmac_sha256_hex("i1:\n" . uc(sha256_hex($_[0])) . "\n/", $secret) },
    %id);
refused('signed', 'the body', sub { hmac_sha256_hex($_[0], $secret) }, %id);
refused('signed', 'another id',
    sub { hmac_sha256_hex("i1:\n" . sha256_hex($_[0]) . "\n/", $secret) },
    %id, 'X-Id' => 'i2');


# timestamp, tolerance

$now = time;                        # the same for all of them, but not old

my $timed = sub { my ($time) = @_;
    return (sub { hmac_sha256_hex("$time.$_[0]", $secret) },
        'X-Time' => $time) };

accepted('time', "$_ s from now", $timed->($now + $_)) for 0, -290, 290;
refused('time', "$_ s from now", $timed->($now + $_)) for -310, 310;
accepted('time', "$_ s from now in ms", $timed->(($now + $_) * 1000 + 999))
    for 0, -290, 290;
refused('time', "$_ s from now in ms", $timed->(($now + $_) * 1000))
    for -310, 310;
accepted('time-60s', "$_ s from now", $timed->($now + $_)) for -50, 50;
refused('time-60s', "$_ s from now", $timed->($now + $_)) for -75, 75;
refused('time', "as \"$_\"", $timed->($_)) for '', 'now', "$now.0", "-$now",
    "+$now", "0x$now", $now . '0' x 9, '9' x 40, "$now,$now";
refused('time', 'without one', ($timed->(''))[0]);
refused('time', 'that is not signed',
    sub { hmac_sha256_hex('.' . $_[0], $secret) }, 'X-Time' => $now);
refused('time', 'another than is signed', ($timed->($now))[0],
    'X-Time' => $now + 1);

my $element = sub { my ($format, $time) = @_; return sub {
    sprintf $format, $time, hmac_sha256_hex("$time.$_[0]", $secret) } };

accepted('element', 'before', $element->('ts=%s,v1=%s', $now));
accepted('element', 'after', $element->('v0=1, %2$s, v1=%2$s, ts=%1$s', $now));
accepted('element', 'in ms', $element->('ts=%s,v1=%s', $now * 1000));
accepted('element', 'the first of two',
    $element->('ts=%s,ts=5,v1=%s', $now));
refused('element', 'the second of two', $element->('ts=5,ts=%s,v1=%s', $now));
refused('element', 'none', $element->('%1$s,v1=%2$s', $now));
refused('element', 'an empty one', $element->('ts=,x=%s,v1=%s', $now));
refused('element', 'of another name', $element->('t=%s,v1=%s', $now));
refused('element', 'of a longer name', $element->('tst=%s,v1=%s', $now));
refused('element', 'too old', $element->('ts=%s,v1=%s', $now - 310));


# public keys

$now = time;
my $signed = sub { unpack 'H*', $key->sign($_[0]) };

accepted('ed25519-hex', 'hex', $signed);
refused('ed25519-hex', 'of another text', sub { $signed->("$_[0] ") });
refused('ed25519-hex', 'of another key',
    sub { unpack 'H*', $other->sign($_[0]) });
refused('ed25519-hex', 'a MAC by the public key',
    sub { hmac_sha512_hex($_[0], $key->public) });
accepted('ed25519-base64', 'base64',
    sub { encode_base64($key->sign($_[0]), '') });
accepted('ed25519-whpk', 'in a list, with an id and a timestamp',
    sub { '' }, 'Webhook-Id' => 'i3', 'Webhook-Timestamp' => $now,
    'Webhook-Signature' => sub { 'v1,AAAA v1a,'
        . encode_base64($key->sign("i3.$now.$_[0]"), '') });


# several secrets, and none

for my $n (1 .. 3) {
    accepted('rotated', "secret $n",
        sub { hmac_sha256_hex($_[0], "secret number $n") });
}
refused('rotated', 'another secret',
    sub { hmac_sha256_hex($_[0], 'secret number 4') });
refused('rotated', 'an empty one', sub { hmac_sha256_hex($_[0], '') });
accepted('rotated-ed25519', 'the second', $signed);
refused('without', 'the empty secret', sub { hmac_sha256_hex($_[0], '') });
refused('without', 'no signature', sub { '' });


# schemes with another part

$now = time;
accepted('svix', 'other headers, another algorithm', sub { '' },
    'Svix-Id' => 'i4', 'Svix-Timestamp' => $now, 'Svix-Signature' =>
    sub { 'v1,' . hmac_sha512_base64("i4.$now.$_[0]", $bytes) . '==' });
accepted('github', 'in base64', sub { 'sha256=' . base64_256($_[0], $secret) });
refused('github', 'in hex',
    sub { 'sha256=' . hmac_sha256_hex($_[0], $secret) });
accepted('stripe', 'of the version asked for',
    $element->('t=%s,v0=%s', $now - 50));
refused('stripe', 'of another version', $element->('t=%s,v1=%s', $now - 50));
refused('stripe', 'older than allowed', $element->('t=%s,v0=%s', $now - 75));

like($nginx->output . $nginx->error_log,
    qr/secret "env:NOT_SET" of provider "rotated" is not set, skipped/,
    'a secret that is not set is mentioned');
like($nginx->output . $nginx->error_log,
    qr/"webhook" of provider "without" has no secret: every/,
    'and so is a provider that has none');


# Sends a webhook of its own body, whose X-Sign is what $sign says of it; other
# headers may be functions of the body too.
sub hook {
    my ($provider, $sign, %headers) = @_;

    my $body = '{"id":"job-' . ++$number . '","s":"completed"}';
    $headers{'X-Sign'} = $sign;
    $_ = ref $_ ? $_->($body) : $_ for values %headers;
    delete $headers{'X-Sign'} if $headers{'X-Sign'} eq '';
    return post($nginx->url("/?provider=$provider"), $body, \%headers)
        ->{status};
}

sub accepted {
    my ($provider, $what, @webhook) = @_;
    is(hook($provider, @webhook), 204, "$provider: $what");
}

sub refused {
    my ($provider, $what, @webhook) = @_;
    is(hook($provider, @webhook), 401, "$provider: not $what");
}

sub base64_256 {
    my ($text, $secret) = @_;
    return encode_base64(hmac_sha256($text, $secret), '');
}
