#!/usr/bin/perl

# Two nginx on one database that goes away: each says it, for neither can know
# of the other, and one says that it is back, whoever of them comes later.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;
use Test::More tests => 10;

use VidgenTest::Nginx;
use VidgenTest::PgProxy;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $telegram = VidgenTest::Provider->new;
$telegram->answer(status => 200, body => { ok => JSON::PP::true });

my @proxy = map { VidgenTest::PgProxy->new($pg) } 1, 2;
my @nginx = map { VidgenTest::Nginx->new(
    vars => { DB => $_->conninfo, TELEGRAM => $telegram->url },
    config => <<'EOT')->start } @proxy;
%%GLOBALS%%
events { }
http {
    %%HTTP%%
    vidgen_database "%%DB%%" timeout=3s;
    vidgen_monitor  interval=1h timeout=3s;
    vidgen_alert    telegram token=1:x chat=1 url=%%TELEGRAM%% every=0;

    vidgen_provider one {
        submit { url http://127.0.0.1:1/; job_id /id; }
    }
    server { listen 127.0.0.1:%%PORT%%; }
}
EOT

sub messages {
    return map { $_->{body} =~ /<b>Database ([^<]+)/ }
        @{ $telegram->requests };
}

# What was told is kept in a file until its end was told.
sub owes { -e $nginx[$_[0]]->prefix . '/state/database.alert' ? 1 : 0 }

for my $first (0, 1) {
    $telegram->forget_requests;
    ok((wait_for { 2 == grep { $_->stat->{open} >= 3 } @proxy } 60),
        'both are connected');
    $_->refuse for @proxy;
    ok((wait_for { owes(0) && owes(1) } 60), 'each says that it is away');

    $proxy[$first]->accept;
    ok((wait_for { !owes($first) } 60), 'it is back for one of them');
    $proxy[1 - $first]->accept;
    ok((wait_for { !owes(1 - $first) } 60), 'and for the other one');
    is_deeply([messages()], ['Unreachable', 'Unreachable', 'Reachable Again'],
        'which is told once');
}
