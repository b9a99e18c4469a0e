#!/usr/bin/perl

# What a client may not ask for: each is refused with its status and code,
# before anything is held, written or sent to a provider.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;
use Test::More;

use VidgenTest::Books qw(customer everything wrong_books);
use VidgenTest::Http qw(post request);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(uuid);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;

my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $pg->edge_conninfo, PROVIDER => $provider->url },
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

    vidgen_provider other {
        base    %%PROVIDER%%;

        submit {
            url     $vidgen_base/$vidgen_model;
            header  X-Note $http_x_note;
            job_id  /request_id;
        }
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        vidgen_webhook_url            https://example.com/hook;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        location = /generate-video { vidgen_generate; }
        location = /fal            { vidgen_generate fal.ai; }
        location = /trusted        { vidgen_generate;
                                     vidgen_user_id $http_x_user; }
        location = /small          { vidgen_generate;
                                     client_max_body_size 100; }
    }
}
EOT

my $user = customer($pg, 10);
my $poor = customer($pg, 0);
my $stranger = uuid();

$pg->query("INSERT INTO models (id, provider, providers,
        credits_per_generation) VALUES
    ('dear', NULL, NULL, 11), ('other-only', NULL, '{other}', 1),
    ('nobody', NULL, '{gone}', 1)");

my %good = (user_id => $user, model_id => 'vision-1', prompt => 'p');
my $coder = JSON::PP->new->utf8->canonical;
my $good = $coder->encode(\%good);


# Members changed; undef: left out.
sub with {
    my %order = (%good, @_);
    delete @order{grep { !defined $order{$_} } keys %order};
    return \%order;
}

# The good order with some JSON text for a member.
sub text { my ($name, $text) = @_; return $good =~ s/\}$/,"$name":$text}/r }


my $json = 'bad_json';
my $field = 'bad_field';
my $key = 'bad_idempotency_key';

