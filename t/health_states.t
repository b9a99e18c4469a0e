#!/usr/bin/perl

# Not under valgrind: it measures time
#
# What probes make of a provider's health: sequences of their results, and the
# statuses that follow.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use VidgenTest::Http qw(get);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(wait_for);

# the results: o passes, f fails, t times out, s is slow, c is 401, C 403, r is
# a reset, n a 404, R a redirect; the statuses: h, g degraded, d down

my %answers = (
    o => { status => 200 },
    f => { status => 500 },
    t => { hang => 1 },
    s => { status => 200, delay => 1.3 },
    c => { status => 401 },
    C => { status => 403 },
    r => { drop => 'after' },
    n => { status => 404 },
    R => { status => 302, headers => { Location => '/elsewhere' } },
);

my %letters = (healthy => 'h', degraded => 'g', down => 'd');

# fails=3 passes=1: one provider for each
my @usual = (
    ['oooo',     'hhhh',     '0000',     'all is well'],
    ['fo',       'gh',       '10',       'one failure'],
    ['ffo',      'ggh',      '120',      'two failures'],
    ['fffo',     'ggdh',     '1230',     'an outage'],
    ['fffff',    'ggddd',    '12345',    'a long one'],
    ['ffoff',    'gghgg',    '12012',    'failures that are not in a row'],
    ['ttt',      'ggd',      '123',      'timeouts'],
    ['rrr',      'ggd',      '123',      'resets'],
    ['nnn',      'ggd',      '123',      'another status'],
    ['RRR',      'ggd',      '123',      'redirects are not followed'],
    ['sso',      'ggh',      '000',      'slow is degraded, no failure'],
    ['ffs',      'ggg',      '120',      'slow after failures'],
    ['fffs',     'ggdg',     '1230',     'slow ends an outage'],
    ['ccco',     'gggh',     '0000',     'our key is refused: no outage'],
    ['CC',       'gg',       '00',       'forbidden likewise'],
    ['ffcf',     'ggg' . 'g', '1201',    'it breaks a row of failures'],
    ['fffc',     'ggdg',     '1230',     'it ends an outage'],
    ['ftrfo',    'ggddh',    '12340',    'failures of different kinds'],
);

# fails=2 passes=3
my @strict = (
    ['ffooo',    'gdddh',    '12000',    'three in a row end it'],
    ['ffoofooo', 'gdddddd' . 'h', '12001000', 'not three alone'],
    ['ffoos',    'gdddg',    '12000',    'the third one is slow'],
    ['ffccc',    'gdddg',    '12000',    'keys refused'],
    ['fof',      'ghg',      '101',      'one pass is enough without outage'],
);

plan tests => 2 * (@usual + @strict) + 4;

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;

check('usual', 'fails=3', @usual);
check('strict', 'fails=2 passes=3', @strict);

# What came out differently is tried again: a machine that stands still for a
# moment makes a probe slow.
sub check {
    my ($name, $settings, @table) = @_;

    my (@found, @left);
    for my $try (1 .. 3) {
        @left = $try == 1 ? 0 .. $#table : grep { my $row = $table[$_];
            "@{ $found[$_] }" ne "@$row[1, 2]" } 0 .. $#table;
        last if !@left;
        @found[@left] = run("$name-$try-", $settings, map { $_->[0] }
            @table[@left]);
    }

    for my $i (0 .. $#table) {
        my ($results, $statuses, $failures, $what) = @{ $table[$i] };
        is($found[$i][0], $statuses, "$results: $what");
        is($found[$i][1], $failures, '... failures');
    }
}

# What the log says of providers with these results: statuses and failures.
sub run {
    my ($name, $settings, @results) = @_;

    my $definitions = '';
    for my $i (0 .. $#results) {
        $provider->script(qr{/$name$i$},
            map { $answers{$_} } split //, $results[$i]);
        $definitions .= <<EOT;
    vidgen_provider $name$i {
        base   %%BASE%%;
        submit { url \$vidgen_base/jobs; job_id /id; }
        probe  { url \$vidgen_base/$name$i; }
    }
EOT
    }

    my $nginx = VidgenTest::Nginx->new(
        vars   => { DB => $pg->edge_conninfo, BASE => $provider->url },
        config => <<EOT)->start;
%%GLOBALS%%
events { }
http {
    %%HTTP%%
    vidgen_database "%%DB%%";
    vidgen_monitor  interval=300ms timeout=4s slow=1s $settings;
    $definitions
    server { listen 127.0.0.1:%%PORT%%; location = /h { vidgen_health; } }
}
EOT

    my @found;
    for my $i (0 .. $#results) {
        my $rows;
        my $n = length $results[$i];
        wait_for {
            $rows = $pg->query("SELECT status, consecutive_failures
                FROM provider_health_log WHERE provider_name = '$name$i'
                ORDER BY id LIMIT $n");
            @$rows == $n;
        };
        push @found, [join('', map { $letters{ $_->[0] } } @$rows),
            join('', map { $_->[1] } @$rows)];
    }

    agree($nginx, $name, scalar @results) if $name =~ /-1-/;
    $nginx->stop;
    return @found;
}

# What has happened since is told by the endpoint as well.
sub agree {
    my ($nginx, $name, $n) = @_;

    my $all = get($nginx->url('/h'))->{json}{providers};
    is(scalar @$all, $n, 'all of them are there');
    my $status = $pg->value("SELECT status FROM provider_health_log
        WHERE provider_name = '${name}0' ORDER BY id DESC LIMIT 1");
    is($all->[0]{status}, $status, 'log and endpoint agree');
}
