#!/usr/bin/perl

# What a definition makes of a generation: typed members of the body, those
# that are left out, values in URL, query and headers, and variables of nginx
# that differ by provider.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 9;

use VidgenTest::Books qw(customer);
use VidgenTest::Http qw(post);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;

my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $pg->edge_conninfo, PROVIDER => $provider->url },
    env  => { SOME_API_KEY => 'test-api-key' },
    config => <<'EOT')->start;
%%GLOBALS%%

events { }

http {
    %%HTTP%%

    map "$vidgen_provider $vidgen_model" $model_there {
        "typed vision/1 é?"  "typed-model";
        "other vision/1 é?"  "other-model";
        default              "none";
    }

    map $http_x_seed $seed {
        ~^[0-9]+$  $http_x_seed;
    }

    vidgen_database "%%DB%%" timeout=1m;
    vidgen_monitor  off;

    vidgen_provider typed {
        base     %%PROVIDER%%/base;
        api_key  env:SOME_API_KEY;
        header   X-Key "k $vidgen_api_key";

        submit {
            url     $vidgen_base/models/$vidgen_model/jobs;
            query   callback  $vidgen_webhook_url;
            query   seed      $seed;
            header  X-Attempt $vidgen_attempt_id;

            body    /input/prompt       $vidgen_prompt;
            body    /input/seconds      $vidgen_duration integer;
            body    /input/half         0.5 number;
            body    /input/text         $vidgen_duration;
            body    /input/audio        true boolean;
            body    /input/options      '{"a": [1, null]}' json;
            body    /input/images/0     first;
            body    /input/images/1     second;
            body    /input/a~1b         $vidgen_aspect_ratio;
            body    /model              $model_there;
            body    /seed               $seed integer when_set;
            body    /user               $vidgen_user;

            job_id  /data/id;
        }
    }

    vidgen_provider other {
        base  %%PROVIDER%%/other/;

        submit {
            url     $vidgen_base/new;
            body    /model  $model_there;
            job_id  /request_id;
        }
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        vidgen_webhook_url            https://example.com/hook;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        location /typed { vidgen_generate typed; }
        location /other { vidgen_generate other; }
    }
}
EOT

my $user = customer($pg, 10);
my %order = (user_id => uc $user, model_id => "vision/1 \xe9?",
    prompt => 'p', duration => 12, aspect_ratio => '9:16');

$provider->answer(body => '{"data":{"id":12345678901234567890123}}');
my $answer = post($nginx->url('/typed'), \%order);
is($answer->{status}, 200, 'accepted');
is($answer->{body}, qq({"job_id":"$answer->{json}{job_id}",)
    . '"provider":"typed","status":"queued"}',
    'no estimated time where the definition has none');

my $attempt = $pg->value('SELECT id FROM vidgen.attempts');
is($pg->value('SELECT provider_job_id FROM vidgen.attempts'),
    '12345678901234567890123', 'a numeric id keeps all its digits');

my $got = $provider->requests->[0];
is($got->{uri}, '/base/models/vision%2F1%20%C3%A9%3F/jobs'
    . '?callback=https%3A%2F%2Fexample.com%2Fhook%3Fprovider%3Dtyped'
    . "%26attempt%3D$attempt", 'escaped values in the URL');
is("$got->{headers}{'x-key'}, $got->{headers}{'x-attempt'}",
    "k test-api-key, $attempt", 'the headers of both blocks');
is($got->{body}, '{"input":{"prompt":"p","seconds":12,"half":0.5,'
    . '"text":"12","audio":true,"options":{"a":[1,null]},'
    . '"images":["first","second"],"a/b":"9:16"},"model":"typed-model",'
    . qq("user":"$user"}), 'the body, without what is not set');

post($nginx->url('/typed'), \%order, { 'X-Seed' => '7' });
$got = $provider->requests->[1];
like($got->{body}, qr/"model":"typed-model","seed":7,"user"/,
    'with what is set');
like($got->{uri}, qr/%26attempt%3D[-0-9a-f]{36}&seed=7$/,
    'and its argument');

$provider->forget;
post($nginx->url('/other'), \%order);
is($provider->requests->[0]{uri} . ' ' . $provider->requests->[0]{body},
    '/other/new {"model":"other-model"}',
    'a map is evaluated for each provider');
