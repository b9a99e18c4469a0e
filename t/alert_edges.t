#!/usr/bin/perl

# Not under valgrind: it kills processes
#
# Two nginx on one database see the same outage at the same time: one of them
# says it, once, however long that takes.
# While the database is away each speaks for itself; and what is killed in the
# middle says it again at most.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;
use Test::More tests => 20;

use VidgenTest::Http qw(get);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(spew wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;
my $telegram = VidgenTest::Provider->new;
my $json = JSON::PP->new->utf8;
my %works = (status => 200, body => { ok => JSON::PP::true });

sub nginx {
    my ($settings) = @_;
    return VidgenTest::Nginx->new(
        vars  => { DB => $pg->edge_conninfo, BASE => $provider->url,
                   TELEGRAM => $telegram->url },
        files => { token => "777:token-in-a-file\n" },
        config => <<EOT)->start;
%%GLOBALS%%
events { }
http {
    %%HTTP%%
    vidgen_database "%%DB%%" timeout=3s;
    vidgen_monitor  interval=200ms timeout=3s $settings;
    vidgen_alert    telegram token=file:%%PREFIX%%/token chat=1
                    url=%%TELEGRAM%% every=0;

    vidgen_provider one {
        base   %%BASE%%;
        submit { url \$vidgen_base/jobs; job_id /id; }
        probe  { url \$vidgen_base/probe; }
    }
    server { listen 127.0.0.1:%%PORT%%; location = /health { vidgen_health; } }
}
EOT
}

sub messages {
    return map { ($json->decode($_->{body})->{text} =~ /<b>Provider (\w+)/)[0]
        // () } @{ $telegram->requests };
}

sub fresh {
    $pg->query('TRUNCATE vidgen.alerts, provider_health_log');
    $provider->on(qr{/probe}, status => 200);
    $telegram->forget;
    $telegram->on(qr{.}, %works);
}

sub sick { $provider->on(qr{/probe}, status => 500) }
sub well { $provider->on(qr{/probe}, status => 200) }

# Waits until each of them sees it so, and has had the time to say it.
sub seen {
    my ($status, @nginx) = @_;
    for my $nginx (@nginx) {
        wait_for { (get($nginx->url('/health?provider=one'))->{json}{status}
            // '') eq $status } or return 0;
    }
    return probes(5 * @nginx);
}

sub probes {
    $provider->forget_requests;
    return !!$provider->wait_requests($_[0]);
}

# Waits for so many messages, and for one more that must not be there.
sub said {
    my ($n) = @_;
    wait_for { messages() >= $n };
    probes(20);
    return [messages()];
}


# two edges, while a message takes longer than they are apart

fresh();
$telegram->on(qr{.}, %works, delay => 1);
my @nginx = (nginx('fails=2'), nginx('fails=2'));
ok(seen('healthy', @nginx), 'all is well');
sick();
ok(seen('down', @nginx), 'both see the outage');
is_deeply(said(1), ['Down'], 'one says it');
well();
ok(seen('healthy', @nginx), 'both see its end');
is_deeply(said(2), [qw(Down Recovered)], 'one says it');

sick();
ok(seen('down', @nginx), 'the next outage');
is_deeply(said(3), [qw(Down Recovered Down)], 'one message again');
$telegram->on(qr{.}, %works);
probes(80);                  # the other one has asked again, after 5 s at most

# the database goes away in the middle of it

$pg->stop;
well();
ok(seen('healthy', @nginx), 'it ends without a database');
ok((wait_for { messages() >= 5 }), 'each edge speaks for itself');
is_deeply([messages()], [qw(Down Recovered Down Recovered Recovered)],
    'once');

$telegram->forget_requests;
my $lost = time;
sick();
ok(seen('down', @nginx), 'another one without a database');
ok((wait_for { messages() >= 2 }), 'each edge says it');
$pg->start;
ok((wait_for { my $row = $pg->query("SELECT status, announced IS NOT NULL
    AND since >= to_timestamp($lost) FROM vidgen.alerts
    WHERE provider = 'one'")->[0];
    $row && $row->[0] eq 'down' && $row->[1] eq 't'
    && $pg->value("SELECT count(*) FROM pg_stat_activity
        WHERE usename = 'edge'") == 10 }),
    'the database is back for both, and learns what was said');
ok(seen('down', @nginx), 'it lasts');
is_deeply([messages()], [qw(Down Down)], 'nothing is said again');
well();
ok(seen('healthy', @nginx), 'it ends');
is_deeply([messages()], [qw(Down Down Recovered)],
    'which one edge says, for there is a database again');
$_->stop for @nginx;


# killed at work

fresh();
my $nginx = nginx('fails=1');
$nginx->allow(qr/exited on signal 9/, qr/was locked by/);
seen('healthy', $nginx);
$telegram->script(qr{.}, { hang => 1 }, \%works);
sick();
$telegram->wait_requests(1);
my ($monitor) = grep { $_->{title} =~ /monitor/ } $nginx->processes;
kill 'KILL', $monitor->{pid};
ok((wait_for { messages() >= 2 } 20),
    'killed before it knew that the message was taken: said again');
seen('down', $nginx);
well();
ok((wait_for { (messages())[-1] eq 'Recovered' }), 'its end');
my $extra = messages() - 2;
ok($extra >= 0 && $extra <= 1, 'at most one message more')
    or diag(join ' ', messages());
$nginx->stop;
