#!/usr/bin/perl

# Measures, in alternating rounds on private nginx and PostgreSQL:
#
# webhooks
#   return_200        nginx's own "return 200", sent the same request as replay
#   replay            a webhook that was handled before
#   bad_signature     a webhook whose signature is wrong
#   fresh             webhooks of distinct jobs, each answered after its
#                     commit; one in ten failed, and refunded
#   pgbench_1         the module's vidgen.apply() by pgbench on such events, one
#                     for each commit: the best of several numbers of clients
#   pgbench_16        the same, 16 events for each call
#   pgbench_64        the same, 64 events
#
# generations
#   proxy_pass        nginx's own "proxy_pass" to the provider
#   generate          generations, each answered after both of its commits
#   pgbench_generate  the module's vidgen.begin() and vidgen.submitted() by
#                     pgbench, one by one: the best of several numbers
#                     of clients
#
# failover, over one connection
#   call              the module's vidgen.begin() and vidgen.submitted(), each
#                     a commit that is durable, by pgbench
#   commit            the least durable commit, by pgbench
#   accepted          generations that the first provider accepts
#   refused           generations where the first provider refuses the
#                     connection: its ratio is the median that this adds, in
#                     median commits
#   refused_in_calls  the same in median calls
#
# monitor: the ratio is that of the 99th percentiles, of what may go on that of
# the middle one of five tries
#   quiet_CASE        a case from above, without a monitor
#   hung_CASE         while probes of several providers hang
#   down_CASE         and PostgreSQL is down
#
# and holds the database against what was sent.  Prints a table and writes
# build/bench.json.  ROUNDS, SECONDS, EVENTS and GENERATIONS change how much is
# done; BENCH_CASES, names of cases or of the groups above, what is done.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../t/lib", $FindBin::Bin;

use Time::HiRes qw(time);

use VidgenBench;
use VidgenBench::Events;
use VidgenBench::Generations;
use VidgenBench::Monitor;
use VidgenBench::Report;

my $rounds = $ENV{ROUNDS} // 3;
my $more = $ENV{ROUNDS} // 5;               # where medians are compared
my $seconds = $ENV{SECONDS} // 4;           # of a case that may go on
my $events = $ENV{EVENTS} // 10000;         # of a case that uses them up
my $generations = $ENV{GENERATIONS} // 5000;
my @clients = (4, 16, 64);                  # of pgbench, one by one
my $batch_clients = 4;                      # of the others
my $alone = 300;                            # over one connection

my $bench = VidgenBench->new;
my $webhooks = VidgenBench::Events->new($bench);
my $generator = VidgenBench::Generations->new($bench);
my $monitor = VidgenBench::Monitor->new($bench, sub {
    $webhooks->replayed;
    $webhooks->fresh(1000);
    $generator->generate(200, probed => 1);
});

my @groups = (
    { name => 'webhooks', nginx => 'plain', rounds => $rounds, cases => [
        { name => 'return_200',
          run => sub { $webhooks->return_200($seconds) } },
        { name => 'replay', of => 'return_200',
          run => sub { $webhooks->replay($seconds) } },
        { name => 'bad_signature', of => 'return_200',
          run => sub { $webhooks->bad_signature($seconds) } },
        { name => 'fresh', of => 'pgbench_1',
          run => sub { $webhooks->fresh($events) } },
        { name => 'pgbench_1', run => sub { best(sub {
              $webhooks->pgbench($events / 2, 1, @_) }) } },
        { name => 'pgbench_16', of => 'pgbench_1', run => sub {
              $webhooks->pgbench($events, 16, $batch_clients) } },
        { name => 'pgbench_64', of => 'pgbench_1', run => sub {
              $webhooks->pgbench($events, 64, $batch_clients) } },
    ] },
    { name => 'generations', nginx => 'plain', rounds => $rounds, cases => [
        { name => 'proxy_pass', limit => 'the wait for the provider',
          run => sub { $generator->proxy_pass($seconds) } },
        { name => 'generate', of => 'pgbench_generate',
          limit => 'the wait for durable commits', run => sub {
              $generator->generate($generations) } },
        { name => 'pgbench_generate',
          limit => 'the wait for durable commits', run => sub { best(sub {
              $generator->pgbench($generations / 2, @_) }) } },
    ] },
    { name => 'failover', nginx => 'patient', rounds => $more, cases => [
        { name => 'call', of => 'commit', by => 'p50_ms',
          run => sub { $generator->call($alone) } },
        { name => 'accepted', of => 'commit', by => 'p50_ms',
          run => sub { $generator->accepted($alone) } },
        { name => 'commit', run => sub { $generator->commit(3 * $alone) } },
        { name => 'refused', of => 'commit', by => 'p50_ms',
          less => 'accepted', goal => 1.5,
          run => sub { $generator->refused($alone) } },
        { name => 'refused_in_calls', of => 'call', by => 'p50_ms',
          less => 'accepted', goal => 1.5, same => 'refused' },
    ] },
    { name => 'monitor', rounds => $more, cases => [
        (map { monitored('quiet', $_) } qw(return_200 replay bad_signature
            fresh generate)),
        (map { monitored('hung', $_) } qw(return_200 fresh generate)),
        (map { monitored('down', $_) } qw(return_200 replay bad_signature)),
    ] },
);

