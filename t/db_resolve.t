#!/usr/bin/perl

# The host name of PostgreSQL is resolved at run time by the resolver of nginx,
# anew for each connection, without keeping the worker from anything else.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 12;

use VidgenTest::Dns;
use VidgenTest::Http qw(get);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Util qw(slurp uuid wait_for);

# listens at two addresses, so that the name may move from one to the other
my $pg = VidgenTest::Postgres->new(fsync => 0, start => 0,
    settings => { listen_addresses => '127.0.0.1, 127.0.0.2' });
open my $hba, '>>', $pg->dir . '/data/pg_hba.conf' or die $!;
print $hba "host all all 127.0.0.2/32 trust\n";
close $hba;
$pg->start;
$pg->migrate;

my $dns = VidgenTest::Dns->new;

my $nginx = VidgenTest::Nginx->new(
    vars => { PORT_DB => $pg->port, DNS => $dns->address },
    config => <<'EOT')->start;
%%GLOBALS%%

worker_processes 1;

events { }

http {
    %%HTTP%%

    resolver          %%DNS%% valid=1s ipv6=off;
    resolver_timeout  2s;

    vidgen_database  postgresql://edge:edge@db.test:%%PORT_DB%%/postgres
                     timeout=2s;

    server {
        listen 127.0.0.1:%%PORT%%;
        location /jobs/ { vidgen_job; }
        location = /fast { return 200 "fast"; }
    }
}
EOT

my $job = uuid();
sub job { get($nginx->url("/jobs/$job"))->{status} }

# The server is away until nginx has heard of its new addresses.
sub move_to {
    $pg->stop;
    $dns->set('db.test', @_);
    my $before = @{ $dns->questions };
    wait_for { @{ $dns->questions } > $before };
    $pg->start;
}

# nobody knows it

is(get($nginx->url('/fast'))->{body}, 'fast', 'nginx starts without it');
is(job(), 503, 'a name that nobody knows');
ok($nginx->wait_log(
    qr/database is unreachable: host "db.test" could not be resolved/),
    'the log says so');
is(get($nginx->url('/fast'))->{body}, 'fast', 'others serve');

# it is there

$dns->set('db.test', '127.0.0.1');
ok(wait_for { job() == 404 }, 'once it is known, it works');
is(server_address(), '127.0.0.1', 'at its address');
ok(scalar(grep { $_ eq 'db.test' } @{ $dns->questions }), 'as asked for');

# it moves

move_to('127.0.0.2');
ok(wait_for { job() == 404 }, 'when it has moved, it works again');
is(server_address(), '127.0.0.2', 'at its new address');

# one of two addresses is dead

move_to('127.0.0.3', '127.0.0.1');
ok(wait_for { job() == 404 }, 'with a dead address too');
is(server_address(), '127.0.0.1', 'at the other one');

is(() = $nginx->workers, 1, 'the worker has lived through it');


# The addresses at which the server has clients.
sub server_address {
    my $port = sprintf '%04X', $pg->port;
    my %local = map { $_ => 1 } slurp('/proc/net/tcp')
        =~ /^\s*\d+: ([0-9A-F]{8}):$port [0-9A-F:]+ 01 /mg;
    return join ' ', map { join '.', reverse unpack 'C4', pack 'H8', $_ }
        sort keys %local;
}