# what it is, status, code, body, headers, location
my @refused = (
    # the body as a whole
    ['no body',                400, $json, undef],
    ['empty body',             400, $json, ''],
    ['not JSON',               400, $json, 'user_id=1'],
    ['half of it',             400, $json, substr $good, 0, -5],
    ['something behind it',    400, $json, "$good x"],
    ['two objects',            400, $json, $good . $good],
    ['a comment',              400, $json, "$good // x"],
    ['single quotes',          400, $json, $good =~ tr/"/'/r],
    ['raw NUL',                400, $json, text(x => "\"a\0b\"")],
    ['NUL behind it',          400, $json, "$good\0"],
    ['escaped NUL',            400, $json, text(x => '"a\u0000b"')],
    ['escaped NUL in a name',  400, $json, text('a\u0000b' => '1')],
    ['invalid UTF-8',          400, $json, text(x => "\"\xff\"")],
    ['overlong UTF-8',         400, $json, text(x => "\"\xc0\xaf\"")],
    ['a UTF-8 surrogate',      400, $json, text(x => "\"\xed\xa0\x80\"")],
    ['lone surrogate',         400, $json, text(x => '"\ud800"')],
    ['number over a double',   400, $json, text(x => '1e999')],
    ['integer over 2^63',      400, $json, text(x => '9' x 30)],
    ['duplicate names',        400, $json, text(prompt => '"q"')],
    ['duplicates further in',  400, $json, text(x => '{"a":1,"a":1}')],
    ['33 levels',              400, $json, text(x => nest(32))],
    ['10,000 levels',          400, $json, text(x => nest(10_000))],
    ['10,000 levels, open',    400, $json, '[' x 10_000],
    ['array',                  400, 'not_an_object', "[$good]"],
    ['text',                   400, 'not_an_object', '"a"'],
    ['number',                 400, 'not_an_object', '1'],
    ['null',                   400, 'not_an_object', 'null'],

    # its members
    ['no user_id',             400, $field, with(user_id => undef)],
    ['user_id null',           400, $field, text(user_id => 'null')
                                   =~ s/"user_id":"[^"]+",//r],
    ['user_id empty',          400, $field, with(user_id => '')],
    ['user_id no UUID',        400, $field, with(user_id => 'me')],
    ['user_id and more',       400, $field, with(user_id => "$user ")],
    ['user_id without dashes', 400, $field, with(user_id => $user =~ tr/-//dr)],
    ['user_id in braces',      400, $field, with(user_id => "{$user}")],
    ['user_id a number',       400, $field, with(user_id => 7)],
    ['no model_id',            400, $field, with(model_id => undef)],
    ['model_id empty',         400, $field, with(model_id => '')],
    ['model_id too long',      400, $field, with(model_id => 'm' x 256)],
    ['model_id a number',      400, $field, with(model_id => 7)],
    ['model_id an object',     400, $field, with(model_id => {})],
    ['model_id with LF',       400, $field, with(model_id => "a\nb")],
    ['model_id with DEL',      400, $field, with(model_id => "a\x7f")],
    ['no prompt',              400, $field, with(prompt => undef)],
    ['prompt empty',           400, $field, with(prompt => '')],
    ['prompt too long',        400, $field, with(prompt => 'p' x 16_385)],
    ['prompt too long, UTF-8', 400, $field, with(prompt => "\xe9" x 8_193)],
    ['prompt with BEL',        400, $field, with(prompt => "a\ab")],
    ['prompt an array',        400, $field, with(prompt => ['p'])],
    ['prompt true',            400, $field, text(prompt => 'true')
                                   =~ s/"prompt":"p",//r],
    ['duration 0',             400, $field, with(duration => 0)],
    ['duration -1',            400, $field, with(duration => -1)],
    ['duration 3601',          400, $field, with(duration => 3601)],
    ['duration 5.0',           400, $field, text(duration => '5.0')],
    ['duration 5e0',           400, $field, text(duration => '5e0')],
    ['duration a text',        400, $field, with(duration => '5')],
    ['duration 2^32 + 5',      400, $field, with(duration => 4294967301)],
    ['duration null',          400, $field, text(duration => 'null')],
    ['ratio 16',               400, $field, with(aspect_ratio => '16')],
    ['ratio 16:',              400, $field, with(aspect_ratio => '16:')],
    ['ratio :9',               400, $field, with(aspect_ratio => ':9')],
    ['ratio 16:9:1',           400, $field, with(aspect_ratio => '16:9:1')],
    ['ratio 16x9',             400, $field, with(aspect_ratio => '16x9')],
    ['ratio too long',         400, $field,
                                   with(aspect_ratio => '1' x 15 . ':1')],
    ['ratio a number',         400, $field, with(aspect_ratio => 1)],
    ['provider empty',         400, $field, with(provider => '')],
    ['provider a number',      400, $field, with(provider => 1)],
    ['provider too long',      400, $field, with(provider => 'p' x 64)],

    # what is asked for
    ['unknown provider',       400, 'unknown_provider',
                                   with(provider => 'fal')],
    ['one not of this place',  400, 'unknown_provider',
                                   with(provider => 'other'), {}, '/fal'],
    ['unknown model',          400, 'unknown_model',
                                   with(model_id => 'no-such')],
    ['not for this model',     400, 'wrong_provider',
                                   with(model_id => 'other-only',
                                        provider => 'fal.ai')],
    ['nobody has this model',  503, 'no_provider',
                                   with(model_id => 'nobody')],
    ['a header with TAB',      400, $field, with(), { 'X-Note' => "a\tb" }],

    # Idempotency-Key
    ['key empty',              400, $key, with(),
                                   { 'Idempotency-Key' => '' }],
    ['key ""',                 400, $key, with(),
                                   { 'Idempotency-Key' => '""' }],
    ['key too long',           400, $key, with(),
                                   { 'Idempotency-Key' => 'k' x 256 }],
    ['key with TAB',           400, $key, with(),
                                   { 'Idempotency-Key' => "k\tk" }],
    ['key not ASCII',          400, $key, with(),
                                   { 'Idempotency-Key' => "k\xc3\xa9" }],
    ['two keys',               400, $key, with(),
                                   ['Idempotency-Key', 'k',
                                    'Idempotency-Key', 'k']],

    # credits
    ['no credits',             400, 'insufficient_credits',
                                   with(user_id => $poor)],
    ['no such user',           400, 'insufficient_credits',
                                   with(user_id => $stranger)],
    ['too dear',               400, 'insufficient_credits',
                                   with(model_id => 'dear')],
    ['key, no credits',        400, 'insufficient_credits',
                                   with(user_id => $poor),
                                   { 'Idempotency-Key' => 'poor' }],

    # who asks
    ['another user',           403, 'wrong_user', with(),
                                   { 'X-User' => $stranger }, '/trusted'],
    ['nobody',                 403, 'wrong_user', with(), {}, '/trusted'],
    ['no UUID as the user',    403, 'wrong_user', with(user_id => undef),
                                   { 'X-User' => 'me' }, '/trusted'],
);

my @wrong_methods = qw(GET PUT DELETE PATCH OPTIONS);

plan tests => 2 * @refused + 2 * @wrong_methods + 11;

$pg->query("DELETE FROM models WHERE id = '*'; INSERT INTO models (id)
    VALUES ('vision-1')");
my $before = everything($pg);

for my $case (@refused) {
    my ($what, $status, $code, $body, $headers, $location) = @$case;
    my @headers = ref $headers eq 'ARRAY' ? @$headers : %{ $headers // {} };
    my $answer = request('POST', $nginx->url($location // '/generate-video'),
        \@headers, ref $body ? $coder->encode($body) : $body);

    is("$answer->{status} " . ($answer->{json}{code} // ''), "$status $code",
        $what);
    is(everything($pg), $before, "$what: nothing is written");
}

for my $method (@wrong_methods) {
    my $answer = request($method, $nginx->url('/generate-video'), {}, $good);
    is("$answer->{status} $answer->{json}{code}", '405 wrong_method', $method);
    is($answer->{headers}{allow}, 'POST', "$method: what is allowed");
}

my $answer = request('HEAD', $nginx->url('/generate-video'));
is("$answer->{status} $answer->{headers}{allow}", '405 POST', 'HEAD');
is(post($nginx->url('/small'), with(prompt => 'p' x 100))->{status}, 413,
    'a body that is too large');
like(post($nginx->url('/generate-video'), with(duration => 0))->{body},
    qr/^\{"error":"[^"]*duration[^"]*","code":"bad_field"\}$/,
    'an error is a sentence and a code');

is(everything($pg), $before, 'nothing is written for these either');
is_deeply($provider->requests, [], 'and no provider was asked');

# the limits themselves

my @accepted = (
    ['the longest',    with(prompt => 'p' x 16_384, duration => 3600,
                            aspect_ratio => '1' x 14 . ':1')],
    ['32 levels',      text(x => nest(31))],
    ['white space',    "\r\n\t $good \n"],
    ['trusted user',   with(user_id => undef), { 'X-User' => uc $user },
                       '/trusted'],
    ['the same twice', with(user_id => uc $user), { 'X-User' => $user },
                       '/trusted'],
);

for my $case (@accepted) {
    my ($what, $body, $headers, $location) = @$case;
    is(post($nginx->url($location // '/generate-video'), $body,
        $headers)->{status}, 200, "accepted: $what");
}

is_deeply([wrong_books($pg)], [], 'the books are right');


sub nest { my ($depth) = @_; return '[' x $depth . ']' x $depth }
