#!/usr/bin/perl

# Not under valgrind: it measures memory
#
# The monitor at work for a while: many probes, failing ones too, over TLS and
# by name; neither descriptors nor memory grow.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 5;

use VidgenTest::Nginx;
use VidgenTest::Provider;
use VidgenTest::Util qw(free_port slurp wait_for);

my $plain = VidgenTest::Provider->new;
my $tls = VidgenTest::Provider->new(tls => 1);
$plain->on(qr{/drop}, drop => 'after');
$plain->on(qr{/hang}, hang => 1);
$plain->on(qr{/big}, body => 'x' x 300_000);

sub provider {
    my ($name, $url) = @_;
    return "vidgen_provider $name {
        submit { url $url; job_id /id; }
        probe  { url $url; }
    }\n";
}

my $providers = provider('plain', $plain->url . '/ok')
    . provider('named', 'http://localhost:' . $plain->port . '/ok')
    . provider('nobody', 'http://nobody.invalid/ok')
    . provider('refused', 'http://127.0.0.1:' . free_port() . '/ok')
    . provider('dropped', $plain->url . '/drop')
    . provider('hanging', $plain->url . '/hang')
    . provider('big', $plain->url . '/big')
    . provider('tls', $tls->url . '/ok')
    . provider('wrong', 'https://127.0.0.1:' . $plain->port . '/ok');

my $nginx = VidgenTest::Nginx->new(log => 'notice', config => <<EOT)->start;
%%GLOBALS%%
events { }
http {
    %%HTTP%%
    vidgen_monitor interval=100ms timeout=150ms;
    $providers
    server { listen 127.0.0.1:%%PORT%%; }
}
EOT

my $pid = wait_for {
    (map { $_->{pid} } grep { $_->{title} =~ /monitor/ } $nginx->processes)[0];
};

sub descriptors { my @all = glob "/proc/$pid/fd/*"; return scalar @all }
sub memory      { slurp("/proc/$pid/status") =~ /^VmRSS:\s+(\d+)/m; $1 }

# Waits for so many probes.
sub probes {
    my ($n) = @_;
    for (1 .. $n / 50) {
        $plain->forget_requests;
        $plain->wait_requests(50, 20) or return 0;
    }
    return 1;
}

ok(probes(150), 'it warms up');
my ($descriptors, $memory) = (descriptors(), memory());

ok(probes(500), 'it goes on');
cmp_ok(memory(), '<', $memory + 3000, 'memory does not grow');
ok((wait_for { descriptors() <= $descriptors + 5 }), 'nor do descriptors');
is(scalar(grep { $_->{title} =~ /monitor/ && $_->{pid} == $pid }
    $nginx->processes), 1, 'it is the same process');