my $began = time;
$| = 1;
print $bench->machine;

choose(split ' ', $ENV{BENCH_CASES} // '');
measure($_) for @groups;

my @wrong = $bench->inexact;
my @cases = map { @{ $_->{cases} } } @groups;
my $report = VidgenBench::Report->new(@cases);

$report->table;
print clients($_) for grep { $_->{rounds}[0]{tried} } @cases;
print "\n";
$report->limits($bench->processors);
print "\n";
$report->goals;
write_json();

print @wrong ? ("\nNOT EXACT:\n", map { "  $_\n" } @wrong)
    : "\nExact: $bench->{sent} events, each applied once, each failed job"
        . " refunded once;\n$bench->{generated} generations, each accepted"
        . " once, $bench->{moved} by the second provider; every\naccount"
        . " balanced, no deadlock.\n";
printf "It took %.0f seconds.\n", time - $began;
exit(@wrong ? 1 : 0);


# Leaves the cases of these names and groups, and what they are measured by.
sub choose {
    my @names = @_ or return;

    my (%known, %needs);
    for my $group (@groups) {
        my @cases = @{ $group->{cases} };
        $known{ $group->{name} } = [map { $_->{name} } @cases];
        $known{ $_->{name} } = [$_->{name}] for @cases;
        $needs{ $_->{name} } = [grep { defined } @$_{qw(of less same)}]
            for @cases;
    }

    my %chosen;
    @names = map { @{ $known{$_} // die "bench: there is no \"$_\"\n" } }
        @names;
    while (defined(my $name = shift @names)) {
        push @names, @{ $needs{$name} } unless $chosen{$name}++;
    }

    for my $group (@groups) {
        $group->{cases} = [grep { $chosen{ $_->{name} } } @{ $group->{cases} }];
    }
    @groups = grep { @{ $_->{cases} } } @groups;
}


sub measure {
    my ($group) = @_;

    my @in_order = @{ $group->{cases} };
    $_->{of} //= $_->{name} for @in_order;

    for my $round (1 .. $group->{rounds}) {
        print "$group->{name}, round $round of $group->{rounds}: ";

        # nothing that a restart could change: each round begins with it
        $bench->run($group->{nginx}, again => 1) if $group->{nginx};

        for my $case (grep { $_->{run} } in_turn($round, @in_order)) {
            print "$case->{name} ";
            push @{ $case->{rounds} }, $case->{run}->();
        }
        print "\n";
    }
    $monitor->stage('') if !$group->{nginx};
}

# Every second round has what hangs before what is quiet.
sub in_turn {
    my ($round, @cases) = @_;
    return @cases if $round % 2;
    return ((grep { $_->{name} =~ /^hung/ } @cases),
        (grep { $_->{name} !~ /^hung/ } @cases));
}

sub best {
    my ($run) = @_;
    my @found = sort { $b->{rps} <=> $a->{rps} } map { $run->($_) } @clients;
    return { %{ $found[0] }, tried => 1 };
}


# Of several tries the one with the middle 99th percentile: where a core is
# busy with the load alone, one hiccup of the machine is more than all that is
# measured.
sub middle {
    my @tries = sort { $a->{p99_ms} <=> $b->{p99_ms} } @_;
    return $tries[$#tries / 2];
}


# A case in a stage of the monitor.
sub monitored {
    my ($stage, $case) = @_;

    my %run = (
        fresh    => sub { $webhooks->fresh(3 * $events) },
        generate => sub { $generator->generate(3 * $generations,
            probed => 1) },
    );
    my $run = $run{$case} // sub {
        middle(map { $webhooks->$case($seconds / 2) } 1 .. 5) };

    return {
        name => "${stage}_$case", of => "quiet_$case", by => 'p99_ms',
        $stage ne 'quiet' ? (goal => 1.1) : (),
        run  => sub { $monitor->stage($stage); $run->() },
    };
}


sub clients {
    my ($case) = @_;
    my @best = map { $_->{clients} } @{ $case->{rounds} };
    return "$case->{name} was best with @best clients.\n";
}


sub write_json {
    mkdir 'build';
    open my $file, '>', 'build/bench.json' or die "build/bench.json: $!";
    print $file $report->json;
    close $file;
}
