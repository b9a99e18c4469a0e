#!/usr/bin/perl

# Not under valgrind: it needs probes in time
#
# A database that is there but does not answer for a while: two nginx say
# nothing twice for that.  First a sweep takes long, then questions are refused.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;
use Test::More tests => 9;

use VidgenTest::Http qw(get);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;
my $telegram = VidgenTest::Provider->new;
my $json = JSON::PP->new->utf8;
$telegram->on(qr{.}, status => 200, body => { ok => JSON::PP::true });

sub nginx {
    return VidgenTest::Nginx->new(
        vars => { DB => $pg->edge_conninfo, BASE => $provider->url,
                  TELEGRAM => $telegram->url },
        config => <<'EOT')->start;
%%GLOBALS%%
events { }
http {
    %%HTTP%%
    vidgen_database "%%DB%%" timeout=3s;
    vidgen_monitor  interval=200ms timeout=3s fails=2 unknown=4s;
    vidgen_alert    telegram token=abc chat=1 url=%%TELEGRAM%% every=0;

    vidgen_provider one {
        base   %%BASE%%;
        submit { url $vidgen_base/jobs; job_id /id; }
        probe  { url $vidgen_base/probe; }
    }

    server { listen 127.0.0.1:%%PORT%%; location = /health { vidgen_health; } }
}
EOT
}

sub messages {
    return map { ($json->decode($_->{body})->{text} =~ /<b>Provider (\w+)/)[0]
        // () } @{ $telegram->requests };
}

# Waits until each of them sees it so, and has had the time to say it.
sub seen {
    my ($status, @nginx) = @_;
    for my $nginx (@nginx) {
        wait_for { (get($nginx->url('/health?provider=one'))->{json}{status}
            // '') eq $status } or return 0;
    }
    $provider->forget_requests;
    return !!$provider->wait_requests(20 * @nginx);
}

sub sick { $provider->on(qr{/probe}, status => 500) }
sub well { $provider->on(qr{/probe}, status => 200) }


well();
my @nginx = (nginx(), nginx());
ok(seen('healthy', @nginx), 'all is well');

# a sweep takes longer than a question may

my $orphans = $pg->value(
    q{SELECT pg_get_functiondef('vidgen.orphans(interval)'::regprocedure)});
$pg->query($orphans =~ s/BEGIN/BEGIN PERFORM pg_sleep(30);/r);

sub asleep {
    return $pg->value("SELECT count(*) FROM pg_stat_activity
        WHERE query LIKE '%vidgen.sweep%' AND wait_event = 'PgSleep'");
}

ok((wait_for { asleep() == 2 }), 'both have a slow sweep');
sick();
ok(seen('down', @nginx), 'an outage');
is_deeply([messages()], ['Down'], 'is told once');
ok(asleep(), 'meanwhile');
$pg->query($orphans);

# questions are refused

my $alert = 'vidgen.alert(text[], text[], bigint[], bigint[], bigint[],'
    . ' bigint[], text[])';
$_->allow(qr/"vidgen_alert" was refused/) for @nginx;
$pg->query("ALTER FUNCTION $alert RENAME TO alert_away");
well();
ok((wait_for { 2 == grep { $_->error_log =~ /"vidgen_alert" was refused/ }
    @nginx }), 'nobody may ask');
is_deeply([messages()], ['Down'], 'nobody says anything');
$pg->query('ALTER FUNCTION ' . ($alert =~ s/alert/alert_away/r)
    . ' RENAME TO alert');
ok((wait_for { messages() == 2 }), 'the question again');
seen('healthy', @nginx);
is_deeply([messages()], [qw(Down Recovered)], 'and one answer');
$_->stop for @nginx;
