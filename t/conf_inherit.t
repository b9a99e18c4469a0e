#!/usr/bin/perl

# Directives pass from http to server to location; "if" and "limit_except"
# blocks still run the handler of their location; servers differ.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 21;

use VidgenTest::Books qw(customer wrong_books);
use VidgenTest::Http qw(get post request);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $alpha = VidgenTest::Provider->new(prefix => 'alpha');
my $beta = VidgenTest::Provider->new(prefix => 'beta');

my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $pg->edge_conninfo, ALPHA => $alpha->url,
        BETA => $beta->url },
    env => { TEST_SECRET => 'webhook-secret' },
    config => <<'EOT')->start;
%%GLOBALS%%

events { }

http {
    %%HTTP%%

    vidgen_database "%%DB%%";

    vidgen_provider alpha {
        base %%ALPHA%%;
        submit {
            url     $vidgen_base/submit;
            body    /webhook_url  $vidgen_webhook_url;
            job_id  /request_id;
        }
        webhook {
            signature  hmac-sha256 header=X-Signature;
            secret     env:TEST_SECRET;
            job_id     /request_id;
            status     /status;
            video_url  /output/video_url;
        }
    }
    vidgen_provider beta {
        base %%BETA%%;
        submit {
            url     $vidgen_base/submit;
            body    /webhook_url  $vidgen_webhook_url;
            job_id  /request_id;
        }
    }

    vidgen_webhook_url            https://http.test/hook;
    vidgen_user_id                $http_x_user;
    vidgen_next_provider          off;
    vidgen_attempt_timeout        3s;
    proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;

    server {
        listen 127.0.0.1:%%PORT%%;
        include %%PROVIDERS%%/vidgen_pass.conf;

        location = /generate { vidgen_generate; }

        location = /long {
            vidgen_attempt_timeout 20s;
            vidgen_generate;
        }

        location = /if {
            vidgen_generate beta;

            if ($arg_a) {
                set $a $arg_a;
            }
            if ($arg_stop) {
                return 402;
            }
        }

        location = /limit {
            vidgen_generate beta;

            limit_except PUT {
                allow all;
            }
        }

        location = /denied {
            vidgen_generate beta;

            limit_except GET {
                deny all;
            }
        }

        location = /webhook {
            vidgen_webhook;

            if ($arg_a) {
                set $a $arg_a;
            }
        }

        location /jobs/ {
            vidgen_job;

            if ($arg_a) {
                set $a $arg_a;
            }
        }

        location /outer/ {
            vidgen_generate;

            location /outer/inner/ {
                return 204;
            }

            location /outer/plain/ { }
        }
    }

    server {
        listen 127.0.0.1:%%PORT_SECOND%%;

        vidgen_pass          /_ask;
        vidgen_webhook_url   https://server.test/hook;
        vidgen_next_provider http_5xx;

        location = /_ask {
            internal;
            proxy_pass                 $vidgen_url;
            proxy_set_header           X-Server second;
            proxy_ignore_client_abort  on;
            proxy_ignore_headers       X-Accel-Redirect;
        }

        location = /generate {
            vidgen_webhook_url https://location.test/hook;
            vidgen_user_id $arg_user;
            vidgen_generate;
        }

        location = /beta { vidgen_generate beta alpha; }
    }
}
EOT

my $user = customer($pg, 100);
my %order = (user_id => $user, model_id => 'm', prompt => 'p');

sub generate {
    my ($uri, %opt) = @_;
    return post($nginx->url($uri, $opt{port}),
        { %order, provider => $opt{provider} // 'alpha' },
        { 'X-User' => $opt{user} // $user });
}

sub hook { ($_[0]->requests->[-1]{body} =~ m{"(https://[a-z.]+/hook)})[0] }

# from http, over a server and a location

my $answer = generate('/generate');
is($answer->{status}, 200, 'a location without directives of its own');
my $job = $answer->{json}{job_id};
is(hook($alpha), 'https://http.test/hook', 'the webhook URL of http');
is(generate('/generate', user => $job)->{status}, 403,
    'the user of http');

$alpha->next(status => 503);
is(generate('/generate')->{status}, 502, 'a failure');
is(@{ $beta->requests }, 0, 'does not move on: vidgen_next_provider of http');

$alpha->next(hang => 1);
is(generate('/generate')->{status}, 202, 'the timeout of http');
$alpha->next(delay => 4);
is(generate('/long')->{status}, 200, "a location's own");

# if and limit_except

is(generate('/if?a=1', provider => 'beta')->{status}, 200,
    'an "if" block runs the handler');
is(hook($beta), 'https://http.test/hook', 'with what it inherits');
is(generate('/if?a=1')->{status}, 400, 'with its providers');
is(generate('/if?stop=1')->{status}, 402, 'one that returns does not');
$answer = generate('/limit', provider => 'beta');
is("$answer->{status} $answer->{json}{provider}", '200 beta',
    'a "limit_except" block runs the handler, with its providers');
is(generate('/denied', provider => 'beta')->{status}, 403, 'unless it denies');

my ($headers, $body) = $alpha->signed_webhook(
    id => $alpha->requests->[0]{id});
is(post($nginx->url('/webhook?a=1'), $body, $headers)->{status}, 200,
    'a webhook in an "if" block');
is(get($nginx->url("/jobs/$job?a=1"), { 'X-User' => $user })
    ->{json}{status}, 'completed', 'a job in an "if" block');

# a nested location is another one

is(generate('/outer/')->{status}, 200, 'a location that has others in it');
is_deeply([map { generate($_)->{status} } qw(/outer/inner/ /outer/plain/)],
    [204, 404], 'whose requests are their own');

# another server

$answer = generate("/generate?user=$user", port => 'SECOND', user => $job);
is("$answer->{status} " . hook($alpha), '200 https://location.test/hook',
    'a location, a server and http that differ');
is($alpha->requests->[-1]{headers}{'x-server'}, 'second',
    'through its own vidgen_pass location');

$beta->next(status => 503);
$answer = generate('/beta', port => 'SECOND', provider => 'beta');
is("$answer->{status} $answer->{json}{provider} " . hook($alpha),
    '200 alpha https://server.test/hook', 'its own vidgen_next_provider');

is_deeply([wrong_books($pg)], [], 'the books are right');
