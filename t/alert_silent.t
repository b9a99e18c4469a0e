#!/usr/bin/perl

# Not under valgrind: it measures time
#
# A database whose connections stand and that answers nothing any more is told
# of as one that is away, also where the monitor has nothing to ask it for.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;
use Test::More tests => 6;

use VidgenTest::Nginx;
use VidgenTest::PgProxy;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $proxy = VidgenTest::PgProxy->new($pg);
my $telegram = VidgenTest::Provider->new;
$telegram->answer(status => 200, body => { ok => JSON::PP::true });

my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $proxy->conninfo, TELEGRAM => $telegram->url },
    config => <<'EOT')->start;
%%GLOBALS%%
events { }
http {
    %%HTTP%%
    vidgen_database "%%DB%%" timeout=3s;
    vidgen_monitor  interval=1h timeout=3s;
    vidgen_alert    telegram token=1:x chat=1 url=%%TELEGRAM%%;

    vidgen_provider one {
        submit { url http://127.0.0.1:1/; job_id /id; }
    }
    server { listen 127.0.0.1:%%PORT%%; }
}
EOT

sub message {
    my ($n) = @_;
    my $requests = $telegram->wait_requests($n, 60) or return 'none';
    return $requests->[$n - 1]{body};
}

# its sweep is done, and the next one is half a minute away

ok((wait_for { $proxy->stat->{open} >= 3 }), 'it is connected');
my $asked = $proxy->stat->{steps};
ok((wait_for { $proxy->stat->{steps} > $asked } 60),
    'a question now and then, for nothing else is asked');

$proxy->hold;
like(message(1), qr/<b>Database Unreachable/, 'it does not answer');
$proxy->release;
like(message(2), qr/<b>Database Reachable Again/, 'and again it does');

$asked = $proxy->stat->{steps};
ok((wait_for { $proxy->stat->{steps} > $asked + 1 } 60), 'it is asked');
is(scalar @{ $telegram->requests }, 2, 'nothing more is told');
