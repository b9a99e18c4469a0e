#!/usr/bin/perl

# Not under valgrind: it measures memory
#
# The monitor at work for a while: many probes, failing ones too, over TLS and
# by name; polls, outages and their alerts.  Neither descriptors nor memory
# grow, and it does not wake up more often than one that has just started.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Time::HiRes qw(sleep);
use Test::More tests => 8;

use VidgenTest::Books qw(customer);
use VidgenTest::Http qw(many);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(free_port slurp wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $user = customer($pg, 100);
my $plain = VidgenTest::Provider->new;
my $tls = VidgenTest::Provider->new(tls => 1);
$plain->on(qr{/drop}, drop => 'after');
$plain->on(qr{/hang}, hang => 1);
$plain->on(qr{/big}, body => 'x' x 300_000);
$plain->on(qr{GET /requests/}, body => { status => 'processing' });

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

sub nginx {
    return VidgenTest::Nginx->new(
        log  => 'notice',
        vars => { DB => $pg->edge_conninfo, BASE => $plain->url },
        config => <<EOT)->start;
%%GLOBALS%%
events { }
http {
    %%HTTP%%
    vidgen_database "%%DB%%" notify=on;
    vidgen_monitor  interval=100ms timeout=500ms poll=100ms
                    fails=2;
    vidgen_alert    telegram token=1:x chat=1 url=%%BASE%% every=0;

    vidgen_provider polled {
        base   %%BASE%%;
        submit { url \$vidgen_base/jobs; job_id /request_id; }
        probe  { url \$vidgen_base/flap; }
        poll   { url \$vidgen_base/requests/\$vidgen_provider_job_id;
                 status /status; video_url /url; }
    }
    $providers

    server {
        listen 127.0.0.1:%%PORT%%;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;
        location = /generate-video    { vidgen_generate polled; }
    }
}
EOT
}

my $nginx = nginx();
is(scalar(grep { $_->{status} == 200 } many(20, 'POST',
    $nginx->url('/generate-video'), { 'Content-Type' => 'application/json' },
    qq({"user_id":"$user","model_id":"m","prompt":"p"}))), 20, 'jobs');

sub monitor {
    my ($nginx) = @_;
    return wait_for {
        (map { $_->{pid} } grep { $_->{title} =~ /monitor/ }
            $nginx->processes)[0];
    };
}

my $pid = monitor($nginx);

sub descriptors { my @all = glob "/proc/$pid/fd/*"; return scalar @all }

sub number {
    my ($process, $name) = @_;
    return slurp("/proc/$process/status") =~ /^$name:\s+(\d+)/m ? $1 : -1;
}

sub memory { number($pid, 'VmRSS') }
sub wakes  { number($_[0], 'voluntary_ctxt_switches') }

# Lets it work for so many rounds: an outage or its end, polls, other probes.
my %seen;

sub rounds {
    my ($n) = @_;
    for my $round (1 .. $n) {
        $plain->on(qr{/flap}, status => $round % 2 ? 500 : 200);
        $pg->query("UPDATE vidgen.attempts SET due = now(), polls = 0,
            poll_lease = NULL WHERE state = 'accepted'");
        $plain->forget_requests;
        sleep 0.5;
        wait_for { 5 <= grep { $_->{uri} =~ /flap/ } @{ $plain->requests } };
        $seen{ $_->{uri} =~ s{^(/\w*).*}{$1}r }++
            for @{ $plain->requests };
    }
}

rounds(10);
my ($descriptors, $memory) = (descriptors(), memory());
%seen = ();

rounds(20);
cmp_ok($seen{'/ok'} // 0, '>', 100, 'probes');
cmp_ok($seen{'/requests'} // 0, '>', 100, 'polls');
cmp_ok($seen{'/bot1'} // 0, '>', 5, 'alerts');

cmp_ok(memory(), '<', $memory + 2000, 'memory does not grow');
ok((wait_for { descriptors() <= $descriptors + 5 }), 'nor do descriptors');

# How often one wakes up depends on how busy the machine is, for both alike.

my $other = nginx();
my $fresh = monitor($other);
rounds(2);
my @before = map { wakes($_) } $pid, $fresh;
rounds(10);
my @wakes = map { wakes($_) - shift @before } $pid, $fresh;
cmp_ok($wakes[0], '<', 2 * $wakes[1] + 100,
    'nor does the number of its timers');
$other->stop;

is(scalar(grep { $_->{title} =~ /monitor/ && $_->{pid} == $pid }
    $nginx->processes), 1, 'it is the same process');
