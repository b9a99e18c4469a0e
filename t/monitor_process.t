#!/usr/bin/perl

# Not under valgrind: it kills a process
#
# The monitor's process: the master's, one, unprivileged, respawned; beside a
# cache; without a master; and none where there is nothing to do.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 23;

use Time::HiRes qw(time);

use VidgenTest::Http qw(get);
use VidgenTest::Nginx;
use VidgenTest::Provider;
use VidgenTest::Util qw(alive slurp wait_for);

my $provider = VidgenTest::Provider->new;
my $definition = <<'EOT';
    vidgen_provider one {
        base   %%ONE%%;
        submit { url $vidgen_base/jobs; job_id /id; }
        probe  { url $vidgen_base/health; }
    }
EOT

sub nginx {
    my ($http, %opt) = @_;
    my $globals = $opt{globals} // '';
    my $health = $http =~ /vidgen_provider/ ? 'vidgen_health;' : '';
    return VidgenTest::Nginx->new(
        vars => { ONE => $provider->url }, %opt,
        config => <<EOT)->start;
%%GLOBALS%%
$globals
events { }
http {
    %%HTTP%%
    $http
    server { listen 127.0.0.1:%%PORT%%; location = /health { $health } }
    server { listen 127.0.0.1:%%PORT_B%%; location = /health { $health } }
}
EOT
}

sub helpers {
    my ($nginx) = @_;
    return grep { $_->{title} =~ /monitor|cache/ } $nginx->processes;
}


# one of the master's, and not root

my $nginx = nginx("$definition vidgen_monitor interval=1s timeout=5s;");
my $helper;

ok(wait_for {
    ($helper) = grep { $_->{title} eq 'nginx: vidgen monitor process' }
        $nginx->processes;
    $helper;
}, 'ps shows it');
is(scalar helpers($nginx), 1, 'there is one');
ok($provider->wait_requests(1), 'it probes at once');

my ($uid) = slurp("/proc/$helper->{pid}/status") =~ /^Uid:\s+(\d+)/m;
is($uid, $> ? $> : scalar getpwnam('www-data'), 'it is not privileged');

for my $name (undef, 'B') {
    my $answer = get($nginx->url('/health', $name));
    is($answer->{json}{providers}[0]{status}, 'healthy',
        'every server shows what it found');
}


# killed: another one takes its place; once more where the machine was busy

$nginx->allow(qr/cache manager process \d+ exited on signal 9/);
my ($other, $respawned, $works, $took);

for (1 .. 3) {
    $provider->forget;
    my $killed = time;
    kill 'KILL', $helper->{pid};
    $respawned = wait_for {
        ($other) = helpers($nginx);
        $other && $other->{pid} != $helper->{pid};
    };
    $works = $provider->wait_requests(1);
    $took = time - $killed;
    last if $took < 3;
    $helper = $other;
}

ok($respawned, 'a killed one is respawned');
ok($works, 'it works again');
cmp_ok($took, '<', 3, 'within a second or two');
is(scalar helpers($nginx), 1, 'there is one');
my ($parent) = slurp("/proc/$other->{pid}/status") =~ /^PPid:\s+(\d+)/m;
is($parent, $nginx->pid, 'of the master');

# stopped: said once

$nginx->stop;
$provider->forget;
$nginx->start;
ok($provider->wait_requests(1), 'probed after a restart');
($helper) = helpers($nginx);
kill 'STOP', $helper->{pid};
ok(wait_for {
    get($nginx->url('/health'));
    $nginx->error_log =~ /\[error\].* the monitor has been silent for/;
}, 'a silent one is reported');
get($nginx->url('/health')) for 1 .. 5;
is(scalar(() = $nginx->error_log =~ /has been silent/g), 1, 'once');
kill 'CONT', $helper->{pid};
$nginx->stop;


# beside a cache

$provider->forget;
$nginx = nginx("$definition vidgen_monitor interval=1s;
    proxy_cache_path %%PREFIX%%/cache keys_zone=cache:1m;");
ok(wait_for {
    scalar grep { $_->{title}
        eq 'nginx: cache manager and vidgen monitor process' } helpers($nginx);
}, 'ps shows what the process is beside a cache');
is(scalar(grep { $_->{title} =~ /manager/ } helpers($nginx)), 1,
    'there is one for both');
ok($provider->wait_requests(1), 'it probes');
$nginx->stop;


# without a master

$provider->forget;
$nginx = nginx("$definition vidgen_monitor interval=200ms;",
    globals => 'master_process off;', single => 1);
ok($provider->wait_requests(3), 'it works without a master');
is(get($nginx->url('/health'))->{json}{providers}[0]{status}, 'healthy',
    'and nginx besides');
$nginx->stop;


# nothing to do

$provider->forget;
$nginx = nginx("$definition vidgen_monitor off;");
is(scalar helpers($nginx), 0, 'off: no process');
ok(!-e $nginx->prefix . '/state', 'off: no folder');
$nginx->stop;

$nginx = nginx('vidgen_monitor interval=1s;');
is(scalar helpers($nginx), 0, 'no provider: no process');
is_deeply($provider->requests, [], 'nobody was asked');
