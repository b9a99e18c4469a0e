#!/usr/bin/perl

# Reloads under traffic: every request is answered, every result is applied
# once, no descriptor and no connection to PostgreSQL is left over.
#
# Not under valgrind: it measures time.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;
use POSIX ();
use Test::More tests => 12;

use VidgenTest::Books qw(balance customer wrong_books);
use VidgenTest::Edge;
use VidgenTest::Http qw(many request);
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(append reap slurp wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;

my $nginx = VidgenTest::Edge->new(
    db       => $pg->edge_conninfo,
    workers  => 2,
    fal      => $provider)->start;

my $user = customer($pg, 100000);
my @generate = ('POST', $nginx->url('/generate-video'), {},
    qq({"user_id":"$user","model_id":"m","prompt":"p"}));

sub descriptors { my @all = glob "/proc/$_[0]/fd/*"; return scalar @all }

sub database_connections {
    return $pg->value("SELECT count(*) FROM pg_stat_activity
        WHERE usename = 'edge'");
}

# The traffic: generations, and for each a webhook that comes twice.  Ends
# when the file is there, and leaves what it saw, as a line of JSON.
my $end = $nginx->prefix . '/end';
my $seen = $nginx->prefix . '/seen';

sub traffic {
    my ($number) = @_;

    my %count = (generate => {}, webhook => {}, rounds => 0, ids => 0);

    until (-e $end) {
        for my $answer (many(8, @generate)) {
            $count{generate}{ $answer->{status} || $answer->{error} }++;
        }

        my $ids = $pg->query("UPDATE taken SET by = $number WHERE id IN (
            SELECT id FROM taken WHERE by IS NULL LIMIT 8
            FOR UPDATE SKIP LOCKED) RETURNING id");
        my @webhooks = map { ['POST', $nginx->url('/video-webhook'),
            $provider->signed_webhook(id => $_->[0], status => 'failed')] }
            @$ids;
        $count{ids} += @$ids;

        next unless @webhooks;
        for my $answer (many(@webhooks, @webhooks)) {
            $count{webhook}{ $answer->{status} || $answer->{error} }++;
        }
        $count{rounds}++;
    }

    append($seen, JSON::PP->new->canonical->encode(\%count) . "\n");
}

# the jobs of which a webhook was sent

$pg->query(<<'SQL');
CREATE TABLE taken (id text PRIMARY KEY, by integer);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO public.taken (id) VALUES (NEW.provider_job_id)
        ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER note AFTER UPDATE ON vidgen.attempts FOR EACH ROW
    WHEN (NEW.state = 'accepted') EXECUTE FUNCTION note();
GRANT ALL ON taken TO vidgen_owner;
SQL

request(@generate);
my ($worker) = $nginx->workers;
my $fresh = descriptors($worker);
my $of_master = descriptors($nginx->pid);

my @children = map {
    my $number = $_;
    my $pid = fork // die "fork: $!";
    if (!$pid) {
        eval { traffic($number); 1 } or print STDERR $@;
        POSIX::_exit(0);
    }
    $pid;
} 1 .. 2;

my $jobs = sub { $pg->value('SELECT count(*) FROM taken WHERE by > 0') };
my $reloads = 0;

for (1 .. 6) {
    my $before = $jobs->();
    $reloads++ if $nginx->reload(wait => 1);
    wait_for { $jobs->() >= $before + 16 };
}
is($reloads, 6, 'six reloads, each while it is busy');

append($end, '');
is(scalar(grep { reap($_, 30) } @children), 2, 'the traffic ends');

my @counts = map { decode_json($_) } split /\n/, slurp($seen);
my %sum;
for my $count (@counts) {
    for my $what (qw(generate webhook)) {
        $sum{$what}{$_} += $count->{$what}{$_} for keys %{ $count->{$what} };
    }
    $sum{$_} += $count->{$_} for qw(rounds ids);
}
note("$sum{rounds} rounds");

is_deeply([keys %{ $sum{generate} }], [200], 'every generation is answered')
    or diag(explain($sum{generate}));
is_deeply($sum{webhook}, { 200 => 2 * $sum{ids} },
    'and every webhook') or diag(explain($sum{webhook}));
cmp_ok($sum{rounds}, '>=', 12, 'there was traffic');

# all that was answered has happened, once

my $started = 1 + $sum{generate}{200};
is($pg->value('SELECT count(*) FROM video_jobs'), $started, 'the jobs');
is(@{ $provider->requests }, $started, 'each was submitted once');
is($pg->value("SELECT count(*) FROM video_jobs WHERE status = 'failed'"),
    $sum{ids}, 'each webhook has had its effect');
is(balance($pg, $user), 100000 - $started + $sum{ids}, 'the balance');
is_deeply([wrong_books($pg)], [], 'the books are right');

# nothing is left

($worker) = $nginx->workers;
ok(wait_for { descriptors($worker) <= $fresh
    && descriptors($nginx->pid) <= $of_master }, 'no descriptor is left')
    or diag(descriptors($worker), " of $fresh, ", descriptors($nginx->pid),
        " of $of_master");
ok(wait_for { database_connections() == 4 }, 'nor a connection');
