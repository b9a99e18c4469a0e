#!/usr/bin/perl

# Not under valgrind: it measures time
#
# Health survives a reload by the zone and a restart by the log, and what is
# known is not probed again at once.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 15;

use VidgenTest::Http qw(get);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;
$provider->on(qr{/bad}, status => 500);

my $config = <<'EOT';
%%GLOBALS%%
events { }
http {
    %%HTTP%%
    vidgen_database "%%DB%%";
    vidgen_monitor  interval=1h fails=1;

    vidgen_provider bad {
        submit { url %%BASE%%/jobs; job_id /id; }
        probe  { url %%BASE%%/bad; }
    }
    vidgen_provider good {
        submit { url %%BASE%%/jobs; job_id /id; }
        probe  { url %%BASE%%/good; }
    }
    vidgen_provider new {
        submit { url %%BASE%%/jobs; job_id /id; }
        probe  { url %%BASE%%/new; }
    }
    server { listen 127.0.0.1:%%PORT%%; location = /health { vidgen_health; } }
}
EOT

my $first = $config =~ s/vidgen_provider new.*?\n    \}\n//sr;
my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $pg->edge_conninfo, BASE => $provider->url },
    config => $first)->start;

sub health {
    my ($name) = @_;
    return get($nginx->url("/health?provider=$name"))->{json};
}

ok((wait_for { health('bad')->{status} eq 'down'
    && health('good')->{last_check} }), 'both are probed');
my ($bad, $good) = (health('bad'), health('good'));
ok((wait_for { $pg->value("SELECT get_provider_health('bad')->>'status'
    || coalesce(get_provider_health('good')->>'status', '')")
    eq 'downhealthy' }), 'the database knows');


# a reload with another provider

$nginx->configure($config);
ok($nginx->reload(wait => 1), 'a reload');
ok((wait_for { health('new')->{last_check} }), 'the new one is probed');
is_deeply(health('bad'), $bad, 'what was known is known');
is_deeply(health('good'), $good, 'likewise');
my %asked;
$asked{ $_->{uri} }++ for @{ $provider->requests };
is_deeply(\%asked, { '/bad' => 1, '/good' => 1, '/new' => 1 },
    'one probe each');


# a restart: the zone is gone

wait_for { $pg->value('SELECT count(*) FROM provider_health_log') == 3 };
$pg->query("UPDATE provider_health_log SET checked_at = now() - interval '2 h'
    WHERE provider_name = 'good'");
$provider->forget_requests;
$nginx->restart;
ok((wait_for { health('bad')->{status} eq 'down' }),
    'the log says that it is down');
is(health('bad')->{last_check}, $bad->{last_check}, 'since when that is known');
is(health('bad')->{consecutive_failures}, 1, 'and its failures');
is_deeply([map { $_->{since} } health('bad'), health('good')],
    [$bad->{since}, undef], 'since when, if it ever changed');
ok($provider->wait_requests(1), 'what was checked long ago is probed');
is_deeply([map { $_->{uri} } @{ $provider->requests }], ['/good'],
    'the others are not');


# a restart without a database: nothing is known, nobody waits

$nginx->stop;
$pg->stop;
$provider->forget;
$provider->on(qr{/bad}, status => 500);
$nginx->start;
ok($provider->wait_requests(3), 'all are probed');
ok((wait_for { health('bad')->{status} eq 'down' }), 'and known again');
$nginx->stop;
