#!/usr/bin/perl

# Alerts about what is no provider: results that no job claims, and a database
# whose clock is another one.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;
use Test::More tests => 19;

use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $telegram = VidgenTest::Provider->new;
my $json = JSON::PP->new->utf8;
$telegram->answer(status => 200, body => { ok => JSON::PP::true });

# a clock that can be put wrong

$pg->query('CREATE SCHEMA watch; GRANT USAGE ON SCHEMA watch TO PUBLIC;
    ALTER ROLE edge SET search_path = watch, pg_catalog, public');
clock(0);

my $config = <<'EOT';
%%GLOBALS%%
events { }
http {
    %%HTTP%%
    vidgen_database "%%DB%%";
    vidgen_monitor  interval=1h timeout=3s poll=200ms unknown=1h;
    vidgen_alert    telegram token=1:x chat=1 url=%%TELEGRAM%% every=0;

    vidgen_provider one {
        submit { url http://127.0.0.1:1/; job_id /id; }
    }
    server { listen 127.0.0.1:%%PORT%%; }
}
EOT


# two results that no job claims, while there is time to find theirs

$pg->query("INSERT INTO vidgen.parked (provider, provider_job_id, status,
        verdict, received)
    VALUES ('one', 'a', 'completed', true, now() - interval '31 min'),
           ('one', 'b', 'completed', true, now() - interval '31 min'),
           ('one', 'c', 'completed', true, now() - interval '28 min')");
my $nginx = VidgenTest::Nginx->new(config => $config,
    vars => { DB => $pg->edge_conninfo, TELEGRAM => $telegram->url })->start;
is(message(1), "<b>Results Without A Job</b>\n"
    . 'parked results that no job claims: 2', 'orphans');

# an impatient monitor sweeps more often

$pg->query("DELETE FROM vidgen.parked WHERE provider_job_id IN ('a', 'c')");
$nginx->configure($config =~ s/unknown=1h/unknown=1s/r);
$nginx->reload(wait => 1);
settled();
is(messages(), 1, 'one less is nothing new');

$pg->query("DELETE FROM vidgen.parked WHERE provider_job_id = 'b'");
like(message(2), qr{^<b>No More Results Without A Job</b>\nafter \d[\w ]* s},
    'none is left');
settled();
is(messages(), 2, 'said once');


# clocks

clock(20);
settled();
is(messages(), 2, '20 seconds do not matter');

clock(90);
like(message(3), qr/^<b>Clocks\ Apart<\/b>\n
    the\ database's\ clock\ is\ (?:8\d|9\d)\ s\ from\ this\ machine's$/x,
    '90 do');
clock(0);
like(message(4), qr{^<b>Clocks Together Again</b>\nafter \d[\w ]* s},
    'put right');

clock(-90);
like(message(5), qr/^<b>Clocks Apart<\/b>\n.* is -(?:8\d|9\d) s /,
    'the other way');
clock(0);
like(message(6), qr{^<b>Clocks Together Again</b>}, 'put right');
settled();
is(messages(), 6, 'no more than that');


# what ends while nginx is away

clock(90);
like(message(7), qr/^<b>Clocks Apart<\/b>/, 'once more');
$pg->query("INSERT INTO vidgen.parked (provider, provider_job_id, status,
        verdict, received)
    VALUES ('one', 'd', 'completed', true, now() - interval '31 min')");
like(message(8), qr/^<b>Results Without A Job<\/b>/, 'both are told');
wait_for { $pg->value('SELECT count(*) FROM vidgen.alerts
    WHERE status = \'down\' AND announced IS NOT NULL') == 2 };
$nginx->stop;
clock(0);
$pg->query('DELETE FROM vidgen.parked');
$nginx->start;
message(10);
is_deeply([sort map { message($_) =~ /^<b>(.*)<\/b>\nafter \d[\w ]* s, / }
    9, 10],
    ['Clocks Together Again', 'No More Results Without A Job'],
    'their ends are told when it is back');
settled();
is(messages(), 10, 'and nothing else');
is_deeply([glob $nginx->prefix . '/state/*'], [], 'no file is left of them');

$pg->stop;
like(message(11), qr/^<b>Database Unreachable<\/b>/, 'no database');
wait_for { $nginx->read_file('state/database.alert') =~ /^\d+ 1$/ };
$nginx->stop;
$pg->start;
$nginx->start;
like(message(12), qr{^<b>Database Reachable Again</b>\nafter \d[\w ]* s},
    'it is back before nginx is');
settled();
$nginx->restart;
settled();
is(messages(), 12, 'which is told once');
is_deeply([glob $nginx->prefix . '/state/*'], [], 'and then forgotten');


sub clock {
    my ($seconds) = @_;
    $pg->query("CREATE OR REPLACE FUNCTION watch.clock_timestamp()
        RETURNS timestamptz LANGUAGE sql AS
        \$\$ SELECT pg_catalog.clock_timestamp() + interval '$seconds s' \$\$");
}

sub messages { scalar @{ $telegram->requests } }

# The nth message, without who has seen it and since when.
sub message {
    my ($n) = @_;
    wait_for { messages() >= $n };
    my $request = $telegram->requests->[$n - 1] // return 'none';
    return $json->decode($request->{body})->{text}
        =~ s/\n(?:since|seen by): .*//sr;
}

# Waits for three sweeps: each deletes this key.
sub settled {
    for (1 .. 3) {
        $pg->query("INSERT INTO idempotency_log (idempotency_key, response,
            expires_at) VALUES ('old', '{}', now())");
        wait_for { !$pg->value('SELECT count(*) FROM idempotency_log') };
    }
}
