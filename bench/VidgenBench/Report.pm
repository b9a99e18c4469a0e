package VidgenBench::Report;

# What the rounds come to: medians, ratios, goals; as a table and as JSON.
#
# A case is { name, of, by, less, goal, rounds }: its ratio is that of the
# figure "by" (rps) to that of the case "of"; less => a case: what the figure
# is above that one's; goal: what the ratio must be below; same => a case: of
# its rounds.

use strict;
use warnings;

use JSON::PP;

my @figures = qw(rps cpu_us db_cpu_us p50_ms p99_ms);


sub new {
    my ($class, @cases) = @_;

    my $self = bless { cases => \@cases }, $class;
    $self->{by_name}{ $_->{name} } = $_ for @cases;
    $_->{rounds} //= $self->{by_name}{ $_->{same} }{rounds} for @cases;
    $self->summarise($_) for @cases;
    return $self;
}


sub median {
    my @sorted = sort { $a <=> $b } @_;
    return ($sorted[$#sorted / 2] + $sorted[@sorted / 2]) / 2;
}

# The ratio is the median of the ratios of the rounds, since a round's cases
# share what the machine was doing at that time.
sub summarise {
    my ($self, $case) = @_;

    my @rounds = @{ $case->{rounds} };
    my $by = $case->{by} // 'rps';
    my @of = map { $_->{$by} } @{ $self->{by_name}{ $case->{of} }{rounds} };
    my @less = map { $_->{$by} }
        @{ $self->{by_name}{ $case->{less} // '' }{rounds} // [] };

    for my $name (@figures) {
        $case->{$name} = median(map { $_->{$name} } @rounds);
    }
    for my $name (keys %{ $rounds[0]{busy} }) {
        $case->{busy}{$name} = median(map { $_->{busy}{$name} } @rounds);
    }

    my @rps = sort { $a <=> $b } map { $_->{rps} } @rounds;
    $case->{spread} = ($rps[-1] - $rps[0]) / $case->{rps};

    my @ratios = sort { $a <=> $b }
        map { ($rounds[$_]{$by} - ($less[$_] // 0)) / $of[$_] } 0 .. $#rounds;
    $case->{ratio} = median(@ratios);
    @$case{qw(low high)} = @ratios[0, -1];
    $case->{met} = $case->{ratio} < $case->{goal} if $case->{goal};
}


sub table {
    my ($self) = @_;

    printf "\n%-19s %8s %6s %8s %8s %8s %8s %6s %s\n", 'case', 'per s',
        'spread', 'nginx us', 'db us', 'p50 ms', 'p99 ms', 'ratio', 'of';

    for my $case (@{ $self->{cases} }) {
        my $words = !$case->{by} ? '' : $case->{less}
            ? 'p50, above ' . $case->{less} . ', in p50 of '
            : $case->{by} =~ s/_ms$//r . ' of ';
        printf "%-19s %8.0f %5.0f%% %8.1f %8.1f %8.2f %8.2f %6.2f %s\n",
            $case->{name}, $case->{rps}, 100 * $case->{spread},
            @$case{qw(cpu_us db_cpu_us p50_ms p99_ms ratio)},
            $words . $case->{of};
    }

    print "\nMedians of the rounds; us: processor time for each, of nginx's"
        . " worker and of\nPostgreSQL's processes.\n";
}


# Who had how much to do, and what is the limit by that.
sub limits {
    my ($self, $processors) = @_;

    for my $case (grep { $_->{limit} } @{ $self->{cases} }) {
        my %busy = %{ $case->{busy} };
        my $limit = $busy{nginx} > 0.9 ? "nginx's worker"
            : $busy{idle} < 0.1 * $processors ? 'the processors'
            : $case->{limit};
        my $rest = $processors;
        $rest -= $_ for values %busy;

        printf "%s: the limit is %s.  Of %d00%%: worker %.0f%%,\n  PostgreSQL"
            . " %.0f%%, provider %.0f%%, wrk or pgbench and all else %.0f%%,"
            . " idle %.0f%%\n", $case->{name}, $limit, $processors,
            map { 100 * $_ } @busy{qw(nginx db provider)}, $rest, $busy{idle};
    }
}


# Goals are told and do not fail the run: they are about a machine that has
# nothing else to do.
sub goals {
    my ($self) = @_;

    for my $case (grep { $_->{goal} } @{ $self->{cases} }) {
        printf "%-19s %6.2f (%.2f to %.2f in %d rounds), below %.2f: %s\n",
            $case->{name}, @$case{qw(ratio low high)},
            scalar @{ $case->{rounds} }, $case->{goal},
            $case->{met} ? 'met' : 'NOT MET';
    }
}


# cpu_us is nginx's, where nginx is in it, else PostgreSQL's.
sub json {
    my ($self) = @_;

    my %json;
    for my $case (@{ $self->{cases} }) {
        my $cpu = $case->{name} =~ /^(?:pgbench|commit)/ ? $case->{db_cpu_us}
            : $case->{cpu_us};
        my %numbers = (cpu_us => $cpu,
            map { $_ => $case->{$_} } qw(rps ratio p50_ms p99_ms));
        @numbers{qw(goal low high)} = @$case{qw(goal low high)}
            if $case->{goal};

        $json{ $case->{name} } = { of => $case->{of},
            map { $_ => 0 + sprintf '%.3f', $numbers{$_} } keys %numbers };
        $json{ $case->{name} }{met} = $case->{met} ? JSON::PP::true
            : JSON::PP::false if $case->{goal};
    }
    return JSON::PP->new->canonical->pretty->encode(\%json);
}


1;
