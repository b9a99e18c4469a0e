#!/usr/bin/perl

# vidgen_verify: only a 2xx that leaves for the provider makes a webhook done;
# after anything else the provider's next try reaches the application.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 31;

use VidgenTest::Http qw(leave request send_request);
use VidgenTest::Http2;
use VidgenTest::Nginx;
use VidgenTest::Provider;
use VidgenTest::Util qw(free_port wait_for);

my $app = VidgenTest::Provider->new;
my $fallback = VidgenTest::Provider->new;

my $nginx = VidgenTest::Nginx->new(
    vars => { APP => $app->url, FALLBACK => $fallback->url,
        NOBODY => '127.0.0.1:' . free_port() },
    env  => { HOOK_SECRET => $app->secret },
    config => <<'EOT')->start;
%%GLOBALS%%

events { }

http {
    %%HTTP%%

    vidgen_monitor  off;

    log_format  outcome "$status $vidgen_outcome $vidgen_verified";
    access_log  %%PREFIX%%/outcome.log outcome;

    vidgen_provider p {
        webhook {
            signature  hmac-sha256 header=X-Signature;
            secret     env:HOOK_SECRET;
            job_id     /request_id;
            status     /status;
        }
    }

    server {
        listen 127.0.0.1:%%PORT%%;
        listen 127.0.0.1:%%PORT_H2%% http2;

        location / {
            vidgen_verify  p;
            proxy_pass     %%APP%%;
        }

        location /timeout/ {
            vidgen_verify       p;
            proxy_pass          %%APP%%/;
            proxy_read_timeout  2s;
        }

        location /nobody/ {
            vidgen_verify  p;
            proxy_pass     http://%%NOBODY%%/;
        }

        location /named/ {
            vidgen_verify           p;
            proxy_pass              %%APP%%;
            proxy_intercept_errors  on;
            error_page              502 503 504 = @fallback;
        }

        location @fallback {
            vidgen_verify  p;
            proxy_pass     %%FALLBACK%%;
        }

        location /page/ {
            vidgen_verify           p;
            proxy_pass              %%APP%%;
            proxy_intercept_errors  on;
            error_page              500 =200 /swallowed;
        }

        location /swallowed { return 200 "all right"; }

        location /accel/ {
            vidgen_verify  p;
            proxy_pass     %%APP%%;
        }

        location /inside/ {
            internal;
            return 418;
        }
    }
}
EOT

# answers that are no success

for my $status (301, 304, 400, 404, 409, 429, 500, 503) {
    $app->next(status => $status, body => 'no');
    retried("status $status", '/', $status);
}
my @log;
wait_for { @log = split /\n/, $nginx->read_file('outcome.log'); @log == 16 };
is_deeply([@log[-2, -1]], ['503 released 1', '200 passed 1'],
    'the log tells released from passed');

# no answer

$app->next(drop => 'after');
retried('a connection that is closed', '/', 502);
$app->next(hang => 1);
retried('no answer in time', '/timeout/', 504);

my @request = hook('/nobody/', id => 'nobody');
is(request(@request)->{status}, 502, 'nobody there');
is(request(@request)->{status}, 502, 'and again');

# the client leaves before there is an answer

for my $reset (0, 1) {
    $app->forget;
    $app->next(hang => 1);
    my @request = hook('/', id => "left-$reset");
    my $call = send_request(@request);
    $app->wait_requests(1);
    leave($call, $reset);
    my $answer;
    wait_for { ($answer = request(@request))->{status} == 200 };
    is($answer->{status}, 200, 'a client that left comes again');
    ok(!$answer->{headers}{'x-idempotent-replay'}, 'to the application');
}

$app->forget;
$app->next(hang => 1);
my (undef, undef, $headers, $body) = hook('/', id => 'left-h2');
my $h2 = VidgenTest::Http2->new($nginx->url('', 'H2'));
$h2->begin('POST', '/', $headers, $body);
$app->wait_requests(1);
$h2->cancel;
my $answer;
wait_for {
    $answer = request('POST', $nginx->url('/'), $headers, $body);
    $answer->{status} == 200;
};
is($answer->{status}, 200, 'after a stream of HTTP/2 was cancelled, too');
ok(!$answer->{headers}{'x-idempotent-replay'}, 'to the application');

# once the header has been sent, it is done

$app->next(drop => 'middle');
@request = hook('/', id => 'middle');
is(request(@request)->{truncated}, 1, 'an answer that breaks off');
ok(request(@request)->{headers}{'x-idempotent-replay'}, 'was a success');

# error pages: what leaves decides

$app->forget;
$app->next(status => 503);
@request = hook('/named/', id => 'named');
is(request(@request)->{status}, 200, 'another application takes over');
is(scalar @{ $fallback->requests }, 1, 'and gets the webhook');
is($fallback->requests->[0]{body}, $request[3], 'with its body');
ok(request(@request)->{headers}{'x-idempotent-replay'}, 'its answer counts');

$fallback->next(status => 500);
$app->next(status => 503);
@request = hook('/named/', id => 'named-2');
is(request(@request)->{status}, 500, 'the other one fails, too');
is(request(@request)->{status}, 200, 'the next try is passed on');

$app->next(status => 500);
@request = hook('/page/', id => 'swallowed');
is(request(@request)->{status}, 200, 'a page that hides the failure');
ok(request(@request)->{headers}{'x-idempotent-replay'},
    'makes it a success: the provider will not come again');

$app->next(status => 200, headers => { 'X-Accel-Redirect' => '/inside/' });
@request = hook('/accel/', id => 'accel');
is(request(@request)->{status}, 418, 'a redirect inside');
ok(!request(@request)->{headers}{'x-idempotent-replay'},
    'is judged at its end');


sub hook {
    my ($uri, @args) = @_;
    my ($headers, $body) = $app->signed_webhook(@args);
    return ('POST', $nginx->url($uri), $headers, $body);
}

# a webhook that is answered with $status at first, then passed on once more
sub retried {
    my ($what, $uri, $status) = @_;
    my @request = hook($uri, id => $what);
    my $first = request(@request);
    my $before = @{ $app->requests };
    my $second = request(@request);
    is_deeply([$first->{status}, $second->{status},
        @{ $app->requests } - $before,
        $second->{headers}{'x-idempotent-replay'}],
        [$status, 200, 1, undef], $what);
}
