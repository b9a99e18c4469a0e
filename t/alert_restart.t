#!/usr/bin/perl

# Not under valgrind: it needs probes in time
#
# Alerts across a restart of nginx, with which all memory of it is gone: an
# outage that was not announced before is announced while it lasts, one that
# was announced is not announced again, and its end is.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;
use Test::More tests => 13;

use VidgenTest::Http qw(get);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;
my $telegram = VidgenTest::Provider->new;
my $json = JSON::PP->new->utf8;
my %works = (status => 200, body => { ok => JSON::PP::true });

sub config {
    my ($every, $zone) = @_;
    return <<EOT;
%%GLOBALS%%
events { }
http {
    %%HTTP%%
    vidgen_zone     one:$zone;
    vidgen_database "%%DB%%";
    vidgen_monitor  interval=200ms timeout=3s fails=2;
    vidgen_alert    telegram token=abc chat=1 url=%%TELEGRAM%% every=$every;

    vidgen_provider one {
        base   %%BASE%%;
        submit { url \$vidgen_base/jobs; job_id /id; }
        probe  { url \$vidgen_base/probe; }
    }
    server { listen 127.0.0.1:%%PORT%%; location = /health { vidgen_health; } }
}
EOT
}

sub nginx {
    return VidgenTest::Nginx->new(
        vars => { DB => $pg->edge_conninfo, BASE => $provider->url,
                  TELEGRAM => $telegram->url },
        config => config($_[0], '1m'))->start;
}

sub messages {
    return map { ($json->decode($_->{body})->{text} =~ /<b>Provider (\w+)/)[0]
        // () } @{ $telegram->requests };
}

sub sick { $provider->on(qr{/probe}, status => 500) }
sub well { $provider->on(qr{/probe}, status => 200) }

sub seen {
    my ($nginx, $status) = @_;
    return wait_for { (get($nginx->url('/health?provider=one'))->{json}{status}
        // '') eq $status };
}

# The database knows it, so that a new zone gets to know it.
sub logged {
    my ($status) = @_;
    return wait_for { ($pg->value('SELECT status FROM provider_health_log
        ORDER BY checked_at DESC LIMIT 1') // '') eq $status };
}

# Lets it probe for a while, with all that comes of it.
sub probes {
    $provider->forget_requests;
    return !!$provider->wait_requests($_[0]);
}


# nobody takes messages until nginx is started again

well();
$telegram->on(qr{.}, status => 502);
my $nginx = nginx('0');
seen($nginx, 'healthy');
sick();
ok($telegram->wait_requests(1) && logged('down'), 'not delivered');
$nginx->stop;
$telegram->forget_requests;
$telegram->on(qr{.}, %works);
$nginx->start;
ok((wait_for { messages() }), 'after a restart: delivered');
probes(10);
is_deeply([messages()], ['Down'], 'once');

# all has been said

$nginx->restart;
ok(seen($nginx, 'down'), 'a restart later it lasts');
probes(10);
is_deeply([messages()], ['Down'], 'nothing is said again');
$nginx->configure(config('0', '2m'));
$nginx->reload;
ok(seen($nginx, 'down'), 'with another zone, too');
probes(10);
is_deeply([messages()], ['Down'], 'nothing is said again');
well();
ok((wait_for { messages() == 2 }), 'its end');
is_deeply([messages()], [qw(Down Recovered)], 'is told');
$nginx->stop;


# a second outage too early after the first one

$pg->query('TRUNCATE vidgen.alerts, provider_health_log');
$telegram->forget_requests;
$nginx = nginx('15s');
seen($nginx, 'healthy');
sick();
$telegram->wait_requests(1);
well();
$telegram->wait_requests(2);
sick();
ok(seen($nginx, 'down') && logged('down'), 'a second outage');
is(scalar messages(), 2, 'is not told yet');
$nginx->restart;
ok((wait_for { messages() == 3 }), 'but is, though nginx was restarted');
is_deeply([messages()], [qw(Down Recovered Down)], 'once');
$nginx->stop;
