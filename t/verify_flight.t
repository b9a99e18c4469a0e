#!/usr/bin/perl

# vidgen_verify: while the application has a webhook, another copy of it gets
# 503 and is to come again; of many at once exactly one reaches it.
#
# Not under valgrind: it kills, and moves the clock.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 16;

use VidgenTest::Clock;
use VidgenTest::Http qw(many request send_request wait_answer);
use VidgenTest::Nginx;
use VidgenTest::Provider;

my $app = VidgenTest::Provider->new;
my $clock = VidgenTest::Clock->new;

my $nginx = VidgenTest::Nginx->new(
    vars => { APP => $app->url },
    env  => { HOOK_SECRET => $app->secret, $clock->env },
    config => <<'EOT')->start;
%%GLOBALS%%

worker_processes 2;

events { }

http {
    %%HTTP%%

    vidgen_monitor  off;

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

        location / {
            vidgen_verify       p;
            proxy_pass          %%APP%%;
            proxy_read_timeout  1h;
            proxy_set_header    X-Replay $vidgen_replay;
        }
    }
}
EOT

# many at once

$app->answer(delay => 3);
my @request = hook(id => 'job-1');
my @answers = many(20, @request);

is((grep { $_->{status} == 200 } @answers), 1, 'one is passed on');
my @others = grep { $_->{status} == 503 } @answers;
is(@others, 19, 'the others are to come again');
is((grep { ($_->{headers}{'retry-after'} // '') eq '1' } @others), 19,
    'in a second');
is((grep { $_->{json}{code} eq 'in_flight' } @others), 19, 'and know why');
is((grep { $_->{headers}{'x-idempotent-replay'} } @answers), 0,
    'none is a replay');
is(@{ $app->requests }, 1, 'the application got one');

my $answer = request(@request);
is_deeply([$answer->{status}, $answer->{headers}{'x-idempotent-replay'}],
    [200, 'true'], 'and then all are replays');

# different ones do not disturb each other

$app->forget;
$app->answer(delay => 0.1);
@answers = many(map { [hook(id => "other-$_")] } 1 .. 20);
is((grep { $_->{status} == 200 } @answers), 20, 'different ones all pass');

# a worker that dies leaves its claim until the lease ends

$nginx->allow(qr/exited on signal 9/);
$app->forget;
$app->answer(hang => 1);
@request = hook(id => 'job-2');

my $lost = send_request(@request);
$app->wait_requests(1);
$app->answer;
my %before = map { $_ => 1 } $nginx->workers;
kill 'KILL', keys %before;
is(wait_answer($lost)->{status}, 0, 'the workers die');
VidgenTest::Util::wait_for {
    my @now = $nginx->workers;
    @now == 2 && !grep { $before{$_} } @now;
};

is(request(@request)->{status}, 503, 'the claim stays');
$clock->forward(40);
is(request(@request)->{status}, 503, 'for its time');
$clock->forward(21);
$answer = request(@request);
is_deeply([$answer->{status}, $answer->{headers}{'x-idempotent-replay'}],
    [200, undef], 'and then it is passed on');
is(scalar @{ $app->requests }, 2, 'to the application');
$answer = request(@request);
is_deeply([$answer->{status}, $answer->{headers}{'x-idempotent-replay'}],
    [200, 'true'], 'whose answer counts');

# an application that takes longer than the lease may get it twice

$app->forget;
$app->next(delay => 1);
@request = hook(id => 'job-3');
my $slow = send_request(@request);
$app->wait_requests(1);
$clock->forward(61);
is(request(@request)->{status}, 200, 'a second one after the lease');
is(wait_answer($slow)->{status}, 200, 'the first one is answered as well');


sub hook {
    my ($headers, $body) = $app->signed_webhook(@_);
    return ('POST', $nginx->url('/'), $headers, $body);
}
