#!/usr/bin/perl

# Not under valgrind: it counts descriptors and memory
#
# Fifty reloads in a row under traffic: one monitor, no flood of probes, no
# leak, workers of old generations end; and what is known of a provider stays.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 12;

use VidgenTest::Http qw(get many);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(slurp wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;
$provider->on(qr{/bad}, status => 500);
$provider->on(qr{/hang}, hang => 1);

my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $pg->edge_conninfo, BASE => $provider->url },
    config => <<'EOT')->start;
%%GLOBALS%%
worker_processes 2;
events { }
http {
    %%HTTP%%
    vidgen_database "%%DB%%";
    vidgen_monitor  interval=1h fails=1 timeout=30s;

    vidgen_provider bad {
        base   %%BASE%%;
        submit { url $vidgen_base/jobs; job_id /id; }
        poll   { url $vidgen_base/jobs/$vidgen_provider_job_id;
                 status /status; video_url /url; }
        probe  { url $vidgen_base/bad; }
    }
    vidgen_provider good {
        base   %%BASE%%;
        submit { url $vidgen_base/jobs; job_id /id; }
        poll   { url $vidgen_base/jobs/$vidgen_provider_job_id;
                 status /status; video_url /url; }
        probe  { url $vidgen_base/good; }
    }
    vidgen_provider hanging {
        base   %%BASE%%;
        submit { url $vidgen_base/jobs; job_id /id; }
        poll   { url $vidgen_base/jobs/$vidgen_provider_job_id;
                 status /status; video_url /url; }
        probe  { url $vidgen_base/hang; }
    }

    server {
        listen 127.0.0.1:%%PORT%%;
        location = /health { vidgen_health; }
    }
}
EOT

my $url = $nginx->url('/health');
ok($provider->wait_requests(3), 'all are probed');
ok(wait_for { get("$url?provider=bad")->{json}{status} eq 'down' },
    'one is down');

sub monitor {
    my @found = grep { $_->{title} =~ /monitor/ } $nginx->processes;
    return map { $_->{pid} } @found;
}

sub descriptors { my @all = glob '/proc/' . (monitor())[0] . '/fd/*'; @all }
sub memory      { (slurp('/proc/' . (monitor())[0] . '/status') // '')
                      =~ /^VmRSS:\s+(\d+)/m; $1 }

my $descriptors = descriptors();
my $memory = memory();
my $health = get($url)->{json};

my ($failed, $reloads) = (0, 0);
for (1 .. 50) {
    $reloads++ if $nginx->reload;
    $failed += grep { $_->{status} != 200 } many(20, 'GET', $url);
}

is($reloads, 50, 'reloads');
is($failed, 0, 'no request failed meanwhile');
ok((wait_for { monitor() == 1 }), 'one monitor');
ok((wait_for { my @all = $nginx->processes; @all == 3 }), 'two workers');

my %asked;
$asked{ $_->{uri} }++ for @{ $provider->requests };
is($asked{'/bad'}, 1, 'what was probed a moment ago is not probed again');
is($asked{'/good'}, 1, 'likewise');
cmp_ok($asked{'/hang'}, '<=', 3, 'nor what is being probed');

is_deeply(get($url)->{json}{providers}[0], $health->{providers}[0],
    'what was known is known');

ok((wait_for { descriptors() <= $descriptors + 2 }), 'no descriptor is left')
    or diag(join ' ', map { readlink // '' } descriptors());
cmp_ok(memory(), '<', $memory * 1.5 + 2000, 'nor memory');
