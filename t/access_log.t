#!/usr/bin/perl

# What the access log tells of vidgen_verify, also where a condition of it
# uses our variables; what is refused before has none.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 2;

use VidgenTest::Http qw(request send_request wait_answer);
use VidgenTest::Nginx;
use VidgenTest::Provider;
use VidgenTest::Util qw(wait_for);

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

    log_format  all  "$request_method $uri $status $vidgen_outcome "
                     "$vidgen_provider $vidgen_verified $vidgen_replay "
                     "$vidgen_job_id $vidgen_job_status "
                     "$vidgen_provider_job_id $vidgen_attempts "
                     "$vidgen_db_time $vidgen_body";
    log_format  odd  escape=json '{"job":"$vidgen_job_id"}';

    map $vidgen_outcome $is_odd {
        passed   0;
        replay   0;
        default  1;
    }

    access_log  %%PREFIX%%/all.log all;
    access_log  %%PREFIX%%/odd.log odd if=$is_odd;

    vidgen_provider p {
        webhook {
            signature  hmac-sha256 header=X-Signature;
            secret     env:HOOK_SECRET;
            job_id     /request_id;
            status     /status;
            challenge  /challenge;
            options    200;
        }
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        location / {
            vidgen_verify  $arg_p;
            proxy_pass     %%APP%%;
        }

        location /denied { deny all; vidgen_verify p; proxy_pass %%APP%%; }
        location /else   { return 204; }
    }
}
EOT

my @expected;

logged('POST / 200 passed p 1 0 a"b completed a"b - - -', id => 'a"b');
logged('POST / 200 replay p 1 1 a"b completed a"b - - -', id => 'a"b');
logged('POST / 200 passed p 1 0 job-2 failed job-2 - - -', id => 'job-2',
    status => 'failed');
logged('POST / 200 passed p 1 0 job-3 - job-3 - - -', id => 'job-3',
    status => 'who knows');
logged('POST / 200 passed p 1 0 - - - - - -', body => 'x');
logged('POST / 200 challenge p 1 0 - - - - - -', body => '{"challenge":1}');
logged('POST / 401 bad_signature p 0 0 - - - - - -', id => 'job-4',
    secret => 'wrong');
$app->next(status => 500);
logged('POST / 500 released p 1 0 c"d completed c"d - - -', id => 'c"d');

$app->next(wait => 1);
my @request = hook(id => 'job-6');
my $call = send_request(@request);
wait_for { $app->requests->[-1]{body} eq $request[3] };
logged('POST / 503 in_flight p 1 0 job-6 completed job-6 - - -',
    id => 'job-6');
$app->release;
wait_answer($call);
push @expected, 'POST / 200 passed p 1 0 job-6 completed job-6 - - -';

request('POST', $nginx->url('/?p=q'), {}, '');
push @expected, 'POST / 400 unknown_provider - 0 0 - - - - - -';
request('GET', $nginx->url('/?p=p'));
push @expected, 'GET / 405 wrong_method - 0 0 - - - - - -';
request('OPTIONS', $nginx->url('/?p=p'));
push @expected, 'OPTIONS / 200 - - - 0 - - - - - -';
request('POST', $nginx->url('/denied'), {}, '');
push @expected, 'POST /denied 403 - - - - - - - - - -';
request('POST', $nginx->url('/else'), {}, '');
push @expected, 'POST /else 204 - - - - - - - - - -';

my @odd = map { qq({"job":"$_"}) } '', '', 'c\\"d', 'job-6', ('') x 5;
is_deeply([logs('all.log', scalar @expected)], \@expected, 'each request');
is_deeply([logs('odd.log', scalar @odd)], \@odd,
    'those that a condition chose');


# The lines of a log, once there are so many.
sub logs {
    my ($name, $n) = @_;
    my @lines;
    wait_for {
        @lines = split /\n/, $nginx->read_file($name) =~ s/\\x22/"/gr;
        @lines >= $n;
    };
    return @lines;
}


sub hook {
    my ($headers, $body) = $app->signed_webhook(@_);
    return ('POST', $nginx->url('/?p=p'), $headers, $body);
}

sub logged {
    my ($line, @args) = @_;
    request(hook(@args));
    push @expected, $line;
}
