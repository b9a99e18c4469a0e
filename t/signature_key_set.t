#!/usr/bin/perl

# Signatures by a key of a set that stands in vidgen_state_path, without a
# monitor: which keys of it count, what a set may look like, and that nothing is
# believed while there is none.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;
use MIME::Base64 qw(encode_base64url);
use Test::More tests => 28;

use VidgenTest::Ed25519;
use VidgenTest::Http qw(post);
use VidgenTest::Nginx;

my ($key, $other, $own) = map { VidgenTest::Ed25519->new } 1 .. 3;
my $number = 0;

my $nginx = VidgenTest::Nginx->new(
    env => { OWN_PUBLIC => unpack('H*', $own->public) },
    config => <<'EOT');
%%GLOBALS%%

events { }

http {
    %%HTTP%%

    vidgen_monitor off;

    vidgen_provider keys {
        webhook {
            signature  ed25519 header=X-Signature
                       jwks=https://keys.example/jwks.json;
            job_id     /id;
            status     /status;
        }
    }

    vidgen_provider both {
        webhook {
            signature  ed25519 header=X-Signature key=hex
                       jwks=https://keys.example/jwks.json;
            secret     env:OWN_PUBLIC;
            job_id     /id;
            status     /status;
        }
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

mkdir $nginx->prefix . '/state' or die $!;

# no set

$nginx->start;
is(hook('keys', $key), 503, 'no set: not now');
is(hook('keys', undef), 503, 'whatever is signed');
is(hook('both', $own), 204, 'a secret besides counts');
is(hook('both', $key), 401, 'and nothing else');

# one of several keys, in the company of others

my @others = (
    { kty => 'RSA', kid => 'r', n => 'AQAB', e => 'AQAB' },
    { kty => 'EC', crv => 'P-256', x => $key->jwk->{x}, y => 'AAAA' },
    { kty => 'OKP', crv => 'X25519', x => $other->jwk->{x} },
    { kty => 'OKP', crv => 'Ed25519' },
    { kty => 'OKP', crv => 'Ed25519', x => 'AAAA' },
    { kty => 'OKP', crv => 'Ed25519', x => 17 },
    'a text', undef, [],
);
is(reloaded({ keys => [@others, $other->jwk, $key->jwk], more => 1 }), 1,
    'a set, at a reload');
is(hook('keys', $key), 204, 'a key of it');
is(hook('keys', $other), 204, 'another key of it');
is(hook('keys', $own), 401, 'a key that is not in it');
is(hook('keys', undef), 401, 'no signature');
is(hook('keys', $key, '0'), 401, 'another text');
is(hook('both', $key), 401, 'a set is of one provider');

is(reloaded({ keys => [$key->jwk(kid => 'a', use => 'sig', alg => 'EdDSA')] },
    'both'), 1, 'a set for the other provider');
is(hook('both', $key), 204, 'its key');
is(hook('both', $own), 204, 'and the secret still');

# keys that are gone, keys beyond the first sixteen

is(reloaded({ keys => [$other->jwk] }), 1, 'a set without the first key');
is(hook('keys', $key), 401, 'which is believed no more');
is(hook('keys', $other), 204, 'unlike the other');

my @many = map { { kty => 'OKP', crv => 'Ed25519',
    x => encode_base64url(chr($_) x 32) } } 1 .. 15;
is(reloaded({ keys => [@many, $key->jwk, $other->jwk] }), 1, 'many keys');
is(hook('keys', $key), 204, 'the sixteenth counts');
is(hook('keys', $other), 401, 'the next one does not');

# sets that are none

for my $set (['is empty', ''], ['is no JSON', '{"keys":'],
    ['is a list', [$key->jwk]], ['has no keys', { keys => [] }],
    ['has no key of this kind', { keys => [@others] }],
    ['is too long', { keys => [$key->jwk(kid => 'x' x 70_000)] }])
{
    my ($name, $data) = @$set;
    reloaded($data);
    is(hook('keys', $key), 503, "a set that $name");
}

ok($nginx->wait_log(qr{\[error\] .*/state/keys\.jwks\.json" is of no use}),
    'is logged');
unlink $nginx->prefix . '/state/keys.jwks.json';
$nginx->reload(wait => 1);
is(hook('keys', $key), 503, 'and none again');


# Puts a key set into its place and reloads.
sub reloaded {
    my ($set, $provider) = @_;
    $set = JSON::PP->new->canonical->encode($set) if ref $set;
    $nginx->write_file('state/' . ($provider // 'keys') . '.jwks.json', $set);
    return $nginx->reload(wait => 1);
}

# A webhook signed by a key; $more stands after what was signed.
sub hook {
    my ($provider, $key, $more) = @_;
    my $body = '{"id":"k-' . ++$number . '"}';
    my %headers = $key ? ('X-Signature' => unpack 'H*', $key->sign($body)) : ();
    return post($nginx->url("/?provider=$provider"), $body . ($more // ''),
        \%headers)->{status};
}
