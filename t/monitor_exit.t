#!/usr/bin/perl

# Not under valgrind: it measures time
#
# nginx is told to end: the monitor does at once, a worker when its last
# request is answered, and nothing is wrong with that.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 3;

use VidgenTest::Books qw(customer);
use VidgenTest::Http qw(send_request wait_answer);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;
my $user = customer($pg, 10);

my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $pg->edge_conninfo, BASE => $provider->url },
    config => <<'EOT')->start;
%%GLOBALS%%
events { }
http {
    %%HTTP%%
    vidgen_database "%%DB%%";
    vidgen_monitor  interval=1h;

    vidgen_provider one {
        submit { url %%BASE%%/one; job_id /request_id; }
        poll   { url %%BASE%%/one/$vidgen_provider_job_id;
                 status /status; video_url /url; }
        probe  { url %%BASE%%/probe; }
    }

    server {
        listen 127.0.0.1:%%PORT%%;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;
        location = /generate-video    { vidgen_generate; }
    }
}
EOT

ok($provider->wait_requests(1), 'the monitor is at work');
$provider->forget_requests;
$provider->next(delay => 5);
my $call = send_request('POST', $nginx->url('/generate-video'), {},
    qq({"user_id":"$user","model_id":"m","prompt":"p"}));
$provider->wait_requests(1) or die 'no request';
kill 'QUIT', $nginx->pid;
is(wait_answer($call)->{status}, 200, 'the last request');
$nginx->quit;
unlike($nginx->error_log, qr/the monitor has been silent/,
    'nobody misses the monitor');
