#!/usr/bin/perl

# The forms of a connection string: keywords and URI, TCP and Unix socket,
# addresses and localhost, env: and file:, several hosts; and what is wrong
# with one is said without its password.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use VidgenTest::Http qw(get);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Util qw(free_port uuid wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my ($port, $folder) = ($pg->port, $pg->host);
$pg->query("ALTER ROLE edge PASSWORD 'it''s a pass/word'");
my $closed = free_port();

my $tcp = "host=127.0.0.1 port=$port user=edge dbname=postgres";
my $uri = 'postgresql://edge:it%27s%20a%20pass%2Fword@';

# the directive's value, and where the connection ends: an address or a socket
my @good = (
    ['keywords', qq("$tcp password='it\\\\'s a pass/word'"), '127.0.0.1'],
    ['a URI', "${uri}127.0.0.1:$port/postgres", '127.0.0.1'],
    ['localhost', qq("${uri}localhost:$port/postgres"), '127.0.0.1'],
    ['a Unix socket', qq("host=$folder port=$port user=edge dbname=postgres"),
        'socket'],
    ['a Unix socket in a URI', "postgresql://edge\@%2F"
        . substr($folder, 1) =~ s{/}{%2F}gr . ":$port/postgres", 'socket'],
    ['a variable', 'env:TEST_CONNINFO', '127.0.0.1'],
    ['a file', 'file:conninfo', '127.0.0.1'],
    ['a host that is down before one that is not',
        "${uri}127.0.0.1:$closed,127.0.0.1:$port/postgres", '127.0.0.1'],
    ['an address for a name', qq("$tcp host=db.invalid hostaddr=127.0.0.1 )
        . q(password='it\\\\'s a pass/word'"), '127.0.0.1'],
    ['its own application name', "${uri}127.0.0.1:$port/postgres"
        . '?application_name=shop&keepalives=0', '127.0.0.1', 'shop'],
);

# what is wrong shows only when it is tried
my @bad = (
    ['a wrong password', "postgresql://edge:secret-pass\@127.0.0.1:$port/"
        . 'postgres', 'password authentication failed'],
    ['no such role', "postgresql://nobody:secret-pass\@127.0.0.1:$port/"
        . 'postgres', 'authentication failed'],
    ['no such database', "${uri}127.0.0.1:$port/missing",
        'database "missing" does not exist'],
    ['nobody there', "${uri}127.0.0.1:$closed/postgres",
        'Connection refused'],
    ['no socket there', qq("host=/missing user=edge password=secret-pass"),
        'No such file or directory'],
    ['an unknown sslmode', "${uri}127.0.0.1:$port/postgres?sslmode=perhaps",
        'invalid sslmode value'],
    ['TLS asked of a server without', "${uri}127.0.0.1:$port/postgres"
        . '?sslmode=require', 'server does not support SSL'],
);

plan tests => 2 * @good + 3 * @bad;

my $config = <<'EOT';
%%GLOBALS%%

worker_processes 1;

events { }

http {
    %%HTTP%%

    vidgen_database %%T_CONNINFO%% timeout=%%T_TIMEOUT%%;

    server {
        listen 127.0.0.1:%%PORT%%;
        location /jobs/ { vidgen_job; }
    }
}
EOT

# Where it cannot be reached, that is said at the timeout.
sub start {
    my ($conninfo, $timeout) = @_;
    return VidgenTest::Nginx->new(
        config => $config =~ s/%%T_CONNINFO%%/$conninfo/r
            =~ s/%%T_TIMEOUT%%/$timeout/r,
        files  => { conninfo => "${uri}127.0.0.1:$port/postgres\n" },
        env    => { TEST_CONNINFO => "${uri}127.0.0.1:$port/postgres" },
    )->start;
}

my $job = uuid();

for (@good) {
    my ($name, $conninfo, $where, $application) = @$_;
    my $nginx = start($conninfo, '10s');
    is(get($nginx->url("/jobs/$job"))->{status}, 404, $name)
        or diag($nginx->error_log);
    is_deeply($pg->query("SELECT DISTINCT coalesce(host(client_addr),
            'socket'), application_name
        FROM pg_stat_activity WHERE usename = 'edge'"),
        [[$where, $application // 'nginx vidgen']], "$name: where it ends");
    $nginx->destroy;
    wait_for { !$pg->value("SELECT count(*) FROM pg_stat_activity
        WHERE usename = 'edge'") };
}

for (@bad) {
    my ($name, $conninfo, $reason) = @$_;
    my $nginx = start($conninfo, '1s');
    is(get($nginx->url("/jobs/$job"))->{status}, 503, $name);
    like($nginx->wait_log(qr/database is unreachable/), qr/\Q$reason\E/,
        "$name: the log says why");
    unlike($nginx->error_log, qr{secret-pass|it's a pass|it%27s},
        "$name: without the password");
    $nginx->destroy;
}
