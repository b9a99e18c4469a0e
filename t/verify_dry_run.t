#!/usr/bin/perl

# vidgen_dry_run: everything reaches the application, what would have been
# held back is marked, and only what is genuine leaves a trace in the zone.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 20;

use VidgenTest::Http qw(request send_request wait_answer);
use VidgenTest::Nginx;
use VidgenTest::Provider;

my $app = VidgenTest::Provider->new;

my $nginx = VidgenTest::Nginx->new(
    vars => { APP => $app->url },
    env  => { HOOK_SECRET => $app->secret },
    config => <<'EOT')->start;
%%GLOBALS%%

events { }

http {
    %%HTTP%%

    vidgen_monitor  off;

    vidgen_dry_run  on;

    vidgen_provider p {
        webhook {
            signature  hmac-sha256 header=X-Signature;
            secret     env:HOOK_SECRET;
            job_id     /request_id;
            status     /status;
            options    204;
        }
    }

    vidgen_provider unset {
        webhook {
            signature  hmac-sha256 header=X-Signature;
            job_id     /request_id;
            status     /status;
        }
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        proxy_set_header X-Verified $vidgen_verified;
        proxy_set_header X-Replay   $vidgen_replay;
        proxy_set_header X-Outcome  $vidgen_outcome;
        proxy_set_header X-Job      $vidgen_job_id;

        location / {
            vidgen_verify  $arg_p;
            proxy_pass     %%APP%%;
        }

        location /strict {
            vidgen_verify   p;
            vidgen_dry_run  off;
            proxy_pass      %%APP%%;
        }

        location /handed-on {
            vidgen_verify           p;
            proxy_pass              %%APP%%;
            proxy_intercept_errors  on;
            error_page              503 = @strict;
        }

        location @strict {
            vidgen_verify   p;
            vidgen_dry_run  off;
            proxy_pass      %%APP%%;
        }
    }
}
EOT

my ($headers, $body) = $app->signed_webhook(id => 'job-1');
my %forged = ('X-Signature' => 'f' x 64);

# what would have been refused

seen('0 0 bad_signature ', 'a wrong signature', '/?p=p', \%forged);
like($nginx->error_log, qr/\[warn\] .* vidgen: dry run: .*provider "p"/,
    'is logged');
seen('0 0 bad_signature ', 'and again', '/?p=p', \%forged);
seen('0 0 bad_signature ', 'no signature', '/?p=p', {});
seen('0 0 bad_signature ', 'no secret', '/?p=unset', $headers);
seen('0 0 unknown_provider ', 'an unknown provider', '/?p=none', $headers);

is(request('GET', $nginx->url('/?p=p'))->{status}, 200, 'a GET');
is($app->requests->[-1]{headers}{'x-verified'}, 0, 'is not verified');

# what is genuine

seen('1 0 passed job-1', 'a genuine one', '/?p=p', $headers);
seen('1 1 replay job-1', 'a replay', '/?p=p', $headers);
like($nginx->error_log, qr/\[notice\] .* vidgen: dry run: .*: replay,/,
    'is logged');

($headers, $body) = $app->signed_webhook(id => 'job-2');
$app->forget;
$app->next(wait => 1);
my $call = send_request('POST', $nginx->url('/?p=p'), $headers, $body);
$app->wait_requests(1);
seen('1 0 in_flight job-2', 'one that is in flight', '/?p=p', $headers);
$app->release;
is(wait_answer($call)->{status}, 200, 'and its original');
seen('1 1 replay job-2', 'which is done then', '/?p=p', $headers);

is(request('OPTIONS', $nginx->url('/?p=p'))->{status}, 204,
    'OPTIONS as configured');

# elsewhere it is off, also after a redirect inside

is(request('POST', $nginx->url('/strict'), \%forged, $body)->{status}, 401,
    'off');
$app->next(status => 503);
my $before = @{ $app->requests };
is(request('POST', $nginx->url('/handed-on'), \%forged, $body)->{status}, 401,
    'what was passed on unverified is verified where it is off');
is(@{ $app->requests } - $before, 1, 'and got no further');
$app->next(status => 503);
is(request('POST', $nginx->url('/handed-on'), $headers, $body)->{status}, 200,
    'what is genuine does');

unlike($nginx->error_log, qr/\Q${\ $app->secret }\E/, 'no secret in the log');


sub seen {
    my ($expected, $what, $uri, $headers) = @_;
    my $answer = request('POST', $nginx->url($uri), $headers, $body);
    my $got = $app->requests->[-1];
    is_deeply([$answer->{status}, $got->{body}, join ' ',
        map { $got->{headers}{"x-$_"} // '' } qw(verified replay outcome job)],
        [200, $body, $expected], $what);
}
