#!/usr/bin/perl

# Measures, in alternating rounds on private nginx and PostgreSQL:
#
#   return_200     nginx's own "return 200", sent the same request as replay
#   replay         a webhook that was handled before
#   bad_signature  a webhook whose signature is wrong
#   fresh          webhooks of distinct jobs, each answered after its commit;
#                  one in ten failed, and refunded
#   pgbench_1      the module's vidgen.apply() by pgbench on such events, one
#                  for each commit: the best of several numbers of clients
#   pgbench_16     the same, 16 events for each call
#   pgbench_64     the same, 64 events
#
# and holds the database against what was sent.  Prints a table and writes
# build/bench.json.  ROUNDS, SECONDS and EVENTS change how much is done.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../t/lib", $FindBin::Bin;

use JSON::PP;

use VidgenBench;

my $rounds = $ENV{ROUNDS} // 3;
my $seconds = $ENV{SECONDS} // 4;           # of a case that may go on
my $events = $ENV{EVENTS} // 20000;         # of a case that uses them up
my @clients = (4, 16, 64);                  # of pgbench_1
my $batch_clients = 4;                      # of the others

my @cases = qw(return_200 replay bad_signature fresh pgbench_1 pgbench_16
    pgbench_64);
my %of = map { $_ => /pgbench|fresh/ ? 'pgbench_1' : 'return_200' } @cases;

my $bench = VidgenBench->new;
my %seen;                                   # case => results, by round

$| = 1;
print $bench->machine;

for my $round (1 .. $rounds) {
    print "round $round of $rounds: ";

    for my $case (@cases) {
        print "$case ";
        push @{ $seen{$case} }, measure($case, $round);
    }
    print "\n";
}

my @wrong = $bench->inexact;
my %result = map { $_ => summary($_) } @cases;

table();
write_json();

print @wrong ? ("\nNOT EXACT:\n", map { "  $_\n" } @wrong)
    : "\nExact: $bench->{sent} events, each applied once, each failed job"
        . " refunded once,\nevery account balanced, no deadlock.\n";
exit(@wrong ? 1 : 0);


sub measure {
    my ($case, $round) = @_;

    return $bench->wrk('/return-200', $bench->replayed, $seconds)
        if $case eq 'return_200';
    return $bench->wrk('/video-webhook', $bench->replayed, $seconds)
        if $case eq 'replay';
    return $bench->wrk('/video-webhook', $bench->forged, $seconds)
        if $case eq 'bad_signature';
    return $bench->fresh($events) if $case eq 'fresh';
    return $bench->pgbench($events, $1, $batch_clients)
        if $case =~ /^pgbench_(\d\d)$/;

    my @found = map { $bench->pgbench($events, 1, $_) } @clients;
    return (sort { $b->{rps} <=> $a->{rps} } @found)[0];
}


sub median {
    my @sorted = sort { $a <=> $b } @_;
    return ($sorted[$#sorted / 2] + $sorted[@sorted / 2]) / 2;
}

# The ratio is the median of the ratios of the rounds, since a round's cases
# share what the machine was doing at that time.
sub summary {
    my ($case) = @_;

    my @rounds = @{ $seen{$case} };
    my @of = @{ $seen{ $of{$case} } };
    my %values = map {
        my $name = $_;
        $name => median(map { $_->{$name} } @rounds);
    } qw(rps cpu_us db_cpu_us p50_ms p99_ms);

    my @rps = map { $_->{rps} } @rounds;
    my ($low, $high) = (sort { $a <=> $b } @rps)[0, -1];
    return { %values, of => $of{$case},
        ratio  => median(map { $rps[$_] / $of[$_]{rps} } 0 .. $#rps),
        spread => ($high - $low) / $values{rps} };
}


sub table {
    printf "\n%-14s %9s %7s %7s %-11s %8s %8s %8s %8s\n", 'case', 'per s',
        'spread', 'ratio', 'of', 'nginx us', 'db us', 'p50 ms', 'p99 ms';

    for my $case (@cases) {
        my $r = $result{$case};
        printf "%-14s %9.0f %6.0f%% %7.2f %-11s %8.1f %8.1f %8.2f %8.2f\n",
            $case, $r->{rps}, 100 * $r->{spread}, @$r{qw(ratio of cpu_us
            db_cpu_us p50_ms p99_ms)};
    }

    my @best = map { $_->{clients} } @{ $seen{pgbench_1} };
    print "\nMedians of $rounds rounds; us: processor time per event, of"
        . " nginx's worker and of\nPostgreSQL's processes.  pgbench_1 was best"
        . " with @best clients.\n";
}

# cpu_us is nginx's, where nginx is in it, else PostgreSQL's.
sub write_json {
    my %json;
    for my $case (@cases) {
        my $r = $result{$case};
        my $cpu = $case =~ /^pgbench/ ? $r->{db_cpu_us} : $r->{cpu_us};
        $json{$case} = { of => $r->{of}, map { $_->[0] => 0 + sprintf '%.3f',
            $_->[1] } [cpu_us => $cpu], map { [$_ => $r->{$_}] } qw(rps ratio
            p50_ms p99_ms) };
    }
    mkdir 'build';
    open my $file, '>', 'build/bench.json' or die "build/bench.json: $!";
    print $file JSON::PP->new->canonical->pretty->encode(\%json);
    close $file;
}
