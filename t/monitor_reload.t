#!/usr/bin/perl

# Not under valgrind: it counts descriptors and memory
#
# Fifty reloads in a row under traffic: one monitor, no flood of probes, no
# leak, workers of old generations end; and what is known of a provider stays.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 17;

use POSIX ();
use Time::HiRes qw(sleep time);

use VidgenTest::Http qw(get);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(append slurp wait_for);

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
    vidgen_monitor  interval=1h fails=1 timeout=40s poll=400ms;

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

sub descriptors { my @all = glob "/proc/$_[0]/fd/*"; @all }

# kB, and how often it has woken up
sub memory { number($_[0], 'VmRSS') }
sub wakes  { number($_[0], 'voluntary_ctxt_switches') }

sub number {
    my ($pid, $name) = @_;
    my ($n) = (slurp("/proc/$pid/status") // '') =~ /^$name:\s+(\d+)/m;
    return $n;
}

# Requests without a pause; the statuses are lines of a file.
sub traffic {
    my ($file) = @_;
    append($_, '') for $file, "$file.on";
    my $pid = fork // die "fork: $!";
    return $pid if $pid;
    append($file, get($url)->{status} . "\n") while -e "$file.on";
    POSIX::_exit(0);
}

# what the first reload costs once is no leak

$nginx->reload(wait => 1);

my $master = $nginx->pid;
my $descriptors = descriptors(monitor());
my $memory = memory(monitor());
my $descriptors_of_master = descriptors($master);
my $memory_of_master = memory($master);
my $health = get($url)->{json};

my $file = $nginx->prefix . '/traffic';
my $client = traffic($file);

my $reloads = 0;
for (1 .. 50) {
    $reloads++ if $nginx->reload;
}

unlink "$file.on";
waitpid $client, 0;
my @statuses = split /\n/, slurp($file);

is($reloads, 50, 'reloads');
cmp_ok(scalar @statuses, '>', 100, 'under traffic');
is(scalar(grep { $_ ne 200 } @statuses), 0, 'no request failed meanwhile');
ok((wait_for { monitor() == 1 }), 'one monitor');
ok((wait_for { my @all = $nginx->processes; @all == 3 }), 'two workers');

is_deeply(get($url)->{json}{providers}[0], $health->{providers}[0],
    'what was known is known');

ok((wait_for { descriptors(monitor()) <= $descriptors + 2 }),
    'no descriptor is left')
    or diag(join ' ', map { readlink // '' } descriptors(monitor()));
cmp_ok(memory(monitor()), '<', $memory + 2000, 'nor memory');
ok((wait_for { descriptors($master) <= $descriptors_of_master }),
    'nor in the master');
cmp_ok(memory($master), '<', $memory_of_master + 1000, 'nor memory there');

# nothing is due: ten ticks a second are all that wakes it, and what asks for
# jobs to poll

my @idle = (monitor(), $nginx->workers);
my @before = map { wakes($_) } @idle;
my $began = time;
sleep 3;
my @wakes = map { wakes($idle[$_]) - $before[$_] } 0 .. 2;
my $took = time - $began;
cmp_ok($wakes[0], '<=', 24 * $took, 'no timer is left') or diag("@wakes");
is(scalar(grep { $_ > 4 * $took } @wakes[1, 2]), 0, 'nor in a worker')
    or diag("@wakes");

my %asked;
$asked{ $_->{uri} }++ for @{ $provider->requests };
is($asked{'/bad'}, 1, 'what was probed a moment ago is not probed again');
is($asked{'/good'}, 1, 'likewise');
cmp_ok($asked{'/hang'}, '<=', 3, 'nor what is being probed');
