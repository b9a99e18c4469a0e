#!/usr/bin/perl

# allow, deny, auth_request and satisfy any on our locations: what they refuse
# is neither read nor claimed, and a signature does not stand in for them.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 25;

use VidgenTest::Books qw(customer everything wrong_books);
use VidgenTest::Http qw(post raw request);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;

my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $pg->edge_conninfo, APP => $provider->url },
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

    vidgen_database "%%DB%%";
    vidgen_monitor  off;
    include         %%PROVIDERS%%/fal.conf;

    server {
        listen 127.0.0.1:%%PORT%%;

        lingering_timeout             100ms;
        vidgen_webhook_url            http://127.0.0.1:%%PORT%%/hook;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        location /denied/ {
            deny all;

            location = /denied/generate { vidgen_generate; }
            location = /denied/hook     { vidgen_webhook; }

            location = /denied/verify {
                vidgen_verify  fal.ai;
                proxy_pass     %%APP%%;
            }
        }

        location /asked/ {
            auth_request  /auth;

            location = /asked/generate {
                auth_request_set  $user $upstream_http_x_user;
                vidgen_user_id    $user;
                vidgen_generate;
            }

            location = /asked/hook { vidgen_webhook; }

            location = /asked/verify {
                vidgen_verify  fal.ai;
                proxy_pass     %%APP%%;
            }
        }

        location /any/ {
            satisfy       any;
            deny          all;
            auth_request  /auth;

            location = /any/hook { vidgen_webhook; }

            location = /any/verify {
                vidgen_verify  fal.ai;
                proxy_pass     %%APP%%;
            }
        }

        location /any-allowed/ {
            satisfy       any;
            allow         127.0.0.1;
            deny          all;
            auth_request  /auth;

            location = /any-allowed/hook { vidgen_webhook; }

            location = /any-allowed/verify {
                vidgen_verify  fal.ai;
                proxy_pass     %%APP%%;
            }
        }

        location = /auth {
            internal;
            proxy_pass               http://127.0.0.1:%%PORT_AUTH%%;
            proxy_pass_request_body  off;
            proxy_set_header         Content-Length "";
        }
    }

    server {
        listen 127.0.0.1:%%PORT_AUTH%%;

        add_header X-User $http_x_user;
        if ($http_x_pass = "") { return 401; }
        return 204;
    }
}
EOT

my $user = customer($pg, 10);
$pg->query("INSERT INTO models (id, credits_per_generation)
    VALUES ('m', 1)");
my %order = (user_id => $user, model_id => 'm', prompt => 'p');
my %pass = ('X-Pass' => 'yes', 'X-User' => $user);

my $answer = post($nginx->url('/asked/generate'), \%order, \%pass);
is($answer->{status}, 200, 'a generation');
my $id = $provider->requests->[0]{id};
my ($headers, $body) = $provider->signed_webhook(id => $id);

# refused, although it is genuine

for my $case ([denied => 403], [asked => 401], [any => 401]) {
    my ($where, $status) = @$case;
    refused($status, "/$where/$_", $headers) for qw(hook verify);
    like(raw($nginx->url, "POST /$where/verify HTTP/1.1\r\nHost: a\r\n"
        . "Content-Length: 100000\r\nConnection: close\r\n\r\n"),
        qr{^HTTP/1\.1 $status}, "/$where/verify: before the body is there");
}
refused(403, '/denied/generate', {}, \%order);
refused(401, '/asked/generate', {}, \%order);

# let in, but it is not genuine

for my $where (qw(asked any any-allowed)) {
    my %forged = (%pass, 'X-Signature' => 'f' x 64);
    refused(401, "/$where/$_", \%forged) for qw(hook verify);
}

# let in and genuine, and new in spite of all that was before

is(hook('/any/verify', { %$headers, %pass })->{status}, 200, 'any, verify');
is(hook('/any-allowed/verify', $headers)->{status}, 200,
    'any of the two, verify');
$answer = hook('/asked/hook', { %$headers, %pass });
is_deeply([$answer->{status}, $answer->{headers}{'x-idempotent-replay'}],
    [200, undef], 'asked, webhook');
is($pg->value('SELECT status FROM video_jobs'), 'completed', 'which counts');
is(hook('/asked/verify', { %$headers, %pass })->{headers}{
    'x-idempotent-replay'}, undef, 'asked, verify');

is(post($nginx->url('/asked/generate'), { %order,
    user_id => '00000000-0000-4000-8000-000000000000' }, \%pass)->{status},
    403, 'another user than auth_request says');

is_deeply([wrong_books($pg)], [], 'the books are right');


sub hook {
    my ($uri, $headers) = @_;
    return request('POST', $nginx->url($uri), $headers, $body);
}

sub refused {
    my ($status, $uri, $headers, $order) = @_;
    my $before = everything($pg);
    my $asked = @{ $provider->requests };
    my $answer = $order ? post($nginx->url($uri), $order, $headers)
        : hook($uri, $headers);
    ok($answer->{status} == $status && everything($pg) eq $before
        && @{ $provider->requests } == $asked,
        "$uri: $status and nothing else") or diag($answer->{status});
}
